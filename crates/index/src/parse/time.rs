//! The upload time of PEP 700: only what every client can parse is passed on.

/// Parses `yyyy-mm-ddThh:mm:ss[.f…]` in UTC (`Z` or `+00:00`) and writes it as PEP 700 has it: without a fraction or
/// with six digits, and with `Z`. `None` for anything else, because clients refuse a page for one wrong time.
pub(super) fn upload_time(raw: &str) -> Option<String> {
    let time = raw.strip_suffix('Z').or_else(|| raw.strip_suffix("+00:00"))?;
    let (seconds, fraction) = match time.split_once('.') {
        Some((seconds, fraction)) => (seconds, Some(fraction)),
        None => (time, None),
    };
    if !is_date_time(seconds) {
        return None;
    }
    match fraction {
        None => Some(format!("{seconds}Z")),
        Some(digits) if matches!(digits.len(), 1..=9) && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(format!("{seconds}.{:0<6}Z", &digits[..digits.len().min(6)]))
        }
        Some(_) => None,
    }
}

fn is_date_time(text: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let shaped = text.len() == SHAPE.len()
        && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == *other,
        });
    if !shaped {
        return false;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u32>().unwrap_or(u32::MAX);
    let (year, month) = (number(0, 4), number(5, 7));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    year > 0 && (1..=days).contains(&number(8, 10)) && number(11, 13) < 24 && number(14, 16) < 60 && number(17, 19) < 60
}

#[cfg(test)]
mod tests {
    use super::upload_time;

    #[test]
    fn a_time_is_written_in_one_way_or_left_out() {
        for (raw, expected) in [
            ("2024-05-29T15:37:49.123456Z", Some("2024-05-29T15:37:49.123456Z")),
            ("2024-05-29T15:37:49Z", Some("2024-05-29T15:37:49Z")),
            ("2024-02-29T23:59:59.5+00:00", Some("2024-02-29T23:59:59.500000Z")),
            ("2024-05-29T15:37:49.123456789Z", Some("2024-05-29T15:37:49.123456Z")),
            ("2024-05-29T15:37:49+02:00", None),
            ("2024-05-29T15:37:49", None),
            ("2024-05-29 15:37:49Z", None),
            ("2024-05-29T15:37:49.Z", None),
            ("2024-05-29T15:37:49.1x3Z", None),
            ("2023-02-29T00:00:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-04-31T00:00:00Z", None),
            ("2024-01-00T00:00:00Z", None),
            ("2024-01-01T24:00:00Z", None),
            ("2024-01-01T00:60:00Z", None),
            ("2024-01-01T00:00:60Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("1717000000", None),
            ("20é4-01-01T00:00:00Z", None),
            ("Z", None),
            ("", None),
        ] {
            assert_eq!(upload_time(raw).as_deref(), expected, "{raw}");
        }
    }
}

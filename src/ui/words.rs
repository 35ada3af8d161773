//! Numbers, sizes and times as people read them. Pure.

/// A number with its thousands apart.
pub(crate) fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "−" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of which the beginning says enough.
pub(crate) fn rough(number: f64) -> String {
    match number {
        _ if number < 0.0 => format!("−{}", rough(-number)),
        0.0 => "0".to_owned(),
        _ if number < 0.01 => "under 0.01".to_owned(),
        _ if number < 10.0 => {
            let text = format!("{number:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ if number < 100.0 => format!("{number:.1}").trim_end_matches(".0").to_owned(),
        #[expect(clippy::cast_possible_truncation, reason = "as large as a number that is shown can be")]
        _ => self::number(number.round() as i64),
    }
}

/// A size in bytes, in binary units.
pub(crate) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut size, mut unit) = (bytes.abs(), 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{}{} {}", if bytes < 0.0 { "−" } else { "" }, rough(size), UNITS[unit])
}

/// A share between 0 and 1.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", rough((share * 1000.0).round() / 10.0))
}

/// A time in its two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let Some(first) = UNITS.iter().position(|(length, _)| seconds >= *length) else { return "0 s".to_owned() };
    let (length, name) = UNITS[first];
    let rest = UNITS.get(first + 1).map(|(next, name)| (seconds % length / next, *name));
    match rest {
        Some((count @ 1.., next)) => format!("{} {name} {count} {next}", seconds / length),
        _ => format!("{} {name}", seconds / length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "−1,234,567")] {
            assert_eq!(number(value), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (0.004, "under 0.01"),
            (0.5, "0.5"),
            (3.0, "3"),
            (9.987, "9.99"),
            (12.04, "12"),
            (99.95, "100"),
            (1234.5, "1,235"),
            (-2.5, "−2.5"),
        ] {
            assert_eq!(rough(value), text);
        }
    }

    #[test]
    fn sizes_shares_and_times_have_their_units() {
        for (value, text) in [(0.0, "0 B"), (1023.0, "1,023 B"), (1536.0, "1.5 KiB"), (53_687_091_200.0, "50 GiB")] {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(bytes(-2048.0), "−2 KiB");
        for (value, text) in [(0.0, "0 %"), (0.9874, "98.7 %"), (1.0, "100 %"), (0.0001, "0 %")] {
            assert_eq!(percent(value), text);
        }
        for (value, text) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (86_400, "1 d"), (90_061, "1 d 1 h")]
        {
            assert_eq!(duration(value), text);
        }
    }
}

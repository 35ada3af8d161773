//! The upload time of PEP 700: only what every client can parse is passed on.

use crate::sabotage::sabotaged;
use std::fmt;

/// Parses `yyyy-mm-ddThh:mm:ss[.f…]` with `Z` or an offset such as `+02:00`, and writes it as PEP 700 has it: in UTC,
/// without a fraction or with six digits, and with `Z`. `None` for anything else, because clients refuse a page for one
/// wrong time.
pub(super) fn upload_time(raw: &str) -> Option<String> {
    let (time, offset) = match raw.strip_suffix('Z') {
        Some(time) => (time, 0),
        None if sabotaged("upload-time") => return None,
        None => split_offset(raw)?,
    };
    let (seconds, fraction) = match time.split_once('.') {
        Some((seconds, fraction)) => (seconds, Some(fraction)),
        None => (time, None),
    };
    let time = DateTime::parse(seconds)?.earlier_by(offset)?;
    match fraction {
        None => Some(format!("{time}Z")),
        Some(digits) if matches!(digits.len(), 1..=9) && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(format!("{time}.{:0<6}Z", &digits[..digits.len().min(6)]))
        }
        Some(_) => None,
    }
}

/// Splits `+hh:mm` or `-hh:mm` off, as minutes east of UTC.
fn split_offset(raw: &str) -> Option<(&str, i32)> {
    let (time, offset) = raw.split_at_checked(raw.len().checked_sub("+00:00".len())?)?;
    let minutes = match offset.as_bytes() {
        [b'+' | b'-', hours @ .., b':', tens, ones] => {
            let (hours, minutes) = (number(hours)?, number(&[*tens, *ones])?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?
        }
        _ => return None,
    };
    Some((time, if offset.starts_with('-') { -minutes } else { minutes }))
}

fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0_i32, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(i32::from(digit))
    })
}

/// A date of the Gregorian calendar with a time of day. Shown as `yyyy-mm-ddThh:mm:ss`.
#[derive(Clone, Copy)]
struct DateTime {
    year: i32,
    month: i32,
    day: i32,
    /// Minutes since midnight.
    minute: i32,
    second: i32,
}

impl DateTime {
    fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let [year @ .., b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = bytes else {
            return None;
        };
        let (year, month, day) = (number(year)?, number(&[*m1, *m2])?, number(&[*d1, *d2])?);
        let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*n1, *n2])?, number(&[*s1, *s2])?);
        let is_valid = bytes.len() == "0000-00-00T00:00:00".len()
            && year > 0
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        is_valid.then_some(Self { year, month, day, minute: hour * 60 + minute, second })
    }

    /// The time that is so many minutes earlier; less than a day. `None` outside the years 1 to 9999.
    fn earlier_by(self, minutes: i32) -> Option<Self> {
        const DAY: i32 = 24 * 60;
        let minute = self.minute - minutes;
        let mut time = Self { minute: minute.rem_euclid(DAY), day: self.day + minute.div_euclid(DAY), ..self };
        if time.day < 1 {
            (time.year, time.month) = if time.month == 1 { (time.year - 1, 12) } else { (time.year, time.month - 1) };
            time.day = days_in(time.year, time.month);
        } else if time.day > days_in(time.year, time.month) {
            (time.year, time.month) = if time.month == 12 { (time.year + 1, 1) } else { (time.year, time.month + 1) };
            time.day = 1;
        }
        (1..=9999).contains(&time.year).then_some(time)
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{second:02}", minute / 60, minute % 60)
    }
}

fn days_in(year: i32, month: i32) -> i32 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 31,
    }
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
            ("2024-05-01T12:00:00+02:00", Some("2024-05-01T10:00:00Z")),
            ("2024-05-01T12:00:00.25-05:30", Some("2024-05-01T17:30:00.250000Z")),
            ("2024-03-01T00:59:59+01:00", Some("2024-02-29T23:59:59Z")),
            ("2023-01-01T00:00:00+23:59", Some("2022-12-31T00:01:00Z")),
            ("2022-12-31T23:00:00-01:00", Some("2023-01-01T00:00:00Z")),
            ("2023-02-28T23:59:00-00:01", Some("2023-03-01T00:00:00Z")),
            ("0001-01-01T00:00:00+00:01", None),
            ("9999-12-31T23:59:59-00:01", None),
            ("2024-05-29T15:37:49+24:00", None),
            ("2024-05-29T15:37:49+00:60", None),
            ("2024-05-29T15:37:49+0200", None),
            ("2024-05-29T15:37:49+02", None),
            ("2024-05-29T15:37:49é2:00", None),
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
            ("20240000000000000000-01-01T00:00:00Z", None),
            ("1717000000", None),
            ("20é4-01-01T00:00:00Z", None),
            ("Z", None),
            ("", None),
        ] {
            assert_eq!(upload_time(raw).as_deref(), expected, "{raw}");
        }
    }
}

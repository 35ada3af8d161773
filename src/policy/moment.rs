//! Moments of the calendar: in rules, in addresses of an index as of a date, and of uploads.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// A text that is no date and no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a date or time; write one such as 2026-12-31 or 2026-12-31T12:00:00Z")]
pub struct InvalidMoment;

const DAY: u64 = 86_400;

impl Moment {
    /// Reads a date, whose first moment in UTC is meant, or an RFC 3339 time, whose seconds may be left out.
    pub fn parse(text: &str) -> Result<Self, InvalidMoment> {
        let (date, rest) = text.split_at_checked("0000-00-00".len()).ok_or(InvalidMoment)?;
        let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
            return if rest.is_empty() { utc(date, "00:00") } else { Err(InvalidMoment) };
        };
        let (time, offset) = split_offset(rest)?;
        let whole = time.split('.').next().unwrap_or_default();
        let Self(local) = match whole.len() {
            5 if time == whole => utc(date, whole)?,
            8 => utc(date, whole)?,
            _ => return Err(InvalidMoment),
        };
        i64::try_from(local).ok().and_then(|local| u64::try_from(local - offset).ok()).map(Self).ok_or(InvalidMoment)
    }

    /// Whether the text of it names a day and no time of day.
    fn is_date(text: &str) -> bool {
        text.len() == "0000-00-00".len()
    }

    /// The same moment without its seconds.
    #[must_use]
    pub const fn cut_to_minute(self) -> Self {
        Self(self.0 - self.0 % 60)
    }

    #[must_use]
    pub(super) const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }
}

/// A time in UTC, its seconds left out or not. Pages have thousands of them, so nothing is allocated for it.
fn utc(date: &str, time: &str) -> Result<Moment, InvalidMoment> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date.as_bytes() else { return Err(InvalidMoment) };
    let (hours, minutes, seconds) = match *time.as_bytes() {
        [h1, h2, b':', m1, m2] => (number(&[h1, h2])?, number(&[m1, m2])?, 0),
        [h1, h2, b':', m1, m2, b':', s1, s2] => (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?),
        _ => return Err(InvalidMoment),
    };
    let (year, month, day) = (number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?);
    // A leap second is the last one of its minute.
    if year < 1970 || hours > 23 || minutes > 59 || seconds > 60 {
        return Err(InvalidMoment);
    }
    let days = days_since_epoch(year, month, day)?;
    Ok(Moment(days * DAY + hours * 3600 + minutes * 60 + seconds.min(59)))
}

fn number(digits: &[u8]) -> Result<u64, InvalidMoment> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + u64::from(digit - b'0')),
        _ => Err(InvalidMoment),
    })
}

/// The days from the beginning of 1970 to a day of the Gregorian calendar.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Result<u64, InvalidMoment> {
    const BEFORE_MONTH: [u64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (month, leap_day) = (usize::try_from(month).map_err(|_| InvalidMoment)?, u64::from(is_leap));
    let (Some(before), Some(next)) = (BEFORE_MONTH.get(month.wrapping_sub(1)), BEFORE_MONTH.get(month)) else {
        return Err(InvalidMoment);
    };
    if day == 0 || day > next - before + if month == 2 { leap_day } else { 0 } {
        return Err(InvalidMoment);
    }
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    Ok((year - 1970) * 365 + leap_days + before + if month > 2 { leap_day } else { 0 } + day - 1)
}

/// A time of day, and how many seconds it is east of UTC.
fn split_offset(text: &str) -> Result<(&str, i64), InvalidMoment> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Ok((time, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Ok((text, 0)) };
    let (time, offset) = text.split_at(at);
    let number = |digits: &str| {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<i64>().ok()).flatten().ok_or(InvalidMoment)
    };
    let (hours, minutes) = offset[1..].split_once(':').ok_or(InvalidMoment)?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 23 || minutes > 59 {
        return Err(InvalidMoment);
    }
    let seconds = hours * 3600 + minutes * 60;
    Ok((time, if offset.starts_with('-') { -seconds } else { seconds }))
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNIX_EPOCH.checked_add(Duration::from_secs(self.0)) {
            // The formatter knows no year of five digits.
            Some(time) if self.0 < 253_402_300_800 => write!(f, "{}", humantime::format_rfc3339_seconds(time)),
            _ => f.write_str("9999-12-31T23:59:59Z"),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text of a date or a time in TOML, quoted or not.
fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => Ok(text),
        toml::Value::Datetime(time) => Ok(time.to_string()),
        _ => Err(de::Error::custom(InvalidMoment)),
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&written(deserializer)?).map_err(de::Error::custom)
    }
}

/// The moment at which something ends. Of a date, that is the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry(pub(super) Moment);

impl Expiry {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidMoment> {
        let Moment(begins) = Moment::parse(text)?;
        Ok(Self(Moment(if Moment::is_date(text) { begins + DAY } else { begins })))
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&written(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_read_and_written() {
        for (text, seconds, shown) in [
            ("1970-01-02", 86_400, "1970-01-02T00:00:00Z"),
            ("2026-01-01T00:00:00Z", 1_767_225_600, "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:30.999999Z", 1_767_225_630, "2026-01-01T00:00:30Z"),
            ("2026-01-01T01:30", 1_767_231_000, "2026-01-01T01:30:00Z"),
            ("2026-01-01T02:00:00+02:00", 1_767_225_600, "2026-01-01T00:00:00Z"),
            ("2025-12-31 19:00:00-05:00", 1_767_225_600, "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(
                Moment::parse(text).map(|moment| (moment.0, moment.to_string())),
                Ok((seconds, shown.to_owned()))
            );
        }
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "2026-02-29",
            "2100-02-29",
            "2026-00-01",
            "2026-01-00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-1-001",
            "2026-01-01T",
            "2026-01-01x",
            "2026-01-01T1:00",
            "1960-01-01",
            "2026-01-01T00:00:00+2",
            "2026-01-01T00:00:00+25:00",
            "2026-01-01T00:00:00+0a:00",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(Moment::parse(text), Err(InvalidMoment), "{text}");
        }
        assert_eq!(Moment(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Moment(119).cut_to_minute(), Moment(60));
    }

    #[test]
    fn every_day_is_the_one_after_the_day_before() {
        let mut expected = 0;
        for (year, month, day) in (1970..2110_u64)
            .flat_map(|year| (1..=12).flat_map(move |month| (1..=31).map(move |day| (year, month, day))))
        {
            let text = format!("{year:04}-{month:02}-{day:02}");
            let known = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok();
            let known = known.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            assert_eq!(Moment::parse(&text).ok(), known.map(|since| Moment(since.as_secs())), "{text}");
            if known.is_some() {
                assert_eq!(Moment::parse(&text), Ok(Moment(expected)), "{text}");
                expected += DAY;
            }
        }
        assert_eq!(Moment::parse("2016-12-31T23:59:60Z"), Moment::parse("2016-12-31T23:59:59Z"));
    }

    #[test]
    fn what_expires_on_a_day_holds_until_its_end() {
        assert_eq!(Expiry::parse("1970-01-02"), Ok(Expiry(Moment(2 * DAY))));
        assert_eq!(Expiry::parse("1970-01-02T00:00:00Z"), Ok(Expiry(Moment(DAY))));
    }
}

//! Days of the calendar, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The length of a day, in seconds.
pub(super) const DAY: u64 = 86_400;
/// The last day that can be written: the end of the year 9999.
const LAST: u32 = 2_932_896;

/// A day in UTC, as days since the Unix epoch. Its text is `2026-11-28`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageDay(u32);

/// A text that is no date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a date; write one such as 2026-11-28")]
pub struct InvalidDay;

impl UsageDay {
    /// The day of a moment.
    pub fn of(unix_seconds: u64) -> Self {
        Self(u32::try_from(unix_seconds / DAY).unwrap_or(LAST).min(LAST))
    }

    /// The day with this number, if there is one.
    pub(super) fn numbered(number: u64) -> Option<Self> {
        u32::try_from(number).ok().filter(|number| *number <= LAST).map(Self)
    }

    /// Its first second.
    pub fn begins(self) -> u64 {
        u64::from(self.0) * DAY
    }

    /// So many days earlier; the first day there is where that would be before it.
    #[must_use]
    pub fn before(self, days: u64) -> Self {
        Self(self.0.saturating_sub(u32::try_from(days).unwrap_or(u32::MAX)))
    }

    /// The day after it; itself where there is none.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(LAST))
    }

    /// Its month: `2026-11`.
    pub fn month(self) -> String {
        let mut text = self.to_string();
        text.truncate("0000-00".len());
        text
    }

    /// The months from one day to another, both included, in order.
    pub fn months(self, until: Self) -> Vec<String> {
        let mut months = Vec::new();
        let mut day = self;
        while day <= until {
            let month = day.month();
            if months.last() != Some(&month) {
                months.push(month);
            }
            // No month is shorter, so none is passed over.
            day = Self(day.0 + 28);
        }
        let last = until.month();
        if self <= until && months.last() != Some(&last) {
            months.push(last);
        }
        months
    }
}

impl FromStr for UsageDay {
    type Err = InvalidDay;

    fn from_str(text: &str) -> Result<Self, InvalidDay> {
        let is_date = text.len() == "0000-00-00".len() && text.is_ascii();
        let parsed = is_date.then(|| humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok()).flatten();
        let since = parsed.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).ok_or(InvalidDay)?;
        Self::numbered(since.as_secs() / DAY).ok_or(InvalidDay)
    }
}

impl fmt::Display for UsageDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.begins())).to_string();
        f.write_str(time.split('T').next().unwrap_or_default())
    }
}

impl Serialize for UsageDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UsageDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_one_text() {
        for (seconds, text) in [(0, "1970-01-01"), (86_399, "1970-01-01"), (1_795_824_000, "2026-11-28")] {
            let day = UsageDay::of(seconds);
            assert_eq!(day.to_string(), text);
            assert_eq!(text.parse(), Ok(day));
        }
        assert_eq!(UsageDay::of(u64::MAX).to_string(), "9999-12-31");
        for bad in ["", "2026-11-31", "2026-1-1", "20261128", "2026-11-28T", "1969-12-31", "２026-11-2"] {
            assert_eq!(bad.parse::<UsageDay>(), Err(InvalidDay), "{bad}");
        }
    }

    #[test]
    fn no_month_is_left_out() {
        let months = |from: &str, until: &str| -> Vec<String> {
            from.parse::<UsageDay>().expect("a day").months(until.parse().expect("a day"))
        };
        assert_eq!(months("2026-01-31", "2026-03-01"), ["2026-01", "2026-02", "2026-03"]);
        assert_eq!(months("2026-01-31", "2026-01-31"), ["2026-01"]);
        assert_eq!(months("2026-01-31", "2026-01-30"), [""; 0]);
        assert_eq!(months("2025-11-29", "2026-11-28").len(), 13);
    }
}

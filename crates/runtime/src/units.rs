//! Durations and sizes as people write them: `60s`, `10m`, `12h`, `64MiB`, `50GiB`.
//!
//! Settings hold [`HumanDuration`] and [`Size`], so that every setting reads and prints the same way. A bare number is
//! not a duration, because it could mean seconds or milliseconds; it is a size, in bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration with units: `250ms`, `60s`, `10m`, `1h 30m`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

/// A number of bytes: `64MiB`, `50GiB`, `1GB`, or plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// A string that is not a duration with units.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write a number and a unit, such as `30s`, `10m`, `12h` or `7d`; a century at most")]
pub struct InvalidDuration(String);

/// The longest duration. Nothing needs a longer one, and this one can be added to any moment.
const CENTURY: Duration = Duration::from_hours(24 * 36_525);

/// A string that is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write a number and a unit, such as `512KiB`, `64MiB` or `50GiB`")]
pub struct InvalidSize(String);

impl HumanDuration {
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for HumanDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let parsed = humantime::parse_duration(text).ok().filter(|duration| *duration <= CENTURY);
        parsed.map(Self).ok_or_else(|| InvalidDuration(text.to_owned()))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_duration(self.0), f)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

/// Binary units before decimal ones, and each in ascending order; sizes are printed in binary units.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl Size {
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let invalid = || InvalidSize(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(split);
        let count: u64 = digits.parse().map_err(|_| invalid())?;
        let unit = unit.trim_start();
        let factor = match SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() => 1,
            None => return Err(invalid()),
        };
        count.checked_mul(factor).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZE_UNITS[..5]
            .iter()
            .rev()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(&SIZE_UNITS[0]);
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl Visitor<'_> for DurationVisitor {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with a unit, such as \"30s\" or \"12h\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(DurationVisitor)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\", or a number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::custom("a size cannot be negative"))
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}

/// Reads a setting that is one thing or a list of such, as a list. `expected` says to people what it may be.
///
/// # Errors
///
/// Where it is neither.
pub fn one_or_many<'de, D, T>(deserializer: D, expected: &'static str) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }
    match OneOrMany::deserialize(deserializer) {
        Ok(OneOrMany::One(one)) => Ok(vec![one]),
        Ok(OneOrMany::Many(many)) => Ok(many),
        Err(_) => Err(de::Error::custom(expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_printed_with_units() {
        for (text, seconds, printed) in
            [("60s", 60, "1m"), ("10m", 600, "10m"), ("12h", 43_200, "12h"), ("7d", 604_800, "7days")]
        {
            let duration: HumanDuration = text.parse().expect(text);
            assert_eq!(duration, HumanDuration::secs(seconds));
            assert_eq!(duration.to_string(), printed);
            assert_eq!(printed.parse(), Ok(duration), "what is printed can be read again");
        }
        assert_eq!("250ms".parse(), Ok(HumanDuration::millis(250)));
        for wrong in ["", "60", "ten", "-1s", "1 parsec", "101y", "584542046090y"] {
            assert!(wrong.parse::<HumanDuration>().is_err(), "{wrong:?}");
        }
        let _ = tokio::time::Instant::now() + "100y".parse::<HumanDuration>().expect("a century").get();
    }

    #[test]
    fn sizes_are_read_and_printed_with_units() {
        for (text, bytes, printed) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("50 GiB", 50 << 30, "50GiB"),
            ("1kb", 1_000, "1000B"),
            ("1536KiB", 1536 << 10, "1536KiB"),
            ("4096", 4096, "4KiB"),
            ("0", 0, "0B"),
        ] {
            let size: Size = text.parse().expect(text);
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string(), printed);
            assert_eq!(printed.parse(), Ok(size), "what is printed can be read again");
        }
        for wrong in ["", "MiB", "-1", "1.5GiB", "1 XiB", "99999999TiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn settings_read_them_and_name_what_is_wrong() {
        #[derive(Debug, Deserialize, Serialize, PartialEq)]
        struct Settings {
            wait: HumanDuration,
            limit: Size,
        }
        let settings: Settings = toml::from_str("wait = \"90s\"\nlimit = 4096").expect("valid settings");
        assert_eq!(settings, Settings { wait: HumanDuration::secs(90), limit: Size(4096) });
        let again = toml::to_string(&settings).expect("settings can be written");
        assert_eq!(toml::from_str::<Settings>(&again).expect("and read again"), settings);
        for (text, complaint) in [
            ("wait = 90\nlimit = 1", "a duration with a unit"),
            ("wait = \"90\"\nlimit = 1", "is not a duration"),
            ("wait = \"1s\"\nlimit = \"much\"", "is not a size"),
            ("wait = \"1s\"\nlimit = -1", "negative"),
        ] {
            let error = toml::from_str::<Settings>(text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
}

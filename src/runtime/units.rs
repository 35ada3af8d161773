//! Durations and sizes with units, as people write them in settings: `60s`, `12h`, `64MiB`, `50GiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration, written as `90s`, `10m`, `12h`, `1h 30m`, `500ms`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(Duration);

/// A number of bytes, written as `1048576`, `64MiB`, `50GiB`, `10GB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Size(u64);

/// A setting that is not a duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUnit {
    /// Not a duration.
    #[error("`{0}` is not a duration: write a number with a unit, such as 60s, 10m or 12h")]
    Span(String),
    /// Not a size.
    #[error("`{0}` is not a size: write a number of bytes or one with a unit, such as 64MiB or 50GiB")]
    Size(String),
}

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The standard library's type.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl Size {
    /// So many bytes.
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many gibibytes.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Span {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        humantime::parse_duration(text.trim()).map(Self).map_err(|_| InvalidUnit::Span(text.to_owned()))
    }
}

const SIZE_UNITS: [(&str, u64); 10] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
    ("", 1),
];

impl FromStr for Size {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let invalid = || InvalidUnit::Size(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let unit = unit.trim().to_ascii_lowercase();
        let factor = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        number.checked_mul(factor.ok_or_else(invalid)?).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS[..4]
            .iter()
            .rev()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match exact {
            Some((name, factor)) => {
                let (first, rest) = name.split_at(1);
                write!(f, "{}{}{}", self.0 / factor, first.to_ascii_uppercase(), rest.replace('b', "B"))
            }
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 64MiB, or a number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_units() {
        assert_eq!("64MiB".parse(), Ok(Size::mib(64)));
        assert_eq!("50 gib".parse(), Ok(Size::gib(50)));
        assert_eq!("10GB".parse(), Ok(Size::of_bytes(10_000_000_000)));
        assert_eq!("12".parse(), Ok(Size::of_bytes(12)));
        assert_eq!("12h".parse(), Ok(Span::seconds(12 * 3600)));
        for wrong in ["", "MiB", "-1", "1.5GiB", "5 parsecs", "99999999999TiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        assert!("12".parse::<Span>().is_err(), "a duration needs its unit");
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for size in [Size::mib(64), Size::gib(50), Size::of_bytes(1 << 10)] {
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert_eq!(Size::mib(64).to_string(), "64MiB");
        assert_eq!(Span::seconds(600).to_string(), "10m");
    }
}

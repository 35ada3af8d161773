//! Durations of rules, as clients write them: `7 days`, `12h`, `P7D`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use wheelport_runtime::HumanDuration;

/// How old something has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AgeLimit(pub(super) Duration);

impl AgeLimit {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parsed = match text.strip_prefix('P') {
            Some(rest) => iso(rest),
            None => text.parse::<HumanDuration>().ok().map(HumanDuration::get),
        };
        // The longest duration is that of the settings, so that it can be added to any moment.
        let longest = |duration: &Duration| *duration <= Duration::from_hours(24 * 36_525);
        parsed
            .filter(longest)
            .map(Self)
            .ok_or_else(|| "not a duration; write one such as \"7 days\", \"12h\" or \"P7D\"".to_owned())
    }
}

/// What follows the `P` of an ISO 8601 duration, without years and months, whose lengths differ.
fn iso(text: &str) -> Option<Duration> {
    let (days, time) = match text.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (text, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let seconds = parts(days, &[('W', 604_800), ('D', 86_400)])?;
    Some(Duration::from_secs(seconds.checked_add(parts(time, &[('H', 3600), ('M', 60), ('S', 1)])?)?))
}

/// Numbers with these units in this order, each at most once.
fn parts(mut text: &str, units: &[(char, u64)]) -> Option<u64> {
    let mut sum: u64 = 0;
    for (unit, seconds) in units {
        if let Some((number, rest)) = text.split_once(*unit) {
            sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*seconds)?)?;
            text = rest;
        }
    }
    text.is_empty().then_some(sum)
}

impl<'de> Deserialize<'de> for AgeLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_clients_write_them() {
        for (text, seconds) in [
            ("7 days", 604_800),
            ("7d", 604_800),
            ("12h", 43_200),
            ("P7D", 604_800),
            ("P1W", 604_800),
            ("PT12H", 43_200),
            ("P1DT1H1M1S", 90_061),
            ("1 week", 604_800),
        ] {
            assert_eq!(AgeLimit::parse(text), Ok(AgeLimit(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "7", "P", "PT", "P7", "P1M", "P1Y", "P-1D", "PT1D", "P1D1W", "101y", "P99999999W"] {
            assert!(AgeLimit::parse(text).is_err(), "{text}");
        }
    }
}

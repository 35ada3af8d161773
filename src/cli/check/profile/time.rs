//! Times as AWS tools write them.

use std::time::{Duration, UNIX_EPOCH};

/// Since the Unix epoch. Tools end a UTC time with `Z`, `UTC` or `+00:00`.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim().replace("UTC", "Z").replace("+00:00", "Z");
    let time = humantime::parse_rfc3339_weak(&text).ok()?;
    time.duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_utc_is_the_same_time() {
        for text in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00UTC", " 2026-01-01T00:00:00+00:00"] {
            assert_eq!(parse(text), Some(Duration::from_hours(490_896)), "{text}");
        }
        for text in ["", "soon", "1969-12-31T23:59:59Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

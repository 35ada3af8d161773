//! Time stamps of the AWS protocols: `20261122T144653Z` in signatures, `2026-11-22T14:46:53Z` in XML responses.
//!
//! Pure; reads no clock.

use std::time::{Duration, UNIX_EPOCH};

/// `YYYYMMDD'T'HHMMSS'Z'` as seconds since the epoch, or `None` for anything else.
pub(crate) fn parse_stamp(text: &str) -> Option<u64> {
    let shape = text.len() == 16
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    if !shape {
        return None;
    }
    let [year, month, day] = [&text[..4], &text[4..6], &text[6..8]];
    let [hour, minute, second] = [&text[9..11], &text[11..13], &text[13..15]];
    let moment = humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()?;
    Some(moment.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// `YYYYMMDD'T'HHMMSS'Z'` of a moment.
pub(crate) fn stamp(seconds: u64) -> String {
    iso(seconds).replace(['-', ':'], "")
}

/// `YYYY-MM-DD'T'HH:MM:SS'Z'` of a moment.
pub(crate) fn iso(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_read_and_written() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (1_795_358_813, "20261122T144653Z"),
        ] {
            assert_eq!(stamp(seconds), text);
            assert_eq!(parse_stamp(text), Some(seconds));
        }
        assert_eq!(iso(1_440_938_160), "2015-08-30T12:36:00Z");
    }

    #[test]
    fn other_texts_are_no_time_stamps() {
        for text in ["", "2015-08-30T12:36:00Z", "20151330T123600Z", "20150830T250000Z", "+0150830T123600Z"] {
            assert_eq!(parse_stamp(text), None, "{text}");
        }
    }
}

//! Strings from outside, made safe for an error text or a log line: bounded, and without control characters.

use std::borrow::Cow;

/// The longest excerpt of a string from outside that an error quotes, in characters.
const LONGEST_EXCERPT: usize = 80;

/// A bounded copy of a string from outside, for an error that quotes it.
pub fn excerpt(raw: &str) -> String {
    shortened(raw, LONGEST_EXCERPT).into_owned()
}

/// At most `longest` characters of a string from outside, without control characters; `…` marks the cut.
pub fn shortened(raw: &str, longest: usize) -> Cow<'_, str> {
    // One pass without branches: nearly all strings are plain.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~');
    if raw.len() <= longest && raw.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        return Cow::Borrowed(raw);
    }
    let mut copy: String = raw.chars().filter(|c| !c.is_control()).take(longest).collect();
    if raw.chars().nth(longest).is_some() {
        copy.push('…');
    }
    Cow::Owned(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_bounded_and_free_of_control_characters() {
        assert_eq!(excerpt("a\r\nb\u{7f}"), "ab");
        assert_eq!(excerpt(&"é".repeat(500)).chars().count(), 81);
    }
}

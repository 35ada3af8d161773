//! Strings from outside, made safe for an error text or a log line: bounded, and without characters that move a cursor,
//! end a line or turn the direction of text.

use std::borrow::Cow;

/// The longest excerpt of a string from outside that an error quotes, in characters.
const LONGEST_EXCERPT: usize = 80;

/// A bounded copy of a string from outside, for an error that quotes it.
pub fn excerpt(raw: &str) -> String {
    shortened(raw, LONGEST_EXCERPT).into_owned()
}

/// At most `longest` characters of a string from outside, without those that lay out text; `…` marks the cut.
pub fn shortened(raw: &str, longest: usize) -> Cow<'_, str> {
    // One pass without branches: nearly all strings are plain.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~');
    if raw.len() <= longest && raw.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        return Cow::Borrowed(raw);
    }
    let mut copy: String = raw.chars().filter(|c| !is_layout(*c)).take(longest).collect();
    if raw.chars().nth(longest).is_some() {
        copy.push('…');
    }
    Cow::Owned(copy)
}

/// Control characters, and what Unicode has besides them to separate lines and to reverse text.
fn is_layout(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_bounded_and_free_of_control_characters() {
        assert_eq!(excerpt("a\r\nb\u{7f}\u{85}\u{9b}"), "ab");
        assert_eq!(excerpt("a\u{2028}b\u{202e}c\u{2066}\u{a0}"), "abc\u{a0}");
        assert_eq!(excerpt(&"é".repeat(500)).chars().count(), 81);
    }
}

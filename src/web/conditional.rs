//! Conditional and partial requests (RFC 9110, 13 and 14): what a client that has something already still needs.
//!
//! Pure: headers, entity tag and length in, a decision out. Our entity tags are strong and our responses carry no
//! `Last-Modified`, so dates never match. A request for several ranges gets the whole file: no installer sends one, and
//! they are a well-known way to make a server work for nothing.

use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE};

use super::headers::values;
use wheelport_runtime::sabotaged;

/// What to respond with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// 304: the client has it.
    NotModified,
    /// What [`Selection`] says.
    Send(Selection),
}

/// Which bytes to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of them, with 200.
    Whole,
    /// These, with 206. Both ends are inclusive and within the length.
    Part {
        /// The first byte's position.
        first: u64,
        /// The last byte's position.
        last: u64,
    },
    /// None, with 416.
    NotSatisfiable,
}

impl Selection {
    /// The selected part of bytes in memory.
    pub(super) fn of(self, bytes: &Bytes) -> Bytes {
        let position = |at: u64| usize::try_from(at).expect("a part of bytes in memory lies within them");
        match self {
            Self::Part { first, last } => bytes.slice(position(first)..=position(last)),
            Self::Whole | Self::NotSatisfiable => bytes.clone(),
        }
    }
}

/// Whether a request with these headers may want less than the whole.
pub(super) fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_NONE_MATCH) || headers.contains_key(RANGE)
}

/// Decides for a representation with the strong entity tag `etag`, quotes included; `length` is given in bytes where
/// parts of it are served.
pub(super) fn decide(method: &Method, headers: &HeaderMap, etag: &HeaderValue, length: Option<u64>) -> Precondition {
    let etag = etag.to_str().unwrap_or_default();
    if none_match(values(headers, &IF_NONE_MATCH), etag) {
        return Precondition::NotModified;
    }
    let mut ranges = values(headers, &RANGE);
    let (range, length) = match (ranges.next(), ranges.next(), length) {
        (Some(range), None, Some(length)) if *method == Method::GET => (range, length),
        _ => return Precondition::Send(Selection::Whole),
    };
    let mut conditions = headers.get_all(IF_RANGE).into_iter();
    let unchanged = match (conditions.next(), conditions.next()) {
        (None, _) => true,
        (Some(condition), None) => condition.to_str().is_ok_and(|condition| same_strongly(condition, etag)),
        (Some(_), Some(_)) => false,
    };
    Precondition::Send(if unchanged { selection(range, length) } else { Selection::Whole })
}

/// Whether one of the values of `If-None-Match` names `etag`, compared weakly: some servers in between weaken the tags
/// of what they compress.
pub(super) fn none_match<'a>(values: impl IntoIterator<Item = &'a str>, etag: &str) -> bool {
    let opaque = etag.strip_prefix("W/").unwrap_or(etag);
    values.into_iter().any(|value| value.trim() == "*" || tags(value).any(|tag| tag == opaque))
}

/// Whether an `If-Range` names exactly `etag`. A weak tag or a date never does.
fn same_strongly(condition: &str, etag: &str) -> bool {
    condition.trim() == etag && !etag.starts_with("W/")
}

/// The opaque parts, with quotes, of a list of entity tags. What is not a tag is passed over.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let open = rest.find('"')?;
        let close = open + 1 + rest[open + 1..].find('"')?;
        let tag = &rest[open..=close];
        rest = &rest[close + 1..];
        Some(tag)
    })
}

/// The bytes that a `Range` header asks for. What is malformed, in another unit or more than one range is ignored,
/// as the standard allows.
fn selection(range: &str, length: u64) -> Selection {
    let Some((unit, set)) = range.split_once('=') else { return Selection::Whole };
    let set = if sabotaged("single-range") { set.split(',').next().unwrap_or_default() } else { set };
    let Some((from, to)) = set.trim().split_once('-') else { return Selection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || length == 0 {
        return Selection::Whole;
    }
    match (position(from), position(to)) {
        (Position::At(first), Position::At(last)) if first > last => Selection::Whole,
        (Position::At(first), Position::At(_) | Position::Open) if first >= length => Selection::NotSatisfiable,
        (Position::At(first), Position::At(last)) => Selection::Part { first, last: last.min(length - 1) },
        (Position::At(first), Position::Open) => Selection::Part { first, last: length - 1 },
        (Position::Open, Position::At(0)) => Selection::NotSatisfiable,
        (Position::Open, Position::At(suffix)) => {
            Selection::Part { first: length.saturating_sub(suffix), last: length - 1 }
        }
        _ => Selection::Whole,
    }
}

enum Position {
    Open,
    At(u64),
    Malformed,
}

fn position(raw: &str) -> Position {
    if raw.is_empty() {
        Position::Open
    } else if raw.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number beyond every file is as good as the largest one we know.
        Position::At(raw.parse().unwrap_or(u64::MAX))
    } else {
        Position::Malformed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ETAG: &str = "\"sha256-aa\"";

    fn part(first: u64, last: u64) -> Selection {
        Selection::Part { first, last }
    }

    fn ask(method: &Method, asked: &[(&'static str, &str)]) -> Precondition {
        let mut headers = HeaderMap::new();
        for (name, value) in asked {
            headers.append(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        decide(method, &headers, &HeaderValue::from_static(ETAG), Some(100))
    }

    #[test]
    fn one_range_is_honoured() {
        for (range, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=10-19", part(10, 19)),
            ("bytes=10-", part(10, 99)),
            ("bytes=-10", part(90, 99)),
            ("bytes=-1000", part(0, 99)),
            ("bytes=99-99999999999999999999999999", part(99, 99)),
            ("BYTES = 1-2 ", part(1, 2)),
            ("bytes=100-", Selection::NotSatisfiable),
            ("bytes=99999999999999999999999999-", Selection::NotSatisfiable),
            ("bytes=-0", Selection::NotSatisfiable),
            ("bytes=20-10", Selection::Whole),
            ("bytes=0-1,5-6", Selection::Whole),
            ("bytes=0-1,", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=1--2", Selection::Whole),
            ("items=0-1", Selection::Whole),
            ("bytes", Selection::Whole),
            ("", Selection::Whole),
        ] {
            assert_eq!(selection(range, 100), expected, "{range}");
        }
        assert_eq!(selection("bytes=0-", 0), Selection::Whole, "an empty file has no parts");
        assert_eq!(selection(&format!("bytes={}", "0-1,".repeat(10_000)), 100), Selection::Whole);
    }

    #[test]
    fn the_conditions_decide_whether_a_range_counts() {
        let range = ("range", "bytes=10-");
        let send = Precondition::Send;
        assert_eq!(ask(&Method::GET, &[range]), send(part(10, 99)));
        assert_eq!(ask(&Method::HEAD, &[range]), send(Selection::Whole));
        assert_eq!(ask(&Method::GET, &[range, range]), send(Selection::Whole));
        assert_eq!(ask(&Method::GET, &[range, ("if-range", ETAG)]), send(part(10, 99)));
        for condition in ["W/\"sha256-aa\"", "\"other\"", "Mon, 02 Nov 2026 10:00:00 GMT", ""] {
            assert_eq!(ask(&Method::GET, &[range, ("if-range", condition)]), send(Selection::Whole), "{condition}");
        }
        let twice = [range, ("if-range", ETAG), ("if-range", ETAG)];
        assert_eq!(ask(&Method::GET, &twice), send(Selection::Whole));
        assert_eq!(ask(&Method::GET, &[range, ("if-none-match", ETAG)]), Precondition::NotModified);
        assert_eq!(ask(&Method::HEAD, &[("if-none-match", ETAG)]), Precondition::NotModified);
        assert_eq!(
            ask(&Method::GET, &[("if-none-match", "\"x\""), ("if-none-match", ETAG)]),
            Precondition::NotModified
        );
    }

    #[test]
    fn entity_tags_are_compared_weakly() {
        for (value, expected) in [
            (ETAG, true),
            ("W/\"sha256-aa\"", true),
            ("*", true),
            (" \"a,b\" , W/\"sha256-aa\"", true),
            ("\"other\"", false),
            ("sha256-aa", false),
            ("\"sha256-aa", false),
            ("\"sha256-aa--gzip\"", false),
            ("\"*\"", false),
            ("", false),
        ] {
            assert_eq!(none_match([value], ETAG), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_range_selects_exactly_the_bytes_it_names(
            from in proptest::option::of(0..40u64), to in proptest::option::of(0..40u64), length in 1..30u64
        ) {
            let text = |end: Option<u64>| end.map_or_else(String::new, |at| at.to_string());
            let wanted: Option<Vec<u64>> = match (from, to) {
                (None, None) => None,
                (Some(from), Some(to)) if from > to => None,
                (Some(from), to) => {
                    Some((0..length).filter(|at| *at >= from && to.is_none_or(|to| *at <= to)).collect())
                }
                (None, Some(suffix)) => Some((0..length).filter(|at| length - at <= suffix).collect()),
            };
            let got = match selection(&format!("bytes={}-{}", text(from), text(to)), length) {
                Selection::Whole => None,
                Selection::Part { first, last } => Some((first..=last).collect()),
                Selection::NotSatisfiable => Some(Vec::new()),
            };
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,40}", length in any::<u64>()) {
            if let Selection::Part { first, last } = selection(&text, length) {
                prop_assert!(first <= last && last < length);
            }
            let _ = none_match([text.as_str()], ETAG);
        }
    }
}

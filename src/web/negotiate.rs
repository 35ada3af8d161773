//! Which format of a document a client gets, and in which content coding.
//!
//! Pure: header values in, a choice out. `Accept` follows RFC 9110 (12.5.1) and PEP 691, `Accept-Encoding`
//! RFC 9110 (12.5.3). Two rules of our own: JSON is only given to a client that names it, because a bare `*/*` is
//! sent by clients that can read nothing but HTML; and a range we cannot read is passed over instead of refused.

use std::cell::RefCell;

use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue};

use super::headers::values;
use super::memo::Memo;
use super::refusal::Refusal;

const JSON_V1: &str = "application/vnd.pypi.simple.v1+json";
const JSON_LATEST: &str = "application/vnd.pypi.simple.latest+json";
const HTML_V1: &str = "application/vnd.pypi.simple.v1+html";
const HTML_LATEST: &str = "application/vnd.pypi.simple.latest+html";
const TEXT_HTML: &str = "text/html";

/// The format of a page or of the project list. A client that asks for the latest version gets version 1, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// `application/vnd.pypi.simple.v1+json`
    Json,
    /// `application/vnd.pypi.simple.v1+html`
    HtmlV1,
    /// `text/html`
    TextHtml,
}

impl Format {
    /// The `Content-Type` header.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/vnd.pypi.simple.v1+json",
            Self::HtmlV1 => "application/vnd.pypi.simple.v1+html; charset=utf-8",
            Self::TextHtml => "text/html; charset=utf-8",
        })
    }
}

/// The content coding of a response (RFC 9110, 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ContentCoding {
    Identity,
    Gzip,
    Zstd,
}

/// What a client gets of a document that has several representations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Negotiated {
    pub format: Format,
    pub coding: ContentCoding,
}

impl ContentCoding {
    /// The `Content-Encoding` header; none for the identity.
    pub(super) fn content_encoding(self) -> Option<HeaderValue> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some(HeaderValue::from_static("gzip")),
            Self::Zstd => Some(HeaderValue::from_static("zstd")),
        }
    }
}

impl Negotiated {
    /// What these headers ask for.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let negotiate = || {
            let format = format(values(headers, &ACCEPT))?;
            Ok(Self { format, coding: coding(values(headers, &ACCEPT_ENCODING)) })
        };
        match (only(headers, &ACCEPT), only(headers, &ACCEPT_ENCODING)) {
            (Some(accept), Some(encoding)) => {
                NEGOTIATED.with_borrow_mut(|memo| memo.get(0, [accept, encoding], negotiate))
            }
            _ => negotiate(),
        }
    }
}

/// The content coding that these headers ask for.
pub(super) fn content_coding(headers: &HeaderMap) -> ContentCoding {
    coding(values(headers, &ACCEPT_ENCODING))
}

/// The value of a header that comes exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

thread_local! {
    static NEGOTIATED: RefCell<Memo<Negotiated>> = RefCell::default();
}

/// The form for all values of `Accept`. None means that everything is welcome.
fn format<'a>(accept: impl IntoIterator<Item = &'a str>) -> Result<Format, Refusal> {
    let mut json = Preference::default();
    let mut html_v1 = Preference::default();
    let mut text_html = Preference::default();
    let mut any = false;
    for (range, quality) in ranges(accept) {
        any = true;
        json.note(&[JSON_V1, JSON_LATEST], range, quality);
        html_v1.note(&[HTML_V1, HTML_LATEST], range, quality);
        text_html.note(&[TEXT_HTML], range, quality);
    }
    if !any {
        return Ok(Format::TextHtml);
    }
    // Equal wishes: what is named goes before what a wildcard covers. Among the named, `text/html` is the last resort
    // (PEP 691); among the covered it is the first, for the sake of clients that read nothing else.
    [
        (json.rank(), 2, 0, Format::Json),
        (html_v1.rank(), 1, 1, Format::HtmlV1),
        (text_html.rank(), 0, 2, Format::TextHtml),
    ]
    .into_iter()
    .filter(|((quality, _), ..)| *quality > 0)
    .max_by_key(|((quality, named), among_named, among_covered, _)| {
        (*quality, *named, if *named { *among_named } else { *among_covered })
    })
    .map(|(.., form)| form)
    .ok_or(Refusal::NotAcceptable)
}

/// The coding for all values of `Accept-Encoding`. A client that says nothing gets the identity, and so does one that
/// excludes everything, since a page that cannot be read beats no page.
fn coding<'a>(accept_encoding: impl IntoIterator<Item = &'a str>) -> ContentCoding {
    let (mut zstd, mut gzip, mut identity, mut star) = (None, None, None, None);
    for (name, quality) in ranges(accept_encoding) {
        let slot = match name {
            _ if name.eq_ignore_ascii_case("zstd") => &mut zstd,
            _ if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => &mut gzip,
            _ if name.eq_ignore_ascii_case("identity") => &mut identity,
            "*" => &mut star,
            _ => continue,
        };
        *slot = (*slot).max(Some(quality));
    }
    // `*` says that the client does not care, not that it knows our newest coding: gzip stands first there.
    let named = |quality: Option<u16>, rank: u8| (quality.or(star).unwrap_or(0), quality.is_some(), rank);
    let best = [
        (named(zstd, if zstd.is_some() { 3 } else { 1 }), ContentCoding::Zstd),
        (named(gzip, 2), ContentCoding::Gzip),
        (named(identity, 0), ContentCoding::Identity),
    ]
    .into_iter()
    .filter(|((quality, ..), _)| *quality > 0)
    .max_by_key(|((quality, _, rank), _)| (*quality, *rank));
    best.map_or(ContentCoding::Identity, |(_, coding)| coding)
}

/// The quality (0 to 1000) that the client gives to the best of these types, each a lower-case `type/subtype`; 0
/// where it excludes or does not mention them. No header at all is 1000 for everything.
pub(super) fn quality<'a>(accept: impl IntoIterator<Item = &'a str>, types: &[&str]) -> u16 {
    let mut wish = Preference::default();
    let mut any = false;
    for (range, quality) in ranges(accept) {
        any = true;
        wish.note(types, range, quality);
    }
    if any { wish.rank().0 } else { 1000 }
}

/// What a client has said about one form: by name, by `type/*`, by `*/*`.
#[derive(Default)]
struct Preference {
    named: Option<u16>,
    kind: Option<u16>,
    all: Option<u16>,
}

impl Preference {
    fn note(&mut self, types: &[&str], range: &str, quality: u16) {
        let slot = if range == "*/*" || range == "*" {
            &mut self.all
        } else if let Some(kind) = range.strip_suffix("/*") {
            let covers = |name: &&str| name.split('/').next().is_some_and(|k| k.eq_ignore_ascii_case(kind));
            if !types.iter().any(covers) {
                return;
            }
            &mut self.kind
        } else if types.iter().any(|name| name.eq_ignore_ascii_case(range)) {
            &mut self.named
        } else {
            return;
        };
        *slot = (*slot).max(Some(quality));
    }

    /// The quality by the most specific range, and whether that names the form.
    fn rank(&self) -> (u16, bool) {
        let quality = self.named.or(self.kind).or(self.all).unwrap_or(0);
        (quality, self.named.is_some())
    }
}

/// The elements of list headers with their weights. Parameters other than `q` do not matter here, since no form of
/// ours has any that a client could choose by; elements whose weight cannot be read are passed over.
fn ranges<'a>(values: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = (&'a str, u16)> {
    values.into_iter().flat_map(|value| outside_quotes(value, b',')).filter_map(|element| {
        let mut parts = outside_quotes(element, b';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            key.trim().eq_ignore_ascii_case("q").then(|| value.trim())
        });
        Some((name, weight.map_or(Some(1000), thousandths)?))
    })
}

/// A weight in thousandths. Takes what occurs in the wild: `.5`, and more than three digits.
fn thousandths(raw: &str) -> Option<u16> {
    let (whole, fraction) = raw.split_once('.').unwrap_or((raw, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(fraction) || !matches!(whole, "" | "0" | "1") || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let fraction = fraction.bytes().chain(*b"000").take(3).fold(0, |sum, byte| sum * 10 + u16::from(byte - b'0'));
    match (whole, fraction) {
        ("1", 0) => Some(1000),
        ("1", _) => None,
        _ => Some(fraction),
    }
}

/// Splits at a separator that does not stand in a quoted string.
fn outside_quotes(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if byte == separator && !quoted => {
                    rest = Some(&text[at + 1..]);
                    return Some(&text[..at]);
                }
                _ => {}
            }
        }
        rest = None;
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_client_gets_the_form_it_reads() {
        let pip = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";
        let uv = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
        for (client, accept, expected) in [
            ("pip 22 to 26, pdm, pipenv", pip, Ok(Format::Json)),
            ("pip up to 21", "text/html", Ok(Format::TextHtml)),
            ("uv", uv, Ok(Format::Json)),
            ("poetry 2", "application/vnd.pypi.simple.v1+json, */*;q=0.1", Ok(Format::Json)),
            ("poetry 1, hash steps, hatch, curl", "*/*", Ok(Format::TextHtml)),
            ("a browser", browser, Ok(Format::TextHtml)),
            ("an old runtime's default", "text/html, image/gif, *; q=.2, */*; q=.2", Ok(Format::TextHtml)),
            ("latest", JSON_LATEST, Ok(Format::Json)),
            ("latest HTML", HTML_LATEST, Ok(Format::HtmlV1)),
            ("other JSON", "application/json", Err(Refusal::NotAcceptable)),
            ("other JSON or anything", "application/json, */*;q=0.1", Ok(Format::TextHtml)),
            ("a future version", "application/vnd.pypi.simple.v2+json", Err(Refusal::NotAcceptable)),
        ] {
            assert_eq!(format([accept]), expected, "{client}");
        }
        assert_eq!(format([]), Ok(Format::TextHtml));
    }

    #[test]
    fn weights_and_specificity_decide() {
        let json = JSON_V1;
        let html = HTML_V1;
        for (accept, expected) in [
            (format!("{json};q=0.5, text/html"), Ok(Format::TextHtml)),
            (format!("{json};q=0.5, text/html;q=0.4"), Ok(Format::Json)),
            (format!("text/html, {json}"), Ok(Format::Json)),
            (format!("text/html, {html}"), Ok(Format::HtmlV1)),
            (format!("*/*, {json}"), Ok(Format::Json)),
            (format!("*/*, {json};q=0"), Ok(Format::TextHtml)),
            (format!("*/*;q=0.5, {json};q=0.1"), Ok(Format::TextHtml)),
            ("text/*".to_owned(), Ok(Format::TextHtml)),
            ("application/*".to_owned(), Ok(Format::HtmlV1)),
            ("*/*, text/html;q=0".to_owned(), Ok(Format::HtmlV1)),
            (format!("*/*, text/html;q=0, {html};q=0"), Ok(Format::Json)),
            ("*/*;q=0".to_owned(), Err(Refusal::NotAcceptable)),
            ("text/html;q=0".to_owned(), Err(Refusal::NotAcceptable)),
            ("text/html;q=0.000".to_owned(), Err(Refusal::NotAcceptable)),
            ("image/png".to_owned(), Err(Refusal::NotAcceptable)),
            (json.to_uppercase(), Ok(Format::Json)),
            (format!("  {json} ; Q=1.000 ;x=\"a,b;q=0\" , text/html"), Ok(Format::Json)),
            (format!("x/y;a=\"{json},\""), Err(Refusal::NotAcceptable)),
            (format!("{json};q=nonsense, text/html;q=0.1"), Ok(Format::TextHtml)),
            (format!("{json};q=1.5"), Ok(Format::TextHtml)),
            (" , ,".to_owned(), Ok(Format::TextHtml)),
            (String::new(), Ok(Format::TextHtml)),
        ] {
            assert_eq!(format([accept.as_str()]), expected, "{accept}");
        }
        assert_eq!(format(["text/html;q=0.1", json]), Ok(Format::Json), "several lines are one list");
    }

    #[test]
    fn codings_follow_the_client_and_then_our_preference() {
        for (accept, expected) in [
            ("gzip, deflate", ContentCoding::Gzip),
            ("gzip, deflate, zstd", ContentCoding::Zstd),
            ("zstd,gzip,deflate", ContentCoding::Zstd),
            ("gzip, deflate, br, zstd", ContentCoding::Zstd),
            ("identity", ContentCoding::Identity),
            ("Identity", ContentCoding::Identity),
            ("identity, gzip;q=0.5", ContentCoding::Identity),
            ("identity;q=0.5, gzip", ContentCoding::Gzip),
            ("gzip, identity", ContentCoding::Gzip),
            ("zstd;q=0.5, gzip", ContentCoding::Gzip),
            ("zstd;q=0.5, gzip;q=0.5", ContentCoding::Zstd),
            ("gzip;q=0", ContentCoding::Identity),
            ("gzip;q=0, *", ContentCoding::Zstd),
            ("*", ContentCoding::Gzip),
            ("gzip;q=0.5, *;q=0.1", ContentCoding::Gzip),
            ("identity;q=0", ContentCoding::Identity),
            ("identity;q=0, *;q=0.1", ContentCoding::Gzip),
            ("*;q=0", ContentCoding::Identity),
            ("br", ContentCoding::Identity),
            ("x-gzip", ContentCoding::Gzip),
            ("", ContentCoding::Identity),
        ] {
            assert_eq!(coding([accept]), expected, "{accept}");
        }
        assert_eq!(coding([]), ContentCoding::Identity);
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_the_choice_is_one_the_client_can_read(accept in "[a-z*/+;=, q0-9.\"\\\\]{0,80}") {
            let chosen = format([accept.as_str()]);
            if chosen == Ok(Format::Json) {
                prop_assert!(accept.contains("json") || accept.contains('*'));
            }
            let _ = coding([accept.as_str()]);
        }

        #[test]
        fn weights_are_read_as_numbers(thousand in 0..=1000u16) {
            let text = format!("{:.3}", f64::from(thousand) / 1000.0);
            prop_assert_eq!(thousandths(&text), Some(thousand));
        }
    }
}

//! Header values that responses share: caching, `Cache-Status` (RFC 9211), and security headers.
//!
//! Values only; the handlers decide which response gets which of them.

use http::header::{CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::flow::Served;
use wheelport_runtime::sabotaged;

/// `Cache-Status` (RFC 9211).
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// `X-Request-Id`.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `Cache-Control` of pages: may be kept, must be asked about. The one setting with which every client sees a new
/// upload at once.
pub(super) const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// `Cache-Control` of files and their core metadata: the bytes behind a name never change.
pub(super) const IMMUTABLE: HeaderValue = HeaderValue::from_static("max-age=365000000, immutable");
/// As [`REVALIDATE`], where reading needs an identity.
pub(super) const PRIVATE_REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");
/// As [`IMMUTABLE`], where reading needs an identity.
pub(super) const PRIVATE_IMMUTABLE: HeaderValue = HeaderValue::from_static("private, max-age=365000000, immutable");
/// `Cache-Control` of errors.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// `Vary` of everything that is negotiated.
pub(super) const VARY_NEGOTIATED: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");
/// `Content-Security-Policy` of HTML that needs nothing: no script, no style, no frame, no request.
pub(super) const NOTHING_ALLOWED: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
/// `X-Content-Type-Options`.
pub(super) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// `Referrer-Policy`.
pub(super) const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");
/// Addresses of pages for people name projects and what was searched for. Nothing here reads them, so they are told to
/// no one, not even to this host, which others may share.
pub(super) const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// How a response came about, in the words of RFC 9211.
pub(super) fn cache_status(served: Served) -> HeaderValue {
    HeaderValue::from_static(match served {
        Served::Hit | Served::Revalidating => "wheelport; hit",
        Served::Stale => "wheelport; fwd=stale",
        Served::Miss => "wheelport; fwd=miss; stored",
        Served::Collapsed => "wheelport; fwd=miss; stored; collapsed",
        Served::Bypass => "wheelport; fwd=miss",
    })
}

/// A header value out of text that we wrote ourselves.
pub(super) fn printable(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("our own words are printable ASCII")
}

/// Keeps browsers from running, framing or reinterpreting a response.
pub(super) fn security_headers(headers: &mut HeaderMap) {
    if sabotaged("security-headers") {
        return;
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(CONTENT_SECURITY_POLICY, NOTHING_ALLOWED);
}

/// The readable values of a header, in order.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_values_are_passed_over() {
        let mut headers = HeaderMap::new();
        headers.append(http::header::ACCEPT, HeaderValue::from_static("text/html"));
        headers.append(http::header::ACCEPT, HeaderValue::from_bytes(b"\xff").expect("obs-text is a value"));
        assert_eq!(values(&headers, &http::header::ACCEPT).collect::<Vec<_>>(), ["text/html"]);
    }
}

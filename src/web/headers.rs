//! Header values that answers share: caching, `Cache-Status` (RFC 9211), and what keeps a browser out of mischief.
//!
//! Values only; which answer gets which of them is decided by the handlers.

use http::header::{CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

/// `Cache-Status` (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `Cache-Control` of pages: may be kept, must be asked about. The one setting with which every client sees a new
/// upload at once.
pub const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// `Cache-Control` of files and their core metadata: the bytes behind a name never change.
pub const IMMUTABLE: HeaderValue = HeaderValue::from_static("max-age=365000000, immutable");
/// `Cache-Control` of errors.
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// `Vary` of everything that is negotiated.
pub const VARY_NEGOTIATED: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");
/// `Content-Security-Policy` of HTML that needs nothing: no script, no style, no frame, no request.
pub const NOTHING_ALLOWED: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
/// `X-Content-Type-Options`.
pub const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// How the cache took part in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered from what was held. A negative remaining life says that it was stale.
    Hit {
        /// Remaining freshness in seconds, where freshness means anything.
        ttl: Option<i64>,
    },
    /// Upstream was asked.
    Forwarded {
        /// Why.
        reason: Forward,
        /// Whether the answer is now held.
        stored: bool,
        /// Whether another request's fill was shared.
        collapsed: bool,
    },
}

/// Why upstream was asked; the text form is RFC 9211's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Nothing was held for the address.
    UriMiss,
    /// What was held could not answer the request.
    Miss,
    /// What was held had gone stale.
    Stale,
}

impl Forward {
    /// RFC 9211's word, also the log and metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::Miss => "miss",
            Self::Stale => "stale",
        }
    }
}

impl CacheStatus {
    /// The log and metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit { .. } => "hit",
            Self::Forwarded { reason, .. } => reason.as_str(),
        }
    }

    /// The header value.
    pub fn value(self) -> HeaderValue {
        match self {
            Self::Hit { ttl: None } => HeaderValue::from_static("wheelport; hit"),
            Self::Hit { ttl: Some(ttl) } => printable(&format!("wheelport; hit; ttl={ttl}")),
            Self::Forwarded { reason, stored, collapsed } => {
                let stored = if stored { "; stored" } else { "" };
                let collapsed = if collapsed { "; collapsed" } else { "" };
                printable(&format!("wheelport; fwd={}{stored}{collapsed}", reason.as_str()))
            }
        }
    }
}

/// A header value out of text that we wrote ourselves.
pub(super) fn printable(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("our own words are printable ASCII")
}

/// Marks an answer with a body of ours so that no browser runs, frames or reinterprets it.
pub fn harmless(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(CONTENT_SECURITY_POLICY, NOTHING_ALLOWED);
}

/// All readable values of a header, in order.
pub fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_is_written_as_the_standard_says() {
        let forwarded = |reason, stored, collapsed| CacheStatus::Forwarded { reason, stored, collapsed };
        for (status, expected) in [
            (CacheStatus::Hit { ttl: None }, "wheelport; hit"),
            (CacheStatus::Hit { ttl: Some(58) }, "wheelport; hit; ttl=58"),
            (CacheStatus::Hit { ttl: Some(-7) }, "wheelport; hit; ttl=-7"),
            (forwarded(Forward::Miss, true, false), "wheelport; fwd=miss; stored"),
            (forwarded(Forward::UriMiss, true, true), "wheelport; fwd=uri-miss; stored; collapsed"),
            (forwarded(Forward::Stale, false, false), "wheelport; fwd=stale"),
        ] {
            assert_eq!(status.value(), expected);
        }
    }

    #[test]
    fn unreadable_values_are_passed_over() {
        let mut headers = HeaderMap::new();
        headers.append(http::header::ACCEPT, HeaderValue::from_static("text/html"));
        headers.append(http::header::ACCEPT, HeaderValue::from_bytes(b"\xff").expect("obs-text is a value"));
        assert_eq!(values(&headers, &http::header::ACCEPT).collect::<Vec<_>>(), ["text/html"]);
    }
}

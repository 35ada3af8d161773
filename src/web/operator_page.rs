//! What the pages of the listener for operations have in common: who gets HTML, the headers of it, and times.

use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::headers::{NO_REFERRER, NO_STORE, NOSNIFF, REFERRER_POLICY, printable, values};
use super::negotiate::quality;
use crate::ui;
use wheelport_runtime::sabotaged;

/// Makes a browser ask again after so many seconds. No script is needed for it.
const REFRESH: HeaderName = HeaderName::from_static("refresh");
/// The shortest and the longest time between two requests of a page that refreshes itself, in seconds.
const REFRESH_SECONDS: (u32, u32) = (5, 3600);

/// What a page may be asked for in its query.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct PageQuery {
    /// Seconds after which the browser asks again.
    refresh: Option<u32>,
}

impl PageQuery {
    pub(super) fn is_live(self) -> bool {
        self.refresh.is_some()
    }
}

/// Whether the client would rather have HTML. Scripts send `*/*`, and get JSON.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let accept = || values(headers, &ACCEPT);
    headers.contains_key(ACCEPT) && quality(accept(), &["text/html"]) > quality(accept(), &["application/json"])
}

/// A page for people.
pub(super) fn html(document: String, query: PageQuery) -> Response {
    let mut response = document.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if !sabotaged("page-policy") {
        headers.insert(CONTENT_SECURITY_POLICY, printable(ui::content_security_policy()));
    }
    headers.insert(REFERRER_POLICY, NO_REFERRER);
    if let Some(seconds) = query.refresh {
        headers.insert(REFRESH, HeaderValue::from(seconds.clamp(REFRESH_SECONDS.0, REFRESH_SECONDS.1)));
    }
    with_common_headers(response)
}

/// The same for programs.
pub(super) fn json(document: &impl Serialize) -> Response {
    with_common_headers(Json(document).into_response())
}

fn with_common_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// A moment in seconds since the Unix epoch, as RFC 3339 writes it.
pub(super) fn moment(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_html_and_scripts_json() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (accept, expected) in [
            (Some(browser), true),
            (Some("text/html"), true),
            (Some("application/json, text/html;q=0.5"), false),
            (Some("application/json"), false),
            (Some("*/*"), false),
            (Some(""), false),
            (None, false),
        ] {
            let headers = accept.map(|accept| (ACCEPT, HeaderValue::from_static(accept))).into_iter().collect();
            assert_eq!(wants_html(&headers), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_page_refreshes_itself_only_when_it_is_asked_to_and_not_too_often() {
        let refresh = |seconds| html(String::new(), PageQuery { refresh: seconds }).headers().get(REFRESH).cloned();
        assert_eq!(refresh(None), None);
        assert_eq!(refresh(Some(0)), Some(HeaderValue::from_static("5")));
        assert_eq!(refresh(Some(30)), Some(HeaderValue::from_static("30")));
    }
}

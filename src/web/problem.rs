//! From an error to an answer: the one table of statuses.
//!
//! Bodies are problem documents (RFC 9457), or plain text for those who take only text or HTML. Clients that publish
//! print nothing but the reason phrase, so answers to requests that change something carry the sentence there too.
//! Nothing is added here that the error's own text does not say.

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, VARY,
    WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use hyper::ext::ReasonPhrase;
use serde_json::json;

use super::Response;
use super::headers::{NO_STORE, REQUEST_ID, harmless, printable, values};
use super::negotiate::quality;
use crate::error::{Error, seconds};

/// The longest reason phrase sent, in characters.
const LONGEST_REASON: usize = 200;

/// What an answer depends on besides the error.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method of the request.
    pub method: &'a Method,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// The id of the request, as in its log line.
    pub request_id: &'a str,
}

/// The status of every error.
pub const fn status(error: &Error) -> StatusCode {
    match error {
        Error::NoSuchRoute { .. }
        | Error::NoDefaultRoute
        | Error::NothingHere
        | Error::NotOffered { .. }
        | Error::NoSuchProject { .. }
        | Error::NoSuchVersion { .. }
        | Error::NoSuchFile { .. }
        | Error::NoCoreMetadata { .. }
        | Error::ListNotOffered { .. } => StatusCode::NOT_FOUND,
        Error::BadAddress { .. } | Error::BadRequest { .. } | Error::BadHost | Error::UploadRefused { .. } => {
            StatusCode::BAD_REQUEST
        }
        Error::UploadUnauthorized => StatusCode::UNAUTHORIZED,
        Error::Denied { .. } | Error::CrossSite | Error::UploadOff { .. } | Error::UploadForbidden { .. } => {
            StatusCode::FORBIDDEN
        }
        Error::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Error::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        Error::FileExists { .. } => StatusCode::CONFLICT,
        Error::UploadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::RangeNotSatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        Error::HostNotAllowed { .. } => StatusCode::MISDIRECTED_REQUEST,
        // Never 502 or 504, which old installers do not repeat, and never 404, which means something else.
        Error::Unavailable { .. } | Error::Integrity { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The headers that belong to an error besides those of every error.
fn specific_headers(error: &Error, headers: &mut HeaderMap) {
    if let Some(wait) = error.retry_after() {
        // Seconds, not a date: a date makes one widely used client crash.
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
    }
    match error {
        Error::MethodNotAllowed { allowed } => {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        Error::RangeNotSatisfiable { length } => {
            headers.insert(CONTENT_RANGE, printable(&format!("bytes */{length}")));
        }
        Error::UploadUnauthorized => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"wheelport\", charset=\"UTF-8\""));
        }
        _ => {}
    }
}

/// The answer to a request that failed with `error`.
pub fn response(error: &Error, asked: &Asked<'_>) -> Response {
    let status = status(error);
    let detail = error.to_string();
    let (content_type, body) = if wants_text(asked.headers) {
        ("text/plain; charset=utf-8", text(&detail, asked.request_id))
    } else {
        // RFC 9457 and two members of our own; `code` is the last part of `type` again, which some clients print.
        let problem = json!({
            "type": format!("urn:wheelport:error:{}", error.code()),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": &detail,
            "code": error.code(),
            "request_id": asked.request_id,
        });
        ("application/problem+json", Bytes::from(problem.to_string()))
    };
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(id) = HeaderValue::from_str(asked.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    harmless(headers);
    specific_headers(error, headers);
    if !asked.method.is_safe()
        && let Some(reason) = reason(&detail)
    {
        response.extensions_mut().insert(reason);
    }
    response
}

/// The answer when handling a request panicked. The id is added where requests are accounted for.
pub fn internal() -> Response {
    let (method, headers) = (Method::GET, HeaderMap::new());
    response(&Error::Internal, &Asked { method: &method, headers: &headers, request_id: "" })
}

fn text(detail: &str, request_id: &str) -> Bytes {
    Bytes::from(format!("{detail}\n\nRequest id: {request_id}\n"))
}

/// Whether text suits the client better than JSON. Any JSON of an index will do as a wish for JSON.
fn wants_text(headers: &HeaderMap) -> bool {
    let accept = || values(headers, &ACCEPT);
    let json = quality(
        accept(),
        &[
            "application/problem+json",
            "application/json",
            "application/vnd.pypi.simple.v1+json",
            "application/vnd.pypi.simple.latest+json",
        ],
    );
    quality(accept(), &["text/plain", "text/html"]) > json
}

/// A sentence as a reason phrase: one line of Latin-1, shortened where it has to be.
pub fn reason(sentence: &str) -> Option<ReasonPhrase> {
    let latin_1 = |c: char| match u8::try_from(c) {
        Ok(byte @ (b' '..=b'~' | 0xa0..)) => byte,
        Ok(_) => b' ',
        Err(_) => b'?',
    };
    let mut phrase: Vec<u8> = sentence.chars().map(latin_1).take(LONGEST_REASON + 1).collect();
    if phrase.len() > LONGEST_REASON {
        phrase.truncate(LONGEST_REASON - 3);
        phrase.extend_from_slice(b"...");
    }
    ReasonPhrase::try_from(phrase).ok()
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;

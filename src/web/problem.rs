//! From an error to a response: the one table of statuses.
//!
//! Bodies are problem documents (RFC 9457), or plain text for clients that take only text. Clients that publish print
//! nothing but the reason phrase, so responses to requests that change something carry the sentence there too; so do
//! refusals of a file, because installers print the phrase. Nothing
//! is added here that the error's own text does not say.

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use hyper::ext::ReasonPhrase;
use serde_json::json;

use super::Response;
use super::body::ResponseBody;
use super::context::RequestContext;
use super::headers::{NO_STORE, printable, security_headers, values};
use super::negotiate::quality;
use super::refusal::Refusal;
use crate::flow::{BlockedFile, Error, seconds};
use crate::identity::{MintRefusal, NotSettled};
use crate::telemetry::ResponseKind;
use wheelport_runtime::sabotaged;

/// The longest reason phrase sent, in characters.
const LONGEST_REASON: usize = 200;
/// The longest reason phrase in the response to a request that reads, in characters.
const LONGEST_ASCII_REASON: usize = 120;
/// The longest message in a header, in characters.
const LONGEST_MESSAGE: usize = 1000;
/// Where installers may look for the reason of a refusal.
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");

/// Why a request gets no other response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// Something is wrong with the request itself.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A use case failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Problem {
    /// A bug of ours; the detail is for the log.
    pub(super) fn internal(detail: &str) -> Self {
        Self::Failed(Error::internal(detail))
    }

    pub(super) fn panicked() -> Self {
        Self::internal("handling the request panicked")
    }

    /// The stable code that machines may match on.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Failed(error) => error.code(),
        }
    }

    /// Whether something that is there is refused, so that clients are told why in every place that one of them shows.
    fn is_decision(&self) -> bool {
        let is_refused = matches!(self, Self::Failed(_)) && self.status() == StatusCode::FORBIDDEN;
        is_refused || matches!(self, Self::Refused(refusal) if refusal.is_of_read())
    }

    /// What refuses the file that was requested, if a rule does.
    pub(super) fn blocked(&self) -> Option<&BlockedFile> {
        match self {
            Self::Failed(Error::Blocked { blocked }) => Some(blocked),
            Self::Failed(_) | Self::Refused(_) => None,
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => status_of_refusal(refusal),
            Self::Failed(error) => status_of_error(error),
        }
    }
}

const fn status_of_refusal(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoSuchRoute { .. }
        | Refusal::NoDefaultRoute
        | Refusal::NothingHere
        | Refusal::NotOffered { .. }
        | Refusal::NoSuchAdvisory { .. }
        | Refusal::NoSuchPage { .. } => StatusCode::NOT_FOUND,
        Refusal::BadAddress { .. }
        | Refusal::BadRequest { .. }
        | Refusal::BadDate { .. }
        | Refusal::BadQuestion(_)
        | Refusal::BadHost
        | Refusal::NotEncrypted => StatusCode::BAD_REQUEST,
        Refusal::UploadUnauthorized { .. } | Refusal::ReadUnauthorized { .. } => StatusCode::UNAUTHORIZED,
        Refusal::CrossSite
        | Refusal::UploadOff { .. }
        | Refusal::UploadForbidden { .. }
        | Refusal::UploadRouteForbidden { .. }
        | Refusal::ReadForbidden { .. } => StatusCode::FORBIDDEN,
        Refusal::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        Refusal::RangeNotSatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        Refusal::HostNotAllowed { .. } => StatusCode::MISDIRECTED_REQUEST,
        Refusal::IdentityLimit { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::TooManyConnections
        | Refusal::TooManyConnectionsOfClient
        | Refusal::IssuerUnavailable { .. }
        | Refusal::TokenNotExchanged(MintRefusal::Token(NotSettled::NoKeys { .. })) => StatusCode::SERVICE_UNAVAILABLE,
        // What the public index says, and so what clients expect.
        Refusal::TokenNotExchanged(_) | Refusal::TokenNotTakenBack(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

const fn status_of_error(error: &Error) -> StatusCode {
    match error {
        Error::NoSuchProject { .. }
        | Error::NoSuchVersion { .. }
        | Error::NoSuchFile { .. }
        | Error::NoCoreMetadata { .. }
        | Error::ListNotOffered { .. } => StatusCode::NOT_FOUND,
        Error::UploadRefused { .. } => StatusCode::BAD_REQUEST,
        Error::Denied { .. } | Error::Quarantined { .. } | Error::ChangedFile { .. } | Error::Blocked { .. } => {
            StatusCode::FORBIDDEN
        }
        Error::FileExists { .. } => StatusCode::CONFLICT,
        Error::UploadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        // Never 502 or 504, which old installers do not repeat, and never 404, which means something else.
        Error::Unavailable { .. } | Error::Integrity { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The headers that belong to a problem besides those of every problem.
fn specific_headers(problem: &Problem, headers: &mut HeaderMap) {
    match problem {
        Problem::Failed(error) => {
            if let Some(wait) = error.retry_after() {
                // Seconds, not a date: pip 20 crashes on a date.
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
            }
        }
        Problem::Refused(Refusal::TooManyConnections | Refusal::TooManyConnectionsOfClient) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(2));
        }
        Problem::Refused(
            Refusal::IssuerUnavailable { .. }
            | Refusal::TokenNotExchanged(MintRefusal::Token(NotSettled::NoKeys { .. })),
        ) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(5));
        }
        Problem::Refused(Refusal::IdentityLimit { wait_seconds, .. }) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(*wait_seconds));
        }
        Problem::Refused(Refusal::MethodNotAllowed { allowed }) => {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        Problem::Refused(Refusal::RangeNotSatisfiable { length }) => {
            headers.insert(CONTENT_RANGE, printable(&format!("bytes */{length}")));
        }
        Problem::Refused(Refusal::UploadUnauthorized { .. } | Refusal::ReadUnauthorized { .. }) => {
            let challenge = HeaderValue::from_static("Basic realm=\"wheelport\", charset=\"UTF-8\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        Problem::Refused(_) => {}
    }
}

/// The response to a request that ended in a problem.
pub(super) fn response(problem: &Problem, context: &RequestContext) -> Response {
    let request_id = context.id.as_str();
    if let Problem::Failed(Error::Internal { detail }) = problem {
        tracing::error!(request = request_id, %detail, "a request failed inside this server");
    }
    let status = problem.status();
    let detail = problem.to_string();
    let (content_type, body) = if context.kind == ResponseKind::Osv {
        // The form in which clients of OSV's API read errors.
        let document = json!({ "code": code_of_osv(status), "message": &detail, "request_id": request_id });
        ("application/json", Bytes::from(document.to_string()))
    } else if wants_text(&context.headers) && context.kind != ResponseKind::Exchange {
        ("text/plain; charset=utf-8", text(&detail, request_id))
    } else {
        // RFC 9457 and two members of our own; `code` repeats the last part of `type`, which some clients print.
        let mut document = json!({
            "type": format!("urn:wheelport:error:{}", problem.code()),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": &detail,
            "code": problem.code(),
            "request_id": request_id,
        });
        if let Some(BlockedFile { grounds, .. }) = problem.blocked() {
            document["rule"] = json!(grounds.rule);
            document["until"] = json!(grounds.until);
            document["help"] = json!(grounds.help);
            if let Some(advisory) = &grounds.advisory {
                document["advisory"] = json!(advisory);
            }
        }
        if context.kind == ResponseKind::Exchange {
            // The form in which clients of trusted publishing read errors (PEP 807).
            document["message"] = json!(&detail);
            document["errors"] = json!([{ "code": problem.code(), "description": &detail }]);
        }
        ("application/problem+json", Bytes::from(document.to_string()))
    };
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    security_headers(headers);
    specific_headers(problem, headers);
    if context.method != Method::HEAD {
        *response.body_mut() = body.into();
    }
    if problem.is_decision() && !sabotaged("policy-message") {
        let message = ascii(&detail, LONGEST_MESSAGE);
        response.headers_mut().insert(ERROR_MESSAGE, printable(&message));
    }
    let phrase = match context.method.is_safe() {
        true if problem.is_decision() && !sabotaged("policy-phrase") => {
            ReasonPhrase::try_from(ascii(&detail, LONGEST_ASCII_REASON).into_bytes()).ok()
        }
        true => None,
        false => reason(&detail),
    };
    if let Some(phrase) = phrase {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// What OSV's API calls a status; the codes are those of gRPC.
fn code_of_osv(status: StatusCode) -> u8 {
    match status {
        StatusCode::NOT_FOUND => 5,
        StatusCode::METHOD_NOT_ALLOWED => 12,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        status if status.is_client_error() => 3,
        _ => 13,
    }
}

/// One line of ASCII, shortened where it has to be: balancers and clients trip over more.
fn ascii(sentence: &str, longest: usize) -> String {
    let shown = |c: char| match c {
        ' '..='~' => c,
        c if c.is_control() || c.is_whitespace() => ' ',
        _ => '?',
    };
    let mut line: String = sentence.chars().map(shown).collect();
    if line.len() > longest {
        line.truncate(longest - 3);
        line.push_str("...");
    }
    line
}

fn text(detail: &str, request_id: &str) -> Bytes {
    Bytes::from(format!("{detail}\n\nRequest id: {request_id}\n"))
}

/// Whether text suits the client better than JSON. A preference for any JSON of an index counts as one for JSON.
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
fn reason(sentence: &str) -> Option<ReasonPhrase> {
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

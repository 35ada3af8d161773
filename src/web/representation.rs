//! Representations: what a response about some content carries, and the one function that makes the response.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};

use super::Response;
use super::body::ResponseBody;
use super::conditional::{Precondition, Selection, decide, is_conditional};
use super::context::RequestContext;
use super::headers::{
    CACHE_STATUS, IMMUTABLE, NO_REFERRER, NO_STORE, REFERRER_POLICY, REQUEST_ID, REVALIDATE, cache_status, printable,
    security_headers,
};
use super::problem::Problem;
use super::refusal::Refusal;
use super::written::Written;
use crate::flow::Served;
use crate::ui;
use wheelport_index::Sha256;
use wheelport_runtime::sabotaged;

/// Room for the headers of any response of ours.
const HEADERS: usize = 12;
/// What a complete response carries besides its bytes.
#[derive(Debug, Clone)]
pub(super) struct Representation {
    /// With the strong entity tag; without one there are no conditions and no ranges.
    headers: HeaderMap,
    /// The length in bytes, if known.
    length: Option<u64>,
    /// Whether parts are served.
    has_ranges: bool,
}

/// What can be immutable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImmutableType {
    File,
    /// Core metadata.
    Text,
}

impl ImmutableType {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::File => "application/octet-stream",
            Self::Text => "text/plain; charset=utf-8",
        })
    }

    /// The headers that all of a type share, with places for those that differ: a copy never has to grow.
    fn headers(self) -> HeaderMap {
        let place = HeaderValue::from_static("");
        let shared = Representation::new(self.content_type(), Some(0))
            .with(CACHE_CONTROL, IMMUTABLE)
            .with(ACCEPT_RANGES, HeaderValue::from_static("bytes"))
            .with(CACHE_STATUS, cache_status(Served::Hit))
            .with(ETAG, place.clone())
            .with(REQUEST_ID, place.clone());
        match self {
            Self::File => shared.with(CONTENT_DISPOSITION, place).headers,
            Self::Text => shared.headers,
        }
    }
}

static FILE_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| ImmutableType::File.headers());
static TEXT_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| ImmutableType::Text.headers());

impl Representation {
    fn new(content_type: HeaderValue, length: Option<u64>) -> Self {
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(CONTENT_TYPE, content_type);
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        security_headers(&mut headers);
        Self { headers, length, has_ranges: false }
    }

    /// A document that is made for one request and must not be stored.
    pub(super) fn unstored(content_type: HeaderValue, length: usize) -> Self {
        Self::new(content_type, Some(length as u64)).with(CACHE_CONTROL, NO_STORE)
    }

    /// A file or core metadata: bytes that never change behind their address, as far as a digest vouches for them.
    pub(super) fn immutable(media_type: ImmutableType, length: Option<u64>, sha256: Option<Sha256>) -> Self {
        let Some(sha256) = sha256 else {
            return Self::new(media_type.content_type(), length).with(CACHE_CONTROL, REVALIDATE);
        };
        let mut headers = match media_type {
            ImmutableType::File => FILE_HEADERS.clone(),
            ImmutableType::Text => TEXT_HEADERS.clone(),
        };
        match length {
            Some(length) => headers.insert(CONTENT_LENGTH, HeaderValue::from(length)),
            None => headers.remove(CONTENT_LENGTH),
        };
        Self { headers, length, has_ranges: true }.with_etag(quoted(sha256))
    }

    /// Bytes for which no digest vouches yet: clients may keep them, and must ask about them.
    #[must_use]
    pub(super) fn unproven(self) -> Self {
        self.with(CACHE_CONTROL, REVALIDATE)
    }

    /// A document that clients may keep and must ask about.
    pub(super) fn revalidated(content_type: HeaderValue, written: &Written, suffix: &str, vary: HeaderValue) -> Self {
        // Half of a SHA-256 tells more documents apart than there will ever be.
        let digest = written.sha256.to_string();
        Self::new(content_type, Some(written.length))
            .with_etag(format!("\"{}{suffix}\"", &digest[..32]))
            .with(CACHE_CONTROL, REVALIDATE)
            .with(VARY, vary)
            // What most responses say; the others replace it.
            .with(CACHE_STATUS, cache_status(Served::Hit))
            // Room for the id of the request, so that no copy of the headers has to grow.
            .with(REQUEST_ID, HeaderValue::from_static(""))
    }

    /// A page for people: it may have the style and the script that it brings along, and its address is told to no one.
    #[must_use]
    pub(super) fn for_people(self) -> Self {
        let policy = HeaderValue::from_static(ui::content_security_policy());
        let page = self.with(CONTENT_SECURITY_POLICY, policy);
        if sabotaged("referrer") { page } else { page.with(REFERRER_POLICY, NO_REFERRER) }
    }

    #[must_use]
    pub(super) fn with(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    fn with_etag(self, etag: impl Into<Vec<u8>>) -> Self {
        let etag = HeaderValue::from_maybe_shared(Bytes::from(etag.into())).expect("an entity tag is printable");
        self.with(ETAG, etag)
    }

    /// The response to a request for this representation: the whole of it, a part, or 304 (RFC 9110, 13 and 14).
    /// `body` gives the selected bytes and is not called where there are none.
    pub(super) fn respond(
        self,
        context: &RequestContext,
        served: Option<Served>,
        body: impl FnOnce(Selection) -> Result<ResponseBody, Problem>,
    ) -> Result<Response, Problem> {
        match self.precondition(context) {
            Precondition::NotModified => Ok(not_modified(self.not_modified(), served)),
            Precondition::Send(selection) => self.send(context, served, selection, body),
        }
    }

    /// What the conditions of a request come to.
    pub(super) fn precondition(&self, context: &RequestContext) -> Precondition {
        let conditional = self.length.filter(|_| is_conditional(&context.headers));
        match conditional.and_then(|length| Some((self.headers.get(ETAG)?, length))) {
            Some((etag, length)) => decide(&context.method, &context.headers, etag, self.has_ranges.then_some(length)),
            None => Precondition::Send(Selection::Whole),
        }
    }

    /// The response with the selected bytes.
    pub(super) fn send(
        self,
        context: &RequestContext,
        served: Option<Served>,
        selection: Selection,
        body: impl FnOnce(Selection) -> Result<ResponseBody, Problem>,
    ) -> Result<Response, Problem> {
        let mut response = bodiless(self.headers, served);
        if selection != Selection::Whole {
            select(&mut response, selection, self.length.unwrap_or(0))?;
        }
        if context.method != Method::HEAD {
            *response.body_mut() = body(selection)?;
        }
        Ok(response)
    }

    /// The headers of a 304, which describes no content (RFC 9110, 15.4.5).
    pub(super) fn not_modified(&self) -> HeaderMap {
        const OF_CONTENT: [http::HeaderName; 7] = [
            CONTENT_TYPE,
            CONTENT_LENGTH,
            CONTENT_ENCODING,
            CONTENT_DISPOSITION,
            ACCEPT_RANGES,
            X_CONTENT_TYPE_OPTIONS,
            CONTENT_SECURITY_POLICY,
        ];
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.extend(self.headers.clone().into_iter().filter_map(|(name, value)| {
            let name = name.filter(|name| !OF_CONTENT.contains(name))?;
            Some((name, value))
        }));
        headers
    }
}

/// A 304 with the headers of [`Representation::not_modified`].
pub(super) fn not_modified(headers: HeaderMap, served: Option<Served>) -> Response {
    let mut response = bodiless(headers, served);
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

fn bodiless(headers: HeaderMap, served: Option<Served>) -> Response {
    let mut response = Response::new(ResponseBody::empty());
    *response.headers_mut() = headers;
    if let Some(status) = served.map(cache_status)
        // Most headers say it already.
        && response.headers().get(CACHE_STATUS) != Some(&status)
    {
        response.headers_mut().insert(CACHE_STATUS, status);
    }
    response
}

/// Says which part is sent.
fn select(response: &mut Response, selection: Selection, length: u64) -> Result<(), Problem> {
    match selection {
        Selection::Whole => {}
        Selection::NotSatisfiable => return Err(Refusal::RangeNotSatisfiable { length }.into()),
        Selection::Part { first, last } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = printable(&format!("bytes {first}-{last}/{length}"));
            response.headers_mut().insert(CONTENT_RANGE, range);
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(last + 1 - first));
        }
    }
    Ok(())
}

fn quoted(sha256: Sha256) -> Vec<u8> {
    let mut etag = Vec::with_capacity(66);
    etag.push(b'"');
    etag.extend_from_slice(&sha256.text());
    etag.push(b'"');
    etag
}

//! Documents that are not CodeArtifact's, such as the keys of an issuer, what a webhook is told, or an export of
//! advisories: one attempt, no credential of ours, no redirect, a bound for the length. The caller sets the time limit.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, DATE, ETAG, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};
use url::Url;
use wheelport_runtime::sabotaged;

use super::client::{Client, SendError};

/// How long the headers of a response may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a large document may be silent.
const STALL: Duration = Duration::from_secs(30);
/// The longest version of a document that is remembered, in bytes.
const LONGEST_TAG: usize = 512;

/// What became of asking for a large document.
pub enum FetchedDocument {
    /// It is of the version that is known.
    Unchanged,
    Arriving(DocumentBody),
}

/// A large document as it arrives.
pub struct DocumentBody {
    /// Its version: an entity tag, or when it was last changed.
    pub tag: Option<String>,
    /// When it was last changed, as it says.
    pub modified: Option<SystemTime>,
    body: Incoming,
    left: u64,
}

impl DocumentBody {
    /// The next bytes; `None` only after a complete body. The error is a sentence for the log.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let frame = match timeout(STALL, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => frame.map_err(|error| format!("it broke off: {error}"))?,
                Err(_) => return Err(format!("nothing came for {} s", STALL.as_secs())),
            };
            let bytes = frame.into_data().unwrap_or_default();
            self.left = self.left.checked_sub(bytes.len() as u64).ok_or("it is longer than it may be")?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }
}

impl Client {
    /// A large document at an address that the operator named, if it is not of the version that is known. The error is
    /// a sentence for the log.
    pub async fn fetch(&self, url: &Url, known: Option<&str>, limit: u64) -> Result<FetchedDocument, String> {
        self.allow_host(url.host_str().unwrap_or_default());
        let mut request =
            Request::builder().uri(url.as_str()).header(HOST, authority(url, "it")?).header(ACCEPT, "*/*");
        if let Some(tag) = known {
            let is_tag = tag.starts_with('"') || tag.starts_with("W/");
            request = request.header(if is_tag { IF_NONE_MATCH } else { IF_MODIFIED_SINCE }, tag);
        }
        let request = request.body(Empty::new().map_err(|never| match never {}).boxed_unsync());
        let request = request.map_err(|error| format!("it cannot be requested: {error}"))?;
        let response = self.send(request, Instant::now() + HEADER_TIMEOUT * 2).await.map_err(|error| match error {
            SendError::Connection(_, detail) => format!("it cannot be reached: {detail}"),
            SendError::Timeout => "it did not respond in time".to_owned(),
            SendError::Malformed => "its response is not HTTP".to_owned(),
        })?;
        match response.status() {
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(FetchedDocument::Unchanged),
            StatusCode::OK => {}
            status => return Err(format!("it responded with status {}", status.as_u16())),
        }
        let text = |name| response.headers().get(name)?.to_str().ok().filter(|text: &&str| text.len() <= LONGEST_TAG);
        let tag = text(ETAG).or_else(|| text(LAST_MODIFIED)).map(str::to_owned);
        let modified = text(LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date).ok());
        Ok(FetchedDocument::Arriving(DocumentBody { tag, modified, body: response.into_body(), left: limit }))
    }

    /// The document at this address, and what time it is there; the error is a sentence for the log. `is_configured`
    /// says that the operator named the host, so that it may be anywhere.
    pub async fn document(
        &self,
        url: &Url,
        limit: usize,
        is_configured: bool,
    ) -> Result<(Bytes, Option<SystemTime>), String> {
        if is_configured && let Some(host) = url.host_str() {
            self.allow_host(host);
        }
        match self.exchange(Method::GET, url, Bytes::new(), limit).await? {
            (StatusCode::OK, document, date) => Ok((document, date)),
            (status, ..) => Err(format!("{url} responded with status {}", status.as_u16())),
        }
    }

    /// Posts a JSON document to an address that the operator named, and returns the response, whatever its status.
    pub async fn post(&self, url: &Url, body: Bytes, limit: usize) -> Result<(StatusCode, Bytes), String> {
        self.allow_host(url.host_str().unwrap_or_default());
        self.exchange(Method::POST, url, body, limit).await.map(|(status, document, _)| (status, document))
    }

    /// Posts a JSON document with these headers to an address that the operator named, and returns the status. What
    /// else there is of the response is not read. An error names no more of the address than its origin, because the
    /// rest may be a secret.
    pub async fn deliver(
        &self,
        url: &Url,
        headers: &[(&'static str, String)],
        body: Bytes,
        deadline: Instant,
    ) -> Result<StatusCode, String> {
        self.allow_host(url.host_str().unwrap_or_default());
        let request =
            headers.iter().fold(Request::post(url.as_str()), |request, (name, value)| request.header(*name, value));
        let shown = url.origin().ascii_serialization();
        self.respond(request, url, &shown, body, deadline).await.map(|response| response.status())
    }

    async fn exchange(
        &self,
        method: Method,
        url: &Url,
        body: Bytes,
        limit: usize,
    ) -> Result<(StatusCode, Bytes, Option<SystemTime>), String> {
        let request = Request::builder().method(method).uri(url.as_str());
        let response = self.respond(request, url, url.as_str(), body, Instant::now() + HEADER_TIMEOUT).await?;
        let status = response.status();
        let date = response.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let (mut body, mut document) = (response.into_body(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the body of {url} broke off: {error}"))?;
            document.extend_from_slice(&frame.into_data().unwrap_or_default());
            if document.len() > limit && !sabotaged("document-size") {
                return Err(format!("the document at {url} is longer than {limit} bytes"));
            }
        }
        Ok((status, document.freeze(), date))
    }

    /// The headers of the response to a JSON document; `shown` is what errors call the address.
    async fn respond(
        &self,
        request: http::request::Builder,
        url: &Url,
        shown: &str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Response<Incoming>, String> {
        let request = request.header(HOST, authority(url, shown)?);
        let request = request.header(ACCEPT, "application/json").header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::new(body).map_err(|never| match never {}).boxed_unsync());
        let request = request.map_err(|error| format!("{shown} cannot be requested: {error}"))?;
        self.send(request, deadline).await.map_err(|error| match error {
            SendError::Connection(_, detail) => format!("{shown} cannot be reached: {detail}"),
            SendError::Timeout => format!("{shown} did not respond in time"),
            SendError::Malformed => format!("the response of {shown} is not HTTP"),
        })
    }
}

/// The host of an address as a request names it.
fn authority(url: &Url, shown: &str) -> Result<String, String> {
    let host = url.host_str().ok_or_else(|| format!("{shown} names no host"))?;
    Ok(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

//! Small documents that are not CodeArtifact's, such as the keys of an issuer or what a webhook is told: one attempt,
//! no credential of ours, no redirect, a bound for the length. The caller sets the time limit.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, DATE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::time::Instant;
use url::Url;
use wheelport_runtime::sabotaged;

use super::client::{Client, SendError};

/// How long the headers of a response may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
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
        let Some(host) = url.host_str() else { return Err(format!("{shown} names no host")) };
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let request = request.header(HOST, authority);
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

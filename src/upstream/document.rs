//! Small documents that are not CodeArtifact's, such as the keys of an issuer: one attempt, no credential of ours, no
//! redirect, a bound for the length. The caller sets the time limit.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, DATE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
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

    async fn exchange(
        &self,
        method: Method,
        url: &Url,
        body: Bytes,
        limit: usize,
    ) -> Result<(StatusCode, Bytes, Option<SystemTime>), String> {
        let Some(host) = url.host_str() else { return Err(format!("{url} names no host")) };
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let request = Request::builder().method(method).uri(url.as_str()).header(HOST, authority);
        let request = request.header(ACCEPT, "application/json").header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::new(body).map_err(|never| match never {}).boxed_unsync());
        let request = request.map_err(|error| format!("{url} cannot be requested: {error}"))?;
        let response = match self.send(request, Instant::now() + HEADER_TIMEOUT).await {
            Ok(response) => response,
            Err(SendError::Connection(_, detail)) => return Err(format!("{url} cannot be reached: {detail}")),
            Err(SendError::Timeout) => return Err(format!("{url} did not respond in time")),
            Err(SendError::Malformed) => return Err(format!("the response of {url} is not HTTP")),
        };
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
}

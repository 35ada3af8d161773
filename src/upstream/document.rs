//! Small documents that are not CodeArtifact's, such as the keys of an issuer: one attempt, no credential, no redirect,
//! a bound for the length. The caller sets the time limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use tokio::time::Instant;
use url::Url;

use super::client::{Client, SendError};

/// How long the headers of a response may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// The document at this address; the error is a sentence for the log. `is_configured` says that the operator named
    /// the host, so that it may be anywhere.
    pub async fn document(&self, url: &Url, limit: usize, is_configured: bool) -> Result<Bytes, String> {
        let Some(host) = url.host_str() else { return Err(format!("{url} names no host")) };
        if is_configured {
            self.allow_host(host);
        }
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let request = Request::get(url.as_str()).header(HOST, authority).header(ACCEPT, "application/json");
        let request = request.body(Empty::new().map_err(|never| match never {}).boxed_unsync());
        let request = request.map_err(|error| format!("{url} cannot be requested: {error}"))?;
        let response = match self.send(request, Instant::now() + HEADER_TIMEOUT).await {
            Ok(response) => response,
            Err(SendError::Connection(_, detail)) => return Err(format!("{url} cannot be reached: {detail}")),
            Err(SendError::Timeout) => return Err(format!("{url} did not respond in time")),
            Err(SendError::Malformed) => return Err(format!("the response of {url} is not HTTP")),
        };
        if response.status() != StatusCode::OK {
            return Err(format!("{url} responded with status {}", response.status().as_u16()));
        }
        let (mut body, mut document) = (response.into_body(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the body of {url} broke off: {error}"))?;
            document.extend_from_slice(&frame.into_data().unwrap_or_default());
            if document.len() > limit {
                return Err(format!("the document at {url} is longer than {limit} bytes"));
            }
        }
        Ok(document.freeze())
    }
}

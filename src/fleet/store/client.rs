//! One request to the store: signed, behind the breaker, within its limits, its failure classified. It knows the
//! protocol's envelope; what is asked stands in `operations.rs` and `multipart.rs`.

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use url::Url;

use super::super::breaker::Breaker;
use super::super::settings::{FleetSettings, StoreLocation};
use super::body::{Outflow, SourceBody, SourceBytes};
use super::connect::{RequestBody, StorePool, pool};
use super::credentials::HeldCredentials;
use super::error::{StoreError, classify};
use super::key::ObjectKey;
use super::metrics::{StoreMetrics, StoreOperation};
use super::signing::sign_request;
use wheelport_index::Sha256;
use wheelport_runtime::Clock;

/// Requests in flight, with the bodies that are being read.
const IN_FLIGHT: usize = 64;
/// How long the store may keep silent while a body moves, and after its last byte.
pub(super) const STALL: Duration = Duration::from_secs(5);
/// How long it may keep silent while it sends: a file can be had elsewhere.
pub(super) const READ_STALL: Duration = Duration::from_secs(2);
/// The most of an error document that is read, in bytes.
const MAX_ERROR: usize = 4 << 10;
/// Where a store of AWS is when no region is known.
const DEFAULT_REGION: &str = "us-east-1";

/// What reaches the store.
pub struct StoreAccess {
    /// The region of the AWS chain, unless the settings name one.
    pub region: Option<String>,
    /// Where credentials come from; they need not be held by the provider.
    pub credentials: SharedCredentialsProvider,
}

/// Settings of which no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum StoreSetupError {
    #[error("the object store's endpoint cannot be used: {0}")]
    Endpoint(String),
    #[error("cannot set up TLS for the object store: {0}")]
    Tls(#[from] rustls::Error),
}

pub(super) struct StoreClient {
    pool: StorePool,
    /// Scheme, host, and where the bucket stands in the path, the bucket.
    base: String,
    pub(super) location: StoreLocation,
    pub(super) region: String,
    kms_key: Option<HeaderValue>,
    credentials: HeldCredentials,
    clock: Clock,
    pub(super) timeout: Duration,
    pub(super) breaker: Breaker,
    pub(super) metrics: StoreMetrics,
    in_flight: Arc<Semaphore>,
}

/// What a request carries.
pub(super) enum Payload {
    Nothing,
    Bytes(Bytes),
    Source { bytes: SourceBytes, length: u64, sha256: Sha256 },
}

/// A request to be signed and sent.
pub(super) struct StoreRequest<'a> {
    pub(super) operation: StoreOperation,
    pub(super) method: Method,
    pub(super) key: &'a ObjectKey,
    /// With its question mark, or empty.
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
}

/// A response with success, and the place in flight that it holds until its body ends.
pub(super) struct StoreResponse {
    pub(super) response: Response<Incoming>,
    pub(super) permit: OwnedSemaphorePermit,
}

impl StoreClient {
    pub(super) fn new(
        settings: &FleetSettings,
        location: StoreLocation,
        access: StoreAccess,
        clock: Clock,
    ) -> Result<Self, StoreSetupError> {
        let region = settings.store_region.clone().or(access.region).unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let is_path_style = settings.store_path_style.unwrap_or(settings.store_endpoint.is_some());
        let base = base_address(settings.store_endpoint.as_ref(), &location.bucket, &region, is_path_style)?;
        let kms_key = settings.store_kms_key.as_deref().map(HeaderValue::from_str).transpose();
        let timeout = settings.store_timeout.get();
        Ok(Self {
            pool: pool(timeout)?,
            base,
            location,
            region,
            kms_key: kms_key.map_err(|_| StoreSetupError::Endpoint("its KMS key is no header".into()))?,
            credentials: HeldCredentials::new(access.credentials, clock.clone()),
            clock,
            timeout,
            breaker: Breaker::default(),
            metrics: StoreMetrics::default(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
        })
    }

    /// Headers of a request that makes an object.
    pub(super) fn encryption(&self, headers: &mut HeaderMap) {
        if let Some(key) = &self.kms_key {
            headers
                .insert(HeaderName::from_static("x-amz-server-side-encryption"), HeaderValue::from_static("aws:kms"));
            headers.insert(HeaderName::from_static("x-amz-server-side-encryption-aws-kms-key-id"), key.clone());
        }
    }

    /// Sends a request; its response has a status of success.
    pub(super) async fn send(&self, request: StoreRequest<'_>) -> Result<StoreResponse, StoreError> {
        let (operation, began) = (request.operation, Instant::now());
        let outcome = self.attempt(request).await;
        let result = outcome.as_ref().err().map_or("ok", StoreError::as_str);
        self.metrics.responded(operation, result, began.elapsed());
        outcome
    }

    async fn attempt(&self, request: StoreRequest<'_>) -> Result<StoreResponse, StoreError> {
        let pass = self.breaker.try_enter().ok_or(StoreError::Open)?;
        let waiting = timeout(self.timeout, Arc::clone(&self.in_flight).acquire_owned());
        // All places taken is our own fullness and says nothing of the store.
        let Ok(Ok(permit)) = waiting.await else { return Err(StoreError::TimedOut) };
        let credentials = self.credentials.get().await?;
        let (payload, body, outflow) = split(request.payload);
        let uri = format!("{}{}{}", self.base, request.key.path(&self.location), request.query);
        let uri: Uri = uri.parse().map_err(|_| StoreError::Broken("its address is malformed".into()))?;
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut signed = Request::new(body);
        *signed.method_mut() = request.method;
        *signed.uri_mut() = uri;
        *signed.headers_mut() = request.headers;
        let host = HeaderValue::from_str(&host).map_err(|_| StoreError::Broken("its host is malformed".into()))?;
        signed.headers_mut().insert(header::HOST, host);
        sign_request(&mut signed, payload, &credentials, &self.region, self.clock.now())?;
        match self.exchange(signed, outflow.as_ref()).await {
            Ok(response) => {
                pass.succeeded();
                let response = self.successful(response).await?;
                Ok(StoreResponse { response, permit })
            }
            // Our own source broke off; the pass is given back without an outcome.
            Err(_) if outflow.is_some_and(|outflow| outflow.is_source_broken()) => Err(StoreError::Source),
            Err(error) => {
                pass.failed();
                Err(error)
            }
        }
    }

    /// Waits for response headers: for a bounded time, or as long as a body moves.
    async fn exchange(
        &self,
        request: Request<RequestBody>,
        outflow: Option<&Outflow>,
    ) -> Result<Response<Incoming>, StoreError> {
        let limit = async {
            match outflow {
                Some(outflow) => outflow.stalled(STALL.max(self.timeout)).await,
                None => tokio::time::sleep(self.timeout).await,
            }
        };
        tokio::select! {
            biased;
            response = self.pool.request(request) => response.map_err(|error| StoreError::Broken(chain(&error))),
            () = limit => Err(StoreError::TimedOut),
        }
    }

    async fn successful(&self, response: Response<Incoming>) -> Result<Response<Incoming>, StoreError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let (mut document, mut body) = (Vec::new(), response.into_body());
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                document.extend_from_slice(&frame.into_data().unwrap_or_default());
                if document.len() > MAX_ERROR {
                    break;
                }
            }
        };
        // What does not come in time is left out; the status is here.
        let _ = timeout(self.timeout, reading).await;
        document.truncate(MAX_ERROR);
        Err(classify(status, &document))
    }
}

fn split(payload: Payload) -> (Sha256, RequestBody, Option<Outflow>) {
    let never = |error: std::convert::Infallible| match error {};
    match payload {
        Payload::Nothing => (Sha256::of(b""), Empty::new().map_err(never).boxed_unsync(), None),
        Payload::Bytes(bytes) => (Sha256::of(&bytes), Full::new(bytes).map_err(never).boxed_unsync(), None),
        Payload::Source { bytes, length, sha256 } => {
            let outflow = Outflow::new();
            (sha256, SourceBody { bytes, left: length, outflow: outflow.clone() }.boxed_unsync(), Some(outflow))
        }
    }
}

/// Where the objects of a bucket are.
fn base_address(
    endpoint: Option<&Url>,
    bucket: &str,
    region: &str,
    is_path_style: bool,
) -> Result<String, StoreSetupError> {
    let Some(endpoint) = endpoint else {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        return Ok(if is_path_style || bucket.contains('.') {
            format!("https://s3.{region}.{domain}/{bucket}")
        } else {
            format!("https://{bucket}.s3.{region}.{domain}")
        });
    };
    let (scheme, Some(host)) = (endpoint.scheme(), endpoint.host_str()) else {
        return Err(StoreSetupError::Endpoint("it has no host".into()));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(StoreSetupError::Endpoint(format!("{scheme} is neither http nor https")));
    }
    let port = endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = endpoint.path().trim_end_matches('/');
    Ok(if is_path_style {
        format!("{scheme}://{host}{port}{path}/{bucket}")
    } else {
        format!("{scheme}://{bucket}.{host}{port}{path}")
    })
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_stands_in_the_host_or_in_the_path() {
        let base = |endpoint: Option<&str>, bucket, region, is_path_style| {
            let endpoint = endpoint.map(|endpoint| endpoint.parse().expect("an address"));
            base_address(endpoint.as_ref(), bucket, region, is_path_style).expect("an address")
        };
        assert_eq!(base(None, "acme", "eu-central-1", false), "https://acme.s3.eu-central-1.amazonaws.com");
        assert_eq!(base(None, "a.b", "cn-north-1", false), "https://s3.cn-north-1.amazonaws.com.cn/a.b");
        assert_eq!(base(Some("http://127.0.0.1:9000/"), "acme", "r", true), "http://127.0.0.1:9000/acme");
        assert_eq!(base(Some("https://store.internal"), "acme", "r", false), "https://acme.store.internal");
    }
}

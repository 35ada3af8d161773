//! The outbound HTTP edge: pages and files of CodeArtifact repositories, as typed requests and typed replies.
//!
//! The flows call [`Upstream::page`], [`Upstream::file`] and [`Upstream::publish`]. Below them, `exchange` gets one
//! usable response out of tokens, redirects and retries. `admission` holds what all requests to one endpoint share,
//! `rate_limiter` what all endpoints of an account share; requests wait for both fairly between clients. `body` reads
//! bodies; `address` and `retry` are pure decisions. No header of an upstream's response leaves this module: what a
//! caller may know is a field of a reply.
//!
//! Nothing here caches, and nothing here knows the HTTP responses that this program sends.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::token::TokenHandle;

mod address;
mod admission;
mod backoff;
mod body;
mod busiest_second;
mod circuit_breaker;
mod client;
mod connect;
mod document;
mod error;
mod exchange;
mod file;
mod forbidden;
mod metrics;
mod page;
mod part;
mod publish;
mod range_support;
mod rate_limiter;
mod retry;
mod retry_budget;
mod settings;
mod status_class;

pub use address::{Endpoint, InvalidEndpoint, InvalidRedirectHost, RedirectHost};
pub use admission::EndpointState;
pub use client::{Client, Quotas};
pub use connect::ClientError;
pub use document::{DocumentBody, FetchedDocument};
pub use error::{Malformed, Unavailability, UpstreamError, Witness};
pub use file::{FileBody, FileReply, FileRequest, Resume};
pub use metrics::UpstreamMetrics;
pub use page::PageReply;
pub use part::{FilePart, PartError, PartReply, PartRequest, RangeOf};
pub use publish::{FormSection, PublishError, PublishRequest};
pub use rate_limiter::{SharedPermit, SharedQuota, SharedQuotas};
pub use settings::{ClientSettings, DEFAULT_MAX_PAGE_SIZE, InvalidProxy, ProxyUrl};

/// One repository, seen through one token. Cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<UpstreamInner>,
}

struct UpstreamInner {
    client: Client,
    endpoint: Endpoint,
    tokens: TokenHandle,
    label: Arc<str>,
    admission: Arc<admission::Admission>,
    metrics: UpstreamMetrics,
    html_only_until: Mutex<Option<Instant>>,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestKind {
    Page,
    File,
    /// A part of a file.
    Part,
    Publish,
}

impl RequestKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::File => "file",
            Self::Part => "part",
            Self::Publish => "publish",
        }
    }
}

impl Upstream {
    /// Joins a client, a repository and a token; `label` is the route's name in logs and metrics.
    pub fn new(client: Client, endpoint: Endpoint, token: TokenHandle, label: Arc<str>) -> Self {
        let (admission, metrics) = (client.admission(&endpoint), client.metrics().clone());
        let html_only_until = Mutex::default();
        let inner = UpstreamInner { client, endpoint, tokens: token, label, admission, metrics, html_only_until };
        Self { inner: Arc::new(inner) }
    }

    /// The same repository, seen through another token.
    #[must_use]
    pub fn with_token(&self, token: TokenHandle) -> Self {
        let UpstreamInner { client, endpoint, label, .. } = self.inner.as_ref();
        Self::new(client.clone(), endpoint.clone(), token, Arc::clone(label))
    }

    /// The requests per second that may go to the repository now, as far as this process knows.
    pub fn rate_limit(&self) -> f64 {
        self.inner.admission.rate()
    }

    /// Whether requests go to the endpoint, and why not.
    pub fn endpoint_state(&self) -> EndpointState {
        self.inner.admission.endpoint_state(Instant::now())
    }

    /// The most requests of this process in one second of the last minute, to all endpoints that share the quota.
    pub fn busiest_second(&self) -> u32 {
        self.inner.admission.busiest_second(Instant::now())
    }

    /// Whether background work may send requests: the repository responds, and no client would have to wait for that
    /// work.
    pub fn has_spare_capacity(&self) -> bool {
        self.inner.admission.has_spare_capacity()
    }

    /// Whether the endpoint could not be reached when it was last tried.
    pub fn is_unreachable(&self) -> bool {
        self.inner.admission.is_unreachable()
    }

    /// Whether parts of files may be requested: the endpoint honours ranges, or it is not known whether it does.
    pub fn may_have_parts(&self) -> bool {
        !self.inner.admission.is_unreachable() && self.inner.admission.ranges().may_be_tried(Instant::now())
    }

    /// Whether the endpoint has shown recently that it honours ranges.
    pub fn honours_ranges(&self) -> bool {
        self.inner.admission.ranges().are_honoured(Instant::now())
    }

    /// Waits for a permit to have one request in flight.
    async fn permit(
        &self,
        class: admission::RequestClass,
        deadline: Instant,
    ) -> Result<body::InFlightPermit, UpstreamError> {
        let UpstreamInner { admission, metrics, label, .. } = self.inner.as_ref();
        let queued = metrics.queued(label, "in-flight");
        let permit = admission.permit(class, deadline).await?;
        drop(queued);
        Ok(body::InFlightPermit { _permit: permit, _gauge: metrics.in_flight(label) })
    }

    /// Waits until a request may go to the endpoint.
    async fn admit(&self, deadline: Instant) -> Result<(), UpstreamError> {
        let _queued = self.inner.metrics.queued(&self.inner.label, "rate");
        self.inner.admission.admit(deadline).await
    }

    fn settings(&self) -> &ClientSettings {
        self.inner.client.settings()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings().response_timeout.get()
    }

    /// Counts a call by its result and measures its time.
    async fn counted<T, E: metrics::ResultLabel>(
        &self,
        kind: RequestKind,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let outcome = call.await;
        let result = outcome.as_ref().map_or_else(E::result_label, |_| "ok");
        self.inner.metrics.finished(&self.inner.label, kind.as_str(), result, began.elapsed());
        let (route, took) = (&self.inner.label, began.elapsed());
        tracing::debug!(%route, kind = kind.as_str(), result, ?took, "upstream call finished");
        outcome
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("label", &self.inner.label)
            .field("endpoint", &self.inner.endpoint)
            .finish_non_exhaustive()
    }
}

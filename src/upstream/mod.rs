//! The outbound HTTP edge: pages and files of CodeArtifact repositories, as typed questions and typed answers.
//!
//! [`Upstream::page`], [`Upstream::file`] and [`Upstream::publish`] are what the flows call. Below them, `exchange` gets one usable answer
//! out of tokens, redirects and repetitions; `gate` holds what all requests to one endpoint share, `quota` what all
//! endpoints of an account share, and `line` lets requests wait for both, fairly between clients; `body` reads what comes; `address` and `retry` are the pure decisions. No header of an upstream's answer leaves this module:
//! what a caller may know is a field of a reply.
//!
//! Nothing here caches, and nothing here knows an HTTP status of ours.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::token::TokenHandle;

mod address;
mod body;
mod client;
mod connect;
mod error;
mod exchange;
mod fair;
mod file;
mod gate;
mod line;
mod metrics;
mod page;
mod publish;
mod quota;
mod retry;
mod settings;

pub use address::{Endpoint, HostPattern, InvalidEndpoint, InvalidHostPattern};
pub use client::Client;
pub use connect::ClientError;
pub use error::{Malformed, Unavailability, UpstreamError};
pub use file::{FileBody, FileReply, FileRequest, Resume};
pub use metrics::Metrics;
pub use page::PageReply;
pub use publish::{PublishError, PublishRequest};
pub use settings::{ClientSettings, InvalidProxy, ProxyUrl};

/// One repository, seen through one token. Cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    endpoint: Endpoint,
    tokens: TokenHandle,
    label: Arc<str>,
    gate: Arc<gate::Gate>,
    metrics: Metrics,
    html_only_until: Mutex<Option<Instant>>,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Page,
    File,
    Metadata,
    Publish,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::File => "file",
            Self::Metadata => "metadata",
            Self::Publish => "publish",
        }
    }
}

impl Upstream {
    /// Joins a client, a repository and a token; `label` is the route's name in logs and metrics.
    pub fn new(client: Client, endpoint: Endpoint, token: TokenHandle, label: Arc<str>) -> Self {
        let (gate, metrics) = (client.gate(&endpoint), client.metrics().clone());
        let html_only_until = Mutex::default();
        Self { inner: Arc::new(Inner { client, endpoint, tokens: token, label, gate, metrics, html_only_until }) }
    }

    /// The repository's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// The handle to the route's token, for readiness.
    pub fn token(&self) -> &TokenHandle {
        &self.inner.tokens
    }

    /// The requests per second that the repository's quota allows now, as far as is known.
    pub fn rate_limit(&self) -> f64 {
        self.inner.gate.rate()
    }

    /// Whether the repository can be asked for what nobody waits for: it answers, and nobody would have to wait for that.
    pub fn has_room(&self) -> bool {
        self.inner.gate.has_room()
    }

    /// Waits for a place among the requests in flight.
    async fn place(&self, lane: gate::Lane, deadline: Instant) -> Result<body::Held, UpstreamError> {
        let Inner { gate, metrics, label, .. } = self.inner.as_ref();
        let queued = metrics.queued(label, "place");
        let place = gate.place(lane, deadline).await?;
        drop(queued);
        Ok(body::Held { _place: place, _in_flight: metrics.in_flight(label) })
    }

    /// Waits until the endpoint may be asked.
    async fn admit(&self, deadline: Instant) -> Result<(), UpstreamError> {
        let _queued = self.inner.metrics.queued(&self.inner.label, "turn");
        self.inner.gate.admit(deadline).await
    }

    fn settings(&self) -> &ClientSettings {
        self.inner.client.settings()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings().answer_timeout.get()
    }

    /// Counts what came of a question and how long it took.
    async fn counted<T>(
        &self,
        kind: Kind,
        asking: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let began = Instant::now();
        let outcome = asking.await;
        let result = outcome.as_ref().map_or_else(UpstreamError::as_str, |_| "ok");
        self.inner.metrics.finished(&self.inner.label, kind.as_str(), result, began.elapsed());
        tracing::debug!(route = %self.inner.label, kind = kind.as_str(), result, took = ?began.elapsed(), "asked upstream");
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

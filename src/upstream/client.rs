//! The one HTTP client of the process: pool, time limits of one attempt, and what an attempt can end with.
//!
//! It sends one request to one address. It follows no redirect, repeats nothing, and adds no credential.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client as Pool};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};
use url::Origin;

use super::address::{Endpoint, QuotaScope};
use super::connect::{BoxError, ClientError, Connector};
use super::error::{Unavailability, chain};
use super::gate::Gate;
use super::metrics::Metrics;
use super::quota::Quota;
use super::settings::ClientSettings;

/// The body of a request; reads have none.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Sends requests to all upstreams of the process. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool<Connector, RequestBody>,
    settings: ClientSettings,
    gates: Mutex<Gates>,
    metrics: Metrics,
}

/// What requests share. The number of entries is that of the configured endpoints.
#[derive(Default)]
struct Gates {
    by_origin: HashMap<Origin, Arc<Gate>>,
    quotas: HashMap<QuotaScope, Arc<Quota>>,
}

/// How sending one request failed.
#[derive(Debug)]
pub(super) enum SendError {
    /// No connection, or one that ended before the head.
    Connection(Unavailability, String),
    /// No head in time.
    Silence,
    /// The answer is not HTTP.
    Malformed,
}

impl Client {
    /// Prepares TLS and the pool. Nothing is sent.
    pub fn new(settings: ClientSettings) -> Result<Self, ClientError> {
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout.get())
            .pool_max_idle_per_host(settings.max_in_flight)
            .build(Connector::new(&settings)?);
        let inner = Inner { pool, settings, gates: Mutex::default(), metrics: Metrics::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What this client counts, to be registered once.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The settings it was made of.
    pub fn settings(&self) -> &ClientSettings {
        &self.inner.settings
    }

    /// What all requests to this endpoint's origin share, whichever route they are for.
    pub(super) fn gate(&self, endpoint: &Endpoint) -> Arc<Gate> {
        let settings = &self.inner.settings;
        let mut gates = self.inner.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = gates.quotas.entry(endpoint.quota_scope()).or_insert_with(|| Arc::new(Quota::new(settings)));
        let quota = Arc::clone(quota);
        let gate = gates.by_origin.entry(endpoint.base().origin());
        Arc::clone(gate.or_insert_with(|| Arc::new(Gate::new(settings, quota))))
    }

    /// Sends one request and waits for the head of its answer, at most until `limit`.
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
        limit: Instant,
    ) -> Result<Response<Incoming>, SendError> {
        match timeout_at(limit, self.inner.pool.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(SendError::Silence),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

fn classify(error: &legacy::Error) -> SendError {
    let detail = chain(error);
    if error.is_connect() {
        return SendError::Connection(Unavailability::Connect, detail);
    }
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
    if cause.is_some_and(hyper::Error::is_parse) {
        return SendError::Malformed;
    }
    SendError::Connection(Unavailability::Broken, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn domains_of_one_region_are_slowed_down_together() {
        let client = Client::new(ClientSettings::default()).expect("a client");
        let gate = |host: &str| {
            let url = format!("https://{host}/pypi/r/").parse().expect(host);
            client.gate(&Endpoint::new(url).expect(host))
        };
        let one = gate("one-111122223333.d.codeartifact.eu-central-1.amazonaws.com");
        let two = gate("two-111122223333.d.codeartifact.eu-central-1.amazonaws.com");
        let elsewhere = gate("one-111122223333.d.codeartifact.us-east-1.amazonaws.com");
        one.throttled(Instant::now(), None);
        assert!(two.rate() < 200.0, "{}", two.rate());
        assert!(elsewhere.rate() > 300.0, "{}", elsewhere.rate());
    }
}

//! The one HTTP client of the process: pool, time limits of one attempt, and the ways in which an attempt can fail.
//!
//! It sends one request to one address. It follows no redirect, retries nothing, and adds no credential.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client as Pool};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use url::Origin;

use super::address::{Endpoint, QuotaScope};
use super::admission::Admission;
use super::connect::{BoxError, ClientError, Connector};
use super::error::{Unavailability, chain};
use super::forbidden::EndpointHosts;
use super::metrics::UpstreamMetrics;
use super::rate_limiter::{RateLimiter, SharedQuotas};
use super::settings::ClientSettings;
use wheelport_runtime::RECEIVE_BUFFER;

/// The body of a request; reads have none.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Sends requests to all upstreams of the process. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<ClientInner>,
}

struct ClientInner {
    pool: Pool<Connector, RequestBody>,
    endpoints: EndpointHosts,
    settings: ClientSettings,
    limits: Mutex<SharedLimits>,
    quotas: Quotas,
    metrics: UpstreamMetrics,
    large_page: Arc<Semaphore>,
}

/// What other processes have of the same quotas.
#[derive(Clone)]
pub struct Quotas {
    /// What they share, if that can be asked.
    pub shared: Option<SharedQuotas>,
    /// How many processes there are.
    pub replicas: NonZeroU32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { shared: None, replicas: NonZeroU32::MIN }
    }
}

/// The limits that requests share. The number of entries is that of the configured endpoints.
#[derive(Default)]
struct SharedLimits {
    admissions: HashMap<Origin, Arc<Admission>>,
    rates: HashMap<QuotaScope, Arc<RateLimiter>>,
}

/// How sending one request failed.
#[derive(Debug)]
pub(super) enum SendError {
    /// No connection, or one that ended before the response headers.
    Connection(Unavailability, String),
    /// No response headers in time.
    Timeout,
    /// The response is not HTTP.
    Malformed,
}

impl Client {
    /// Prepares TLS and the pool. Nothing is sent.
    pub fn new(settings: ClientSettings) -> Result<Self, ClientError> {
        Self::among(settings, Quotas::default())
    }

    /// The same for a process that has its quotas together with others.
    pub fn among(settings: ClientSettings, quotas: Quotas) -> Result<Self, ClientError> {
        let endpoints = EndpointHosts::default();
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout.get())
            .pool_max_idle_per_host(settings.max_in_flight)
            .http1_max_buf_size(RECEIVE_BUFFER)
            .build(Connector::new(&settings, &endpoints)?);
        let (limits, metrics, large_page) = (Mutex::default(), UpstreamMetrics::default(), Arc::new(Semaphore::new(1)));
        let inner = ClientInner { pool, endpoints, settings, limits, quotas, metrics, large_page };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The counters of this client, to be registered once.
    pub fn metrics(&self) -> &UpstreamMetrics {
        &self.inner.metrics
    }

    /// The settings it was made of.
    pub fn settings(&self) -> &ClientSettings {
        &self.inner.settings
    }

    /// What all requests to this endpoint's origin share, whichever route they are for.
    pub(super) fn admission(&self, endpoint: &Endpoint) -> Arc<Admission> {
        self.inner.endpoints.add(endpoint.base().host_str().unwrap_or_default());
        let settings = &self.inner.settings;
        let mut limits = self.inner.limits.lock();
        let scope = endpoint.quota_scope();
        let new_rate = || {
            let (rate, burst) = (settings.request_rate.get(), settings.request_burst.get());
            let Quotas { shared, replicas } = &self.inner.quotas;
            let shared = shared.as_ref().and_then(|find| find(&scope.to_string(), rate, burst));
            Arc::new(RateLimiter::new(settings, shared, *replicas))
        };
        let rate = Arc::clone(limits.rates.entry(scope.clone()).or_insert_with(new_rate));
        let admission = limits.admissions.entry(endpoint.base().origin());
        Arc::clone(admission.or_insert_with(|| Arc::new(Admission::new(settings, rate))))
    }

    /// Connections to this host may go anywhere from now on, because the operator named it.
    pub(super) fn allow_host(&self, host: &str) {
        self.inner.endpoints.add(host);
    }

    /// Waits for the turn of a large page. One at a time is received and parsed in the whole process: that takes
    /// several times its length.
    pub(super) async fn large_page_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.large_page).acquire_owned().await.ok()
    }

    /// Sends one request and waits for the response headers, at most until `limit`.
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
        limit: Instant,
    ) -> Result<Response<Incoming>, SendError> {
        match timeout_at(limit, self.inner.pool.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(SendError::Timeout),
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
        let admission = |host: &str| {
            let url = format!("https://{host}/pypi/r/").parse().expect(host);
            client.admission(&Endpoint::new(url).expect(host))
        };
        let one = admission("one-111122223333.d.codeartifact.eu-central-1.amazonaws.com");
        let two = admission("two-111122223333.d.codeartifact.eu-central-1.amazonaws.com");
        let elsewhere = admission("one-111122223333.d.codeartifact.us-east-1.amazonaws.com");
        one.throttled(Instant::now(), None);
        assert!(two.rate() < 200.0, "{}", two.rate());
        assert!(elsewhere.rate() > 300.0, "{}", elsewhere.rate());
    }
}

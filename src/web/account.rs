//! Accounting for every request: its id, its line in the log, its part in the metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderValue;
use tracing::Instrument as _;

use super::headers::REQUEST_ID;
use super::{Site, body, guard};
use crate::error::{Error, excerpt, shortened};
use crate::flow::Served;
use crate::runtime::metrics::RequestLabels;

/// The longest path in a log line, in characters.
const LONGEST_PATH: usize = 400;

/// The id of a request, made here; what a client sends is not taken over.
#[derive(Clone, Debug, Default)]
pub struct RequestId(Arc<str>);

impl RequestId {
    fn new() -> Self {
        Self(format!("{:016x}", fastrand::u64(..)).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a handler tells about its answer.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// What was asked for.
    pub kind: &'static str,
    /// How the answer came about.
    pub served: Option<Served>,
    /// The code of the error, if it is one.
    pub error: Option<&'static str>,
}

impl Account {
    /// An answer in which the cache had no part.
    pub fn of(kind: &'static str) -> Self {
        Self { kind, served: None, error: None }
    }

    /// An answer that is an error.
    pub fn failed(kind: &'static str, error: &Error) -> Self {
        Self { kind, served: None, error: Some(error.code()) }
    }

    /// An answer and how it came about.
    pub fn served(kind: &'static str, served: Served) -> Self {
        Self { kind, served: Some(served), error: None }
    }
}

/// Leaves word about an answer.
pub fn note(response: &mut Response, account: Account) {
    response.extensions_mut().insert(account);
}

/// The middleware.
pub async fn account(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let id = RequestId::new();
    request.extensions_mut().insert(id.clone());
    let client = guard::client_address(peer.ip(), request.headers(), &site.trusted_proxies);
    let (method, path) = (request.method().clone(), shortened(request.uri().path(), LONGEST_PATH));
    let agent =
        request.headers().get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).map(excerpt);
    let span = tracing::info_span!("request", id = id.as_str());
    let in_flight = body::InFlight::begin(&site.metrics);
    let mut response = next.run(request).instrument(span).await;
    let elapsed = began.elapsed();

    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let told = response.extensions().get::<Account>().copied().unwrap_or(Account::of("other"));
    let status = response.status().as_u16();
    let served = told.served.map_or("none", Served::as_str);
    site.metrics.answered(&RequestLabels { kind: told.kind, status, served }, elapsed.as_secs_f64());
    // Probes come every few seconds and say nothing.
    if told.kind == "health" {
        tracing::debug!(request = id.as_str(), %client, %method, path, status, "answered");
    } else {
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(request = id.as_str(), %client, %method, path, status, kind = told.kind, served, error = told.error, ms, agent, "answered");
    }
    let sent = site.metrics.sent(told.kind);
    response.map(|inner| body::counted(inner, sent, in_flight))
}

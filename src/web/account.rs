//! Accounting for every request: its id, its line in the log, its part in the metrics.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use tracing::Instrument as _;

use super::headers::REQUEST_ID;
use super::{Answer, Arrival, Site, body, guard};
use crate::error::{Error, shortened};
use crate::flow::Served;
use crate::runtime::Caller;
use crate::runtime::access::AccessLine;
use crate::runtime::metrics::RequestLabels;

/// The longest path in a log line, in characters.
const LONGEST_PATH: usize = 400;
/// What of a client's name is logged at most, in characters.
const LONGEST_AGENT: usize = 80;

/// The id of a request, made here; what a client sends is not taken over.
#[derive(Clone, Copy, Debug)]
pub struct RequestId([u8; 16]);

impl Default for RequestId {
    fn default() -> Self {
        Self([b'0'; 16])
    }
}

impl RequestId {
    fn new() -> Self {
        let number = fastrand::u64(..);
        let digit = |at: usize| usize::try_from(number >> (4 * at) & 15).unwrap_or_default();
        Self(std::array::from_fn(|at| b"0123456789abcdef"[digit(at)]))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
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

/// Runs the answering in a span with the request's id, so that whatever is logged on the way names the request.
///
/// Most answers are at hand when they are asked for, and nothing is logged on their way; the span is made only for those
/// that wait for something.
async fn in_span<T>(id: RequestId, answering: impl Future<Output = T>) -> T {
    let mut answering = pin!(answering);
    let first = std::future::poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await;
    match first {
        Poll::Ready(answer) => answer,
        Poll::Pending => answering.instrument(tracing::info_span!("request", id = id.as_str())).await,
    }
}

/// Answers a request and accounts for it.
pub(super) async fn account(site: &Arc<Site>, arrival: Arrival, request: Request) -> Answer {
    let began = Instant::now();
    let id = RequestId::new();
    let client = guard::client_address(arrival.peer.ip(), request.headers(), &site.trusted_proxies);
    // Cheap copies of what the line will say; it is made when the answer is known.
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let agent = request.headers().get(http::header::USER_AGENT).cloned();
    let in_flight = body::InFlight::begin(&site.metrics);
    let answering = in_span(id, super::answered(site, arrival, id, request));
    let mut response = Caller::client(client).serve(answering).await;
    let elapsed = began.elapsed();

    let agent = agent.as_ref().and_then(|value| value.to_str().ok());
    let agent = agent.map(|agent| shortened(agent, LONGEST_AGENT));
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let told = response.extensions().get::<Account>().copied().unwrap_or(Account::of("other"));
    let status = response.status().as_u16();
    let served = told.served.map_or("none", Served::as_str);
    let labels = RequestLabels { kind: told.kind, status, served };
    let sent = site.metrics.answered(&labels, elapsed.as_secs_f64());
    let method = method.as_str();
    // Probes come every few seconds and say nothing.
    if told.kind == "health" {
        tracing::debug!(request = id.as_str(), %client, method, path = uri.path(), status, "answered");
    } else if AccessLine::wanted() {
        let line = AccessLine {
            request: id.as_str(),
            client,
            method,
            path: &shortened(uri.path(), LONGEST_PATH),
            status,
            kind: told.kind,
            served,
            error: told.error,
            ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            agent: agent.as_deref(),
        };
        line.log();
    }
    response.map(|inner| body::AnswerBody::counted(inner, sent, in_flight))
}

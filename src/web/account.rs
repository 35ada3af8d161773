//! Accounting for every request: its id, its line in the log, its part in the metrics.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::extract::Request;
use http::{HeaderValue, Method, Uri};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::body::InFlight;
use super::headers::REQUEST_ID;
use super::{Arrival, Response, Site, guard};
use crate::error::Error;
use crate::flow::Served;
use crate::telemetry::{ACCESS_TARGET, ResponseLabels};
use wheelport_index::shortened;
use wheelport_runtime::Priority;

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

/// An answer, and what is to be told about it.
pub struct Told {
    /// The answer.
    pub response: Response,
    /// What is told.
    pub account: Account,
}

impl Told {
    /// An answer of this kind, and how it came about.
    pub fn served(response: Response, kind: &'static str, served: Served) -> Self {
        Self { response, account: Account { kind, served: Some(served), error: None } }
    }

    /// An answer in which the cache had no part.
    pub fn of(response: Response, kind: &'static str) -> Self {
        Self { response, account: Account { kind, served: None, error: None } }
    }

    /// An answer that is an error.
    pub fn failed(response: Response, kind: &'static str, error: &Error) -> Self {
        Self { response, account: Account { kind, served: None, error: Some(error.code()) } }
    }
}

/// What is known of a request when it arrives.
struct Entry {
    id: RequestId,
    client: IpAddr,
    began: Instant,
}

/// What the log line says of a request.
struct Words<'a> {
    method: &'a Method,
    uri: &'a Uri,
    agent: Option<&'a HeaderValue>,
}

impl Entry {
    fn of<B>(site: &Site, arrival: &Arrival, request: &http::Request<B>) -> Self {
        let client = guard::client_address(arrival.peer.ip(), request.headers(), &site.trusted_proxies);
        Self { id: RequestId::new(), client, began: Instant::now() }
    }

    /// Accounts for the answer.
    fn close(self, site: &Site, words: &Words<'_>, told: Told, in_flight: Option<InFlight>) -> Response {
        let elapsed = self.began.elapsed();
        let Told { mut response, account } = told;
        if let Ok(value) = HeaderValue::from_str(self.id.as_str()) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        let status = response.status().as_u16();
        let served = account.served.map_or("none", Served::as_str);
        let labels = ResponseLabels { kind: account.kind, status, served };
        let sent = site.metrics.responded(&labels, elapsed);
        let (method, path) = (words.method.as_str(), words.uri.path());
        // Probes come every few seconds and say nothing.
        if account.kind == "health" {
            let (request, client) = (self.id.as_str(), self.client);
            tracing::debug!(request, %client, method, path, status, "answered");
        } else if tracing::enabled!(target: ACCESS_TARGET, tracing::Level::INFO) {
            let agent = words.agent.and_then(|value| value.to_str().ok());
            let agent = agent.map(|agent| shortened(agent, LONGEST_AGENT));
            tracing::info!(
                target: ACCESS_TARGET,
                request = self.id.as_str(),
                client = %self.client,
                method,
                path = shortened(path, LONGEST_PATH).as_ref(),
                status,
                kind = account.kind,
                served,
                error = account.error,
                ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                agent = agent.as_deref(),
                "answered"
            );
        }
        if let Some(length) = response.body().length_at_hand() {
            sent.inc_by(length);
            return response;
        }
        let in_flight = in_flight.unwrap_or_else(|| InFlight::begin(&site.metrics));
        response.map(|body| body.counted(sent, in_flight))
    }
}

/// Runs the answering in a span with the request's id, so that whatever is logged on the way names the request.
async fn in_span<T>(id: RequestId, answering: impl Future<Output = T>) -> T {
    let mut answering = pin!(answering);
    let first = std::future::poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await;
    match first {
        Poll::Ready(answer) => answer,
        Poll::Pending => answering.instrument(tracing::info_span!("request", id = id.as_str())).await,
    }
}

/// Gives and accounts for an answer that needs no waiting; nothing is accounted for if there is none.
pub(super) fn at_hand<B>(site: &Site, arrival: &Arrival, request: &http::Request<B>) -> Option<Response> {
    let entry = Entry::of(site, arrival, request);
    let told = Priority::client(entry.client).start(|| super::answered_at_hand(site, arrival, request))?;
    let agent = request.headers().get(http::header::USER_AGENT);
    let words = Words { method: request.method(), uri: request.uri(), agent };
    Some(entry.close(site, &words, told, None))
}

/// Answers a request and accounts for it.
pub(super) async fn account(site: &Arc<Site>, arrival: Arrival, request: Request) -> Response {
    let entry = Entry::of(site, &arrival, &request);
    // Cheap copies of what the line will say; it is made when the answer is known.
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let agent = request.headers().get(http::header::USER_AGENT).cloned();
    let in_flight = InFlight::begin(&site.metrics);
    let answering = in_span(entry.id, super::answered(site, arrival, entry.id, request));
    let told = Priority::client(entry.client).serve(answering).await;
    let words = Words { method: &method, uri: &uri, agent: agent.as_ref() };
    entry.close(site, &words, told, Some(in_flight))
}

//! For operators and orchestrators: health, readiness, metrics, status, purge. How changed files are accepted is in
//! `changed_files.rs`, how a list of files is fetched in `warm.rs`, what operators see of rules in `policy.rs`.
//!
//! `healthz` and `readyz` are on the proxy's own listener too; everything else only on the listener for operations.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tower_http::catch_panic::CatchPanicLayer;

use super::audit::{AdvisoryStatus, audit};
use super::changed_files::{ChangedFilesStatus, accept};
use super::headers::NO_STORE;
use super::policy::PolicyStatus;
use super::tls::{ServerCertificates, TlsReport};
use super::warm::{MAX_LIST, warm};
use super::{Site, operator, policy};
use wheelport_index::ProjectName;
use wheelport_runtime::sabotaged;

/// The routes of the listener for operations.
pub(super) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/healthz", get(async || healthz()))
        .route("/readyz", get(async |State(site): State<Arc<Site>>| readyz(&site)))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/purge", post(purge))
        .route("/accept", post(accept))
        .route("/exceptions", get(policy::list).post(policy::grant))
        .route("/exceptions/remove", post(policy::revoke))
        .route("/why", get(policy::why))
        .route("/policy/test", post(policy::try_rules))
        .route("/audit", post(audit).layer(DefaultBodyLimit::max(MAX_LIST)))
        .route("/warm", post(warm).layer(DefaultBodyLimit::max(MAX_LIST)))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&site), operator::admit))
        .layer(CatchPanicLayer::custom(|_| panicked()))
        .with_state(site)
}

/// The response to a probe, if this path is one.
pub(super) fn health(site: &Site, path: &str) -> Option<Response> {
    match path {
        "/healthz" => Some(healthz()),
        "/readyz" => Some(readyz(site)),
        _ => None,
    }
}

/// The process is alive; touches nothing.
fn healthz() -> Response {
    probe(StatusCode::OK, "alive\n".into_response())
}

/// Whether this process is useful to clients. Says nothing that only operators may know.
fn readyz(site: &Site) -> Response {
    let readiness = Readiness::of(site);
    let code = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    probe(code, Json(ReadinessReport::from(readiness)).into_response())
}

fn probe(code: StatusCode, mut response: Response) -> Response {
    *response.status_mut() = code;
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(5));
    }
    response
}

/// How useful this process is to clients. An outage that the cache bridges is no reason to send clients elsewhere: the
/// other replicas have the same outage, and perhaps less in their caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    /// Useful, though not in every respect.
    Degraded(&'static str),
    /// Of no use to clients.
    Unready(&'static str),
}

/// What readiness depends on.
#[derive(Debug, Clone, Copy)]
struct Ability {
    draining: bool,
    /// Routes with a usable token and a known endpoint.
    able: usize,
    routes: usize,
    /// Routes of which upstream lets nothing be read.
    closed: usize,
    /// Whether anything is cached.
    cached: bool,
    /// Whether the cache directory can be written.
    storage: bool,
}

impl Readiness {
    fn of(site: &Site) -> Self {
        let able = site.routes.iter().filter(|route| route.route.is_resolved() && route.route.token.state().usable);
        Self::decide(Ability {
            draining: site.draining.load(std::sync::atomic::Ordering::Relaxed),
            able: able.count(),
            routes: site.routes.len(),
            closed: site.routes.iter().filter(|of| of.route.is_denied() || of.route.is_missing_everything()).count(),
            cached: site.flow.holds_anything(),
            storage: site.flow.storage_works(),
        })
    }

    fn decide(ability: Ability) -> Self {
        match ability {
            Ability { draining: true, .. } => Self::Unready("the server is stopping"),
            Ability { able: 0, cached: false, .. } if !sabotaged("useless") => {
                Self::Unready("upstream cannot be used, and nothing is cached")
            }
            Ability { able: 0, .. } if sabotaged("useful") => Self::Unready("upstream cannot be used"),
            Ability { able: 0, .. } => Self::Degraded("upstream cannot be used; what is cached is served"),
            Ability { able, routes, .. } if able < routes => Self::Degraded("some routes cannot use upstream"),
            Ability { closed: 1.., .. } => Self::Degraded("upstream lets some routes read nothing"),
            Ability { storage: false, .. } => Self::Degraded("the cache directory cannot be written"),
            _ => Self::Ready,
        }
    }

    fn is_ready(self) -> bool {
        !matches!(self, Self::Unready(_))
    }
}

/// What `readyz` says, and `status` too.
#[derive(Serialize)]
struct ReadinessReport {
    ready: bool,
    degraded: bool,
    /// Why not, or why only in part, in general terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl From<Readiness> for ReadinessReport {
    fn from(readiness: Readiness) -> Self {
        let reason = match readiness {
            Readiness::Ready => None,
            Readiness::Degraded(reason) | Readiness::Unready(reason) => Some(reason),
        };
        Self { ready: readiness.is_ready(), degraded: matches!(readiness, Readiness::Degraded(_)), reason }
    }
}

/// What `status` says, to operators only.
#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    readiness: ReadinessReport,
    version: &'static str,
    policy: PolicyStatus,
    /// Only where a source of advisories is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    advisories: Option<AdvisoryStatus>,
    routes: Vec<RouteStatus>,
    /// How what replicas share works.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<serde_json::Value>,
    /// Only where the listener for clients speaks TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsReport>,
}

#[derive(Serialize)]
struct RouteStatus {
    route: Arc<str>,
    /// Whether the token can be used now.
    token: bool,
    /// Seconds until it ends.
    token_remaining_seconds: Option<u64>,
    /// Failed renewals since the last good one.
    token_failures: u32,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_error: Option<String>,
    /// Whether the repository's address is known.
    endpoint: bool,
    /// Files whose bytes are not those that were first seen.
    changed_files: ChangedFilesStatus,
}

impl Status {
    fn of(site: &Site) -> Self {
        let routes = site.routes.iter().map(|route| RouteStatus::of(site, &route.route)).collect();
        let policy = PolicyStatus::of(site.flow.policy());
        let advisories = site.flow.advisories().state().map(AdvisoryStatus::from);
        let fleet = site.fleet.as_ref().map(|section| section());
        let tls = site.certificates.as_ref().map(ServerCertificates::report);
        let (readiness, version) = (Readiness::of(site).into(), env!("CARGO_PKG_VERSION"));
        Self { readiness, version, policy, advisories, routes, fleet, tls }
    }
}

impl RouteStatus {
    fn of(site: &Site, route: &crate::flow::Route) -> Self {
        let token = route.token.state();
        Self {
            route: Arc::clone(&route.name),
            token: token.usable,
            token_remaining_seconds: token.remaining.map(|remaining| remaining.as_secs()),
            token_failures: token.failures_in_a_row,
            token_error: token.last_error.map(|error| format!("{}: {}", error.kind, error.message)),
            endpoint: route.is_resolved(),
            changed_files: ChangedFilesStatus::of(&site.flow, route),
        }
    }
}

async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let mut response = site.metrics.text().into_response();
    let text = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

async fn status(State(site): State<Arc<Site>>) -> Response {
    Json(Status::of(&site)).into_response()
}

#[derive(Deserialize)]
struct Purge {
    route: String,
    project: String,
}

/// Forgets one page, so that the next request asks upstream.
async fn purge(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(wanted): Query<Purge>,
) -> Response {
    let route = site.routes.iter().find(|route| *route.route.name == *wanted.route);
    let (Some(route), Ok(project)) = (route, ProjectName::parse(&wanted.project)) else {
        return (StatusCode::NOT_FOUND, "no such route or project\n").into_response();
    };
    site.flow.pages.purge(&route.route, &project).await;
    tracing::info!(route = wanted.route, %project, client = %peer.ip(), "page purged");
    (StatusCode::OK, "purged\n").into_response()
}

fn panicked() -> http::Response<axum::body::Body> {
    (StatusCode::INTERNAL_SERVER_ERROR, "this server failed to handle the request; its log says why\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_of_no_use_is_not_ready() {
        let healthy = Ability { draining: false, able: 2, routes: 2, closed: 0, cached: true, storage: true };
        for (ability, ready, degraded) in [
            (healthy, true, false),
            (Ability { cached: false, ..healthy }, true, false),
            (Ability { able: 1, ..healthy }, true, true),
            (Ability { able: 0, ..healthy }, true, true),
            (Ability { closed: 2, cached: false, ..healthy }, true, true),
            (Ability { storage: false, ..healthy }, true, true),
            (Ability { able: 0, storage: false, ..healthy }, true, true),
            (Ability { able: 0, cached: false, ..healthy }, false, false),
            (Ability { draining: true, ..healthy }, false, false),
        ] {
            let report = ReadinessReport::from(Readiness::decide(ability));
            assert_eq!((report.ready, report.degraded), (ready, degraded), "{ability:?}");
            assert_eq!(report.reason.is_some(), !ready || degraded, "{ability:?}");
        }
    }
}

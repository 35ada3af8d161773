//! For operators and orchestrators: health, readiness, metrics, status, purge.
//!
//! `healthz` and `readyz` are on the proxy's own listener too; everything else only on the listener for operations.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tower_http::catch_panic::CatchPanicLayer;

use super::Site;
use super::headers::NO_STORE;
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

/// Whether this process is useful to clients.
fn readyz(site: &Site) -> Response {
    let status = Status::of(site);
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    probe(code, Json(status).into_response())
}

fn probe(code: StatusCode, mut response: Response) -> Response {
    *response.status_mut() = code;
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(5));
    }
    response
}

/// What `readyz` and `status` say.
#[derive(Serialize)]
struct Status {
    ready: bool,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    version: &'static str,
    routes: Vec<RouteStatus>,
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
}

impl Status {
    fn of(site: &Site) -> Self {
        let routes: Vec<_> = site.routes.iter().map(|route| RouteStatus::of(&route.route)).collect();
        let reason = if site.draining.load(std::sync::atomic::Ordering::Relaxed) {
            Some("the server is stopping")
        } else if !routes.iter().any(|route| route.token) {
            Some("no usable CodeArtifact token; `wheelport check` finds out why")
        } else if !site.flow.storage_works() {
            Some("the cache directory cannot be written")
        } else {
            None
        };
        Self { ready: reason.is_none(), reason, version: env!("CARGO_PKG_VERSION"), routes }
    }
}

impl RouteStatus {
    fn of(route: &crate::flow::Route) -> Self {
        let token = route.token.state();
        Self {
            route: Arc::clone(&route.name),
            token: token.usable,
            token_remaining_seconds: token.remaining.map(|remaining| remaining.as_secs()),
            token_failures: token.failures_in_a_row,
            token_error: token.last_error.map(|error| format!("{}: {}", error.kind, error.message)),
            endpoint: route.is_resolved(),
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
    request: Request,
) -> Response {
    if comes_from_a_web_page(request.headers()) {
        return (StatusCode::FORBIDDEN, "requests from web pages may not change anything here\n").into_response();
    }
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

fn comes_from_a_web_page(headers: &HeaderMap) -> bool {
    let is_foreign = |site: &http::HeaderValue| site != "none" && site != "same-origin";
    (headers.contains_key(http::header::ORIGIN) || headers.get("sec-fetch-site").is_some_and(is_foreign))
        && !sabotaged("purge-cross-site")
}

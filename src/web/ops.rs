//! For operators and orchestrators: health, metrics, purge. How useful the process is is decided in `readiness.rs`, how
//! changed files are accepted is in `changed_files.rs`, how a list of files is fetched in `warm.rs`, what operators see
//! of rules in `policy.rs`; the pages are in `status_page.rs` and `savings.rs`.
//!
//! `healthz` and `readyz` are on the proxy's own listener too; everything else only on the listener for operations.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use tower_http::catch_panic::CatchPanicLayer;

use super::audit::audit;
use super::changed_files::accept;
use super::headers::NO_STORE;
use super::ops_query::OpsQuery;
use super::readiness::{Readiness, ReadinessReport};
use super::warm::{MAX_LIST, warm};
use super::{Site, operator, policy, savings, status_page, usage};

/// The routes of the listener for operations.
pub(super) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/healthz", get(async || healthz()))
        .route("/readyz", get(async |State(site): State<Arc<Site>>| readyz(&site)))
        .route("/metrics", get(metrics))
        .route("/status", get(status_page::page))
        .route("/status.json", get(status_page::data))
        .route("/savings", get(savings::page))
        .route("/savings.json", get(savings::data))
        .route("/purge", post(purge))
        .route("/accept", post(accept))
        .route("/exceptions", get(policy::list).post(policy::grant))
        .route("/exceptions/remove", post(policy::revoke))
        .route("/why", get(policy::why))
        .route("/policy/test", post(policy::try_rules))
        .route("/usage", get(usage::show))
        .route("/audit", post(audit).layer(DefaultBodyLimit::max(MAX_LIST)))
        .route("/warm", post(warm).layer(DefaultBodyLimit::max(MAX_LIST)))
        .fallback(async || (StatusCode::NOT_FOUND, "there is nothing at this address of the listener for operations\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "this address takes another method\n"))
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

async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let mut response = site.metrics.text().into_response();
    let text = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
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
    OpsQuery(wanted): OpsQuery<Purge>,
) -> Response {
    let (route, project) = match site.asked_project(&wanted.route, &wanted.project) {
        Ok(found) => found,
        Err(unknown) => return (StatusCode::NOT_FOUND, format!("{unknown}\n")).into_response(),
    };
    site.flow.pages.purge(&route.route, &project).await;
    tracing::info!(route = wanted.route, %project, client = %peer.ip(), "page purged");
    (StatusCode::OK, "purged\n").into_response()
}

fn panicked() -> http::Response<axum::body::Body> {
    (StatusCode::INTERNAL_SERVER_ERROR, "this server failed to handle the request; its log says why\n").into_response()
}

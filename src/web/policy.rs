//! What operators see of rules and change of exceptions; on the listener for operations only.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Site;
use super::ops_query::OpsQuery;
use crate::flow::{
    Error, ExceptionSpread, GrantError, GrantedException, Moment, NewException, PolicyHandle, PolicyState, TrialError,
};
use wheelport_runtime::blocking;

/// The rules that hold.
#[derive(Serialize)]
pub(super) struct PolicyStatus {
    pub(super) rules: usize,
    /// Exceptions that hold now.
    pub(super) exceptions: usize,
    /// The same in all processes with the same rules.
    pub(super) digest: String,
    /// How often rules were swapped since the start.
    pub(super) swaps: u64,
    /// How often rules were read that could not be used.
    pub(super) failures: u64,
    /// Why the rules that are there now are not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl PolicyStatus {
    pub(super) fn of(policy: &PolicyHandle) -> Self {
        let (rules, PolicyState { error, failures, swaps }) = (policy.rules(), policy.state());
        let (exceptions, digest) = (rules.exceptions_at(policy.now()), rules.digest().to_string());
        Self { rules: rules.len(), exceptions, digest, swaps, failures, error }
    }
}

/// An exception as it is shown.
#[derive(Serialize)]
struct ShownException {
    id: String,
    project: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advisory: Option<String>,
    reason: String,
    by: String,
    expires: Moment,
    granted: Moment,
    holds: bool,
}

impl ShownException {
    fn of(granted: GrantedException, now: Moment) -> Self {
        let GrantedException { id, project, versions, advisory, reason, by, expires, granted } = granted;
        Self { id, project, versions, advisory, reason, by, holds: now < expires, expires, granted }
    }
}

fn refused(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

/// All exceptions that were granted here.
pub(super) async fn list(State(site): State<Arc<Site>>) -> Response {
    let policy = site.flow.policy().clone();
    let now = policy.now();
    let Ok(granted) = blocking(move || policy.granted()).await else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "the exceptions cannot be listed");
    };
    let shown: Vec<_> = granted.into_iter().map(|granted| ShownException::of(granted, now)).collect();
    Json(json!({ "exceptions": shown })).into_response()
}

/// Grants an exception.
pub(super) async fn grant(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    OpsQuery(new): OpsQuery<NewException>,
) -> Response {
    respond(&site, peer, "exception granted", site.flow.grant(new).await)
}

#[derive(Deserialize)]
pub(super) struct Revoked {
    id: String,
}

/// Takes an exception back.
pub(super) async fn revoke(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    OpsQuery(Revoked { id }): OpsQuery<Revoked>,
) -> Response {
    respond(&site, peer, "exception taken back", site.flow.revoke(id).await)
}

fn respond(
    site: &Site,
    peer: SocketAddr,
    what: &'static str,
    outcome: Result<(GrantedException, ExceptionSpread), GrantError>,
) -> Response {
    match outcome {
        Ok((granted, spread)) => {
            tracing::warn!(
                target: "wheelport::audit",
                id = granted.id, project = granted.project, versions = granted.versions,
                advisory = granted.advisory, reason = granted.reason,
                by = granted.by, expires = %granted.expires, client = %peer.ip(),
                spread = spread.as_str(), "{what}"
            );
            let shown = ShownException::of(granted, site.flow.policy().now());
            Json(json!({ "exception": shown, "spread": spread.as_str() })).into_response()
        }
        Err(error @ GrantError::Invalid(_)) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error @ GrantError::Unknown(_)) => refused(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error @ GrantError::Storage(_)) => {
            tracing::error!(%error, "an exception could not be recorded");
            refused(StatusCode::SERVICE_UNAVAILABLE, "it could not be recorded; nothing was changed")
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Tried {
    route: String,
}

/// What other rules would change. Nothing is applied.
pub(super) async fn try_rules(
    State(site): State<Arc<Site>>,
    OpsQuery(Tried { route }): OpsQuery<Tried>,
    text: String,
) -> Response {
    let route = match site.asked_route(&route) {
        Ok(route) => route,
        Err(unknown) => return refused(StatusCode::NOT_FOUND, &unknown),
    };
    match site.flow.pages.try_rules(&route.route, text).await {
        Ok(trial) => Json(trial).into_response(),
        Err(error @ TrialError::Rules(_)) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error @ TrialError::Failed(_)) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

#[derive(Deserialize)]
pub(super) struct Asked {
    route: String,
    project: String,
}

/// What is decided about each file of a project, and why.
pub(super) async fn why(
    State(site): State<Arc<Site>>,
    OpsQuery(Asked { route, project }): OpsQuery<Asked>,
) -> Response {
    let (route, project) = match site.asked_project(&route, &project) {
        Ok(found) => found,
        Err(unknown) => return refused(StatusCode::NOT_FOUND, &unknown),
    };
    match site.flow.pages.report(&route.route, &project).await {
        Ok(files) => Json(json!({ "route": route.route.name, "project": project, "files": files })).into_response(),
        Err(error @ Error::NoSuchProject { .. }) => refused(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

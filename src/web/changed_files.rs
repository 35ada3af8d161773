//! What operators see of changed files, and how they accept them; on the listener for operations only.

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
use crate::flow::{ChangedFile, Flow, Route};
use wheelport_index::{FileName, ProjectName};

/// Changed files that are listed for one route at most.
const SHOWN: usize = 100;
/// The longest reason and name taken, in bytes.
const LONGEST: usize = 1000;

/// The changed files of a route that are not accepted.
#[derive(Debug, Default, Serialize)]
pub(super) struct ChangedFilesStatus {
    pub(super) number: usize,
    /// The first of them.
    files: Vec<ChangedFileStatus>,
}

#[derive(Debug, Serialize)]
struct ChangedFileStatus {
    project: ProjectName,
    file: String,
    /// The digests, such as `sha256=…`.
    was: String,
    now: String,
    /// Seconds since the Unix epoch.
    first_seen: u64,
    noticed: u64,
}

impl ChangedFilesStatus {
    pub(super) fn of(flow: &Flow, route: &Route) -> Self {
        let changed = flow.pages.changed_files(route);
        let number = changed.iter().map(|(_, changed)| changed.number).sum();
        let files = changed.iter().flat_map(|(project, changed)| {
            changed.files.iter().map(|file| ChangedFileStatus::of(project.clone(), file))
        });
        Self { number, files: files.take(SHOWN).collect() }
    }
}

impl ChangedFileStatus {
    fn of(project: ProjectName, changed: &ChangedFile) -> Self {
        Self {
            project,
            file: changed.file.to_string(),
            was: changed.known.text(),
            now: changed.listed.text(),
            first_seen: changed.first_seen,
            noticed: changed.noticed,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Accept {
    route: String,
    project: String,
    /// All changed files of the project, if it is left out.
    file: Option<String>,
    reason: String,
    by: Option<String>,
}

/// Accepts what the repository lists now of one changed file of a project, or of all.
pub(super) async fn accept(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    OpsQuery(wanted): OpsQuery<Accept>,
) -> Response {
    let refused = |status: StatusCode, text: &str| (status, format!("{text}\n")).into_response();
    let Accept { route, project, file, reason, by } = wanted;
    if reason.trim().is_empty() || reason.len() > LONGEST || by.as_ref().is_some_and(|by| by.len() > LONGEST) {
        return refused(StatusCode::BAD_REQUEST, "a reason is needed, of at most 1000 bytes");
    }
    let (found, name) = match site.asked_project(&route, &project) {
        Ok(found) => found,
        Err(unknown) => return refused(StatusCode::NOT_FOUND, &unknown),
    };
    let Ok(file) = file.as_deref().map(FileName::parse).transpose() else {
        return refused(StatusCode::BAD_REQUEST, "that cannot be the name of a file");
    };
    let accepting = site.flow.pages.accept_changed(&found.route, &name, file, reason.clone(), by.clone());
    match accepting.await {
        Ok((accepted, _)) if accepted.is_empty() => {
            refused(StatusCode::NOT_FOUND, "nothing has changed that could be accepted")
        }
        Ok((accepted, spread)) => {
            let spread = spread.as_str();
            for ChangedFile { file, listed, .. } in &accepted {
                tracing::warn!(
                    target: "wheelport::audit",
                    route, project = %name, %file, now = listed.text(), reason, by, client = %peer.ip(), spread,
                    "changed file accepted"
                );
            }
            let accepted: Vec<_> = accepted.iter().map(|file| ChangedFileStatus::of(name.clone(), file)).collect();
            Json(json!({ "accepted": accepted, "spread": spread })).into_response()
        }
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

//! `POST /audit?route=NAME`: what is refused, malicious or vulnerable among the files that an operator names; and how
//! advisories are. On the listener for operations only.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Site;
use super::ops_query::OpsQuery;
use super::warm::MAX_FILES;
use crate::flow::{AdvisoryState, AuditItem, AuditedFile, Route, WarmDigest};
use crate::ui::{Cell, Mark, Table};
use wheelport_index::{FileName, ProjectName, VersionSegment};
use wheelport_runtime::Priority;

/// Projects that are worked on at the same time.
const AT_ONCE: usize = 8;

/// How advisories are.
#[derive(Serialize)]
pub(super) struct AdvisoryStatus {
    source: String,
    advisories: usize,
    /// How many of them report malware.
    malware: usize,
    /// Documents of the last export that could not be read.
    unreadable: u64,
    /// What they take of memory.
    memory_bytes: usize,
    /// Seconds since the source last confirmed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
    /// Why the last look at the source changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<AdvisoryState> for AdvisoryStatus {
    fn from(state: AdvisoryState) -> Self {
        let AdvisoryState { source, advisories, malware, unreadable, memory, age, error, .. } = state;
        Self { source, advisories, malware, unreadable, memory_bytes: memory, age_seconds: age, error }
    }
}

impl AdvisoryStatus {
    /// How a person reads it.
    pub(super) fn table(&self) -> Table {
        let state = match &self.error {
            None => Cell::State(Mark::Good, "in force".to_owned()),
            Some(error) => {
                Cell::Explained(Mark::Bad, "not renewed; those before stay in force".to_owned(), error.clone())
            }
        };
        let age = self.age_seconds.map_or_else(|| "–".to_owned(), |age| format!("{} min", age / 60));
        Table {
            title: "Advisories",
            about: String::new(),
            columns: &["State", "Advisories", "About malware", "Confirmed before"],
            rows: vec![vec![
                state,
                Cell::Figure(self.advisories.to_string()),
                Cell::Figure(self.malware.to_string()),
                Cell::Figure(age),
            ]],
            empty: "",
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Audit {
    route: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditList {
    files: Vec<AuditEntry>,
}

/// A file, or a version, or whatever has one of the digests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditEntry {
    project: String,
    file: Option<String>,
    version: Option<String>,
    #[serde(default)]
    hashes: Vec<String>,
}

impl AuditEntry {
    fn parse(self) -> Option<AuditItem> {
        Some(AuditItem {
            project: ProjectName::parse(&self.project).ok()?,
            file: self.file.map(|file| FileName::parse(&file)).transpose().ok()?,
            version: self.version.map(|version| VersionSegment::parse(&version)).transpose().ok()?,
            digests: self.hashes.iter().filter_map(|text| WarmDigest::parse(text)).collect(),
        })
    }
}

/// Says what is the matter with each file of a list.
pub(super) async fn audit(State(site): State<Arc<Site>>, OpsQuery(wanted): OpsQuery<Audit>, body: Bytes) -> Response {
    let refused = |status: StatusCode, text: &str| (status, format!("{text}\n")).into_response();
    let route = match site.asked_route(&wanted.route) {
        Ok(route) => route,
        Err(unknown) => return refused(StatusCode::NOT_FOUND, &unknown),
    };
    let Ok(AuditList { files }) = serde_json::from_slice(&body) else {
        return refused(StatusCode::BAD_REQUEST, "that is no list of files");
    };
    if files.len() > MAX_FILES {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "that are more files than one list may have");
    }
    let Some(items) = files.into_iter().map(AuditEntry::parse).collect::<Option<Vec<AuditItem>>>() else {
        return refused(StatusCode::BAD_REQUEST, "a project, a version or a file in the list cannot have that name");
    };
    let audited = audited(&site, &route.route, items).await;
    let found: Vec<&AuditedFile> = audited.iter().filter(|file| file.is_remarkable()).collect();
    let advisories = site.flow.advisories().state().map(AdvisoryStatus::from);
    Json(json!({ "route": wanted.route, "checked": audited.len(), "files": found, "advisories": advisories }))
        .into_response()
}

async fn audited(site: &Arc<Site>, route: &Arc<Route>, items: Vec<AuditItem>) -> Vec<AuditedFile> {
    let mut by_project: Vec<(ProjectName, Vec<AuditItem>)> = Vec::new();
    for item in items {
        match by_project.last_mut().filter(|(project, _)| *project == item.project) {
            Some((_, items)) => items.push(item),
            None => by_project.push((item.project.clone(), vec![item])),
        }
    }
    let auditing = stream::iter(by_project).map(|(project, items)| {
        let (site, route) = (Arc::clone(site), Arc::clone(route));
        Priority::Background.serve(async move { site.flow.audit(&route, &project, &items).await })
    });
    let audited: Vec<Vec<AuditedFile>> = auditing.buffered(AT_ONCE).collect().await;
    audited.into_iter().flatten().collect()
}

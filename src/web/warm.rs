//! `POST /warm?route=NAME`: an operator's list of files to fetch before clients ask for them; on the listener for
//! operations only.
//!
//! The response is a line of JSON for each file as soon as its outcome is known, and a last line with the sums. A
//! client that leaves stops the work.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Site;
use super::ops_query::OpsQuery;
use crate::flow::{Route, WarmDigest, WarmItem, Warmed};
use wheelport_index::{FileName, ProjectName};
use wheelport_runtime::Priority;

/// The longest list that is read, in bytes.
pub(super) const MAX_LIST: usize = 32 << 20;
/// Files of one list.
pub(super) const MAX_FILES: usize = 100_000;
/// Projects that are worked on at the same time.
const AT_ONCE: usize = 8;

#[derive(Deserialize)]
pub(super) struct Warm {
    route: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WarmList {
    files: Vec<WarmEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WarmEntry {
    project: String,
    file: Option<String>,
    /// Such as `sha256:…`; those of other kinds than the index has decide nothing.
    #[serde(default)]
    hashes: Vec<String>,
}

impl WarmEntry {
    fn parse(self) -> Option<WarmItem> {
        Some(WarmItem {
            project: ProjectName::parse(&self.project).ok()?,
            file: self.file.map(|file| FileName::parse(&file)).transpose().ok()?,
            digests: self.hashes.iter().filter_map(|text| WarmDigest::parse(text)).collect(),
        })
    }
}

/// How many files had which outcome.
#[derive(Default)]
struct WarmSums {
    fetched: usize,
    stored: usize,
    failed: usize,
}

/// Fetches what is missing, and tells of each file.
pub(super) async fn warm(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    OpsQuery(wanted): OpsQuery<Warm>,
    body: Bytes,
) -> Response {
    let refused = |status: StatusCode, text: &str| (status, format!("{text}\n")).into_response();
    let route = match site.asked_route(&wanted.route) {
        Ok(route) => route,
        Err(unknown) => return refused(StatusCode::NOT_FOUND, &unknown),
    };
    let Ok(WarmList { files }) = serde_json::from_slice(&body) else {
        return refused(StatusCode::BAD_REQUEST, "that is no list of files");
    };
    if files.len() > MAX_FILES {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "that are more files than one list may have");
    }
    let Some(items) = files.into_iter().map(WarmEntry::parse).collect::<Option<Vec<WarmItem>>>() else {
        return refused(StatusCode::BAD_REQUEST, "a project or a file in the list cannot have that name");
    };
    // One list at a time: two would only share the same permits.
    let Ok(turn) = Arc::clone(&site.warming).try_acquire_owned() else {
        return refused(StatusCode::CONFLICT, "another list is being fetched; try again when that is done");
    };
    tracing::info!(route = wanted.route, files = items.len(), client = %peer.ip(), "fetching the files of a list");
    let lines = lines(Arc::clone(&site), Arc::clone(&route.route), items).map(move |line| {
        let _turn = &turn;
        Ok::<_, std::convert::Infallible>(line)
    });
    let mut response = Body::from_stream(lines).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

fn lines(site: Arc<Site>, route: Arc<Route>, items: Vec<WarmItem>) -> impl stream::Stream<Item = Bytes> + Send {
    let warming = stream::iter(items).map(move |item| {
        let (site, route) = (Arc::clone(&site), Arc::clone(&route));
        Priority::Background.serve(async move { (item.project.clone(), site.flow.warm(&route, &item).await) })
    });
    let results = warming.buffer_unordered(AT_ONCE).map(Some).chain(stream::iter([None]));
    results.scan(WarmSums::default(), |sums, result| {
        let text = match result {
            Some((project, warmed)) => warmed.iter().map(|file| line(&sums.counted(&project, file))).collect(),
            None => line(&json!({
                "done": true, "fetched": sums.fetched, "stored": sums.stored, "failed": sums.failed,
            })),
        };
        std::future::ready(Some(Bytes::from(text)))
    })
}

impl WarmSums {
    /// What is told of a file, which counts from now on.
    fn counted(&mut self, project: &ProjectName, file: &Warmed) -> Value {
        let Warmed { name, outcome } = file;
        match outcome {
            Ok(success) => {
                match success {
                    crate::flow::WarmSuccess::Fetched => self.fetched += 1,
                    crate::flow::WarmSuccess::Stored => self.stored += 1,
                }
                json!({ "project": project, "file": name, "result": success.as_str() })
            }
            Err(failure) => {
                self.failed += 1;
                json!({ "project": project, "file": name, "result": "failed", "reason": failure.to_string() })
            }
        }
    }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

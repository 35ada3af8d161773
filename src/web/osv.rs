//! What is known to be wrong with versions, in the form of OSV's API, so that tools that audit can be pointed here.
//!
//! Batches have only ids, as there; a tool asks for the documents that it does not know. Nothing is divided into pages:
//! all advisories about a project are few.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use http::header::HeaderValue;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::context::RequestContext;
use super::document::Document;
use super::osv_call::OsvCall;
use super::problem::Problem;
use super::refusal::Refusal;
use super::representation::Representation;
use super::short_body::whole;
use super::written::Written;
use super::{Response, Site};
use crate::advisories::{InvalidQuestion, read_batch, read_question};
use crate::flow::{Advisories, Error, ListedAdvisory};
use wheelport_index::excerpt;

/// The longest body of a query, in bytes: a batch of a thousand with long names.
const LONGEST_QUERY: usize = 1 << 20;
/// What clients call the protocol.
const PROTOCOL: &str = "The API of OSV";

/// A response of the API.
pub(super) struct OsvReply(String);

impl OsvReply {
    pub(super) fn respond(self, context: &RequestContext) -> Result<Response, Problem> {
        let json = HeaderValue::from_static("application/json");
        Document::new(Representation::unstored(json, self.0.len()), Written::of(self.0)).respond(context, None)
    }
}

/// Answers a call; only the one for a document is a reading one.
pub(super) async fn answer(site: Arc<Site>, call: OsvCall, body: Option<Body>) -> Result<OsvReply, Problem> {
    let advisories = site.flow.advisories();
    if !advisories.are_offered() {
        return Err(Refusal::NotOffered { protocol: PROTOCOL }.into());
    }
    match (call, body) {
        (OsvCall::Advisory(id), None) => document(advisories, id).await,
        (OsvCall::Query, Some(body)) => query(advisories, body).await,
        (OsvCall::QueryBatch, Some(body)) => batch(advisories, body).await,
        (OsvCall::Advisory(_), Some(_)) => Err(Refusal::MethodNotAllowed { allowed: "GET, HEAD" }.into()),
        (OsvCall::Query | OsvCall::QueryBatch, None) => Err(Refusal::MethodNotAllowed { allowed: "POST" }.into()),
    }
}

async fn document(advisories: &Advisories, id: String) -> Result<OsvReply, Problem> {
    let shown = excerpt(&id);
    let document = advisories.document(id).await?.ok_or(Refusal::NoSuchAdvisory { id: shown })?;
    Ok(OsvReply(text(document)?))
}

async fn query(advisories: &Advisories, body: Body) -> Result<OsvReply, Problem> {
    let question = read_question(&whole(body, LONGEST_QUERY).await?).map_err(Refusal::BadQuestion)?;
    let documents = advisories.documents(question).await?.ok_or(Refusal::BadQuestion(InvalidQuestion::TooMuch))?;
    if documents.is_empty() {
        return Ok(OsvReply("{}".to_owned()));
    }
    let raw = |document| RawValue::from_string(text(document)?).map_err(|error| Error::internal(&error.to_string()));
    let vulns = documents.into_iter().map(raw).collect::<Result<Vec<_>, Error>>()?;
    let reply = serde_json::to_string(&std::collections::BTreeMap::from([("vulns", vulns)]));
    Ok(OsvReply(reply.map_err(|error| Error::internal(&error.to_string()))?))
}

async fn batch(advisories: &Advisories, body: Body) -> Result<OsvReply, Problem> {
    let questions = read_batch(&whole(body, LONGEST_QUERY).await?).map_err(Refusal::BadQuestion)?;
    let found = advisories.list(questions).await?.ok_or(Refusal::BadQuestion(InvalidQuestion::TooMuch))?;
    let results: Vec<Value> = found.into_iter().map(listed).collect();
    Ok(OsvReply(json!({ "results": results }).to_string()))
}

fn listed(found: Vec<ListedAdvisory>) -> Value {
    if found.is_empty() {
        return json!({});
    }
    let one = |ListedAdvisory { id, modified }| {
        let modified = UNIX_EPOCH + Duration::from_secs(u64::from(modified));
        json!({ "id": id, "modified": humantime::format_rfc3339_seconds(modified).to_string() })
    };
    json!({ "vulns": found.into_iter().map(one).collect::<Vec<_>>() })
}

fn text(document: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(document).map_err(|_| Error::internal("a document of an advisory is not UTF-8"))
}

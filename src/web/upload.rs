//! Uploads: the right to publish before a byte is read, then the form in batches (`upload_body.rs`), then the response.
//!
//! A refusal is sent after the rest of a form of reasonable size was read: most publishing tools look at the response
//! only when they have sent everything, and would report a broken connection instead. A client that waits for
//! `100 Continue` gets the refusal at once.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue, VARY};
use serde_json::json;
use tokio::time::Instant;

use super::address::RouteId;
use super::attribution::Attribution;
use super::context::{Credentials, RequestContext, RequestId};
use super::document::Document;
use super::gate::{self, Publisher};
use super::headers::values;
use super::negotiate::quality;
use super::problem::Problem;
use super::refusal::Refusal;
use super::representation::Representation;
use super::upload_body::{PaceLimits, UploadBody};
use super::written::Written;
use super::{Response, Site};
use crate::flow::{Attempt, Publication, Received};
use crate::identity::Identity;
use wheelport_index::FileName;
use wheelport_runtime::{Waits, sabotaged};

/// What an upload waits for while its bytes come. That it takes long is not a fault of ours.
pub(super) const CLIENT: &str = "client";

/// An upload into a route.
pub(super) struct Upload {
    site: Arc<Site>,
    route: RouteId,
    client: IpAddr,
    request_id: RequestId,
    headers: HeaderMap,
    credentials: Credentials,
    /// Whom the access log names.
    attribution: Arc<OnceLock<Arc<Identity>>>,
    began: Instant,
    body: UploadBody,
}

/// A file that is in the repository now.
pub(super) struct UploadedFile {
    publication: Publication,
    file: FileName,
}

impl Upload {
    pub(super) fn new(
        site: &Arc<Site>,
        context: &mut RequestContext,
        route: RouteId,
        credentials: Credentials,
        body: Body,
    ) -> Self {
        let RequestContext { client, id: request_id, started: began, .. } = *context;
        let (site, headers, body) = (Arc::clone(site), context.headers.clone(), UploadBody::new(body, began));
        let (identity, attribution) = Attribution::later();
        context.identity = identity;
        Self { site, route, client, request_id, headers, credentials, attribution, began, body }
    }

    pub(super) async fn receive_and_publish(mut self) -> Result<UploadedFile, Problem> {
        let site = Arc::clone(&self.site);
        let route = &site.routes[self.route.0];
        let name = Arc::clone(&route.route.name);
        let mut attempt = Attempt::new(name, self.client, self.request_id.as_str().to_owned());
        let received = match gate::publisher(&site, self.route, &self.credentials).await {
            Ok(mut publisher) => {
                attempt.by(named(publisher.as_ref()));
                let received = self.receive(publisher.as_mut(), &mut attempt).await;
                attempt.by(named(publisher.as_ref()));
                if let Some(publisher) = &publisher {
                    let _ = self.attribution.set(Arc::clone(publisher.identity()));
                }
                received
            }
            Err(refusal) => Err(refusal.into()),
        };
        let received = match received {
            Ok(received) => received,
            Err(problem) => {
                attempt.refused(problem.code(), &problem.to_string());
                if !self.headers.contains_key(EXPECT) {
                    Waits::note(CLIENT, self.body.drain()).await;
                }
                return Err(problem);
            }
        };
        let file = received.form().file.clone();
        let publication = site.flow.publish.publish(&route.route, received, self.body.sent(), attempt).await?;
        Ok(UploadedFile { publication, file })
    }

    async fn receive(
        &mut self,
        mut publisher: Option<&mut Publisher>,
        attempt: &mut Attempt,
    ) -> Result<Received, Problem> {
        let service = &self.site.flow.publish;
        let settings = service.settings();
        let announced = self.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > settings.max_form_size()) && !sabotaged("announced-size") {
            return Err(settings.too_large().into());
        }
        if values(&self.headers, &CONTENT_ENCODING).any(|coding| !coding.trim().eq_ignore_ascii_case("identity")) {
            return Err(bad_request("a form must not be compressed"));
        }
        let mut types = self.headers.get_all(CONTENT_TYPE).iter();
        let (Some(content_type), None) = (types.next(), types.next()) else {
            return Err(bad_request("an upload is a form with exactly one Content-Type"));
        };
        let mut receiving = service.receive(content_type, self.began).await?;
        let limits = PaceLimits { stall: settings.stall_timeout.get(), min_rate: settings.min_rate.bytes() };
        while let Some(batch) = Waits::note(CLIENT, self.body.next_batch(limits)).await.map_err(bad_request)? {
            let (taken, outcome) = Waits::note("disk", receiving.take(batch)).await?;
            receiving = taken;
            attempt.names(&receiving);
            outcome?;
            // Most tools send the name before the file, and nothing more of the file goes to disk then.
            if let Some(project) = receiving.project()
                && !sabotaged("early-refusal")
            {
                gate::may_publish(&self.site, self.route, publisher.as_deref_mut(), &project)?;
            }
        }
        let arrived = receiving.finish()?;
        attempt.carries(&arrived);
        let received = arrived.check()?;
        gate::may_publish(&self.site, self.route, publisher, &received.form().project)?;
        Ok(received)
    }
}

/// Whom the audit line names.
fn named(publisher: Option<&Publisher>) -> Arc<str> {
    publisher.map_or_else(|| "anonymous".into(), |known| Arc::clone(&known.identity().name))
}

fn bad_request(fault: &'static str) -> Problem {
    Refusal::BadRequest { fault }.into()
}

impl UploadedFile {
    pub(super) fn respond(&self, context: &RequestContext) -> Result<Response, Problem> {
        let Self { publication, file } = self;
        let preference = |kind| quality(values(&context.headers, &ACCEPT), &[kind]);
        let (content_type, text) = if preference("application/json") > preference("text/plain") {
            let document = json!({ "status": publication.as_str(), "file": file.as_str() });
            ("application/json", document.to_string())
        } else {
            let sentence = match publication {
                Publication::Published => format!("Published {file}.\n"),
                Publication::Unchanged => format!("{file} is there already, with the same content.\n"),
            };
            ("text/plain; charset=utf-8", sentence)
        };
        let representation = Representation::unstored(HeaderValue::from_static(content_type), text.len())
            .with(VARY, HeaderValue::from_static("Accept"));
        Document::new(representation, Written::of(text)).respond(context, None)
    }
}

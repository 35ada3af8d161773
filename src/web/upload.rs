//! Uploads: the right to publish before a byte is read, then the form in batches, then the response.
//!
//! A refusal is sent after the rest of a form of reasonable size was read: most publishing tools look at the response
//! only when they have sent everything, and would report a broken connection instead. A client that waits for
//! `100 Continue` gets the refusal at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue, VARY};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::address::RouteId;
use super::context::{RequestContext, RequestId};
use super::guard::UploadPolicy;
use super::headers::values;
use super::negotiate::quality;
use super::problem::Problem;
use super::publishers::Publisher;
use super::refusal::Refusal;
use super::representation::{Document, Representation};
use super::{Response, RouteSite, Site};
use crate::flow::{Attempt, Publication, Received, Receiving};
use wheelport_index::FileName;
use wheelport_runtime::sabotaged;

/// What goes to disk in one go, in bytes.
const BATCH: usize = 1 << 20;
/// How much of a refused form is read for the sake of its sender, in bytes.
const DRAIN_LIMIT: u64 = 256 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// An upload into a route.
pub(super) struct Upload {
    site: Arc<Site>,
    route: RouteId,
    client: IpAddr,
    request_id: RequestId,
    headers: HeaderMap,
    credentials: HeaderMap,
    body: Body,
}

/// A file that is in the repository now.
pub(super) struct UploadedFile {
    publication: Publication,
    file: FileName,
}

impl Upload {
    pub(super) fn new(
        site: &Arc<Site>,
        context: &RequestContext,
        route: RouteId,
        credentials: HeaderMap,
        body: Body,
    ) -> Self {
        let (site, headers) = (Arc::clone(site), context.headers.clone());
        Self { site, route, client: context.client, request_id: context.id, headers, credentials, body }
    }

    pub(super) async fn receive_and_publish(mut self) -> Result<UploadedFile, Problem> {
        let site = Arc::clone(&self.site);
        let route = &site.routes[self.route.0];
        let name = Arc::clone(&route.route.name);
        let mut attempt = Attempt::new(name, self.client, self.request_id.as_str().to_owned());
        let received = match permitted(&site, route, &self.credentials) {
            Ok(publisher) => {
                attempt.by(publisher.map_or_else(|| "anonymous".into(), |publisher| Arc::clone(publisher.name())));
                self.receive(publisher, &mut attempt).await
            }
            Err(refusal) => Err(refusal.into()),
        };
        let received = match received {
            Ok(received) => received,
            Err(problem) => {
                attempt.refused(problem.code(), &problem.to_string());
                if !self.headers.contains_key(EXPECT) {
                    drain(&mut self.body).await;
                }
                return Err(problem);
            }
        };
        let file = received.form().file.clone();
        let publication = site.flow.publish.publish(&route.route, received, attempt).await?;
        Ok(UploadedFile { publication, file })
    }

    async fn receive(&mut self, publisher: Option<&Publisher>, attempt: &mut Attempt) -> Result<Received, Problem> {
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
        let mut receiving = service.receive(content_type.clone()).await?;
        while let Some(batch) = next_batch(&mut self.body, settings.stall_timeout.get()).await? {
            receiving = Receiving::take(receiving, batch).await?;
        }
        let received = receiving.finish()?;
        attempt.carries(&received);
        let project = &received.form().project;
        if publisher.is_some_and(|publisher| !publisher.may_publish(project)) && !sabotaged("upload-scope") {
            return Err(Refusal::UploadForbidden { project: project.clone() }.into());
        }
        Ok(received)
    }
}

/// Who publishes, as far as that is known; `None` where uploads are anonymous.
fn permitted<'a>(site: &'a Site, route: &RouteSite, credentials: &HeaderMap) -> Result<Option<&'a Publisher>, Refusal> {
    let name = &route.route.name;
    match route.upload {
        UploadPolicy::Off | UploadPolicy::Token if sabotaged("upload-right") => Ok(None),
        UploadPolicy::Off => Err(Refusal::UploadOff { route: Arc::clone(name) }),
        UploadPolicy::Anonymous => Ok(None),
        UploadPolicy::Token => {
            site.publishers.recognise(credentials, name).map(Some).ok_or(Refusal::UploadUnauthorized)
        }
    }
}

fn bad_request(fault: &'static str) -> Problem {
    Refusal::BadRequest { fault }.into()
}

/// What has arrived; waits only if that is nothing.
async fn next_batch(body: &mut Body, stall: Duration) -> Result<Option<Vec<Bytes>>, Problem> {
    let broken = |_| bad_request("its body broke off");
    let (mut batch, mut size) = (Vec::new(), 0);
    while size < BATCH {
        let frame = if batch.is_empty() {
            let late = |_| bad_request("its body stopped coming");
            tokio::time::timeout(stall, body.frame()).await.map_err(late)?
        } else {
            match body.frame().now_or_never() {
                Some(frame) => frame,
                None => break,
            }
        };
        let Some(frame) = frame else { break };
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            size += data.len();
            batch.push(data);
        }
    }
    Ok(Some(batch).filter(|batch| !batch.is_empty()))
}

async fn drain(body: &mut Body) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len) as u64;
            if read > DRAIN_LIMIT {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
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
        Document { representation, bytes: text.into() }.respond(context, None)
    }
}

//! From a request to its response: one look-up, one response, one line in the log, for hits and misses alike.
//!
//! The order of what a request passes through matters:
//!
//! 1. catch panics: whatever happens below, the client gets a response and the process goes on;
//! 2. account: request id, access log, metrics; outside the guard so that refused requests are seen too;
//! 3. health: before the guard, because probes come by any name;
//! 4. guard: host names, then (for requests that change something) other sites;
//! 5. address, then the look-up in the service that it belongs to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::body::Body;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use http::header::{HeaderMap, LOCATION};
use http::uri::Authority;
use http::{HeaderValue, Method, StatusCode};
use tracing::Instrument as _;

use super::access_log::{self, Outcome};
use super::address::{self, Address, Parsed};
use super::body::ResponseBody;
use super::context::{PeerInfo, RequestContext};
use super::file::FoundFile;
use super::finding::Finding;
use super::guard::Host;
use super::home;
use super::index::{self, FoundDocument};
use super::ops;
use super::problem::{self, Problem};
use super::refusal::Refusal;
use super::representation::{Document, Representation};
use super::upload::{Upload, UploadedFile};
use super::{Response, Site};
use crate::flow::{Served, ServedMetadata};
use crate::telemetry::GaugeGuard;
use wheelport_runtime::Priority;

/// A response that is there, or one that has to be waited for.
pub type Handling = Either<Ready<Response>, BoxFuture<'static, Response>>;

/// What a request finds. One place turns each into a response.
enum Found {
    Document(FoundDocument),
    File(FoundFile),
    Metadata(ServedMetadata),
    Uploaded(UploadedFile),
    Home(Box<Document>),
    Redirect { location: String },
    Health(http::Response<Body>),
}

/// Handles a request.
pub fn handle(site: &Arc<Site>, peer: PeerInfo, request: http::Request<Body>) -> Handling {
    let in_flight = GaugeGuard::new(&site.metrics.in_flight);
    let (mut context, credentials, body) = RequestContext::new(site, peer, request);
    let priority = Priority::client(context.client);
    // State behind the site is guarded by locks that survive a panic, so going on is safe.
    let finding = AssertUnwindSafe(|| priority.start(|| find(site, &mut context, credentials, body)));
    match catch_unwind(finding).unwrap_or_else(|_| Finding::Now(Err(Problem::panicked()))) {
        Finding::Now(found) => Either::Left(ready(respond(site, &context, found, in_flight))),
        Finding::Later(finding) => {
            let site = Arc::clone(site);
            let span = tracing::info_span!("request", id = context.id.as_str());
            let waiting = async move {
                let found = AssertUnwindSafe(priority.serve(finding)).catch_unwind().await;
                respond(&site, &context, found.unwrap_or_else(|_| Err(Problem::panicked())), in_flight)
            };
            Either::Right(Box::pin(waiting.instrument(span)))
        }
    }
}

/// Looks up what a request is about.
fn find(site: &Arc<Site>, context: &mut RequestContext, credentials: HeaderMap, body: Body) -> Finding<Found> {
    if context.is_read()
        && let Some(health) = ops::health(site, context.path())
    {
        context.kind = "health";
        return Finding::Now(Ok(Found::Health(health)));
    }
    match admit(site, context) {
        Ok((_, Parsed { redirect: Some(location), .. })) if context.is_read() => {
            Finding::Now(Ok(Found::Redirect { location }))
        }
        Ok((host, parsed)) if context.is_read() => find_to_read(site, context, &host, parsed.address),
        Ok((_, parsed)) => change(site, context, &parsed.address, credentials, body),
        Err(refusal) => Finding::problem(refusal),
    }
}

/// Lets a request in, and reads its address.
fn admit(site: &Site, context: &mut RequestContext) -> Result<(Host, Parsed), Refusal> {
    let host = site.hosts.check(&context.headers, context.uri.authority().map(Authority::as_str))?;
    if !context.method.is_safe() && site.hosts.cross_site(&context.headers, &host) {
        return Err(Refusal::CrossSite);
    }
    let parsed = address::parse(context.path(), &site.names)?;
    context.kind = parsed.address.kind();
    Ok((host, parsed))
}

fn find_to_read(site: &Arc<Site>, context: &RequestContext, host: &Host, address: Address) -> Finding<Found> {
    match address {
        Address::Home | Address::Upload { .. } => {
            Finding::Now(Ok(Found::Home(Box::new(home::document(site, context, host)))))
        }
        Address::List { route } => index::list(site, context, route).map(Found::Document),
        Address::Page { route, project } => index::page(site, context, route, &project).map(Found::Document),
        Address::Legacy { route, project, version } => {
            index::legacy(site, context, host, route, project, version).map(Found::Document)
        }
        Address::File { route, file } => FoundFile::find(site, context, route, file).map(Found::File),
        Address::Metadata { route, wheel } => {
            Finding::from(site.flow.metadata.get(site.route(route), &wheel)).map(Found::Metadata)
        }
    }
}

/// A request that would change something: an upload, or a method that its address does not have.
fn change(
    site: &Arc<Site>,
    context: &mut RequestContext,
    address: &Address,
    credentials: HeaderMap,
    body: Body,
) -> Finding<Found> {
    let route = match address {
        Address::Home => site.names.default_route(),
        Address::Upload { route } => Ok(*route),
        _ => return Finding::problem(Refusal::MethodNotAllowed { allowed: "GET, HEAD" }),
    };
    if context.method != Method::POST {
        return Finding::problem(Refusal::MethodNotAllowed { allowed: "GET, HEAD, POST" });
    }
    context.kind = "upload";
    match route {
        Ok(route) => {
            let upload = Upload::new(site, context, route, credentials, body);
            Finding::later(async move { Ok(Found::Uploaded(upload.receive_and_publish().await?)) })
        }
        Err(refusal) => Finding::problem(refusal),
    }
}

/// The response to whatever was found, logged and counted.
fn respond(
    site: &Arc<Site>,
    context: &RequestContext,
    found: Result<Found, Problem>,
    in_flight: GaugeGuard,
) -> Response {
    let made = found.and_then(|found| {
        let served = found.served();
        let response = found.respond(site, context)?;
        Ok((response, Outcome { served, error: None }))
    });
    let (response, outcome) = made.unwrap_or_else(|problem| {
        let outcome = Outcome { served: None, error: Some(problem.code()) };
        (problem::response(&problem, context), outcome)
    });
    access_log::record(site, context, outcome, response, in_flight)
}

impl Found {
    /// How the response came about, where the cache has a part in it.
    fn served(&self) -> Option<Served> {
        match self {
            Self::Document(found) => Some(found.served),
            Self::File(file) => Some(file.served()),
            Self::Metadata(metadata) => Some(metadata.served),
            Self::Uploaded(_) | Self::Home(_) | Self::Redirect { .. } | Self::Health(_) => None,
        }
    }

    fn respond(self, site: &Site, context: &RequestContext) -> Result<Response, Problem> {
        match self {
            Self::Document(FoundDocument { document, served }) => document.respond(context, Some(served)),
            Self::File(file) => file.respond(site, context),
            Self::Metadata(ServedMetadata { metadata, served }) => {
                let (length, sha256) = (metadata.bytes.len() as u64, metadata.sha256);
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                let representation = Representation::immutable(text, Some(length), Some(sha256));
                representation.respond(context, Some(served), |selection| Ok(selection.of(&metadata.bytes).into()))
            }
            Self::Uploaded(uploaded) => uploaded.respond(context),
            Self::Home(document) => document.respond(context, None),
            Self::Redirect { location } => redirect(&location),
            Self::Health(response) => Ok(response.map(ResponseBody::from)),
        }
    }
}

fn redirect(location: &str) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(location).map_err(|_| Problem::internal("a redirect is not printable"))?;
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(0));
    Ok(response)
}

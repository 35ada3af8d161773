//! From a request to its response: one look-up, one response, one line in the log, for hits and misses alike.
//!
//! The order of what a request passes through matters:
//!
//! 1. catch panics: whatever happens below, the client gets a response and the process goes on;
//! 2. account: request id, access log, metrics; outside the guard so that refused requests are seen too;
//! 3. health: before the guard, because probes come by any name;
//! 4. guard: host names, then (for requests that change something) other sites;
//! 5. address, then the look-up in the service that it belongs to.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use axum::body::Body;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use http::header::{CACHE_CONTROL, HOST, LOCATION};
use http::uri::Authority;
use http::{HeaderValue, Method, StatusCode};
use tracing::Instrument as _;

use super::access_log::{self, Outcome};
use super::address::{self, Address, ExchangeStep, Parsed};
use super::attribution::Attribution;
use super::body::ResponseBody;
use super::browse;
use super::context::{Credentials, PeerInfo, RequestContext};
use super::document::Document;
use super::eventual::Eventual;
use super::exchange::{self, ExchangeReply};
use super::file::FoundFile;
use super::gate;
use super::guard::Host;
use super::headers::{IMMUTABLE, PRIVATE_IMMUTABLE, PRIVATE_REVALIDATE, REVALIDATE};
use super::home;
use super::index::{self, FoundDocument};
use super::memo::Memo;
use super::ops;
use super::osv::{self, OsvReply};
use super::osv_call::OsvCall;
use super::problem::{self, Problem};
use super::refusal::Refusal;
use super::representation::{ImmutableType, Representation};
use super::upload::{Upload, UploadedFile};
use super::{Response, Site};
use crate::flow::{Error, Moment, REQUEST_TIMEOUT, Served, ServedMetadata};
use crate::telemetry::{GaugeGuard, ResponseKind};
use wheelport_index::excerpt;
use wheelport_runtime::{Priority, Waits, sabotaged};

/// A response that is there, or one that has to be waited for.
pub type Handling = Either<Ready<Response>, BoxFuture<'static, Response>>;

/// What a request finds. One place turns each into a response.
enum Found {
    Document(FoundDocument),
    File(FoundFile),
    Metadata(ServedMetadata),
    Uploaded(UploadedFile),
    Exchanged(ExchangeReply),
    Osv(OsvReply),
    Home(Box<Document>),
    Redirect { location: String },
    Health(http::Response<Body>),
}

/// What a request addresses: a host that is ours, and an address below it.
#[derive(Clone)]
struct Target {
    host: Host,
    parsed: Parsed,
}

thread_local! {
    static TARGETS: RefCell<Memo<Rc<Target>>> = RefCell::default();
}

/// Handles a request.
pub fn handle(site: &Arc<Site>, peer: &PeerInfo, request: http::Request<Body>) -> Handling {
    let in_flight = GaugeGuard::new(&site.metrics.in_flight);
    let (mut context, credentials, body) = RequestContext::new(site, peer, request);
    let priority = Priority::client(context.client);
    // State behind the site is guarded by locks that survive a panic, so going on is safe.
    let finding = AssertUnwindSafe(|| priority.start(|| find(site, &mut context, credentials, body)));
    match catch_unwind(finding).unwrap_or_else(|_| Eventual::Now(Err(Problem::panicked()))) {
        Eventual::Now(found) => Either::Left(ready(respond(site, &context, found, in_flight))),
        Eventual::Later(finding) => {
            let site = Arc::clone(site);
            let span = tracing::info_span!("request", id = context.id.as_str());
            let waiting = async move {
                let waits = Waits::default();
                let found =
                    AssertUnwindSafe(waits.serve(priority.serve(in_time(&context, finding)))).catch_unwind().await;
                access_log::report_slow(&site, &context, &waits);
                respond(&site, &context, found.unwrap_or_else(|_| Err(Problem::panicked())), in_flight)
            };
            Either::Right(Box::pin(waiting.instrument(span)))
        }
    }
}

/// The response to a request on a connection that there is no place for, or that is not encrypted. Probes get their
/// response all the same where there are too many: a server that has much to do is alive.
pub(super) fn refuse(site: &Arc<Site>, peer: &PeerInfo, refusal: Refusal, request: http::Request<Body>) -> Response {
    let in_flight = GaugeGuard::new(&site.metrics.in_flight);
    let (mut context, _, _) = RequestContext::new(site, peer, request);
    let health = health(site, &mut context).filter(|_| refusal != Refusal::NotEncrypted);
    let found = health.ok_or_else(|| refusal.into());
    respond(site, &context, found, in_flight)
}

/// What a probe gets, if this is one.
fn health(site: &Site, context: &mut RequestContext) -> Option<Found> {
    let health = ops::health(site, context.path()).filter(|_| context.is_read())?;
    context.kind = ResponseKind::Health;
    Some(Found::Health(health))
}

/// Ends a look-up that has waited too long for everything together. An upload has limits of its own, which count from
/// its last byte.
async fn in_time(
    context: &RequestContext,
    finding: impl Future<Output = Result<Found, Problem>>,
) -> Result<Found, Problem> {
    if context.kind == ResponseKind::Upload || sabotaged("request-deadline") {
        return finding.await;
    }
    let found = tokio::time::timeout_at(context.started + REQUEST_TIMEOUT, finding).await;
    found.unwrap_or_else(|_| Err(Error::timed_out().into()))
}

/// Looks up what a request is about.
fn find(site: &Arc<Site>, context: &mut RequestContext, credentials: Credentials, body: Body) -> Eventual<Found> {
    if let Some(health) = health(site, context) {
        return Eventual::Now(Ok(health));
    }
    match admit(site, context) {
        Ok(target) if context.is_read() => find_for_reader(site, context, &target, &credentials),
        Ok(target) if target.parsed.as_of.is_some() => {
            Eventual::problem(Refusal::MethodNotAllowed { allowed: "GET, HEAD" })
        }
        Ok(target) => change(site, context, &target.parsed.address, credentials, body),
        Err(refusal) => Eventual::problem(refusal),
    }
}

/// Lets a request in, and reads its address.
fn admit(site: &Site, context: &mut RequestContext) -> Result<Rc<Target>, Refusal> {
    let authority = context.uri.authority().map(Authority::as_str);
    // A name may leave the certificates.
    let scope = site.id ^ site.hosts.revision().rotate_left(32);
    let parse = || {
        let host = site.hosts.check(&context.headers, authority)?;
        Ok::<_, Refusal>(Target { host, parsed: address::parse(context.uri.path(), &site.names)? })
    };
    let mut hosts = context.headers.get_all(HOST).into_iter();
    let target = match (hosts.next(), hosts.next(), authority) {
        (Some(host), None, None) => TARGETS.with_borrow_mut(|targets| {
            targets.get(scope, [host.as_bytes(), context.uri.path().as_bytes()], || parse().map(Rc::new))
        }),
        _ => parse().map(Rc::new),
    }?;
    if !context.method.is_safe() && site.hosts.cross_site(&context.headers, &target.host) {
        return Err(Refusal::CrossSite);
    }
    context.kind = target.parsed.address.kind();
    Ok(target)
}

/// Looks up what a request reads, once it is clear that it may.
fn find_for_reader(
    site: &Arc<Site>,
    context: &mut RequestContext,
    target: &Target,
    credentials: &Credentials,
) -> Eventual<Found> {
    let is_download = context.kind == ResponseKind::File && context.method == Method::GET;
    match gate::reader(site, &target.parsed.address, is_download, credentials) {
        Eventual::Now(Ok(reader)) => {
            if let Some(reader) = reader {
                context.identity = Attribution::Known(reader);
            }
            find_to_read(site, context, target)
        }
        Eventual::Now(Err(problem)) => Eventual::problem(problem),
        Eventual::Later(deciding) => {
            let (identity, cell) = Attribution::later();
            context.identity = identity;
            let (site, context, target) = (Arc::clone(site), context.clone(), target.clone());
            Eventual::later(async move {
                if let Some(reader) = deciding.await? {
                    let _ = cell.set(reader);
                }
                let finding = find_to_read(&site, &context, &target);
                finding.wait().await
            })
        }
    }
}

fn find_to_read(site: &Arc<Site>, context: &RequestContext, target: &Target) -> Eventual<Found> {
    let Target { host, parsed } = target;
    if let Address::Osv(call) = &parsed.address {
        return osv(site, call, None);
    }
    if let Some(mut location) = parsed.redirect.clone() {
        if let (Address::Browse { .. }, Some(query)) = (&parsed.address, context.uri.query()) {
            location = format!("{location}?{query}");
        }
        return Eventual::Now(Ok(Found::Redirect { location }));
    }
    let dated;
    let route = match (parsed.address.reads().map(|route| site.route(route)), &parsed.as_of) {
        (Some(route), None) => route,
        (Some(route), Some(date)) => match as_of(site, date) {
            Ok(moment) => {
                dated = route.as_of(moment);
                &dated
            }
            Err(refusal) => return Eventual::problem(refusal),
        },
        (None, _) => return find_outside_of_routes(site, context, target),
    };
    match &parsed.address {
        Address::Home | Address::Upload { .. } | Address::Exchange(_) | Address::Osv(_) => {
            find_outside_of_routes(site, context, target)
        }
        Address::List { .. } => index::list(site, context, route).map(Found::Document),
        Address::Page { project, .. } => index::page(site, context, route, project).map(Found::Document),
        Address::Legacy { project, version, .. } => {
            index::legacy(site, context, host, route, project.clone(), version.clone()).map(Found::Document)
        }
        Address::Browse { target, form, .. } => {
            let route = (route, parsed.as_of.clone());
            browse::find(site, context, host, route, target.clone(), *form).map(Found::Document)
        }
        Address::File { file, .. } => FoundFile::find(site, context, route, file.clone()).map(Found::File),
        Address::Metadata { wheel, .. } => {
            Eventual::from(site.flow.metadata.get(route, wheel, context.user_agent())).map(Found::Metadata)
        }
    }
}

/// What advisories say.
fn osv(site: &Arc<Site>, call: &OsvCall, body: Option<Body>) -> Eventual<Found> {
    let answering = osv::answer(Arc::clone(site), call.clone(), body);
    Eventual::later(async move { Ok(Found::Osv(answering.await?)) })
}

/// What is there to read that belongs to no route.
fn find_outside_of_routes(site: &Site, context: &RequestContext, Target { host, parsed }: &Target) -> Eventual<Found> {
    Eventual::Now(match parsed.address {
        Address::Exchange(step) => exchange::tell(site, context, host, step).map(Found::Exchanged),
        _ => Ok(Found::Home(Box::new(home::document(site, context, host)))),
    })
}

/// The moment that stands in the address of an index as of a date: a name for one, a date, or a time.
fn as_of(site: &Site, date: &str) -> Result<Moment, Refusal> {
    let policy = site.flow.policy();
    let refuse = |fault| Refusal::BadDate { date: excerpt(date), fault };
    let moment = match policy.rules().freeze(date) {
        Some(moment) => moment,
        None => Moment::parse(date)
            .map_err(|_| refuse("it is no date, no time (RFC 3339), and no name of a [[freeze]]"))?
            .cut_to_minute(),
    };
    if moment > policy.now() && !sabotaged("future-date") {
        return Err(refuse("it is in the future"));
    }
    Ok(moment)
}

/// A request that would change something: an upload, or a method that its address does not have.
fn change(
    site: &Arc<Site>,
    context: &mut RequestContext,
    address: &Address,
    credentials: Credentials,
    body: Body,
) -> Eventual<Found> {
    let route = match address {
        Address::Home => site.names.default_route(),
        Address::Upload { route } => Ok(*route),
        Address::Exchange(step @ (ExchangeStep::Mint | ExchangeStep::Burn)) if context.method == Method::POST => {
            let exchanging = exchange::exchange(Arc::clone(site), *step, body);
            return Eventual::later(async move { Ok(Found::Exchanged(exchanging.await?)) });
        }
        Address::Osv(call) if context.method == Method::POST => return osv(site, call, Some(body)),
        Address::Osv(OsvCall::Query | OsvCall::QueryBatch)
        | Address::Exchange(ExchangeStep::Mint | ExchangeStep::Burn) => {
            return Eventual::problem(Refusal::MethodNotAllowed { allowed: "POST" });
        }
        _ => return Eventual::problem(Refusal::MethodNotAllowed { allowed: "GET, HEAD" }),
    };
    if context.method != Method::POST {
        return Eventual::problem(Refusal::MethodNotAllowed { allowed: "GET, HEAD, POST" });
    }
    context.kind = ResponseKind::Upload;
    match route {
        Ok(route) => {
            let upload = Upload::new(site, context, route, credentials, body);
            Eventual::later(async move { Ok(Found::Uploaded(upload.receive_and_publish().await?)) })
        }
        Err(refusal) => Eventual::problem(refusal),
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
        let mut response = found.respond(site, context)?;
        if context.identity.is_needed() {
            keep_from_shared_caches(&mut response);
        }
        Ok((response, Outcome { served, error: None }))
    });
    let (response, outcome) = made.unwrap_or_else(|problem| {
        let outcome = Outcome { served: None, error: Some(problem.code()) };
        if let Some(blocked) = problem.blocked() {
            access_log::note_refusal(site, context, blocked);
        }
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
            Self::Uploaded(_)
            | Self::Exchanged(_)
            | Self::Osv(_)
            | Self::Home(_)
            | Self::Redirect { .. }
            | Self::Health(_) => None,
        }
    }

    fn respond(self, site: &Site, context: &RequestContext) -> Result<Response, Problem> {
        match self {
            Self::Document(FoundDocument { document, served }) => document.respond(context, Some(served)),
            Self::File(file) => file.respond(site, context),
            Self::Metadata(ServedMetadata { metadata, served }) => {
                let (length, sha256) = (metadata.bytes.len() as u64, metadata.sha256);
                let immutable = Representation::immutable(ImmutableType::Text, Some(length), Some(sha256));
                let representation = if metadata.is_proven { immutable } else { immutable.unproven() };
                representation.respond(context, Some(served), |selection| Ok(selection.of(&metadata.bytes).into()))
            }
            Self::Uploaded(uploaded) => uploaded.respond(context),
            Self::Exchanged(reply) => reply.respond(context),
            Self::Osv(reply) => reply.respond(context),
            Self::Home(document) => document.respond(context, None),
            Self::Redirect { location } => redirect(&location),
            Self::Health(response) => Ok(response.map(ResponseBody::from)),
        }
    }
}

/// What only some may read is not kept for all.
fn keep_from_shared_caches(response: &mut Response) {
    if let Some(control) = response.headers_mut().get_mut(CACHE_CONTROL) {
        let private = [(REVALIDATE, PRIVATE_REVALIDATE), (IMMUTABLE, PRIVATE_IMMUTABLE)];
        if let Some((_, private)) = private.into_iter().find(|(public, _)| public == control) {
            *control = private;
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

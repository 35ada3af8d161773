//! The inbound HTTP edge: from a request to a call of a flow, and from its outcome to an answer.
//!
//! The only user of axum. Nothing below this module knows a status of ours; nothing here looks past `flow`.
//! Addresses overlap too much for a router's tree, so one function parses the path ([`address`]) and dispatches. What is
//! at hand is answered without waiting; whatever has to wait is a future of its own.
//!
//! The order of what a request passes through matters:
//!
//! 1. catch panics: whatever happens below, the client gets an answer and the process goes on;
//! 2. account: request id, access log line, metrics; outside the guard so that refused requests are seen too;
//! 3. health: answered before the guard, because probes come by any name;
//! 4. guard: host names, then (for requests that change something) other sites;
//! 5. dispatch.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::{Request, State};
use futures_util::FutureExt as _;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, LOCATION, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};

pub mod account;
pub mod address;
pub mod body;
pub mod conditional;
pub mod file;
pub mod guard;
pub mod headers;
pub mod home;
mod memo;
pub mod negotiate;
pub mod ops;
pub mod page;
pub mod problem;
pub mod publishers;
pub mod targets;
mod upload;

use account::{RequestId, Told};
use address::{Address, Parsed, RouteId, RouteNames};
use body::AnswerBody;
use guard::{Cidr, Host, HostPolicy, UploadPolicy};
use problem::Asked;
use publishers::Publishers;
use targets::{Target, Targets};

use crate::error::Error;
use crate::flow::{Flow, Route};
use crate::telemetry::Metrics;

/// What every request may use.
pub struct Site {
    /// The use cases.
    pub flow: Flow,
    /// The routes, in the order of the configuration.
    pub routes: Vec<RouteSite>,
    /// Their names.
    pub names: RouteNames,
    /// What requests have addressed.
    pub targets: Targets,
    /// The host names this server answers to.
    pub hosts: HostPolicy,
    /// Proxies whose forwarded headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// The configured public address.
    pub public_url: Option<url::Url>,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// Who may publish with a token.
    pub publishers: Publishers,
    /// Set when the process begins to stop.
    pub draining: AtomicBool,
}

/// A route, and what the edge needs to know of it.
pub struct RouteSite {
    /// The route.
    pub route: Arc<Route>,
    /// The CodeArtifact domain, for the start page.
    pub domain: String,
    /// The CodeArtifact repository, for the start page.
    pub repository: String,
    /// Whether it also answers without its name.
    pub default: bool,
    /// Who may publish.
    pub upload: UploadPolicy,
}

/// A request that passed the guard.
struct Asking<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    path: &'a str,
    host: &'a Host,
    peer: IpAddr,
}

/// What only an upload looks at.
struct Sent {
    body: Body,
    /// The `Authorization` headers, which nobody else gets to see.
    credentials: HeaderMap,
    request_id: RequestId,
}

impl Site {
    /// From now on this server is not ready.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.flow.begin_draining();
    }

    fn route(&self, id: RouteId) -> &Arc<Route> {
        &self.routes[id.0].route
    }
}

/// What goes out to the connection.
pub type Response = http::Response<AnswerBody>;

/// How a request arrived.
#[derive(Clone)]
pub struct Arrival {
    /// The other end of the connection.
    pub peer: SocketAddr,
}

/// The answer to a request, if it is at hand: a page, a file or metadata that is in memory or open, and nothing to wait
/// for. Everything else, errors too, is the business of [`respond`].
///
/// What a router would do is done here without one: there is next to nothing to route, and every layer would cost each
/// answer a few allocations.
pub fn at_hand<B>(site: &Site, arrival: &Arrival, request: &http::Request<B>) -> Option<Response> {
    // State behind the site is guarded by locks that survive a panic, so going on is safe.
    let answering = AssertUnwindSafe(|| account::at_hand(site, arrival, request));
    catch_unwind(answering).unwrap_or_else(|_| Some(problem::internal()))
}

/// Answers a request that may have to wait.
pub async fn respond(site: &Arc<Site>, arrival: Arrival, request: Request) -> Response {
    let answering = AssertUnwindSafe(account::account(site, arrival, request));
    answering.catch_unwind().await.unwrap_or_else(|_| problem::internal())
}

/// What the accounting of [`at_hand`] is around.
fn answered_at_hand<B>(site: &Site, arrival: &Arrival, request: &http::Request<B>) -> Option<Told> {
    let (method, headers, path) = (request.method(), request.headers(), request.uri().path());
    if !matches!(*method, Method::GET | Method::HEAD) || request.uri().authority().is_some() {
        return None;
    }
    let mut hosts = headers.get_all(HOST).into_iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    let target = site.targets.of(host.as_bytes(), path, || {
        let host = site.hosts.check(headers, None).ok()?;
        let Parsed { address, redirect: None } = address::parse(path, &site.names).ok()? else { return None };
        Some(Target { host, address })
    })?;
    let asking = Asking { method, headers, path, host: &target.host, peer: arrival.peer.ip() };
    match &target.address {
        Address::Page { route, project } => page::page_at_hand(site, &asking, *route, project),
        Address::File { route, file } => file::file_at_hand(site, &asking, *route, file),
        Address::Metadata { route, wheel } => file::metadata_at_hand(site, &asking, *route, wheel),
        _ => None,
    }
}

/// What the accounting of [`respond`] is around.
async fn answered(site: &Arc<Site>, arrival: Arrival, id: RequestId, request: Request) -> Told {
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let health = match request.uri().path() {
        "/healthz" if reading => ops::healthz().await,
        "/readyz" if reading => ops::readyz(State(Arc::clone(site))).await,
        _ => return dispatch(site, arrival, id, request).await,
    };
    Told::of(health.map(AnswerBody::from), "health")
}

async fn dispatch(site: &Site, arrival: Arrival, id: RequestId, request: Request) -> Told {
    let (mut parts, body) = request.into_parts();
    let credentials = strip_credentials(&mut parts.headers);
    let mut kind = "other";
    // Bodies of requests that have no use for one are not read; hyper drains or closes the connection.
    let sent = Sent { body, credentials, request_id: id };
    match answer(site, &parts, sent, &arrival, &mut kind).await {
        Ok(told) => told,
        Err(error) => {
            let asked = Asked { method: &parts.method, headers: &parts.headers, request_id: id.as_str() };
            Told::failed(problem::response(&error, &asked), kind, &error)
        }
    }
}

async fn answer(
    site: &Site,
    parts: &Parts,
    sent: Sent,
    arrival: &Arrival,
    kind: &mut &'static str,
) -> Result<Told, Error> {
    let target = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = site.hosts.check(&parts.headers, target)?;
    if !parts.method.is_safe() && site.hosts.cross_site(&parts.headers, &host) {
        return Err(Error::CrossSite);
    }
    let path = parts.uri.path();
    let Parsed { address, redirect } = address::parse(path, &site.names)?;
    *kind = address.kind();
    let reading = parts.method == Method::GET || parts.method == Method::HEAD;
    if let (true, Some(location)) = (reading, redirect) {
        return redirected(&location);
    }
    let peer = arrival.peer.ip();
    let asking = Asking { method: &parts.method, headers: &parts.headers, path, host: &host, peer };
    // Boxed, because every request would carry the room for the largest of them otherwise.
    match (address, reading) {
        (Address::Home | Address::Upload { .. }, true) => Ok(home_page(site, &asking)),
        (Address::Home, false) if asking.method == Method::POST => {
            *kind = "upload";
            let route = site.routes.iter().find(|route| route.default).ok_or(Error::NoDefaultRoute)?;
            Box::pin(upload::upload(site, &asking, route, sent)).await
        }
        (Address::Upload { route }, _) if asking.method == Method::POST => {
            Box::pin(upload::upload(site, &asking, &site.routes[route.0], sent)).await
        }
        (Address::Home | Address::Upload { .. }, _) => Err(Error::MethodNotAllowed { allowed: "GET, HEAD, POST" }),
        (_, false) => Err(Error::MethodNotAllowed { allowed: "GET, HEAD" }),
        (Address::List { route }, true) => Box::pin(page::list(site, &asking, route)).await,
        (Address::Page { route, project }, true) => Box::pin(page::page(site, &asking, route, &project)).await,
        (Address::Legacy { route, project, version }, true) => {
            Box::pin(page::legacy(site, &asking, route, &project, version.as_ref())).await
        }
        (Address::File { route, file }, true) => Box::pin(file::file(site, &asking, route, &file)).await,
        (Address::Metadata { route, wheel }, true) => Box::pin(file::metadata(site, &asking, route, &wheel)).await,
    }
}

fn redirected(location: &str) -> Result<Told, Error> {
    let mut response = Response::new(AnswerBody::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(location).map_err(|_| Error::Internal)?;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(0));
    Ok(Told::of(response, "other"))
}

fn home_page(site: &Site, asking: &Asking<'_>) -> Told {
    let base = base_url(site, asking);
    let model = home::HomeModel {
        version: env!("CARGO_PKG_VERSION"),
        base: &base,
        routes: site
            .routes
            .iter()
            .map(|route| home::HomeRoute {
                name: &route.route.name,
                domain: &route.domain,
                repository: &route.repository,
                default: route.default,
                upload: route.upload,
            })
            .collect(),
    };
    let mut response = body::whole(home::page(&model).into(), asking.method);
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, negotiate::Form::TextHtml.content_type());
    headers.insert(http::header::CACHE_CONTROL, headers::NO_STORE);
    headers::harmless(headers);
    headers.insert(http::header::CONTENT_SECURITY_POLICY, home::CONTENT_SECURITY_POLICY);
    Told::of(response, "home")
}

/// The address under which this client reaches the server; index pages never use it.
fn base_url(site: &Site, asking: &Asking<'_>) -> String {
    let scheme = guard::client_scheme(asking.peer, asking.headers, &site.trusted_proxies);
    home::base_url(site.public_url.as_ref(), scheme, asking.host)
}

/// What clients sent as credentials is of no use here and goes no further; uploads alone look at the first of them.
fn strip_credentials(headers: &mut HeaderMap) -> HeaderMap {
    const SENT: [HeaderName; 3] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];
    let mut shown = HeaderMap::new();
    for name in SENT {
        if !headers.contains_key(&name) {
            continue;
        }
        if name == AUTHORIZATION {
            shown.extend(headers.get_all(&name).iter().cloned().map(|value| (AUTHORIZATION, value)));
        }
        headers.remove(name);
    }
    shown
}

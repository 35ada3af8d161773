//! The data plane: what package managers talk to. Pages, files and uploads, spoken exactly as the service speaks.
//!
//! `address` reads host and path, `auth` the token, `view` joins repositories and the public index, `page` writes,
//! `asset` sends and imports, `upload` publishes. Nothing here redirects, and faults befall a request before anything
//! else is looked at.

mod address;
mod admin;
mod asset;
mod auth;
mod body;
mod import;
mod metadata;
mod page;
mod reply;
mod s3;
mod upload;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode, header};
use tokio::time::{Instant, sleep};

use self::address::Target;
use self::auth::Admission;
use super::access::{self, Subject};
use super::oddities::Fault;
use super::public::{PublicError, PublicIndex};
use super::shared::Shared;
use super::store::{RepositoryKey, StoreError};
use wheelport_index::ProjectName;
use wheelport_runtime::Tasks;

pub use s3::ObjectHost;

/// The data plane of one emulator. Cheap to clone.
#[derive(Clone)]
pub struct DataPlane {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    public: Option<PublicIndex>,
    tasks: Tasks,
    imports: import::Imports,
    objects: Mutex<Option<ObjectHost>>,
}

impl DataPlane {
    /// A data plane over the common ground.
    pub fn new(shared: Arc<Shared>, public: Option<PublicIndex>, tasks: Tasks) -> Self {
        let inner = Inner { shared, public, tasks, imports: import::Imports::default(), objects: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The routes; to be served with connection information.
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).layer(DefaultBodyLimit::disable()).with_state(self.clone())
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// The joined view of a project, and whether the public index failed while it was made.
    async fn view(
        &self,
        key: &RepositoryKey,
        project: &ProjectName,
    ) -> Result<(view::View, Option<PublicError>), StoreError> {
        let shared = self.shared();
        let layers = shared.store.layers(key, project)?;
        let (page, failure) = match &self.inner.public {
            Some(public) if layers.iter().any(|layer| layer.connected) => {
                let page = public.page(project).await;
                shared.stats.public_requests(public.take_requests());
                match page {
                    Ok(page) => (page, None),
                    Err(error) => {
                        tracing::warn!(%project, %error, "the external connection does not help");
                        (None, Some(error))
                    }
                }
            }
            _ => (None, None),
        };
        Ok((view::join(&layers, page.as_deref(), shared.store.now()), failure))
    }
}

async fn answer(State(plane): State<DataPlane>, request: Request) -> Response {
    let shared = Arc::clone(&plane.inner.shared);
    if request.uri().path().starts_with("/_emulator/") {
        return admin::answer(&plane, request).await;
    }
    let latency = shared.oddities.get().latency.0;
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let response = match shared.oddities.fault(Instant::now()) {
        Some(Fault::Throttled) => reply::message(StatusCode::TOO_MANY_REQUESTS, "Rate exceeded"),
        Some(Fault::Broken(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            reply::message(status, "Internal server error")
        }
        None => dispatch(&plane, request).await,
    };
    shared.stats.status(response.status().as_u16());
    response
}

async fn dispatch(plane: &DataPlane, request: Request) -> Response {
    let shared = plane.shared();
    let (request, body) = request.into_parts();
    let host = request.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let Some((key, target)) = address::read(host, request.uri.path(), &shared.default_domain) else {
        shared.stats.request("unknown");
        return reply::not_found("Not found");
    };
    // The list and what does not exist are refused before anybody is asked who they are.
    let (kind, action) = match (&target, &request.method) {
        (Target::Page(_), &Method::GET | &Method::HEAD) => ("page", READ),
        (Target::Asset { .. }, &Method::GET | &Method::HEAD) => ("asset", READ),
        (Target::Endpoint, &Method::POST) => ("upload", PUBLISH),
        (Target::List, _) => {
            shared.stats.request("list");
            return reply::not_found("Not found");
        }
        _ => {
            shared.stats.request("unknown");
            return reply::not_found("Not found");
        }
    };
    shared.stats.request(kind);
    let grant = match auth::admit(&shared.store, &request.headers, &key.domain) {
        Admission::Granted(grant) => grant,
        Admission::Bad if shared.oddities.get().bad_token == 404 => return reply::not_found("Not found"),
        Admission::Bad | Admission::Missing => return reply::unauthorized(&key),
    };
    let subject = Subject { arn: &grant.principal, allowed: &grant.allowed };
    let decision = access::decide(&shared.store, subject, action, &key.domain, Some(&key));
    if let Some(refusal) = decision.refusal(&grant.principal, action, &key.arn(&shared.region)) {
        return reply::message(StatusCode::FORBIDDEN, &refusal);
    }
    if let Err(error) = shared.store.repository(&key) {
        return reply::store_error(&error);
    }
    match target {
        Target::Page(project) => project_page(plane, &key, &project, &request).await,
        Target::Asset { project, version, file } => {
            asset::answer(plane, asset::Wanted { key, project, version, file }, &request).await
        }
        Target::Endpoint => upload::answer(plane, key, Request::from_parts(request, body)).await,
        Target::List => reply::not_found("Not found"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const READ: &str = "codeartifact:ReadFromRepository";
const PUBLISH: &str = "codeartifact:PublishPackageVersion";

async fn project_page(plane: &DataPlane, key: &RepositoryKey, project: &ProjectName, request: &Parts) -> Response {
    let shared = plane.shared();
    let oddities = shared.oddities.get();
    let header = |name| request.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let Some(form) = page::negotiate(header(header::ACCEPT), oddities.json) else {
        return reply::message(StatusCode::NOT_ACCEPTABLE, "Not acceptable");
    };
    let (view, failure) = match plane.view(key, project).await {
        Ok(found) => found,
        Err(error) => return reply::store_error(&error),
    };
    if let Err(error) = asset::refresh(plane, key, project, &view).await {
        return reply::store_error(&error);
    }
    let host = header(header::HOST).map_or_else(|| shared.data_origin(), |host| format!("http://{host}"));
    let path = request.uri.path().trim_end_matches('/');
    let page_url = format!("{host}{path}/");
    let setting = page::Setting { project, oddities: &oddities, now: shared.store.now(), page_url: &page_url };
    let Some(files) = page::visible(&view, &setting) else {
        return match failure {
            Some(_) => reply::message(StatusCode::SERVICE_UNAVAILABLE, "Upstream unavailable"),
            None => reply::not_found(&format!("Package not found: {project}")),
        };
    };
    let body = match form {
        page::Form::Json => page::json(&files, &setting),
        page::Form::Html | page::Form::VersionedHtml => page::html(&files, &setting).into_bytes(),
    };
    reply::page(form.content_type(), body, header(header::ACCEPT_ENCODING), request.method == Method::HEAD)
}

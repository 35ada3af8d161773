//! The data plane: what package managers talk to. Pages, files and uploads, exactly as the service speaks.
//!
//! `address` reads host and path, `auth` the token, `view` joins repositories and the public index, `page` writes,
//! `asset` finds and imports files, `blob` sends them, `upload` publishes. Pages never redirect, and injected faults
//! come before anything else.

mod address;
mod admin;
mod asset;
mod auth;
mod blob;
mod body;
mod import;
mod object_storage;
mod page;
mod plane;
mod response;
mod upload;
mod view;
mod wheel_metadata;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use tokio::time::{Instant, sleep};

use self::address::RequestTarget;
use self::auth::TokenCheck;
use crate::access::{self, AccessSubject};
use crate::store::RepositoryKey;
use crate::switchboard::OddityFault;
use wheelport_index::ProjectName;

pub(crate) use self::plane::DataPlane;

const READ: &str = "codeartifact:ReadFromRepository";
const PUBLISH: &str = "codeartifact:PublishPackageVersion";

/// The routes of the data plane; serve them with connection information.
pub(crate) fn router(plane: DataPlane) -> Router {
    Router::new().fallback(handle).layer(DefaultBodyLimit::disable()).with_state(plane)
}

async fn handle(State(plane): State<DataPlane>, request: Request) -> Response {
    let shared = Arc::clone(&plane.shared);
    if request.uri().path().starts_with("/_emulator/") {
        return admin::respond(&plane, request).await;
    }
    let latency = shared.oddities.get().latency.0;
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let has_body = request.method() == Method::POST;
    let mut response = match shared.oddities.fault(Instant::now()) {
        Some(OddityFault::Throttled) => response::message(StatusCode::TOO_MANY_REQUESTS, "Rate exceeded"),
        Some(OddityFault::Broken(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response::message(status, "Internal server error")
        }
        None => dispatch(&plane, request).await,
    };
    if has_body && !response.status().is_success() {
        // The rest of the form may be unread: the next request must not go to this connection.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    shared.stats.status(response.status().as_u16());
    response
}

async fn dispatch(plane: &DataPlane, request: Request) -> Response {
    let shared = &plane.shared;
    let (request, body) = request.into_parts();
    let host = request.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let Some((key, target)) = address::read(host, request.uri.path(), &shared.default_domain) else {
        shared.stats.request("unknown");
        return response::not_found("Not found");
    };
    // The list and unknown paths are refused before the token is checked.
    let (kind, action) = match (&target, &request.method) {
        (RequestTarget::Page(_), &Method::GET | &Method::HEAD) => ("page", READ),
        (RequestTarget::Asset { .. }, &Method::GET | &Method::HEAD) => ("asset", READ),
        (RequestTarget::Endpoint, &Method::POST) => ("upload", PUBLISH),
        (RequestTarget::List, _) => {
            shared.stats.request("list");
            return response::not_found("Not found");
        }
        _ => {
            shared.stats.request("unknown");
            return response::not_found("Not found");
        }
    };
    shared.stats.request(kind);
    let grant = match auth::admit(&shared.store, &request.headers, &key.domain) {
        TokenCheck::Granted(grant) => grant,
        TokenCheck::Bad if shared.oddities.get().bad_token == 404 => return response::not_found("Not found"),
        TokenCheck::Bad | TokenCheck::Missing => return response::unauthorized(&key),
    };
    let subject = AccessSubject { arn: &grant.principal, allowed: &grant.allowed };
    let decision = access::decide(&shared.store, subject, action, &key.domain, Some(&key));
    if let Some(refusal) = decision.refusal(&grant.principal, action, &key.arn(&shared.region)) {
        return response::message(StatusCode::FORBIDDEN, &refusal);
    }
    if let Err(error) = shared.store.repository(&key) {
        return response::store_error(&error);
    }
    match target {
        RequestTarget::Page(project) => project_page(plane, &key, &project, &request).await,
        RequestTarget::Asset { project, version, file } => {
            asset::respond(plane, asset::AssetRequest { key, project, version, file }, &request).await
        }
        RequestTarget::Endpoint => upload::respond(plane, key, Request::from_parts(request, body)).await,
        RequestTarget::List => response::not_found("Not found"),
    }
}

async fn project_page(plane: &DataPlane, key: &RepositoryKey, project: &ProjectName, request: &Parts) -> Response {
    let shared = &plane.shared;
    let oddities = shared.oddities.get();
    let header = |name| request.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let Some(form) = page::negotiate(header(header::ACCEPT), oddities.json) else {
        return response::message(StatusCode::NOT_ACCEPTABLE, "Not acceptable");
    };
    let (view, failure) = match plane.view(key, project).await {
        Ok(found) => found,
        Err(error) => return response::store_error(&error),
    };
    if let Err(error) = asset::refresh(plane, key, project, &view).await {
        return response::store_error(&error);
    }
    let host = header(header::HOST).map_or_else(|| shared.data_origin(), |host| format!("http://{host}"));
    let path = request.uri.path().trim_end_matches('/');
    let page_url = format!("{host}{path}/");
    let context = page::PageContext { project, oddities: &oddities, now: shared.store.now(), page_url: &page_url };
    let Some(files) = page::visible(&view, &context) else {
        return match failure {
            Some(_) => response::message(StatusCode::SERVICE_UNAVAILABLE, "Upstream unavailable"),
            None => response::not_found(&format!("Package not found: {project}")),
        };
    };
    let body = match form {
        page::PageMediaType::Json => page::json(&files, &context),
        page::PageMediaType::Html | page::PageMediaType::VersionedHtml => page::html(&files, &context).into_bytes(),
    };
    response::page(form.content_type(), body, header(header::ACCEPT_ENCODING), request.method == Method::HEAD)
}

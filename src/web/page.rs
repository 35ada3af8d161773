//! Pages, the project list, and the legacy JSON form: negotiate, call the flow, answer.

use axum::response::Response;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    IF_NONE_MATCH, VARY,
};
use http::{Method, StatusCode};

use super::account::{Account, note};
use super::address::RouteId;
use super::headers::{CACHE_STATUS, CacheStatus, Forward, REVALIDATE, VARY_NEGOTIATED, harmless, values};
use super::negotiate::{Form, coding, form};
use super::{Asking, Site, base_url, body, conditional};
use crate::error::Error;
use crate::flow::{Coding, Rendering, Served, Written};
use crate::pypi::{ProjectName, VersionSegment};

/// A negotiated representation.
#[derive(Clone, Copy)]
struct Negotiated {
    form: Form,
    coding: Coding,
}

impl Negotiated {
    fn of(headers: &HeaderMap) -> Result<Self, Error> {
        Ok(Self { form: form(values(headers, &ACCEPT))?, coding: coding(values(headers, &ACCEPT_ENCODING)) })
    }

    fn written(self) -> Written {
        match self.form {
            Form::Json => Written::Json,
            Form::HtmlV1 | Form::TextHtml => Written::Html,
        }
    }

    /// The entity tag: two media types with the same bytes are still two representations.
    fn tag(self, rendering: &Rendering) -> String {
        let suffix = if self.form == Form::HtmlV1 { "-v1" } else { "" };
        format!("\"{}{suffix}\"", rendering.tag)
    }
}

/// A project's page.
pub(super) async fn page(
    site: &Site,
    asking: &Asking,
    route: RouteId,
    project: &ProjectName,
) -> Result<Response, Error> {
    let negotiated = Negotiated::of(&asking.parts.headers)?;
    let route = site.route(route);
    let answer = site.flow.page(route, project).await?;
    let rendering =
        site.flow.rendering(route, &answer.record, negotiated.written(), negotiated.coding).await?;
    let mut response = rendered(&asking.parts.method, &asking.parts.headers, negotiated, &rendering);
    response.headers_mut().insert(CACHE_STATUS, cache_status(answer.served).value());
    note(&mut response, Account::served("page", answer.served));
    Ok(response)
}

/// The project list.
pub(super) async fn list(site: &Site, asking: &Asking, route: RouteId) -> Result<Response, Error> {
    let negotiated = Negotiated::of(&asking.parts.headers)?;
    let (rendering, served) =
        site.flow.project_list(site.route(route), negotiated.written(), negotiated.coding).await?;
    let mut response = rendered(&asking.parts.method, &asking.parts.headers, negotiated, &rendering);
    response.headers_mut().insert(CACHE_STATUS, cache_status(served).value());
    note(&mut response, Account::served("list", served));
    Ok(response)
}

/// The legacy JSON form of a project.
pub(super) async fn legacy(
    site: &Site,
    asking: &Asking,
    route: RouteId,
    project: &ProjectName,
    version: Option<&VersionSegment>,
) -> Result<Response, Error> {
    let route = site.route(route);
    let files = format!("{}/pypi/{}/simple/{project}/", base_url(site, asking), route.name);
    let (rendering, served) = site.flow.legacy_json(route, project, version, files).await?;
    let mut response = body::whole(rendering.body.clone(), &asking.parts.method);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(VARY, HeaderValue::from_static("Host"));
    headers.insert(CACHE_STATUS, cache_status(served).value());
    harmless(headers);
    note(&mut response, Account::served("legacy", served));
    Ok(response)
}

/// The answer with a rendering, or 304.
fn rendered(method: &Method, asked: &HeaderMap, negotiated: Negotiated, rendering: &Rendering) -> Response {
    let tag = negotiated.tag(rendering);
    let unchanged = conditional::none_match(values(asked, &IF_NONE_MATCH), &tag);
    let mut response = if unchanged {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = body::whole(rendering.body.clone(), method);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, negotiated.form.content_type());
        if let Some(encoding) = super::negotiate::content_encoding(negotiated.coding) {
            headers.insert(CONTENT_ENCODING, encoding);
        }
        harmless(headers);
        response
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(VARY, VARY_NEGOTIATED);
    response
}

/// How an answer came about, in the words of RFC 9211.
pub(super) fn cache_status(served: Served) -> CacheStatus {
    let forwarded = |reason, stored, collapsed| CacheStatus::Forwarded { reason, stored, collapsed };
    match served {
        Served::Hit | Served::Revalidating => CacheStatus::Hit { ttl: None },
        Served::Stale => forwarded(Forward::Stale, false, false),
        Served::Miss => forwarded(Forward::Miss, true, false),
        Served::Collapsed => forwarded(Forward::Miss, true, true),
        Served::Bypass => forwarded(Forward::Miss, false, false),
    }
}

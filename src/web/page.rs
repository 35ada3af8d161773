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
    asking: &Asking<'_>,
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
pub(super) async fn list(site: &Site, asking: &Asking<'_>, route: RouteId) -> Result<Response, Error> {
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
    asking: &Asking<'_>,
    route: RouteId,
    project: &ProjectName,
    version: Option<&VersionSegment>,
) -> Result<Response, Error> {
    let route = site.route(route);
    let prefix = index_prefix(asking.parts.uri.path(), &route.name);
    let files = format!("{}{prefix}/simple/{project}/", base_url(site, asking));
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

/// The path of the index that a legacy address belongs to. The default route has two, and tools match the addresses in
/// the document with those of the page they read before, so the files must be named below the same one.
fn index_prefix(path: &str, route: &str) -> String {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.next()) {
        (Some("pypi"), Some(name)) if name == route => format!("/pypi/{route}"),
        _ => String::new(),
    }
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

#[cfg(test)]
mod tests {
    use super::index_prefix;

    #[test]
    fn a_legacy_document_names_files_below_the_index_it_was_asked_of() {
        assert_eq!(index_prefix("/acme-core/json", "python"), "");
        assert_eq!(index_prefix("/pypi/acme-core/json", "python"), "");
        assert_eq!(index_prefix("/pypi/python/acme-core/json", "python"), "/pypi/python");
        assert_eq!(index_prefix("//pypi/python/pypi/acme-core/1.0/json", "python"), "/pypi/python");
    }
}

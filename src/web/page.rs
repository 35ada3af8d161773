//! Pages, the project list, and the legacy JSON form: negotiate, call the flow, answer.

use std::cell::RefCell;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_NONE_MATCH, VARY,
};
use http::{Method, StatusCode};

use super::account::Told;
use super::address::RouteId;
use super::body::AnswerBody;
use super::headers::{CACHE_STATUS, CacheStatus, Forward, REQUEST_ID, REVALIDATE, VARY_NEGOTIATED, harmless, values};
use super::memo::Memo;
use super::negotiate::{Form, coding, form};
use super::{Asking, Response, Site, base_url, body, conditional};
use crate::error::Error;
use crate::flow::{Coding, Rendering, Served, Written};
use wheelport_index::{ProjectName, VersionSegment};

/// A negotiated representation.
#[derive(Clone, Copy)]
struct Negotiated {
    form: Form,
    coding: Coding,
}

thread_local! {
    /// A few clients send the same two headers all day.
    static NEGOTIATED: RefCell<Memo<Negotiated>> = RefCell::default();
}

impl Negotiated {
    fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let negotiate = || {
            let form = form(values(headers, &ACCEPT))?;
            Ok(Self { form, coding: coding(values(headers, &ACCEPT_ENCODING)) })
        };
        let (mut accept, mut encodings) =
            (headers.get_all(ACCEPT).into_iter(), headers.get_all(ACCEPT_ENCODING).into_iter());
        match (accept.next(), accept.next(), encodings.next(), encodings.next()) {
            (Some(accept), None, Some(encoding), None) => {
                let said = [accept.as_bytes(), encoding.as_bytes()];
                NEGOTIATED.with_borrow_mut(|memo| memo.of(said, negotiate))
            }
            _ => negotiate(),
        }
    }

    fn written(self) -> Written {
        match self.form {
            Form::Json => Written::Json,
            Form::HtmlV1 | Form::TextHtml => Written::Html,
        }
    }

    /// Which of the two media types it is that the same bytes may have.
    fn media(self) -> usize {
        usize::from(self.form == Form::HtmlV1)
    }
}

/// A project's page, if nothing has to be waited for.
pub(super) fn page_at_hand(site: &Site, asking: &Asking<'_>, route: RouteId, project: &ProjectName) -> Option<Told> {
    let negotiated = Negotiated::of(asking.headers).ok()?;
    let (written, coding) = (negotiated.written(), negotiated.coding);
    let (rendering, served) = site.flow.page_at_hand(site.route(route), project, written, coding)?;
    Some(page_of(asking, negotiated, &rendering, served))
}

/// A project's page.
pub(super) async fn page(
    site: &Site,
    asking: &Asking<'_>,
    route: RouteId,
    project: &ProjectName,
) -> Result<Told, Error> {
    let negotiated = Negotiated::of(asking.headers)?;
    let route = site.route(route);
    let answer = site.flow.page(route, project).await?;
    let rendering = site.flow.rendering(&answer.record, negotiated.written(), negotiated.coding).await?;
    Ok(page_of(asking, negotiated, &rendering, answer.served))
}

fn page_of(asking: &Asking<'_>, negotiated: Negotiated, rendering: &Rendering, served: Served) -> Told {
    Told::served(rendered(asking, negotiated, rendering, served), "page", served)
}

/// The project list.
pub(super) async fn list(site: &Site, asking: &Asking<'_>, route: RouteId) -> Result<Told, Error> {
    let negotiated = Negotiated::of(asking.headers)?;
    let (rendering, served) =
        site.flow.project_list(site.route(route), negotiated.written(), negotiated.coding).await?;
    Ok(Told::served(rendered(asking, negotiated, &rendering, served), "list", served))
}

/// The legacy JSON form of a project.
pub(super) async fn legacy(
    site: &Site,
    asking: &Asking<'_>,
    route: RouteId,
    project: &ProjectName,
    version: Option<&VersionSegment>,
) -> Result<Told, Error> {
    let route = site.route(route);
    let prefix = index_prefix(asking.path, &route.name);
    let files = format!("{}{prefix}/simple/{project}/", base_url(site, asking));
    let (rendering, served) = site.flow.legacy_json(route, project, version, files).await?;
    let mut response = body::whole(rendering.body.clone(), asking.method);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(VARY, HeaderValue::from_static("Host"));
    headers.insert(CACHE_STATUS, cache_status(served).value());
    harmless(headers);
    Ok(Told::served(response, "legacy", served))
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

/// The answer with a rendering, or 304. What it says of a hit is worked out once for each rendering.
fn rendered(asking: &Asking<'_>, negotiated: Negotiated, rendering: &Rendering, served: Served) -> Response {
    let tag = std::str::from_utf8(&rendering.tags[negotiated.media()]).unwrap_or_default();
    let unchanged = conditional::none_match(values(asking.headers, &IF_NONE_MATCH), tag);
    let mut response = match (unchanged, asking.method) {
        (false, &Method::GET) => Response::new(rendering.body.clone().into()),
        _ => Response::new(AnswerBody::empty()),
    };
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let head = &rendering.heads[2 * usize::from(unchanged) + negotiated.media()];
    *response.headers_mut() = head.get_or_init(|| head_of_hit(negotiated, rendering, unchanged)).clone();
    if served != Served::Hit {
        response.headers_mut().insert(CACHE_STATUS, cache_status(served).value());
    }
    response
}

fn head_of_hit(negotiated: Negotiated, rendering: &Rendering, unchanged: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(body::HEADERS);
    if !unchanged {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(rendering.body.len()));
        headers.insert(CONTENT_TYPE, negotiated.form.content_type());
        if let Some(encoding) = super::negotiate::content_encoding(negotiated.coding) {
            headers.insert(CONTENT_ENCODING, encoding);
        }
        harmless(&mut headers);
    }
    let tag = HeaderValue::from_maybe_shared(rendering.tags[negotiated.media()].clone());
    headers.insert(ETAG, tag.expect("a tag is hexadecimal in quotes"));
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(VARY, VARY_NEGOTIATED);
    headers.insert(CACHE_STATUS, cache_status(Served::Hit).value());
    // Its value is put in for every answer; here it keeps the place, so that no copy has to grow for it.
    headers.insert(REQUEST_ID, HeaderValue::from_static(""));
    headers
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

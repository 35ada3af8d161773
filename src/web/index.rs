//! Documents of the index: project pages, the project list, and the legacy JSON form of a project.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Site;
use super::context::RequestContext;
use super::document::{Content, Document};
use super::eventual::Eventual;
use super::guard::Host;
use super::home;
use super::negotiate::Negotiated;
use crate::flow::{Error, ListView, Lookup, PageView, Route, Served};
use wheelport_index::{ProjectName, VersionSegment};

/// A document of the index and how the response came about.
pub(super) struct FoundDocument {
    pub document: Arc<Document>,
    pub served: Served,
}

/// A project's page.
pub(super) fn page(
    site: &Arc<Site>,
    context: &RequestContext,
    route: &Arc<Route>,
    project: &ProjectName,
) -> Eventual<FoundDocument> {
    match Negotiated::of(&context.headers) {
        Ok(negotiated) => {
            let page = match site.flow.pages.get(route, project) {
                Lookup::Miss(waiting) => waited_for(site, context, route, project, waiting),
                hit @ Lookup::Hit(_) => hit,
            };
            document(site, negotiated, page, |PageView { shown, served, .. }| (Content::Page(shown), served))
        }
        Err(refusal) => Eventual::problem(refusal),
    }
}

/// A page that a client has to wait for, and most likely reads for the first time.
fn waited_for(
    site: &Arc<Site>,
    context: &RequestContext,
    route: &Arc<Route>,
    project: &ProjectName,
    page: BoxFuture<'static, Result<PageView, Error>>,
) -> Lookup<PageView> {
    let (site, route, project) = (Arc::clone(site), Arc::clone(route), project.clone());
    let user_agent = context.user_agent().map(str::to_owned);
    Lookup::Miss(Box::pin(async move {
        let view = page.await?;
        site.flow.page_was_read(&route, &project, &view.shown, user_agent.as_deref());
        Ok(view)
    }))
}

/// The project list.
pub(super) fn list(site: &Arc<Site>, context: &RequestContext, route: &Arc<Route>) -> Eventual<FoundDocument> {
    match Negotiated::of(&context.headers) {
        Ok(negotiated) => {
            let list = site.flow.lists.get(route);
            document(site, negotiated, list, |ListView { content, served, .. }| (Content::List(content), served))
        }
        Err(refusal) => Eventual::problem(refusal),
    }
}

/// The negotiated document of what a service finds.
fn document<V: Send + 'static>(
    site: &Arc<Site>,
    negotiated: Negotiated,
    view: Lookup<V>,
    content: fn(V) -> (Content, Served),
) -> Eventual<FoundDocument> {
    let render = move |site: &Site, view: V| {
        let (content, served) = content(view);
        Eventual::from(site.representations.get(&content, negotiated))
            .map(move |document| FoundDocument { document, served })
    };
    match view {
        Lookup::Hit(view) => render(site, view),
        Lookup::Miss(view) => {
            let site = Arc::clone(site);
            Eventual::later(async move { render(&site, view.await?).wait().await })
        }
    }
}

/// The legacy JSON form of a project, or of one version. Rendered per request: it names the host, and nothing asks for
/// it often.
pub(super) fn legacy(
    site: &Arc<Site>,
    context: &RequestContext,
    host: &Host,
    route: &Arc<Route>,
    project: ProjectName,
    version: Option<VersionSegment>,
) -> Eventual<FoundDocument> {
    let route = Arc::clone(route);
    let prefix = index_prefix(context.path(), &route.name);
    let files = format!("{}{prefix}/simple/{project}/", home::base_url(site, context, host));
    let page = site.flow.pages.get(&route, &project);
    let site = Arc::clone(site);
    Eventual::later(async move {
        let PageView { shown, served, .. } = page.wait().await?;
        let document = site.representations.legacy(shown.clone(), version.clone(), files).await?;
        let document = document.ok_or_else(|| match (shown.hidden(&route, version.as_ref()), version) {
            (Some(blocked), _) => blocked,
            (None, Some(version)) => Error::NoSuchVersion { project, version },
            (None, None) => Error::NoSuchProject { route: Arc::clone(&route.name), project },
        })?;
        Ok(FoundDocument { document: Arc::new(document), served })
    })
}

/// What may stand in a date in an address as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// The path of the index that a legacy address belongs to. The default route has two, and tools match the addresses in
/// the document with those of the page they read before, so the files must be named below the same one.
pub(super) fn index_prefix(path: &str, route: &str) -> String {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let (Some(first), Some(name)) = (segments.next(), segments.next()) else { return String::new() };
    let decoded = |segment| percent_decode_str(segment).decode_utf8().unwrap_or_default();
    let name = decoded(name);
    match name.split_once('@').map_or((&*name, None), |(name, date)| (name, Some(date))) {
        // With the date behind it.
        (name, date) if decoded(first) == "pypi" && name == route => {
            let date = date.map(|date| format!("@{}", utf8_percent_encode(date, SEGMENT))).unwrap_or_default();
            format!("/pypi/{route}{date}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::index_prefix;

    #[test]
    fn a_legacy_document_names_files_below_the_index_it_was_requested_from() {
        assert_eq!(index_prefix("/acme-core/json", "python"), "");
        assert_eq!(index_prefix("/pypi/acme-core/json", "python"), "");
        assert_eq!(index_prefix("/pypi/python/acme-core/json", "python"), "/pypi/python");
        assert_eq!(index_prefix("//pypi/python/pypi/acme-core/1.0/json", "python"), "/pypi/python");
        assert_eq!(index_prefix("/%70ypi/p%79thon/acme-core/json", "python"), "/pypi/python");
        assert_eq!(
            index_prefix("/pypi/python@2026-01-01T00:00:00Z/a/json", "python"),
            "/pypi/python@2026-01-01T00:00:00Z"
        );
        assert_eq!(index_prefix("/pypi/python%402026-01-01/a/json", "python"), "/pypi/python@2026-01-01");
        assert_eq!(index_prefix("/pypi/pythonic/a/json", "python"), "");
    }
}

//! Pages for people: the projects of a route, and each project, as HTML and as JSON beside it.
//!
//! They are made per request on helper threads, a few at a time, because they say what is true now (what is cached,
//! what rules decide) and name the host that was asked. Only rendered descriptions are kept, under a bound.

use std::sync::Arc;

use foldhash::quality::RandomState;
use http::header::{CONTENT_ENCODING, HeaderValue};
use serde::Serialize;

use super::Site;
use super::browse_address::{BrowseForm, BrowseTarget};
use super::browse_request::{BrowseRequest, origin_word, shown};
use super::context::RequestContext;
use super::document::Document;
use super::eventual::Eventual;
use super::guard::Host;
use super::index::FoundDocument;
use super::negotiate::ContentCoding;
use super::problem::Problem;
use super::project_page::project_model;
use super::refusal::Refusal;
use super::representation::Representation;
use super::written::Written;
use crate::flow::{CATALOG_ROWS, CachedMetadata, CatalogPage, CatalogRow, Error, Flow, MetadataView, Route, Served};
use crate::ui::{self, CatalogEntry, CatalogModel, Description, DescriptionText, LONGEST_QUERY};
use wheelport_index::{ProjectName, Sha256, VersionSegment, shortened, wheel};
use wheelport_runtime::{Turns, Waits, sabotaged};

/// Pages that are made at the same time.
const AT_ONCE: usize = 4;
/// What rendered descriptions may take in memory together, in bytes.
const DESCRIPTIONS_MEMORY: u64 = 8 << 20;

/// What making these pages needs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Browsing {
    /// By the digest of the core metadata that they are part of.
    descriptions: moka::sync::Cache<Sha256, Arc<Description>, RandomState>,
    turns: Turns,
}

impl Default for Browsing {
    fn default() -> Self {
        let descriptions = moka::sync::Cache::builder()
            .max_capacity(DESCRIPTIONS_MEMORY)
            .weigher(|_, description: &Arc<Description>| u32::try_from(description.weight()).unwrap_or(u32::MAX))
            .build_with_hasher(RandomState::default());
        Self { descriptions, turns: Turns::new(AT_ONCE) }
    }
}

/// A page for people.
pub(super) fn find(
    site: &Arc<Site>,
    context: &RequestContext,
    host: &Host,
    (route, as_of): (&Arc<Route>, Option<Arc<str>>),
    target: BrowseTarget,
    form: BrowseForm,
) -> Eventual<FoundDocument> {
    let Some(browsing) = site.browsing.clone() else {
        return Eventual::problem(Refusal::NotOffered { protocol: "Browsing" });
    };
    let request = BrowseRequest::new(site, context, host, route, as_of, form);
    let (flow, route) = (site.flow.clone(), Arc::clone(route));
    let (query, page) = query(context.uri.query().unwrap_or_default());
    Eventual::later(async move {
        match target {
            BrowseTarget::Projects => catalog(flow, browsing, route, request, query, page).await,
            BrowseTarget::Project { project: name, version } => {
                project(flow, browsing, route, request, name, version).await
            }
        }
    })
}

/// The projects of a route that a query finds.
async fn catalog(
    flow: Flow,
    browsing: Browsing,
    route: Arc<Route>,
    request: BrowseRequest,
    query: String,
    page: usize,
) -> Result<FoundDocument, Problem> {
    let found = flow.catalog.find(&route, query.clone(), page - 1).await?;
    let served = found.served;
    // Where the list is not complete, there may be more pages than are known.
    if found.incomplete.is_none() && page > pages(&found) && !sabotaged("last-page") {
        return Err(Refusal::NoSuchPage { last: address_of_page(&query, pages(&found)) }.into());
    }
    let model = catalog_model(&request, found, query, page);
    made(&browsing.turns, request, served, move |form| match form {
        BrowseForm::Html => Ok(ui::catalog(&model).into_bytes()),
        BrowseForm::Json => json(&model),
    })
    .await
}

/// What is looked for, and the page of it; the first is 1. What cannot be read is passed over.
fn query(query: &str) -> (String, usize) {
    let (mut words, mut page) = (String::new(), 1);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "q" => words = shortened(value.trim(), LONGEST_QUERY).into_owned(),
            "page" => page = value.parse().unwrap_or(1).max(1),
            _ => {}
        }
    }
    (words, page)
}

/// How many pages there are; there is always one.
fn pages(found: &CatalogPage) -> usize {
    found.found.div_ceil(CATALOG_ROWS).max(1)
}

/// Where a page is, beside the one that was asked for.
fn address_of_page(query: &str, page: usize) -> String {
    let mut address = url::form_urlencoded::Serializer::new(String::new());
    if !query.is_empty() {
        address.append_pair("q", query);
    }
    format!("?{}", address.append_pair("page", &page.to_string()).finish())
}

fn catalog_model(request: &BrowseRequest, found: CatalogPage, query: String, page: usize) -> CatalogModel {
    let pages = pages(&found);
    let CatalogPage { rows, found, total, incomplete, .. } = found;
    let named = ProjectName::parse(&query).ok().filter(|name| !rows.iter().any(|row| row.project == *name));
    CatalogModel {
        route: request.route.to_string(),
        as_of: request.as_of.as_deref().map(str::to_owned),
        page,
        pages,
        found,
        total,
        incomplete: incomplete.map(|error| error.to_string()),
        projects: rows.iter().map(entry).collect(),
        unlisted: named.filter(|_| page == 1).map(|name| name.to_string()),
        place: request.place.clone(),
        query,
    }
}

fn entry(CatalogRow { project, facts }: &CatalogRow) -> CatalogEntry {
    let newest = facts.as_ref().and_then(|facts| facts.newest.as_ref());
    CatalogEntry {
        name: project.to_string(),
        summary: newest.and_then(|newest| newest.summary.clone()),
        version: newest.map(|newest| shown(&newest.version)),
        uploaded: newest.and_then(|newest| newest.uploaded.clone()),
        origin: facts.as_ref().and_then(|facts| facts.origin).map(origin_word),
        cached: facts.is_some().then(|| newest.is_some_and(|newest| newest.is_cached)),
        yanked: newest.is_some_and(|newest| newest.is_yanked),
        refused: newest.is_some_and(|newest| newest.is_refused),
    }
}

/// A project and one of its versions.
async fn project(
    flow: Flow,
    browsing: Browsing,
    route: Arc<Route>,
    request: BrowseRequest,
    name: ProjectName,
    version: Option<VersionSegment>,
) -> Result<FoundDocument, Problem> {
    let is_version_page = version.is_some();
    let view = flow.projects.get(&route, &name, version).await?;
    let has_rules = !flow.policy().is_empty();
    let (descriptions, served) = (browsing.descriptions, view.served);
    made(&browsing.turns, request.clone(), served, move |form| {
        let mut model = project_model(&request, &view, is_version_page, has_rules);
        match form {
            BrowseForm::Html => {
                let description = description(&descriptions, &view.metadata);
                Ok(ui::project(&model, description.as_deref()).into_bytes())
            }
            BrowseForm::Json => {
                model.description = description_text(&view.metadata).map(|(text, content_type)| DescriptionText {
                    content_type: content_type.as_deref().map(shown),
                    text: ui::beginning(&text).0.to_owned(),
                });
                json(&model)
            }
        }
    })
    .await
}

/// The description in core metadata, and its type. Blocking.
fn description_text(metadata: &MetadataView) -> Option<(String, Option<String>)> {
    let MetadataView::Known(metadata) = metadata else { return None };
    let text = wheel::description(&metadata.bytes);
    if text.trim().is_empty() || text.trim() == "UNKNOWN" {
        return None;
    }
    Some((text, wheel::metadata_headers(&metadata.bytes).description_content_type))
}

/// The same, rendered. Blocking.
fn description(
    kept: &moka::sync::Cache<Sha256, Arc<Description>, RandomState>,
    metadata: &MetadataView,
) -> Option<Arc<Description>> {
    let MetadataView::Known(CachedMetadata { sha256, .. }) = metadata else { return None };
    // Those who want the same wait for the one that renders it.
    kept.optionally_get_with(*sha256, || {
        let (text, content_type) = description_text(metadata)?;
        Some(Arc::new(Description::new(&text, content_type.as_deref())))
    })
}

fn json(model: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(model).map_err(|error| Error::internal(&format!("a model could not be written: {error}")))
}

/// The document that `make` makes on a helper thread.
async fn made(
    turns: &Turns,
    request: BrowseRequest,
    served: Served,
    make: impl FnOnce(BrowseForm) -> Result<Vec<u8>, Error> + Send + 'static,
) -> Result<FoundDocument, Problem> {
    let document = turns.run(move || {
        let BrowseRequest { coding, form, .. } = request;
        let bytes = make(form)?;
        let unwritten = |error: std::io::Error| Error::internal(&format!("a page could not be written: {error}"));
        let (written, ()) = Written::gather(coding, |out| out.write_all(&bytes)).map_err(unwritten)?;
        Ok::<_, Error>(Document::new(representation(form, coding, &written), written))
    });
    let document = Waits::note("rendering", document).await.map_err(Error::from)??;
    Ok(FoundDocument { document: Arc::new(document), served })
}

fn representation(form: BrowseForm, coding: ContentCoding, written: &Written) -> Representation {
    let vary = HeaderValue::from_static("Accept-Encoding, Host");
    let content_type = HeaderValue::from_static(match form {
        BrowseForm::Html => "text/html; charset=utf-8",
        BrowseForm::Json => "application/json",
    });
    let mut representation = Representation::revalidated(content_type, written, "", vary);
    if form == BrowseForm::Html {
        representation = representation.for_people();
    }
    match coding.content_encoding() {
        Some(encoding) => representation.with(CONTENT_ENCODING, encoding),
        None => representation,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn the_turn_to_make_a_page_goes_on_with_the_work_when_the_client_has_left() {
        let turns = Browsing::default().turns;
        let (release, held) = std::sync::mpsc::channel::<()>();
        let request = BrowseRequest {
            place: ui::Place::default(),
            index: String::new(),
            route: "main".into(),
            as_of: None,
            coding: ContentCoding::Identity,
            form: BrowseForm::Html,
        };
        let page = made(&turns, request, Served::Hit, move |_| {
            let _ = held.recv();
            Ok(Vec::new())
        });
        let mut page = Box::pin(page);
        assert!(poll!(&mut page).is_pending());
        drop(page);
        assert_eq!(turns.free(), AT_ONCE - 1, "its client has left, and it is still made");
        drop(release);
        let ended = async {
            while turns.free() < AT_ONCE {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(25), ended).await.expect("the turn ends with the work");
    }

    #[test]
    fn queries_are_read_with_a_bound() {
        assert_eq!(query(""), (String::new(), 1));
        assert_eq!(query("q=+a%20b+&page=3&x=y"), ("a b".to_owned(), 3));
        assert_eq!(query("page=0&q=%E2%80%AEx").1, 1);
        assert_eq!(query("page=99999999999999999999999&q=%E2%80%AEx"), ("x".to_owned(), 1));
        assert_eq!(query(&format!("q={}", "x".repeat(10_000))).0.chars().count(), LONGEST_QUERY + 1);
    }
}

//! Project pages: from CodeArtifact's index, completed by what this server adds.
//!
//! A page is completed once per change: core metadata is advertised where it can be served, and files that were
//! published through this server are listed until upstream lists them.

use std::sync::Arc;
use std::time::Duration;

use super::advertise::advertise_core_metadata;
use super::index_cache::{FetchError, IndexCache, IndexSource, Lifetimes, NegativeReason};
use super::{Error, IndexView, Lookup, Route, unavailable};
use crate::cache::{
    Decision, FetchedAt, MetadataStore, PageContent, PageKey, PersistedIndex, Published, Record, page_path,
};
use crate::flow::Cause;
use crate::upstream::{PageReply, UpstreamError};
use wheelport_index::{File, Page, ProjectName, parse};
use wheelport_runtime::{Tasks, blocking, sabotaged};

/// A known project is believed to be gone when upstream said so twice, this far apart.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// An unchanged page is persisted again when its copy is this old.
const PERSIST_AGAIN: Duration = Duration::from_mins(10);
/// The age of a page that was never fetched: older than any page that may be served.
const NEVER_FETCHED: Duration = Duration::from_hours(24 * 365);

/// A page and how the response came about.
pub type PageView = IndexView<PageContent>;

/// The project pages of all routes. Cheap to clone.
#[derive(Clone)]
pub struct PageService {
    cache: IndexCache<PageSource>,
}

/// Where pages come from, and what completes them.
pub(super) struct PageSource {
    pub persisted: PersistedIndex,
    pub published: Published,
    pub metadata: MetadataStore,
    /// The largest wheel whose metadata can be served, in bytes.
    pub largest_wheel: u64,
}

impl PageService {
    pub(super) fn new(source: PageSource, memory: u64, lifetimes: Lifetimes, tasks: Tasks) -> Self {
        Self { cache: IndexCache::new(source, memory, Lifetimes { doubt_for: GONE_AFTER, ..lifetimes }, tasks) }
    }

    /// The page of a project.
    pub fn get(&self, route: &Arc<Route>, project: &ProjectName) -> Lookup<PageView> {
        self.cache.get(route, route.key(project))
    }

    /// Forgets a page, so that the next request asks upstream.
    pub async fn purge(&self, route: &Route, project: &ProjectName) {
        let key = route.key(project);
        self.cache.forget(&key, no_such_project(route, project)).await;
        self.cache.clear_negative(&key);
    }

    /// The page, asked from upstream now unless the held one is younger than `age`.
    pub(super) async fn younger_than(
        &self,
        route: &Arc<Route>,
        project: &ProjectName,
        age: Duration,
    ) -> Result<PageView, Error> {
        self.cache.younger_than(route, &route.key(project), age).await
    }

    /// The held page of a project, of whatever age; files stay the same for ever.
    pub(super) async fn held(&self, route: &Route, project: &ProjectName) -> Option<Record<PageContent>> {
        self.cache.held(&route.key(project)).await
    }

    /// The cache itself, for the prefetcher.
    pub(super) fn cache(&self) -> &IndexCache<PageSource> {
        &self.cache
    }

    /// Bytes of pages in memory, for metrics.
    pub(super) fn bytes(&self) -> u64 {
        self.cache.records().bytes()
    }

    /// Completes the held page again, because what can be advertised on it has changed.
    pub(super) async fn advertise_again(&self, route: &Route, project: &ProjectName) {
        let key = route.key(project);
        let Some(held) = self.cache.records().get(&key) else { return };
        let cache = self.cache.clone();
        let _ = blocking(move || {
            let mut page = held.content.page.clone();
            cache.source().advertise(&mut page.files);
            cache.show(&key, page, held.fetched);
        })
        .await;
    }

    /// Whether files of this project were published through this server that upstream may not list yet. Blocking.
    pub(super) fn has_published(&self, key: &PageKey) -> bool {
        self.cache.source().published.has(key)
    }

    /// Lists a file that was published a moment ago on its page. Blocking.
    pub(super) fn list_published(&self, key: &PageKey, file: File) {
        if let Err(error) = self.cache.source().published.add(key, file) {
            tracing::warn!(%error, "a published file is remembered until the next start only");
        }
        self.cache.clear_negative(key);
        match self.cache.records().get(key) {
            Some(held) => self.cache.show(key, held.content.page.clone(), held.fetched),
            // A page long out of date: the next request asks upstream, and sees this file in any case.
            None => self.cache.show(key, Page::empty(key.project.clone()), FetchedAt::aged(NEVER_FETCHED)),
        };
    }
}

impl PageSource {
    /// Completes what is advertised of the core metadata of files. Blocking.
    fn advertise(&self, files: &mut [File]) {
        advertise_core_metadata(files, &self.metadata, self.largest_wheel);
    }
}

impl IndexSource for PageSource {
    type Key = PageKey;
    type Content = PageContent;

    fn load(cache: &IndexCache<Self>, key: &PageKey) -> Option<Record<PageContent>> {
        let of_project = |page: &Page| page.name == key.project;
        let (mut page, fetched) = cache.source().persisted.load(&page_path(key), of_project)?;
        cache.source().advertise(&mut page.files);
        Some(cache.show(key, page, fetched))
    }

    async fn fetch(
        cache: IndexCache<Self>,
        route: Arc<Route>,
        key: PageKey,
    ) -> Result<Record<PageContent>, FetchError> {
        let unresolved = |error: Error| {
            let detail = error.to_string();
            FetchError::Failed(error, detail)
        };
        let upstream = route.upstream().await.map_err(unresolved)?;
        match upstream.page(&key.project).await {
            Ok(reply) => cache.take_in(&key, reply).await,
            Err(UpstreamError::NotFound) => cache.missing(&route, &key).await,
            Err(error) => {
                let meaning = Error::from_upstream(&error, || no_such_project(&route, &key.project));
                Err(FetchError::Failed(meaning, error.to_string()))
            }
        }
    }
}

impl IndexCache<PageSource> {
    /// Parses, completes, persists and holds a page, all on a blocking thread.
    async fn take_in(&self, key: &PageKey, reply: PageReply) -> Result<Record<PageContent>, FetchError> {
        let (cache, key) = (self.clone(), key.clone());
        let parsed = blocking(move || {
            let mut page = read_page(reply, &key.project)?;
            let listed = page.files.len();
            cache.source().advertise(&mut page.files);
            let held = cache.records().get(&key);
            cache.clear_negative(&key);
            let record = cache.show(&key, page, FetchedAt::now());
            let is_unchanged = held.is_some_and(|held| Arc::ptr_eq(&held.content, &record.content));
            cache.persist(&key, &record.content.page, listed, is_unchanged);
            Ok::<_, parse::ParseError>(record)
        });
        let unreadable = |error: parse::ParseError| {
            FetchError::Failed(unavailable(Cause::Broken), format!("it cannot be read: {error}"))
        };
        parsed.await.map_err(|panicked| FetchError::Failed(panicked.into(), panicked.to_string()))?.map_err(unreadable)
    }

    /// Persists upstream's page, unless the copy on disk is the same and young. Blocking. Its first files are those that
    /// upstream lists; the others were published here.
    fn persist(&self, key: &PageKey, page: &Page, listed: usize, is_unchanged: bool) {
        let (persisted, path) = (&self.source().persisted, page_path(key));
        if is_unchanged && persisted.age(&path).is_some_and(|age| age < PERSIST_AGAIN) {
            return;
        }
        // Copied only then: a page may be large.
        let with_additions = (page.files.len() > listed).then(|| {
            let mut page = page.clone();
            page.files.truncate(listed);
            page
        });
        if let Err(error) = persisted.persist(&path, with_additions.as_ref().unwrap_or(page)) {
            tracing::warn!(project = %key.project, %error, "a page could not be persisted");
        }
    }

    /// Upstream says that there is no such project: believed at once for an unknown one, and for a known one only when
    /// it says so again a while later.
    async fn missing(&self, route: &Route, key: &PageKey) -> Result<Record<PageContent>, FetchError> {
        let is_usable = |record: &Record<PageContent>| self.decide(record) != Decision::Expired;
        if let Some(held) = self.records().get(key).filter(is_usable) {
            let absent = || NegativeReason::Absent(no_such_project(route, &key.project));
            let before = self.negative(key).filter(|entry| matches!(entry.reason, NegativeReason::Absent(_)));
            match before {
                None if !sabotaged("gone-twice") => self.set_negative(key, absent()),
                Some(entry) if entry.at.elapsed() < GONE_AFTER => {}
                _ => return self.gone(route, key).await,
            }
            tracing::warn!(
                route = %route.name, project = %key.project,
                "upstream no longer knows this project; asking again before believing it"
            );
            return Ok(held);
        }
        self.gone(route, key).await
    }

    /// Forgets a project, unless files of it were published here that upstream's index does not know yet.
    async fn gone(&self, route: &Route, key: &PageKey) -> Result<Record<PageContent>, FetchError> {
        let absent = no_such_project(route, &key.project);
        // In this order: a file that is published in the meantime clears the entry that forgetting sets.
        self.forget(key, absent.clone()).await;
        let (cache, key) = (self.clone(), key.clone());
        let published = blocking(move || {
            cache.source().published.has(&key).then(|| {
                cache.clear_negative(&key);
                cache.show(&key, Page::empty(key.project.clone()), FetchedAt::now())
            })
        });
        match published.await {
            Ok(record) => record.ok_or(FetchError::Absent(absent)),
            Err(panicked) => Err(FetchError::Failed(panicked.into(), panicked.to_string())),
        }
    }

    async fn forget(&self, key: &PageKey, absent: Error) {
        self.set_negative(key, NegativeReason::Absent(absent));
        let (cache, key) = (self.clone(), key.clone());
        let removed = blocking(move || {
            cache.records().remove(&key);
            cache.source().persisted.remove(&page_path(&key))
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "a persisted page could not be removed");
        }
    }

    /// Holds a page in memory, with the files that were published here. Blocking. Content equal to the held one is
    /// kept as it is, so that its representations stay valid.
    fn show(&self, key: &PageKey, mut page: Page, fetched: FetchedAt) -> Record<PageContent> {
        let published = &self.source().published;
        loop {
            let additions = published.additions();
            let listed = page.files.len();
            // Nothing of a quarantined project is offered, whoever published it.
            if !page.is_quarantined() {
                published.complete(key, &mut page);
            }
            self.source().advertise(&mut page.files[listed..]);
            let content = match self.records().get(key) {
                Some(held) if held.content.page == page => held.content,
                _ => Arc::new(PageContent::new(page)),
            };
            let record = Record { content, fetched };
            self.records().put(key, record.clone());
            // A file that is published meanwhile must not be hidden by a page that was completed before.
            if published.additions() == additions {
                return record;
            }
            page = record.content.page.clone();
        }
    }
}

/// Parses a page, and frees the response.
fn read_page(reply: PageReply, project: &ProjectName) -> Result<Page, parse::ParseError> {
    let PageReply { format, body, url } = reply;
    let parse::ParsedPage { page, skipped, unknown_left_out } = parse::page(format, &body, &url, project)?;
    if skipped > 0 {
        tracing::warn!(%project, skipped, "entries of a page could not be read and are left out");
    }
    if unknown_left_out > 0 {
        tracing::warn!(%project, unknown_left_out, "a page has more unknown keys than are kept; the rest is left out");
    }
    Ok(page)
}

fn no_such_project(route: &Route, project: &ProjectName) -> Error {
    Error::NoSuchProject { route: Arc::clone(&route.name), project: project.clone() }
}

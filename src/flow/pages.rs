//! Project pages: from CodeArtifact's index, completed by what this server adds.
//!
//! A page is completed once per change: core metadata is advertised where it can be served, and files that were
//! published through this server are listed until upstream lists them.

use std::sync::Arc;
use std::time::Duration;

use super::advertise::advertise_core_metadata;
use super::canary::{AskError, Verdict};
use super::change_guard::{ChangeGuard, advertise_known_metadata};
use super::delisted::Delisted;
use super::file_report::FileReport;
use super::index_cache::{FetchError, IndexCache, IndexSource, Lifetimes, NegativeReason};
use super::judge::Judge;
use super::reader;
use super::shown::PageView;
use super::standing::Gate;
use super::{Error, IndexView, Lookup, Route, unavailable};
use crate::cache::{
    Decision, FetchedAt, MetadataStore, PageContent, PageKey, PersistedIndex, Published, Record, page_path,
};
use crate::flow::Cause;
use crate::upstream::{PageReply, Witness};
use wheelport_index::{File, FileAddress, Page, ProjectName, Sha256, parse};
use wheelport_runtime::{Tasks, blocking, sabotaged};

/// A known project is believed to be gone when upstream said so twice, this far apart.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// An unchanged page is persisted again when its copy is this old.
const PERSIST_AGAIN: Duration = Duration::from_mins(10);
/// The age of a page that was never fetched: older than any page that may be served.
const NEVER_FETCHED: Duration = Duration::from_hours(24 * 365);

/// The project pages of all routes. Cheap to clone.
#[derive(Clone)]
pub struct PageService {
    cache: IndexCache<PageSource>,
    judge: Judge,
}

/// Where pages come from, and what completes them.
pub(super) struct PageSource {
    pub persisted: Arc<PersistedIndex>,
    pub published: Published,
    pub changes: ChangeGuard,
    pub metadata: MetadataStore,
    pub delisted: Delisted,
    /// The largest wheel whose metadata can be served, in bytes.
    pub largest_wheel: u64,
}

impl PageService {
    pub(super) fn new(source: PageSource, judge: Judge, memory: u64, lifetimes: Lifetimes, tasks: Tasks) -> Self {
        let lifetimes = Lifetimes { doubt_for: GONE_AFTER, ..lifetimes };
        Self { cache: IndexCache::new(source, memory, lifetimes, tasks), judge }
    }

    /// The page of a project, as the rules leave it.
    pub fn get(&self, route: &Arc<Route>, project: &ProjectName) -> Lookup<PageView> {
        self.judge.show(route, self.listed(route, project))
    }

    /// The page of a project, as upstream and this server list it.
    fn listed(&self, route: &Arc<Route>, project: &ProjectName) -> Lookup<IndexView<PageContent>> {
        let key = route.key(project);
        match route.standing.gate() {
            Gate::Open if route.may_read_cache() => return self.cache.get(route, key),
            Gate::Closed => return Lookup::error(Error::denied()),
            Gate::Open | Gate::Probe => {}
        }
        let (cache, route) = (self.cache.clone(), Arc::clone(route));
        Lookup::miss(async move {
            reader::restore(&cache.source().persisted, &route).await;
            let found = cache.get(&route, key).wait().await;
            found.map_err(|error| if route.is_denied() { Error::denied() } else { error })
        })
    }

    /// Settles a 404 for a file.
    pub(super) async fn settle_file(&self, route: &Arc<Route>, missing: &Witness) -> Verdict {
        self.cache.settle(route, None, missing).await
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
    ) -> Result<IndexView<PageContent>, Error> {
        if route.is_denied() {
            return Err(Error::denied());
        }
        self.cache.younger_than(route, &route.key(project), age).await
    }

    /// What is decided about each file of a project, and why.
    pub async fn report(&self, route: &Arc<Route>, project: &ProjectName) -> Result<Vec<FileReport>, Error> {
        let page = self.listed(route, project).wait().await?;
        self.judge.report(route, &page.content, self.judge.policy().rules()).await
    }

    /// Some of the projects whose pages are cached.
    pub(super) async fn cached_projects(&self, route: &Route, most: usize) -> Vec<ProjectName> {
        if !route.may_read_cache() {
            return Vec::new();
        }
        let (cache, repository) = (self.cache.clone(), route.repository.clone());
        blocking(move || cache.source().persisted.some_projects(&repository, most)).await.unwrap_or_default()
    }

    /// What decides about pages and files.
    pub(super) fn judge(&self) -> &Judge {
        &self.judge
    }

    /// The held page of a project, of whatever age; files stay the same for ever.
    pub(super) async fn held(&self, route: &Route, project: &ProjectName) -> Option<Record<PageContent>> {
        if !route.may_read_cache() {
            return None;
        }
        self.cache.held(&route.key(project)).await
    }

    /// The SHA-256 of a file that the page listed once, and of which it is not proven that it is gone.
    pub(super) async fn delisted(&self, route: &Route, address: &FileAddress) -> Result<Option<Sha256>, Error> {
        if !route.may_read_cache() {
            return Ok(None);
        }
        let (cache, key, address) = (self.cache.clone(), route.key(&address.project), address.clone());
        Ok(blocking(move || cache.source().delisted.get(&key, &address)).await?)
    }

    /// It is proven that a file is gone: what is stored of it is not served again, whatever happens upstream.
    pub(super) async fn file_is_gone(&self, route: &Route, address: &FileAddress) -> Result<(), Error> {
        let (cache, key, address) = (self.cache.clone(), route.key(&address.project), address.clone());
        Ok(blocking(move || cache.source().delisted.gone(&key, &address)).await?)
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
            let mut page = held.content.as_listed();
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
            Some(held) => self.cache.show(key, held.content.as_listed(), held.fetched),
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
        let mut is_repeated = false;
        loop {
            let missing = match cache.ask(&route, &key).await {
                Ok(record) => return Ok(record),
                Err(AskError::Failed(..)) if sabotaged("error-is-no-absence") => {
                    return cache.missing(&route, &key).await;
                }
                Err(AskError::Failed(error, detail)) => return Err(FetchError::Failed(error, detail)),
                Err(AskError::Missing(missing)) => missing,
            };
            let cause = match cache.settle(&route, Some(&key.project), &missing).await {
                Verdict::Absent => return cache.missing(&route, &key).await,
                Verdict::Outdated if !is_repeated => {
                    is_repeated = true;
                    continue;
                }
                Verdict::Outdated => Cause::Token,
                Verdict::Doubt(cause) => cause,
            };
            let detail = "upstream says that it does not exist, which nothing proves".to_owned();
            return Err(FetchError::Failed(unavailable(cause), detail));
        }
    }
}

impl IndexCache<PageSource> {
    /// Parses, completes, persists and holds a page, all on a blocking thread. Until then the reply holds its turn.
    pub(super) async fn take_in(&self, key: &PageKey, mut reply: PageReply) -> Result<Record<PageContent>, FetchError> {
        let (cache, key) = (self.clone(), key.clone());
        let parsed = blocking(move || {
            let mut page = read_page(&mut reply, &key.project)?;
            let listed = page.files.len();
            cache.source().advertise(&mut page.files);
            let held = cache.records().get(&key);
            cache.clear_negative(&key);
            let record = cache.show(&key, page, FetchedAt::now());
            let is_unchanged = held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.content, &record.content));
            if let Some(held) = held.filter(|_| !is_unchanged) {
                let lists =
                    |file: &File| record.content.file(&file.name).is_some_and(|listed| listed.version == file.version);
                cache.source().delisted.compare(&key, &held.content.page, lists);
            }
            cache.persist(&key, &record.content, listed, is_unchanged);
            Ok::<_, parse::ParseError>(record)
        });
        let unreadable = |error: parse::ParseError| {
            FetchError::Failed(unavailable(Cause::Broken), format!("it cannot be read: {error}"))
        };
        parsed.await.map_err(|panicked| FetchError::Failed(panicked.into(), panicked.to_string()))?.map_err(unreadable)
    }

    /// Persists upstream's page, unless the copy on disk is the same and young. Blocking. Its first files are those
    /// that upstream lists; the others were published here, and are forgotten only when upstream's list with them is
    /// on disk: the copy there may be from before.
    fn persist(&self, key: &PageKey, content: &PageContent, listed: usize, is_unchanged: bool) {
        let (PageSource { persisted, published, .. }, path) = (self.source(), page_path(key));
        let by_upstream = &content.page.files[..listed.min(content.page.files.len())];
        let has_settled = published.has_settled(key, by_upstream);
        if is_unchanged && !has_settled && persisted.age(&path).is_some_and(|age| age < PERSIST_AGAIN) {
            return;
        }
        // Copied only then: a page may be large.
        let is_other = content.page.files.len() > listed || !content.refused.is_empty();
        let of_upstream = is_other.then(|| {
            let mut page = content.as_listed();
            page.files.truncate(listed);
            page
        });
        match persisted.persist(&path, of_upstream.as_ref().unwrap_or(&content.page)) {
            Ok(()) => published.forget_settled(key, by_upstream),
            Err(error) => tracing::warn!(project = %key.project, %error, "a page could not be persisted"),
        }
    }

    /// There is no such project, which is proven: true at once for an unknown one, and for a known one only when it is
    /// proven again a while later, because upstream may be between two states.
    async fn missing(&self, route: &Route, key: &PageKey) -> Result<Record<PageContent>, FetchError> {
        let is_usable = |record: &Record<PageContent>| self.decide(record) != Decision::Expired;
        if !route.may_read_cache() {
            // What other roles have cached is not for this one to see or to remove.
            return Err(FetchError::Absent(no_such_project(route, &key.project)));
        }
        if let Some(held) = self.held(key).await.filter(is_usable) {
            let absent = || NegativeReason::Absent(no_such_project(route, &key.project));
            let before = self.negative(key).filter(|entry| matches!(entry.reason, NegativeReason::Absent(_)));
            match before {
                None if !sabotaged("gone-twice") => self.set_negative(key, absent()),
                Some(entry) if entry.at.elapsed() < GONE_AFTER && !sabotaged("gone-apart") => {}
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
        route.standing.gone(&key.project);
        // In this order: a file that is published in the meantime clears the entry that forgetting sets.
        self.forget(key, absent.clone()).await;
        let (cache, key) = (self.clone(), key.clone());
        let published = blocking(move || {
            cache.source().delisted.forget(&key);
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

    /// Holds a page in memory, with the files that were published here, and without changed bytes that are refused.
    /// Blocking. Content equal to the held one is kept as it is, so that its representations stay valid.
    pub(super) fn show(&self, key: &PageKey, mut page: Page, fetched: FetchedAt) -> Record<PageContent> {
        let published = &self.source().published;
        loop {
            let additions = published.additions();
            let listed = page.files.len();
            // A project in quarantine offers no files, not even those published here.
            if !page.is_quarantined() || sabotaged("quarantined-upload") {
                published.complete(key, &mut page);
            }
            let PageSource { changes, metadata, largest_wheel, .. } = self.source();
            let (refused, undated) = changes.compare(key, &mut page, listed);
            self.source().advertise(&mut page.files[listed..]);
            advertise_known_metadata(&mut page, &refused, metadata, *largest_wheel);
            let content = match self.records().get(key) {
                Some(held) if held.content.is_same(&page, &refused, &undated) => held.content,
                _ => Arc::new(PageContent::new(page, refused, undated)),
            };
            let record = Record { content, fetched };
            self.records().put(key, record.clone());
            // A file that is published meanwhile must not be hidden by a page that was completed before.
            if published.additions() == additions {
                return record;
            }
            page = record.content.as_listed();
        }
    }
}

/// Parses a page, and frees the response's bytes.
fn read_page(reply: &mut PageReply, project: &ProjectName) -> Result<Page, parse::ParseError> {
    let body = std::mem::take(&mut reply.body);
    let parse::ParsedPage { page, skipped, unknown_left_out } = parse::page(reply.format, &body, &reply.url, project)?;
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

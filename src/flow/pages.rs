//! Project pages: from CodeArtifact's index, completed by what this server adds.
//!
//! A page is completed once per change: core metadata is advertised where it can be served, and files that were
//! published through this server are listed until upstream lists them.

use std::sync::Arc;
use std::time::Duration;

use super::canary::{AskError, Verdict};
use super::file_report::FileReport;
use super::index_cache::{FetchError, IndexCache, IndexSource, Lifetimes, Need};
use super::judge::Judge;
use super::negative::NegativeReason;
use super::page_source::PageSource;
use super::reader;
use super::shared_pages::{Consulted, Errand};
use super::shown::PageView;
use super::standing::Gate;
use super::{Error, IndexView, Lookup, Route, unavailable};
use crate::cache::{FetchedAt, PageContent, PageKey, Record, page_path};
use crate::fleet::Hint;
use crate::flow::Cause;
use crate::upstream::Witness;
use wheelport_index::{File, FileAddress, Page, ProjectName, Sha256};
use wheelport_runtime::{Tasks, blocking, sabotaged};

/// A known project is believed to be gone when upstream said so twice, this far apart.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// The age of a page that was never fetched: older than any page that may be served.
const NEVER_FETCHED: Duration = Duration::from_hours(24 * 365);

/// The project pages of all routes. Cheap to clone.
#[derive(Clone)]
pub struct PageService {
    cache: IndexCache<PageSource>,
    judge: Judge,
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
            Gate::Open if route.may_read_cache() && !self.cache.must_look(route, &key) => {
                return self.cache.get(route, key);
            }
            Gate::Closed => return Lookup::error(Error::denied()),
            Gate::Open | Gate::Probe => {}
        }
        let (cache, route) = (self.cache.clone(), Arc::clone(route));
        Lookup::miss(async move {
            reader::restore(&cache.source().persisted, &route).await;
            if cache.must_look(&route, &key) {
                cache.look_for_published(&route, &key).await;
            }
            let found = cache.get(&route, key).wait().await;
            found.map_err(|error| if route.is_denied() { Error::denied() } else { error })
        })
    }

    /// Whether the route may read what replicas share of its repository.
    pub(super) async fn may_read_shared(&self, route: &Route) -> bool {
        self.cache.may_read_shared(route).await
    }

    /// Settles a 404 for a file.
    pub(super) async fn settle_file(&self, route: &Arc<Route>, missing: &Witness) -> Verdict {
        self.cache.settle(route, None, missing).await
    }

    /// Forgets a page, here and on every other replica, so that the next request asks upstream.
    pub async fn purge(&self, route: &Route, project: &ProjectName) {
        self.cache.unshare(route, &route.key(project)).await;
        self.forget_page(route, project).await;
        if let Some(shared) = &route.shared {
            let (repository, project) = (shared.repository.clone(), project.clone());
            self.cache.source().fleet.hints().send(Hint::Purge { repository, project }).await;
        }
    }

    /// Forgets a page here.
    pub(super) async fn forget_page(&self, route: &Route, project: &ProjectName) {
        let key = route.key(project);
        self.cache.remove(&key).await;
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

    /// Which content of a page is in memory.
    pub(super) fn content_in_memory(&self, route: &Route, project: &ProjectName) -> Option<u64> {
        self.cache.records().get(&route.key(project)).map(|record| record.content.id)
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

    /// Projects that are known to be missing or failing, for metrics.
    pub(super) fn negative_entries(&self) -> u64 {
        self.cache.negative_entries()
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

    /// Tells other replicas of a file that was published a moment ago.
    pub(super) async fn share_published(&self, route: &Arc<Route>, project: &ProjectName, file: File) {
        self.cache.share_published(route, &route.key(project), file).await;
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

impl IndexSource for PageSource {
    type Key = PageKey;
    type Content = PageContent;

    fn load(cache: &IndexCache<Self>, key: &PageKey) -> Option<Record<PageContent>> {
        let of_project = |page: &Page| page.name == key.project;
        let (mut page, fetched) = cache.source().persisted.load(&page_path(key), of_project)?;
        cache.source().advertise(&mut page.files);
        Some(cache.show(key, page, fetched))
    }

    fn is_covered(&self, route: &Arc<Route>, key: &PageKey, fetched: &FetchedAt) -> bool {
        self.internal.covers(route, key, fetched)
    }

    async fn fetch(
        cache: IndexCache<Self>,
        route: Arc<Route>,
        key: PageKey,
        need: Need,
    ) -> Result<Record<PageContent>, FetchError> {
        let mut errand = match cache.consult(&route, &key, need).await {
            Consulted::Found(record) => return Ok(record),
            Consulted::Ask(errand) => Some(*errand),
        };
        let stale = errand.as_mut().and_then(|errand| errand.stale.take());
        match cache.ask_upstream(&route, &key, &mut errand).await {
            Err(FetchError::Failed(error, detail)) => match stale {
                Some((page, age)) if !cache.is_expired(age) => cache.fall_back(&route, &key, page, age, detail).await,
                _ => Err(FetchError::Failed(error, detail)),
            },
            outcome => outcome,
        }
    }
}

impl IndexCache<PageSource> {
    /// Asks upstream until it is clear whether the project exists. What it says is shared as the errand says.
    async fn ask_upstream(
        &self,
        route: &Arc<Route>,
        key: &PageKey,
        errand: &mut Option<Errand>,
    ) -> Result<Record<PageContent>, FetchError> {
        let mut is_repeated = false;
        loop {
            let missing = match self.ask(route, key, errand).await {
                Ok(record) => return Ok(record),
                Err(AskError::Failed(..)) if sabotaged("error-is-no-absence") => {
                    return self.missing(route, key).await;
                }
                Err(AskError::Failed(error, detail)) => return Err(FetchError::Failed(error, detail)),
                Err(AskError::Missing(missing)) => missing,
            };
            let cause = match self.settle(route, Some(&key.project), &missing).await {
                Verdict::Absent => return self.missing(route, key).await,
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
    /// There is no such project, which is proven: true at once for an unknown one, and for a known one only when it is
    /// proven again a while later, because upstream may be between two states.
    async fn missing(&self, route: &Route, key: &PageKey) -> Result<Record<PageContent>, FetchError> {
        let is_usable = |record: &Record<PageContent>| !self.is_expired(record.fetched.age());
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
        self.remove(key).await;
    }

    /// Removes a page, of which nothing is known then.
    async fn remove(&self, key: &PageKey) {
        let (cache, key) = (self.clone(), key.clone());
        let removed = blocking(move || {
            cache.records().remove(&key);
            cache.source().persisted.remove(&page_path(&key))
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "a persisted page could not be removed");
        }
    }
}

fn no_such_project(route: &Route, project: &ProjectName) -> Error {
    Error::NoSuchProject { route: Arc::clone(&route.name), project: project.clone() }
}

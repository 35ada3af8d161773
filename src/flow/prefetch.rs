//! The pages that a resolver requests next, fetched while it reads the metadata that makes it request them.
//!
//! A client that reads the core metadata of a wheel requests the pages of its dependencies next, mostly one at a time.
//! Dependencies that it is sure to need and that are not cached are therefore fetched in the background. That is a
//! guess, so it must cost clients nothing: few at a time, at low priority, only while upstream has spare capacity, and
//! a failure is left to the client's own request. Only metadata that a client asks for leads to a prefetch, never a
//! prefetched page, so packages that depend on each other make no chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::ahead::Ahead;
use super::index_cache::FetchError;
use super::{PageService, Route};
use crate::cache::PageKey;
use wheelport_index::ClientAgent;
use wheelport_index::wheel::{self, RequiredBy};
use wheelport_runtime::{Priority, Tasks};

/// Pages prefetched at the same time.
const AT_ONCE: usize = 8;
/// Pages being prefetched or waiting for that.
const WAITING: usize = 256;
/// How long a page is not prefetched again, whatever the outcome.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Recently prefetched pages that are remembered; older ones make room.
const MAX_REMEMBERED: u64 = 20_000;

/// The outcome of a prefetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefetchOutcome {
    Fetched,
    /// Upstream says that there is no such project.
    Missing,
    Failed,
    /// Upstream has no spare capacity, or too much is waiting already, or the process is stopping.
    Skipped,
}

impl PrefetchOutcome {
    pub const ALL: [Self; 4] = [Self::Fetched, Self::Missing, Self::Failed, Self::Skipped];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Prefetches pages. Cheap to clone.
#[derive(Clone)]
pub(super) struct Prefetcher {
    inner: Arc<PrefetcherInner>,
}

struct PrefetcherInner {
    pages: PageService,
    tasks: Tasks,
    enabled: bool,
    ahead: Ahead,
    stopped: AtomicBool,
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    recent: moka::sync::Cache<PageKey, Instant>,
    counts: [AtomicU64; PrefetchOutcome::ALL.len()],
}

impl Prefetcher {
    pub(super) fn new(pages: PageService, ahead: Ahead, tasks: Tasks, enabled: bool) -> Self {
        let inner = PrefetcherInner {
            pages,
            tasks,
            enabled,
            ahead,
            stopped: AtomicBool::new(false),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            recent: moka::sync::Cache::new(MAX_REMEMBERED),
            counts: Default::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Starts no further prefetch.
    pub(super) fn stop(&self) {
        self.inner.stopped.store(true, Ordering::Relaxed);
        self.inner.ahead.stop();
    }

    /// How often there was which outcome.
    pub(super) fn counts(&self) -> [(PrefetchOutcome, u64); PrefetchOutcome::ALL.len()] {
        PrefetchOutcome::ALL.map(|outcome| (outcome, self.inner.counts[outcome as usize].load(Ordering::Relaxed)))
    }

    /// What an installer asks for next, besides pages.
    pub(super) fn ahead(&self) -> &Ahead {
        &self.inner.ahead
    }

    /// Begins to fetch the pages of the dependencies that this core metadata names, and with them the metadata that the
    /// client will choose there.
    pub(super) fn prefetch_dependencies(&self, route: &Arc<Route>, metadata: &[u8], agent: Option<&ClientAgent>) {
        if !self.is_on() || Priority::current() == Priority::Background {
            return;
        }
        let of = match agent {
            Some(agent) if agent.is_for_all_platforms() => RequiredBy::AnyPlatform,
            _ => RequiredBy::EveryInstallation,
        };
        for project in wheel::requirements(metadata, of) {
            let key = route.key(&project);
            let cache = self.inner.pages.cache();
            if self.is_recent(&key) || !cache.needs_fetch(route, &key) {
                if let (Some(agent), Some(held)) = (agent, cache.records().get(&key)) {
                    self.inner.ahead.page_read(route, &key, &held.content, agent);
                }
                continue;
            }
            let Ok(waiting) = Arc::clone(&self.inner.waiting).try_acquire_owned() else {
                self.count(PrefetchOutcome::Skipped);
                continue;
            };
            let (prefetcher, route, agent) = (self.clone(), Arc::clone(route), agent.cloned());
            Priority::Background.start(|| {
                self.inner.tasks.spawn_loop("prefetch page", async move {
                    prefetcher.prefetch(&route, &key, agent).await;
                    drop(waiting);
                });
            });
        }
    }

    /// Fetches a page once a permit is free, if it is still needed then.
    async fn prefetch(&self, route: &Arc<Route>, key: &PageKey, agent: Option<ClientAgent>) {
        let Ok(permit) = Arc::clone(&self.inner.permits).acquire_owned().await else { return };
        let cache = self.inner.pages.cache();
        if cache.needs_fetch(route, key) && cache.records().get(key).is_none() {
            cache.load(key).await;
        }
        if !cache.needs_fetch(route, key) {
            return;
        }
        if !self.is_on() || !route.has_room() {
            return self.count(PrefetchOutcome::Skipped);
        }
        self.inner.recent.insert(key.clone(), Instant::now());
        self.fetch(route, key, permit, agent);
    }

    fn fetch(&self, route: &Arc<Route>, key: &PageKey, permit: OwnedSemaphorePermit, agent: Option<ClientAgent>) {
        let (prefetcher, way, page) = (self.clone(), Arc::clone(route), key.clone());
        self.inner.pages.cache().fetch_ahead(route, key, move |outcome| {
            drop(permit);
            let held = prefetcher.inner.pages.cache().records().get(&page);
            if let (Ok(()), Some(agent), Some(held)) = (outcome, agent, held) {
                prefetcher.inner.ahead.page_read(&way, &page, &held.content, &agent);
            }
            prefetcher.count(match outcome {
                Ok(()) => PrefetchOutcome::Fetched,
                Err(FetchError::Absent(_)) => PrefetchOutcome::Missing,
                Err(FetchError::Failed(..) | FetchError::Prefetch) => PrefetchOutcome::Failed,
            });
        });
    }

    fn is_on(&self) -> bool {
        self.inner.enabled && !self.inner.stopped.load(Ordering::Relaxed)
    }

    /// Whether a page was prefetched recently.
    fn is_recent(&self, key: &PageKey) -> bool {
        self.inner.recent.get(key).is_some_and(|begun| begun.elapsed() < REMEMBERED)
    }

    fn count(&self, outcome: PrefetchOutcome) {
        self.inner.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

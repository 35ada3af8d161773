//! What a resolver asks next, fetched while it still reads what makes it ask.
//!
//! A client that is given the core metadata of a wheel asks for the pages of what that wheel needs, mostly one after the
//! other. Those that are needed in any case and are not held are therefore fetched behind the answer. It is a guess, so it
//! must cost nobody anything: few at a time, after everybody who waits, not while upstream has enough to do, and what
//! goes wrong is nobody's failure. Only what a client asked for leads to a prefetch, and a prefetch leads to nothing
//! further, so packages that need each other make no chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::page::NotFetched;
use super::{Flow, Route};
use crate::cache::{Decision, PageKey};
use crate::error::Error;
use wheelport_index::wheel;
use wheelport_runtime::Priority;

/// Pages that are prefetched at the same time.
const AT_ONCE: usize = 8;
/// Pages that are prefetched or wait for their turn.
const WAITING: usize = 256;
/// How long a page is not prefetched again, whatever came of it.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Pages of which it is remembered that they were prefetched; older ones make room.
const MAX_REMEMBERED: u64 = 20_000;

/// What came of the intention to prefetch a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefetchOutcome {
    /// It was fetched.
    Fetched,
    /// Upstream says that there is no such project.
    Missing,
    /// Upstream failed.
    Failed,
    /// Upstream has enough to do, or too much waits already, or the process is about to end.
    Skipped,
}

impl PrefetchOutcome {
    /// Every outcome.
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

/// What is being prefetched and was lately.
pub(super) struct Prefetches {
    enabled: bool,
    stopped: AtomicBool,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    lately: moka::sync::Cache<PageKey, Instant>,
    counts: [AtomicU64; PrefetchOutcome::ALL.len()],
}

impl Prefetches {
    pub fn new(enabled: bool) -> Self {
        Self {
            enabled,
            stopped: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            lately: moka::sync::Cache::new(MAX_REMEMBERED),
            counts: Default::default(),
        }
    }

    /// Nothing is begun any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// How often there was which outcome.
    pub fn counted(&self) -> [(PrefetchOutcome, u64); PrefetchOutcome::ALL.len()] {
        PrefetchOutcome::ALL.map(|outcome| (outcome, self.counts[outcome as usize].load(Ordering::Relaxed)))
    }

    fn is_on(&self) -> bool {
        self.enabled && !self.stopped.load(Ordering::Relaxed)
    }

    /// Whether a page was prefetched lately.
    fn remembers(&self, key: &PageKey) -> bool {
        self.lately.get(key).is_some_and(|begun| begun.elapsed() < REMEMBERED)
    }

    fn count(&self, outcome: PrefetchOutcome) {
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Flow {
    /// Begins to fetch the pages that a client needs next to which this core metadata is given.
    pub(super) fn prefetch_needed(&self, route: &Arc<Route>, metadata: &[u8]) {
        let prefetches = &self.shared.prefetches;
        if !prefetches.is_on() || Priority::current() == Priority::Background {
            return;
        }
        for project in wheel::unconditional_requirements(metadata) {
            let key = route.key(&project);
            if prefetches.remembers(&key) || !self.is_wanted(&key) {
                continue;
            }
            let Ok(waiting) = Arc::clone(&prefetches.waiting).try_acquire_owned() else {
                prefetches.count(PrefetchOutcome::Skipped);
                continue;
            };
            let (flow, route) = (self.clone(), Arc::clone(route));
            Priority::Background.start(|| {
                self.shared.tasks.spawn_loop("prefetch page", async move {
                    flow.prefetch(&route, &key).await;
                    drop(waiting);
                });
            });
        }
    }

    /// Whether who asks for this page would have to wait, and nothing speaks against asking upstream for it.
    fn is_wanted(&self, key: &PageKey) -> bool {
        let must_wait = self.shared.pages.get(key).is_none_or(|held| {
            matches!(self.shared.policy.decide(held.fetched.age()), Decision::Refetch | Decision::Expired)
        });
        must_wait && !self.is_known_missing(key) && !self.is_in_trouble(key)
    }

    /// Fetches a page when its turn has come, if it is still wanted then.
    async fn prefetch(&self, route: &Arc<Route>, key: &PageKey) {
        let prefetches = &self.shared.prefetches;
        let Ok(place) = Arc::clone(&prefetches.places).acquire_owned().await else { return };
        if self.shared.pages.get(key).is_none() && self.is_wanted(key) {
            self.load(key).await;
        }
        if !self.is_wanted(key) {
            return;
        }
        if !prefetches.is_on() || !route.has_room() {
            return prefetches.count(PrefetchOutcome::Skipped);
        }
        prefetches.lately.insert(key.clone(), Instant::now());
        self.fetch_ahead(route, key, place);
    }

    /// Starts the fetch of a page that nobody has asked for, unless it is being fetched.
    fn fetch_ahead(&self, route: &Arc<Route>, key: &PageKey, place: OwnedSemaphorePermit) {
        let (flow, route, wanted) = (self.clone(), Arc::clone(route), key.clone());
        self.shared.fetches.join(key.clone(), &self.shared.tasks, "prefetch page", || {
            let (sender, waiter) = watch::channel(None);
            (waiter, async move {
                let asked = flow.ask_quietly(&route, &wanted).await;
                drop(place);
                flow.shared.prefetches.count(match &asked {
                    Ok(_) => PrefetchOutcome::Fetched,
                    Err(NotFetched::Missing(_)) => PrefetchOutcome::Missing,
                    Err(NotFetched::Failed(..)) => PrefetchOutcome::Failed,
                });
                let fetched = match asked {
                    Err(NotFetched::Failed(error, detail)) => {
                        tracing::debug!(route = %route.name, project = %wanted.project, detail, "a page could not be prefetched");
                        // One of the receivers is that of the flight itself; the others are people who have asked meanwhile
                        // and would not have met this failure.
                        let is_awaited = sender.receiver_count() > 1;
                        match error {
                            Error::Unavailable { .. } if is_awaited => flow.ask_upstream(&route, &wanted).await,
                            error => Err(error),
                        }
                    }
                    asked => asked.map_err(NotFetched::into_error),
                };
                sender.send_replace(Some(fetched));
            })
        });
    }
}

//! What the index says, from memory over a persisted copy over upstream: one mechanism for project pages and for
//! project lists.
//!
//! ```text
//! get ─► in memory? ─no─► persisted? ─► decide by age ─► Fresh: serve
//!                                         │ Revalidate: serve, fetch in the background
//!                                         │ Refetch: fetch; serve the held record if that fails or takes long, and
//!                                         │   at once while upstream is known to be down
//!                                         └ Expired, missing: fetch
//! ```
//!
//! What another replica said has changed is as *Refetch*, however young it is. Where CodeArtifact's events tell of
//! every change, what is older than it may be otherwise can be *Fresh*.
//!
//! A fetch is single-flight and runs in a background task: a client that disconnects cancels nothing.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::doubts::Doubts;
pub(super) use super::fetch_terms::{FetchError, Need};
use super::negative::{NegativeEntries, NegativeEntry, NegativeReason};
use super::{Error, Lookup, REQUEST_TIMEOUT, Route, Served, role_served};
use crate::cache::{Decision, FetchedAt, Policy, Record, Records, Weighted};
use wheelport_runtime::{Joined, Priority, Role, SingleFlight, Tasks, Waits, blocking, sabotaged};

/// How long a request waits for upstream while it has a usable stale record.
const STALE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where records come from.
pub(super) trait IndexSource: Send + Sync + Sized + 'static {
    type Key: Clone + Eq + Hash + Debug + Send + Sync + 'static;
    type Content: Weighted;

    /// Brings the persisted copy into memory. Blocking.
    fn load(cache: &IndexCache<Self>, key: &Self::Key) -> Option<Record<Self::Content>>;

    /// Whether what was fetched then is fresh although it is older than `fresh_for`.
    fn is_covered(&self, _route: &Arc<Route>, _key: &Self::Key, _fetched: &FetchedAt) -> bool {
        false
    }

    /// Asks what replicas share, as far as that will do, or upstream, and holds what it says, or sets the negative
    /// entry that it leads to.
    fn fetch(
        cache: IndexCache<Self>,
        route: Arc<Route>,
        key: Self::Key,
        need: Need,
    ) -> impl Future<Output = Result<Record<Self::Content>, FetchError>> + Send;
}

/// How long things are believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetimes {
    pub policy: Policy,
    /// How long an absence is believed without asking upstream again.
    pub absent_for: Duration,
    /// How long upstream is not asked again about a held record of which it said once that it is absent.
    pub doubt_for: Duration,
}

/// A record and how the response came about.
pub struct IndexView<C> {
    pub content: Arc<C>,
    pub fetched: FetchedAt,
    pub served: Served,
}

type Fetched<S> = Result<Record<<S as IndexSource>::Content>, FetchError>;
/// By role, too: one role's fetch says nothing of what another may read. By need, too: a fetch that began before a
/// change was heard of does not know it.
type FetchKey<S> = (Option<Arc<str>>, <S as IndexSource>::Key, Need);
type Loaded<S> = Option<Record<<S as IndexSource>::Content>>;

/// The records of one kind. Cheap to clone.
pub(super) struct IndexCache<S: IndexSource> {
    inner: Arc<IndexInner<S>>,
}

struct IndexInner<S: IndexSource> {
    source: S,
    records: Records<S::Key, S::Content>,
    negative: NegativeEntries<S::Key>,
    doubts: Doubts<S::Key>,
    lifetimes: Lifetimes,
    loads: SingleFlight<S::Key, Joined<Loaded<S>>>,
    fetches: SingleFlight<FetchKey<S>, Joined<Fetched<S>>>,
    tasks: Tasks,
}

impl<S: IndexSource> Clone for IndexCache<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<C> IndexView<C> {
    fn new(record: Record<C>, served: Served) -> Self {
        Self { content: record.content, fetched: record.fetched, served }
    }
}

impl<S: IndexSource> IndexCache<S> {
    /// Records of `memory` bytes together over a source.
    pub(super) fn new(source: S, memory: u64, lifetimes: Lifetimes, tasks: Tasks) -> Self {
        let inner = IndexInner {
            source,
            records: Records::new(memory),
            negative: NegativeEntries::default(),
            doubts: Doubts::default(),
            lifetimes,
            loads: SingleFlight::default(),
            fetches: SingleFlight::default(),
            tasks,
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn source(&self) -> &S {
        &self.inner.source
    }

    pub(super) fn records(&self) -> &Records<S::Key, S::Content> {
        &self.inner.records
    }

    /// What is served for a key.
    pub(super) fn get(&self, route: &Arc<Route>, key: S::Key) -> Lookup<IndexView<S::Content>> {
        if !route.may_read_cache() {
            let (cache, route) = (self.clone(), Arc::clone(route));
            return Lookup::miss(async move { cache.fetched(&route, &key, cache.need(&key), REQUEST_TIMEOUT).await });
        }
        let held = self.inner.records.get(&key);
        match &held {
            Some(record) => {
                if let Some(served) = self.usable(route, &key, record) {
                    return Lookup::Hit(IndexView::new(record.clone(), served));
                }
            }
            None => {
                if let Some(error) = self.absent(&key) {
                    return Lookup::error(error);
                }
            }
        }
        let (cache, route) = (self.clone(), Arc::clone(route));
        Lookup::miss(async move { cache.get_missed(&route, &key, held).await })
    }

    async fn get_missed(
        &self,
        route: &Arc<Route>,
        key: &S::Key,
        held: Loaded<S>,
    ) -> Result<IndexView<S::Content>, Error> {
        let held = if let Some(record) = held {
            record
        } else {
            // While it was looked for on disk, another request may have fetched it.
            let found = self.load(key).await.or_else(|| self.records().get(key));
            let Some(record) = found else {
                return self.fetched(route, key, self.need(key), REQUEST_TIMEOUT).await;
            };
            if let Some(served) = self.usable(route, key, &record) {
                return Ok(IndexView::new(record, served));
            }
            record
        };
        if self.decide(route, key, &held) == Decision::Expired {
            return self.fetched(route, key, self.need(key), REQUEST_TIMEOUT).await;
        }
        let began = Instant::now();
        let timeout = if sabotaged("stale-second") { REQUEST_TIMEOUT } else { STALE_TIMEOUT };
        match self.fetched(route, key, self.need(key), timeout).await {
            Err(Error::Unavailable { .. } | Error::Internal { .. }) => {
                if began.elapsed() >= STALE_TIMEOUT {
                    route.standing.was_slow();
                }
                Ok(IndexView::new(held, Served::Stale))
            }
            fetched => fetched,
        }
    }

    /// The record, asked from upstream now unless the held one is younger than `age`.
    pub(super) async fn younger_than(
        &self,
        route: &Arc<Route>,
        key: &S::Key,
        age: Duration,
    ) -> Result<IndexView<S::Content>, Error> {
        match self.inner.records.get(key) {
            Some(record)
                if route.may_read_cache()
                    && record.fetched.age() < age
                    && self.inner.doubts.of(key, &record.fetched).is_none() =>
            {
                Ok(IndexView::new(record, Served::Hit))
            }
            _ => self.fetched(route, key, Need::Upstream, REQUEST_TIMEOUT).await,
        }
    }

    /// The held record, of whatever age.
    pub(super) async fn held(&self, key: &S::Key) -> Loaded<S> {
        match self.inner.records.get(key) {
            Some(record) => Some(record),
            None => self.load(key).await,
        }
    }

    /// Whether a request for this key would have to wait for upstream, and nothing speaks against asking.
    pub(super) fn needs_fetch(&self, route: &Arc<Route>, key: &S::Key) -> bool {
        let must_wait = self
            .inner
            .records
            .get(key)
            .is_none_or(|held| matches!(self.decide(route, key, &held), Decision::Refetch | Decision::Expired));
        must_wait && self.absent(key).is_none() && !self.backs_off(key)
    }

    /// How a held record may be served without waiting. One that is due is fetched in the background.
    fn usable(&self, route: &Arc<Route>, key: &S::Key, held: &Record<S::Content>) -> Option<Served> {
        match self.decide(route, key, held) {
            Decision::Fresh => Some(Served::Hit),
            Decision::Revalidate | Decision::Refetch if self.backs_off(key) => Some(Served::Stale),
            Decision::Revalidate => {
                self.fetch_in_background(route, key);
                Some(Served::Revalidating)
            }
            // One request has found out for all of them; the fetches in the background notice when it is over.
            Decision::Refetch if route.is_down() && !sabotaged("known-outage") => {
                self.fetch_in_background(route, key);
                Some(Served::Stale)
            }
            Decision::Refetch | Decision::Expired => None,
        }
    }

    /// The client that gets this response does not wait for the next one.
    fn fetch_in_background(&self, route: &Arc<Route>, key: &S::Key) {
        Priority::Background.start(|| self.fetch(route, key, self.need(key)));
    }

    fn decide(&self, route: &Arc<Route>, key: &S::Key, held: &Record<S::Content>) -> Decision {
        let by_age = self.inner.lifetimes.policy.decide(held.fetched.age());
        match by_age {
            Decision::Fresh | Decision::Revalidate if self.inner.doubts.of(key, &held.fetched).is_some() => {
                Decision::Refetch
            }
            Decision::Fresh => Decision::Fresh,
            _ if self.inner.doubts.of(key, &held.fetched).is_some() => by_age,
            _ if self.inner.source.is_covered(route, key, &held.fetched) => Decision::Fresh,
            _ => by_age,
        }
    }

    /// Whether a record of this age is too old to be served at all.
    pub(super) fn is_expired(&self, age: Duration) -> bool {
        self.inner.lifetimes.policy.decide(age) == Decision::Expired
    }

    /// What a fetch has to bring that a request causes.
    fn need(&self, key: &S::Key) -> Need {
        Need::Shared(self.inner.doubts.latest(key))
    }

    pub(super) fn doubts(&self) -> &Doubts<S::Key> {
        &self.inner.doubts
    }

    /// How long a record is served without asking.
    pub(super) fn fresh_for(&self) -> Duration {
        self.inner.lifetimes.policy.fresh_for
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    /// Brings the persisted copy into memory, if there is one.
    pub(super) async fn load(&self, key: &S::Key) -> Loaded<S> {
        let (cache, wanted) = (self.clone(), key.clone());
        let (joined, _) = self.inner.loads.run(key.clone(), &self.inner.tasks, "load record", || async move {
            blocking(move || S::load(&cache, &wanted)).await.ok().flatten()
        });
        Waits::note("disk", joined.within(REQUEST_TIMEOUT)).await.ok().flatten()
    }

    async fn fetched(
        &self,
        route: &Arc<Route>,
        key: &S::Key,
        need: Need,
        timeout: Duration,
    ) -> Result<IndexView<S::Content>, Error> {
        let until = Instant::now() + timeout;
        loop {
            let (joined, role) = self.fetch(route, key, need);
            let waiting = joined.within(until.saturating_duration_since(Instant::now()));
            match Waits::note("index", waiting).await? {
                Ok(record) => return Ok(IndexView::new(record, role_served(role))),
                Err(FetchError::Prefetch) if role == Role::Follower => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Starts or joins the fetch of a record.
    fn fetch(&self, route: &Arc<Route>, key: &S::Key, need: Need) -> (Joined<Fetched<S>>, Role) {
        let (cache, route, wanted) = (self.clone(), Arc::clone(route), key.clone());
        let flight = (route.reader.clone(), key.clone(), need);
        self.inner.fetches.run(flight, &self.inner.tasks, "fetch record", || async move {
            let fetched = S::fetch(cache.clone(), Arc::clone(&route), wanted.clone(), need).await;
            if let Ok(record) = &fetched {
                cache.inner.doubts.settle(&wanted, &record.fetched);
            }
            if let Err(FetchError::Failed(_, detail)) = &fetched {
                // The failure of a role that may not read says nothing to those that may.
                if route.may_read_cache() {
                    cache.set_negative(&wanted, NegativeReason::Failed);
                }
                tracing::warn!(route = %route.name, key = ?wanted, detail, "the index could not be fetched");
            }
            fetched
        })
    }

    /// Starts the fetch of a record that no client has asked for, unless it is being fetched; `done` gets the outcome.
    pub(super) fn fetch_ahead(
        &self,
        route: &Arc<Route>,
        key: &S::Key,
        done: impl FnOnce(Result<(), &FetchError>) + Send + 'static,
    ) {
        let (cache, route, wanted) = (self.clone(), Arc::clone(route), key.clone());
        let need = self.need(key);
        let flight = (route.reader.clone(), key.clone(), need);
        self.inner.fetches.run(flight, &self.inner.tasks, "prefetch record", || async move {
            let fetched = S::fetch(cache, Arc::clone(&route), wanted.clone(), need).await;
            done(fetched.as_ref().map(drop));
            match fetched {
                Err(FetchError::Failed(_, detail)) => {
                    tracing::debug!(route = %route.name, key = ?wanted, detail, "a prefetch failed");
                    Err(FetchError::Prefetch)
                }
                fetched => fetched,
            }
        });
    }

    /// The error for a key of which upstream said recently that there is nothing.
    fn absent(&self, key: &S::Key) -> Option<Error> {
        self.inner.negative.absent(key, self.inner.lifetimes.absent_for)
    }

    /// Whether upstream is not asked about this key for a moment, because there is something to serve.
    fn backs_off(&self, key: &S::Key) -> bool {
        self.inner.negative.backs_off(key, self.inner.lifetimes.doubt_for)
    }

    pub(super) fn negative(&self, key: &S::Key) -> Option<NegativeEntry> {
        self.inner.negative.get(key)
    }

    /// How many keys are known to be missing or failing.
    pub(super) fn negative_entries(&self) -> u64 {
        self.inner.negative.count()
    }

    pub(super) fn set_negative(&self, key: &S::Key, reason: NegativeReason) {
        self.inner.negative.set(key, reason);
    }

    pub(super) fn clear_negative(&self, key: &S::Key) {
        self.inner.negative.clear(key);
    }
}

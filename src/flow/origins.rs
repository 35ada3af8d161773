//! Where projects come from: published to the domain, or from outside through an external connection.
//!
//! CodeArtifact's control plane says so. What it said is kept in memory and on disk, and used while it cannot be asked.
//! Only names that are declared private depend on it: for all others, not knowing is an answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::error::Error;
use super::route::{OriginFacts, Route};
use crate::cache::{PageKey, PersistedIndex, RepositoryId, origin_path};
use crate::policy::{Moment, NamedVersions, PackageOrigin};
use wheelport_index::{ProjectName, VersionSegment};
use wheelport_runtime::{Clock, Joined, Priority, SingleFlight, Tasks, Waits, blocking};

/// Projects whose origin is held in memory.
const MOST: u64 = 50_000;
/// After that time, what is known is asked for again, in seconds.
const RENEW_AFTER: u64 = 600;
/// After that time without being confirmed, nothing is believed for freshness, in seconds.
const BELIEVED_FOR: u64 = 3600;
/// How long what is old is used until it is looked at again, in seconds.
const LOOK_AGAIN: u64 = 30;
/// How long a request waits where not knowing is an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits where it is none.
const PATIENCE_FOR_PRIVATE: Duration = Duration::from_secs(9);
/// How long nothing is asked of a project after a failure.
const BACKOFF: Duration = Duration::from_secs(15);
/// The same where the role lacks the permission, which does not come by itself.
const BACKOFF_AFTER_DENIAL: Duration = Duration::from_mins(5);
/// Names on both sides that are remembered.
const MOST_BOTH: usize = 10_000;

/// The origins of one project.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProjectOrigins {
    facts: OriginFacts,
    /// When that was said, in seconds since the Unix epoch.
    asked: u64,
    #[serde(skip)]
    versions: HashMap<String, PackageOrigin, RandomState>,
}

/// The origins of all projects. Cheap to clone.
#[derive(Clone)]
pub(super) struct Origins {
    inner: Arc<OriginsInner>,
}

type AskedOrigins = Joined<Result<Arc<ProjectOrigins>, Error>>;

struct OriginsInner {
    persisted: Arc<PersistedIndex>,
    held: moka::sync::Cache<PageKey, Arc<ProjectOrigins>, RandomState>,
    failed: moka::sync::Cache<PageKey, (Instant, Error), RandomState>,
    asking: SingleFlight<(PageKey, bool), AskedOrigins>,
    /// Names that have versions from outside and of the domain.
    both: Mutex<HashSet<PageKey>>,
    clock: Clock,
    tasks: Tasks,
}

impl ProjectOrigins {
    fn new(facts: OriginFacts, asked: u64) -> Self {
        Self { versions: by_version(&facts), facts, asked }
    }

    /// Where a version comes from, as far as that is known.
    pub(super) fn of(&self, version: &VersionSegment) -> Option<PackageOrigin> {
        if let Some(origin) = self.versions.get(&NamedVersions::normalised(version.as_str())) {
            return Some(*origin);
        }
        match self.facts {
            OriginFacts { upstream: false, .. } => Some(PackageOrigin::Internal),
            OriginFacts { publish: false, upstream: true, .. } => Some(PackageOrigin::External),
            OriginFacts { .. } => None,
        }
    }

    /// When it has to be looked at again.
    pub(super) fn renewed_at(&self, now: Moment) -> Moment {
        Moment((self.asked + RENEW_AFTER).max(now.0 + LOOK_AGAIN))
    }

    fn is_on_both_sides(&self) -> bool {
        let has = |wanted| self.versions.values().any(|origin| *origin == wanted);
        has(PackageOrigin::Internal) && (has(PackageOrigin::External) || self.facts.upstream)
    }
}

fn by_version(facts: &OriginFacts) -> HashMap<String, PackageOrigin, RandomState> {
    facts.versions.iter().flatten().map(|(version, origin)| (NamedVersions::normalised(version), *origin)).collect()
}

impl Origins {
    pub(super) fn new(persisted: Arc<PersistedIndex>, clock: Clock, tasks: Tasks) -> Self {
        let held = moka::sync::Cache::builder().max_capacity(MOST).build_with_hasher(RandomState::default());
        let failed = moka::sync::Cache::builder().max_capacity(MOST).build_with_hasher(RandomState::default());
        let (asking, both) = (SingleFlight::default(), Mutex::default());
        Self { inner: Arc::new(OriginsInner { persisted, held, failed, asking, both, clock, tasks }) }
    }

    /// The origins of a project. A name that is private has to be known by versions, and not to know them is an error;
    /// for others it is none.
    pub(super) async fn get(
        &self,
        route: &Arc<Route>,
        project: &ProjectName,
        is_private: bool,
    ) -> Result<Option<Arc<ProjectOrigins>>, Error> {
        let key = route.key(project);
        let held = match self.inner.held.get(&key) {
            Some(held) => Some(held),
            None => self.load(&key).await,
        };
        let suffices = |held: &Arc<ProjectOrigins>| !is_private || held.facts.versions.is_some();
        if let Some(held) = held.filter(suffices) {
            let age = self.inner.clock.unix_seconds().saturating_sub(held.asked);
            if age >= RENEW_AFTER && self.backs_off(&key).is_none() {
                Priority::Background.start(|| self.ask(route, key, is_private));
            }
            return Ok(Some(held));
        }
        let asked = if let Some(error) = self.backs_off(&key) {
            Err(error)
        } else if !is_private && self.inner.failed.contains_key(&key) {
            // One request has waited in vain. What it has found out is there for the others.
            Priority::Background.start(|| self.ask(route, key, is_private));
            return Ok(None);
        } else {
            let patience = if is_private { PATIENCE_FOR_PRIVATE } else { PATIENCE };
            let asked = self.ask(route, key, is_private).within(patience);
            Waits::note("origin", asked).await.unwrap_or_else(|error| Err(error.into()))
        };
        match asked {
            Ok(origins) => Ok(Some(origins)),
            Err(error) if is_private => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What is known of a project without asking. Blocking.
    pub(super) fn known(&self, key: &PageKey) -> Option<Arc<ProjectOrigins>> {
        if let Some(held) = self.inner.held.get(key) {
            return Some(held);
        }
        let (found, _) = self.inner.persisted.load::<ProjectOrigins>(&origin_path(key), |_| true)?;
        let found = Arc::new(ProjectOrigins::new(found.facts, found.asked));
        self.hold(key, &found);
        Some(found)
    }

    /// Whether a project can have versions of the domain only, as far as that is known without waiting. Where it is
    /// not, it is asked for.
    pub(super) fn is_internal(&self, route: &Arc<Route>, project: &ProjectName) -> Option<bool> {
        let key = route.key(project);
        let held = self.inner.held.get(&key);
        let now = self.inner.clock.unix_seconds();
        let age = held.as_ref().map(|held| now.saturating_sub(held.asked));
        if age.is_none_or(|age| age >= RENEW_AFTER) && self.backs_off(&key).is_none() {
            Priority::Background.start(|| self.ask(route, key, false));
        }
        held.filter(|_| age.is_some_and(|age| age < BELIEVED_FOR)).map(|held| !held.facts.upstream)
    }

    /// A version was published: the controls of a new project were set by that. Blocking.
    pub(super) fn forget(&self, key: &PageKey) {
        if let Err(error) = self.inner.persisted.remove(&origin_path(key)) {
            tracing::warn!(%error, "what was known of where a project comes from could not be removed");
        }
        self.inner.held.invalidate(key);
        self.inner.failed.invalidate(key);
    }

    /// How many names of a repository are known to have versions of both origins.
    pub(super) fn on_both_sides(&self, repository: &RepositoryId) -> usize {
        self.inner.both.lock().iter().filter(|key| key.repository == *repository).count()
    }

    fn backs_off(&self, key: &PageKey) -> Option<Error> {
        let (at, error) = self.inner.failed.get(key)?;
        let wait = if matches!(error, Error::Denied { .. }) { BACKOFF_AFTER_DENIAL } else { BACKOFF };
        (at.elapsed() < wait).then_some(error)
    }

    async fn load(&self, key: &PageKey) -> Option<Arc<ProjectOrigins>> {
        let (origins, wanted) = (self.clone(), key.clone());
        blocking(move || origins.known(&wanted)).await.ok()?
    }

    fn hold(&self, key: &PageKey, origins: &Arc<ProjectOrigins>) {
        self.inner.held.insert(key.clone(), Arc::clone(origins));
        self.inner.failed.invalidate(key);
        let mut both = self.inner.both.lock();
        if !origins.is_on_both_sides() {
            both.remove(key);
        } else if both.len() < MOST_BOTH && both.insert(key.clone()) {
            tracing::warn!(project = %key.project, "a project may have versions from outside beside the domain's own");
        }
    }

    fn ask(&self, route: &Arc<Route>, key: PageKey, with_versions: bool) -> AskedOrigins {
        let (origins, route) = (self.clone(), Arc::clone(route));
        let flight = (key.clone(), with_versions);
        let (joined, _) = self.inner.asking.run(flight, &self.inner.tasks, "ask for origin", || async move {
            match route.projects.origins(&key.project, with_versions).await {
                Ok(facts) => Ok(origins.take_in(&key, facts).await),
                Err(error) => {
                    let project = &key.project;
                    tracing::warn!(route = %route.name, %project, %error, "where a project comes from is not known");
                    origins.inner.failed.insert(key, (Instant::now(), error.clone()));
                    Err(error)
                }
            }
        });
        joined
    }

    async fn take_in(&self, key: &PageKey, facts: OriginFacts) -> Arc<ProjectOrigins> {
        let found = Arc::new(ProjectOrigins::new(facts, self.inner.clock.unix_seconds()));
        self.hold(key, &found);
        let (origins, key, kept) = (self.clone(), key.clone(), Arc::clone(&found));
        let written = blocking(move || origins.inner.persisted.persist(&origin_path(&key), &*kept));
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "where a project comes from could not be recorded");
        }
        found
    }
}

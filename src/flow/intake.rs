//! When the repository took versions in. Of files that have no date and stood on the first page that was recorded of
//! their project, it proves an age that this cache cannot have seen itself.
//!
//! CodeArtifact's control plane tells it of one version at a time. So only versions are asked about of which something
//! depends on it, each once, some at a time: what was found out is kept for ever, because a file that was there at a
//! moment stays that old. What is not known proves nothing, and no request waits long for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::error::Error;
use super::route::Route;
use crate::cache::{PageKey, PersistedIndex, intake_path};
use crate::policy::{Moment, NamedVersions};
use wheelport_index::{ProjectName, VersionSegment};
use wheelport_runtime::{Joined, SingleFlight, Tasks, Waits, blocking};

/// Projects whose intake is held in memory.
const MOST: u64 = 10_000;
/// Versions that are asked about in one go; the others when the page is looked at again.
const MOST_AT_ONCE: usize = 64;
/// Questions that are open at the same time.
const OPEN_QUESTIONS: usize = 4;
/// How long a request waits for the answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nothing is asked of a project after a failure.
const BACKOFF: Duration = Duration::from_secs(15);
/// The same where the role lacks the permission, which does not come by itself.
const BACKOFF_AFTER_DENIAL: Duration = Duration::from_mins(5);

/// What is known of the versions of one project, by their normalised names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct ProjectIntake {
    /// In seconds since the Unix epoch; none where the repository did not have the version.
    versions: BTreeMap<String, Option<u64>>,
}

/// What is known of the versions that were asked about.
pub(super) struct KnownIntake {
    pub intake: Arc<ProjectIntake>,
    /// Whether more may become known.
    pub is_waiting: bool,
}

/// The intake of all projects. Cheap to clone.
#[derive(Clone)]
pub(super) struct Intake {
    inner: Arc<IntakeInner>,
}

struct IntakeInner {
    persisted: Arc<PersistedIndex>,
    held: moka::sync::Cache<PageKey, Arc<ProjectIntake>, RandomState>,
    failed: moka::sync::Cache<PageKey, (Instant, Duration), RandomState>,
    asking: SingleFlight<PageKey, Joined<()>>,
    tasks: Tasks,
}

impl ProjectIntake {
    /// When the repository took a version in, as far as that is known.
    pub(super) fn of(&self, version: &VersionSegment) -> Option<Moment> {
        self.versions.get(&NamedVersions::normalised(version.as_str())).copied().flatten().map(Moment)
    }

    /// Versions of which nothing is known yet, not even that the repository has none.
    fn unknown<'a>(&self, wanted: &'a [String]) -> Vec<&'a String> {
        wanted.iter().filter(|version| !self.versions.contains_key(*version)).collect()
    }
}

impl Intake {
    pub(super) fn new(persisted: Arc<PersistedIndex>, tasks: Tasks) -> Self {
        let held = moka::sync::Cache::builder().max_capacity(MOST).build_with_hasher(RandomState::default());
        let failed = moka::sync::Cache::builder().max_capacity(MOST).build_with_hasher(RandomState::default());
        let asking = SingleFlight::default();
        Self { inner: Arc::new(IntakeInner { persisted, held, failed, asking, tasks }) }
    }

    /// What is known of these versions of a project, after asking about those of which nothing is.
    pub(super) async fn get(
        &self,
        route: &Arc<Route>,
        project: &ProjectName,
        versions: &[VersionSegment],
    ) -> KnownIntake {
        let key = route.key(project);
        let mut wanted: Vec<String> =
            versions.iter().map(|version| NamedVersions::normalised(version.as_str())).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let known = self.known(&key).await;
        if known.unknown(&wanted).is_empty() {
            return KnownIntake { intake: known, is_waiting: false };
        }
        if !self.backs_off(&key) {
            let asked = self.ask(route, key.clone(), wanted.clone()).within(PATIENCE);
            let _ = Waits::note("intake", asked).await;
        }
        let known = self.known(&key).await;
        let is_waiting = !known.unknown(&wanted).is_empty();
        KnownIntake { intake: known, is_waiting }
    }

    /// What is known without asking.
    pub(super) async fn known(&self, key: &PageKey) -> Arc<ProjectIntake> {
        if let Some(held) = self.inner.held.get(key) {
            return held;
        }
        let (persisted, path) = (Arc::clone(&self.inner.persisted), intake_path(key));
        let loaded = blocking(move || persisted.load::<ProjectIntake>(&path, |_| true)).await;
        let loaded = loaded.ok().flatten().map(|(found, _)| Arc::new(found)).unwrap_or_default();
        // An answer that has come meanwhile knows more.
        self.inner.held.get_with_by_ref(key, || loaded)
    }

    fn backs_off(&self, key: &PageKey) -> bool {
        self.inner.failed.get(key).is_some_and(|(at, wait)| at.elapsed() < wait)
    }

    fn ask(&self, route: &Arc<Route>, key: PageKey, wanted: Vec<String>) -> Joined<()> {
        let (intake, route) = (self.clone(), Arc::clone(route));
        let (joined, _) = self.inner.asking.run(key.clone(), &self.inner.tasks, "ask for intake", || async move {
            let before = intake.known(&key).await;
            let unknown: Vec<String> = before.unknown(&wanted).into_iter().cloned().collect();
            let mut found = (*before).clone();
            if let Err(error) = found.learn(&route, &key.project, unknown).await {
                let wait = if matches!(error, Error::Denied { .. }) { BACKOFF_AFTER_DENIAL } else { BACKOFF };
                tracing::warn!(
                    route = %route.name, project = %key.project, %error,
                    "when versions came into the repository is not known"
                );
                intake.inner.failed.insert(key.clone(), (Instant::now(), wait));
            }
            if found.versions.len() > before.versions.len() {
                intake.take_in(key, found).await;
            }
        });
        joined
    }

    async fn take_in(&self, key: PageKey, found: ProjectIntake) {
        let (found, persisted) = (Arc::new(found), Arc::clone(&self.inner.persisted));
        self.inner.held.insert(key.clone(), Arc::clone(&found));
        let written = blocking(move || persisted.persist(&intake_path(&key), &*found));
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "when versions came into the repository could not be recorded");
        }
    }
}

impl ProjectIntake {
    /// Asks about versions, and keeps what was found out until something failed.
    async fn learn(&mut self, route: &Route, project: &ProjectName, unknown: Vec<String>) -> Result<(), Error> {
        if unknown.is_empty() {
            return Ok(());
        }
        let retained = route.projects.versions(project).await?;
        let mut retained: HashMap<String, String> =
            retained.into_iter().map(|version| (NamedVersions::normalised(&version), version)).collect();
        let mut there = Vec::new();
        for version in unknown {
            match retained.remove(&version) {
                Some(spelling) => there.push((version, spelling)),
                // What comes in from now on was seen here before.
                None => drop(self.versions.insert(version, None)),
            }
        }
        let asked = there
            .into_iter()
            .take(MOST_AT_ONCE)
            .map(|(version, spelling)| async move { (version, route.projects.taken_in(project, &spelling).await) });
        let mut answers = stream::iter(asked).buffer_unordered(OPEN_QUESTIONS);
        while let Some((version, answer)) = answers.next().await {
            self.versions.insert(version, answer?.map(|Moment(seconds)| seconds));
        }
        Ok(())
    }
}

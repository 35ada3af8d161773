//! What a list of projects says of each: gathered from pages, metadata and files that this process holds, never from
//! upstream.
//!
//! Facts are kept for a minute, and made again as soon as another page of the project is in memory or the rules change.
//! A request waits a moment for those that are missing; gathering goes on without it.

use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::sync::Semaphore;

use super::intake::ProjectIntake;
use super::{PageService, Route, ShownPage};
use crate::cache::{Blobs, CoreMetadataRecord, MetadataStore, PageContent};
use crate::policy::PackageOrigin;
use wheelport_index::{File, FileKind, ProjectName, Releases, shortened, wheel};
use wheelport_runtime::{Joined, SingleFlight, Tasks, Waits, blocking, sabotaged};

/// Projects whose facts are kept.
const MOST: u64 = 20_000;
/// How long they are kept.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// How long a request waits for facts that are not there.
const PATIENCE: Duration = Duration::from_millis(50);
/// The longest summary, in characters.
const SUMMARY: usize = 240;
/// How much of core metadata is searched for its summary, in bytes.
const SUMMARY_WITHIN: usize = 64 << 10;

/// What is known of a project without asking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectFacts {
    /// The newest release that an installer would choose, where a page is held.
    pub newest: Option<NewestRelease>,
    /// Where it comes from, where that is known.
    pub origin: Option<PackageOrigin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestRelease {
    pub version: String,
    /// When its first file was uploaded, as the index says.
    pub uploaded: Option<String>,
    /// As the core metadata says, where that is held.
    pub summary: Option<String>,
    /// Whether one of its files is stored here.
    pub is_cached: bool,
    pub is_yanked: bool,
    /// Whether rules refuse all of its files.
    pub is_refused: bool,
}

#[derive(Clone)]
struct KeptFacts {
    facts: Arc<ProjectFacts>,
    /// Of the page that they are from, if there was one.
    content: Option<u64>,
    /// Of the rules.
    revision: u64,
}

type FactsKey = (u64, ProjectName);

/// The facts of projects. Cheap to clone.
#[derive(Clone)]
pub(super) struct KnownProjects {
    inner: Arc<KnownInner>,
}

struct KnownInner {
    pages: PageService,
    metadata: MetadataStore,
    blobs: Blobs,
    kept: moka::sync::Cache<FactsKey, KeptFacts, RandomState>,
    gathering: SingleFlight<FactsKey, Joined<()>>,
    /// The turn to gather: reading many pages is for one at a time.
    turn: Semaphore,
    tasks: Tasks,
}

impl KnownProjects {
    pub(super) fn new(pages: PageService, metadata: MetadataStore, blobs: Blobs, tasks: Tasks) -> Self {
        let kept = moka::sync::Cache::builder()
            .max_capacity(MOST)
            .time_to_live(KEPT_FOR)
            .build_with_hasher(RandomState::default());
        let (gathering, turn) = (SingleFlight::default(), Semaphore::new(1));
        Self { inner: Arc::new(KnownInner { pages, metadata, blobs, kept, gathering, turn, tasks }) }
    }

    /// The facts of these projects, as far as they are there in time. None for an index as of a date, of which a list
    /// would have to read every page.
    pub(super) async fn of(&self, route: &Arc<Route>, names: &[ProjectName]) -> Vec<Option<Arc<ProjectFacts>>> {
        if route.as_of.is_some() || !route.may_read_cache() {
            return vec![None; names.len()];
        }
        let missing: Vec<_> = names.iter().filter(|name| self.kept(route, name).is_none()).cloned().collect();
        if let Some(first) = missing.first() {
            let (known, route) = (self.clone(), Arc::clone(route));
            let key = (route.id, first.clone());
            let (joined, _) = self.inner.gathering.run(key, &self.inner.tasks, "gather facts", || async move {
                let _turn = known.inner.turn.acquire().await;
                for name in missing {
                    known.gather(&route, name).await;
                }
            });
            let _ = Waits::note("facts", joined.within(PATIENCE)).await;
        }
        names.iter().map(|name| self.kept(route, name)).collect()
    }

    fn kept(&self, route: &Route, name: &ProjectName) -> Option<Arc<ProjectFacts>> {
        let kept = self.inner.kept.get(&(route.id, name.clone()))?;
        let in_memory = self.inner.pages.content_in_memory(route, name);
        let is_current = kept.revision == self.inner.pages.judge().policy().revision()
            && (in_memory.is_none() || in_memory == kept.content);
        is_current.then_some(kept.facts)
    }

    async fn gather(&self, route: &Arc<Route>, name: ProjectName) {
        if self.kept(route, &name).is_some() {
            return;
        }
        let revision = self.inner.pages.judge().policy().revision();
        let held = self.inner.pages.held(route, &name).await.map(|record| record.content);
        let content = held.as_ref().map(|content| content.id);
        let (known, of) = (self.clone(), Arc::clone(route));
        let intake = self.inner.pages.judge().intake_known(route, &name).await;
        let facts = match held {
            Some(held) => blocking(move || known.facts(&of, held, intake)).await,
            None => Ok(ProjectFacts { newest: None, origin: self.inner.pages.judge().declared_origin(&name) }),
        };
        if let Ok(facts) = facts {
            self.inner.kept.insert((route.id, name), KeptFacts { facts: Arc::new(facts), content, revision });
        }
    }

    /// The facts that a page leads to. Blocking.
    fn facts(&self, route: &Arc<Route>, content: Arc<PageContent>, intake: Arc<ProjectIntake>) -> ProjectFacts {
        let judge = self.inner.pages.judge();
        let name = content.page.name.clone();
        let shown = judge.show_known(route, content, intake);
        let page = shown.page();
        let releases = Releases::of(&page);
        let newest = releases.newest().map(|newest| &releases.0[newest]);
        let version = newest.and_then(|release| release.files.first()).map(|file| &file.version);
        ProjectFacts {
            origin: judge.known_origin(route, &name, version),
            newest: newest.map(|release| NewestRelease {
                version: release.version.to_owned(),
                uploaded: release.uploaded().map(str::to_owned),
                summary: self.summary(route, &shown, &release.files),
                is_cached: self.is_cached(&release.files),
                is_yanked: release.yanked().0,
                is_refused: !release.files.is_empty()
                    && release.files.iter().all(|file| shown.grounds(&file.name).is_some()),
            }),
        }
    }

    fn is_cached(&self, files: &[&File]) -> bool {
        files.iter().filter_map(|file| file.hashes.sha256()).any(|sha256| self.inner.blobs.has(sha256))
    }

    /// What wheels say that may be read.
    fn summary(&self, route: &Route, shown: &ShownPage, files: &[&File]) -> Option<String> {
        let store = &self.inner.metadata;
        let may_be_read = |file: &File| shown.grounds(&file.name).is_none() || sabotaged("refused-summary");
        let wheels = files.iter().filter(|file| file.name.kind() == FileKind::Wheel && may_be_read(file));
        let record = wheels.filter_map(|file| file.hashes.sha256()).find_map(|wheel| {
            let proven = store.in_memory(wheel).or_else(|| store.get(wheel));
            match proven.or_else(|| store.unproven(&route.repository, wheel))? {
                CoreMetadataRecord::Present(metadata) => Some(metadata.bytes),
                CoreMetadataRecord::Absent => None,
            }
        })?;
        let summary = wheel::metadata_headers(&record[..record.len().min(SUMMARY_WITHIN)]).summary?;
        let line = summary.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(shortened(&line, SUMMARY).into_owned()).filter(|line| !line.is_empty() && line != "UNKNOWN")
    }
}

//! What an installer asks for next, begun before it does: the core metadata of the wheel that it will choose, while it
//! reads the page; and that wheel, once it has read the metadata.
//!
//! Both are guesses, from what pip and uv say of themselves in their user agent, so both are done only where they are
//! cheap: metadata by range, or of a small wheel while upstream has spare capacity. A wheel follows only metadata that
//! was read by range for a client that installs; it fetches the wheel last, one after the other, when it has resolved
//! everything. Nothing that is guessed leads to another guess.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Route;
use super::downloader::Downloader;
use super::extract::MetadataExtractor;
use super::index_entry::{IndexEntry, entry_of};
use super::judge::Judge;
use super::metadata_by_range::{RangeRead, RangeReader};
use crate::cache::{MetadataStore, PageContent, PageKey, Prefetch};
use wheelport_index::{ClientAgent, FileAddress, Sha256};
use wheelport_runtime::{Priority, Tasks, blocking};

/// Guesses that are being followed, or wait for that.
const WAITING: usize = 256;
/// Metadata read at the same time.
const METADATA_AT_ONCE: usize = 16;
/// Wheels fetched at the same time.
const WHEELS_AT_ONCE: usize = 4;
/// How long one that follows its metadata counts among those; after that it goes on like any download.
const FOLLOWED_FOR: Duration = Duration::from_secs(20);
/// How long a guess is remembered, and not made again.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Guesses that are remembered; older ones make room.
const MAX_REMEMBERED: u64 = 20_000;

/// Whether a client asked for the metadata that was guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    Right,
    /// It asked for that of another wheel of the project.
    Wrong,
}

impl Guess {
    pub const ALL: [Self; 2] = [Self::Right, Self::Wrong];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
        }
    }
}

/// Works ahead of clients. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ahead {
    inner: Arc<AheadInner>,
}

struct AheadInner {
    judge: Judge,
    by_range: RangeReader,
    extractor: MetadataExtractor,
    downloader: Downloader,
    store: MetadataStore,
    mode: Option<Prefetch>,
    stopped: AtomicBool,
    waiting: Arc<Semaphore>,
    reading: Semaphore,
    fetching: Semaphore,
    /// The wheel that was guessed for a project, until a client asks for metadata of that project.
    guesses: moka::sync::Cache<PageKey, Sha256>,
    /// Wheels that follow their metadata.
    following: moka::sync::Cache<Sha256, ()>,
    counts: [AtomicU64; Guess::ALL.len()],
    tasks: Tasks,
}

impl Ahead {
    pub(super) fn new(
        judge: Judge,
        by_range: RangeReader,
        extractor: MetadataExtractor,
        downloader: Downloader,
        store: MetadataStore,
        mode: Option<Prefetch>,
        tasks: Tasks,
    ) -> Self {
        let guesses = moka::sync::Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REMEMBERED).build();
        let following = moka::sync::Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REMEMBERED).build();
        let inner = AheadInner {
            judge,
            by_range,
            extractor,
            downloader,
            store,
            mode,
            stopped: AtomicBool::new(false),
            waiting: Arc::new(Semaphore::new(WAITING)),
            reading: Semaphore::new(METADATA_AT_ONCE),
            fetching: Semaphore::new(WHEELS_AT_ONCE),
            guesses,
            following,
            counts: Default::default(),
            tasks,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Begins nothing more.
    pub(super) fn stop(&self) {
        self.inner.stopped.store(true, Ordering::Relaxed);
    }

    /// How often guesses were right and wrong.
    pub(super) fn counts(&self) -> [(Guess, u64); Guess::ALL.len()] {
        Guess::ALL.map(|guess| (guess, self.inner.counts[guess as usize].load(Ordering::Relaxed)))
    }

    /// Whether anything would be done for a client of this route.
    pub(super) async fn is_on(&self, route: &Route) -> bool {
        let is_cheap = async || route.upstream().await.is_ok_and(|upstream| upstream.honours_ranges());
        !self.inner.stopped.load(Ordering::Relaxed)
            && match self.inner.mode {
                Some(Prefetch::Off | Prefetch::Pages) => false,
                Some(Prefetch::Metadata) => true,
                None => is_cheap().await,
            }
    }

    /// A client reads a page, or will: the metadata of the wheel that it will choose is read.
    pub(super) fn page_read(&self, route: &Arc<Route>, key: &PageKey, content: &Arc<PageContent>, agent: &ClientAgent) {
        if self.inner.guesses.contains_key(key) {
            return;
        }
        let Ok(waiting) = Arc::clone(&self.inner.waiting).try_acquire_owned() else { return };
        let (ahead, route, key) = (self.clone(), Arc::clone(route), key.clone());
        let (content, agent) = (Arc::clone(content), agent.clone());
        self.begin("read core metadata ahead", waiting, async move {
            let Ok(_permit) = ahead.inner.reading.acquire().await else { return };
            if ahead.is_on(&route).await {
                ahead.read_chosen(&route, key, content, agent).await;
            }
        });
    }

    async fn read_chosen(&self, route: &Arc<Route>, key: PageKey, content: Arc<PageContent>, agent: ClientAgent) {
        let (store, project, repository) = (self.inner.store.clone(), key.project.clone(), key.repository.clone());
        let page = Arc::clone(&content);
        let choosing = blocking(move || {
            let file = agent.choose(&content.page)?;
            let (version, name) = (file.version.clone(), file.name.clone());
            let address = FileAddress { project, version, file: name };
            let entry = entry_of(&address, &content).ok().flatten()?;
            let wheel = entry.sha256?;
            let is_known = store.digest(wheel).is_some() || store.unproven(&repository, wheel).is_some();
            (!is_known && !entry.is_refused()).then_some((address, entry, wheel))
        });
        let Ok(Some((address, entry, wheel))) = choosing.await else { return };
        // The client does not choose what a rule refuses.
        if !self.inner.judge.serves(route, &page, &address.file).await {
            return;
        }
        self.inner.guesses.insert(key, wheel);
        if self.inner.extractor.shared(route, &address, wheel).await.is_some() {
            return;
        }
        let (read, _) = self.inner.by_range.read(route, &address, &entry).await;
        if matches!(read, RangeRead::Nothing) && entry.is_brief && route.has_room() {
            // Its metadata is read as soon as it is there.
            drop(self.inner.downloader.download(route, &address, entry));
        }
    }

    /// Whether this metadata may be a guess that no client has asked for so far.
    pub(super) fn is_guess(&self, key: &PageKey) -> bool {
        self.inner.guesses.contains_key(key)
    }

    /// A client has read the metadata of a wheel, which was read by range if the wheel is not stored. A client that
    /// installs will fetch the wheel.
    pub(super) fn metadata_read(
        &self,
        route: &Arc<Route>,
        key: &PageKey,
        address: &FileAddress,
        entry: &IndexEntry,
        agent: Option<&ClientAgent>,
        is_proven: bool,
    ) {
        let Some(wheel) = entry.sha256 else { return };
        if let Some(guessed) = self.inner.guesses.remove(key) {
            let guess = if guessed == wheel { Guess::Right } else { Guess::Wrong };
            self.inner.counts[guess as usize].fetch_add(1, Ordering::Relaxed);
        }
        if is_proven || !agent.is_some_and(ClientAgent::installs) || self.inner.following.contains_key(&wheel) {
            return;
        }
        let Ok(waiting) = Arc::clone(&self.inner.waiting).try_acquire_owned() else { return };
        self.inner.following.insert(wheel, ());
        let (ahead, route, address, entry) = (self.clone(), Arc::clone(route), address.clone(), entry.clone());
        self.begin("fetch a wheel ahead", waiting, async move {
            let Ok(_permit) = ahead.inner.fetching.acquire().await else { return };
            if ahead.is_on(&route).await && route.has_room() {
                let (mut download, _) = ahead.inner.downloader.download(&route, &address, entry);
                let _ = tokio::time::timeout(FOLLOWED_FOR, download.verified()).await;
            }
        });
    }

    fn begin(
        &self,
        name: &'static str,
        waiting: OwnedSemaphorePermit,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        Priority::Background.start(|| {
            self.inner.tasks.spawn_loop(name, async move {
                work.await;
                drop(waiting);
            });
        });
    }
}

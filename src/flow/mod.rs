//! The use cases: the only place where policy meets parts.
//!
//! A request enters through a method of [`Flow`] and meets, in this order, what is remembered (`cache`), the one fill
//! per key that is under way, and upstream. What outlives a request (fills, refreshes, extraction of core metadata) runs
//! as a task of ours; a client that leaves stops nothing. Nothing here knows an HTTP status of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::cache::{
    Blobs, CacheSettings, Disk, Download, Flights, PageKey, PageRecord, Pages, Policy, Published, Sidecars,
};
use crate::error::{Cause, Error};
use crate::upstream::{Unavailability, UpstreamError};
use wheelport_index::{FileAddress, Sha256};
use wheelport_runtime::{Clock, Tasks};

mod announce;
pub mod audit;
pub mod file;
mod fill;
pub mod legacy;
pub mod list;
pub mod metadata;
pub mod page;
mod passing;
mod prefetch;
mod publish;
mod refusal;
pub mod route;
pub mod stream;
pub mod upload;

pub use crate::cache::{Coding, Rendering, Written};
pub use audit::Attempt;
pub use file::OpenFile;
pub use list::ProjectSource;
pub use metadata::MetadataAnswer;
pub use page::PageAnswer;
pub use prefetch::PrefetchOutcome;
pub use route::Route;
pub use stream::FileStream;
pub use upload::{Publication, Received, Receiving, UploadSettings};

/// How long a request waits for upstream before it is told to come back; clients give up after 15 s.
pub const PATIENCE: Duration = Duration::from_secs(12);
/// How long a request waits for upstream while a usable stale copy is at hand.
pub const STALE_PATIENCE: Duration = Duration::from_secs(1);
/// How long upstream is left alone after it failed, as far as a stale copy can be served.
pub const FAILURE_PAUSE: Duration = Duration::from_secs(10);

/// How an answer came about; the words of RFC 9211.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Served {
    /// From the cache, fresh.
    Hit,
    /// From the cache while it is refreshed behind the answer.
    Revalidating,
    /// From the cache because upstream failed or is slow.
    Stale,
    /// From upstream.
    Miss,
    /// From upstream, through a fill that another request started.
    Collapsed,
    /// From upstream, without being kept.
    Bypass,
}

impl Served {
    /// The log and metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Revalidating => "revalidating",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
        }
    }

    fn led(led: bool) -> Self {
        if led { Self::Miss } else { Self::Collapsed }
    }
}

/// What waiters of a fill see: nothing yet, or the outcome.
type Waiter<T> = watch::Receiver<Option<Result<T, Error>>>;
/// The key of a rendering under way: page, form, coding and revision.
type RenderingKey = (u64, Written, Coding);

/// The use cases over one cache. Cheap to clone.
#[derive(Clone)]
pub struct Flow {
    shared: Arc<Shared>,
}

struct Shared {
    pages: Pages,
    blobs: Blobs,
    sidecars: Sidecars,
    published: Published,
    disk: Arc<Disk>,
    uploads: UploadSettings,
    upload_places: Arc<Semaphore>,
    policy: Policy,
    missing_for: Duration,
    list_fresh_for: Duration,
    clock: Clock,
    tasks: Tasks,
    loads: Flights<PageKey, Waiter<Option<PageRecord>>>,
    fetches: Flights<PageKey, Waiter<PageRecord>>,
    renderings: Flights<RenderingKey, Waiter<Arc<Rendering>>>,
    fills: Flights<FileKey, Download<Error>>,
    /// Files that were served and could not be kept.
    not_kept: AtomicU64,
    prefetches: prefetch::Prefetches,
    /// Places for files that are being kept.
    keeping: Semaphore,
    extractions: Flights<Sha256, Waiter<crate::cache::Sidecar>>,
    publishes: Flights<publish::FlightKey, publish::UnderWay>,
}

/// The key of a fill: which repository, which file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileKey {
    repository: crate::cache::RepositoryId,
    address: FileAddress,
}

impl Flow {
    /// The use cases over a cache directory.
    pub fn new(disk: Arc<Disk>, settings: &CacheSettings, uploads: UploadSettings, clock: Clock, tasks: Tasks) -> Self {
        let shared = Shared {
            pages: Pages::new(Arc::clone(&disk), settings.memory.bytes(), clock.clone()),
            published: Published::open(Arc::clone(&disk), clock.clone()),
            upload_places: Arc::new(Semaphore::new(uploads.max_at_once.clamp(1, Semaphore::MAX_PERMITS))),
            uploads,
            clock,
            blobs: Blobs::new(Arc::clone(&disk)),
            sidecars: Sidecars::new(Arc::clone(&disk)),
            disk,
            policy: settings.policy(),
            missing_for: settings.missing_for.get(),
            list_fresh_for: settings.list_fresh_for.get(),
            tasks,
            loads: Flights::default(),
            fetches: Flights::default(),
            renderings: Flights::default(),
            fills: Flights::default(),
            not_kept: AtomicU64::new(0),
            prefetches: prefetch::Prefetches::new(settings.prefetch),
            keeping: Semaphore::new(fill::KEPT_AT_ONCE),
            extractions: Flights::default(),
            publishes: Flights::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Whether the cache directory can be written. Quick.
    pub fn storage_works(&self) -> bool {
        self.shared.disk.is_writable()
    }

    /// From now on nothing is begun that no client waits for.
    pub fn begin_draining(&self) {
        self.shared.prefetches.stop();
    }

    /// Figures for metrics.
    pub fn figures(&self) -> Figures {
        let (renderings, records) = self.shared.pages.weights();
        Figures {
            renderings,
            records,
            disk: self.shared.disk.used(),
            disk_limit: self.shared.disk.max_size(),
            fills: self.shared.fills.len() as u64,
            not_kept: self.shared.not_kept.load(Ordering::Relaxed),
            prefetches: self.shared.prefetches.counted(),
        }
    }
}

/// What the cache holds, in bytes, and what is under way.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Rendered pages in memory.
    pub renderings: u64,
    /// Page records in memory.
    pub records: u64,
    /// Files on disk.
    pub disk: u64,
    /// The limit of the files on disk.
    pub disk_limit: u64,
    /// Files being fetched, as a number.
    pub fills: u64,
    /// Fetched files that were served and could not be kept, as a number.
    pub not_kept: u64,
    /// Pages that were to be fetched before anybody asked, by what came of it, as numbers.
    pub prefetches: [(PrefetchOutcome, u64); PrefetchOutcome::ALL.len()],
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flow")
    }
}

/// Waits for the outcome of a fill, at most so long.
async fn outcome<T: Clone>(mut waiter: Waiter<T>, patience: Duration) -> Result<T, Error> {
    match tokio::time::timeout(patience, waiter.wait_for(Option::is_some)).await {
        Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(Error::Internal)),
        Ok(Err(_leader_died)) => Err(Error::Internal),
        Err(_elapsed) => Err(unavailable(Cause::Timeout)),
    }
}

/// Runs a blocking piece of work; a panic in it is logged by the panic hook and becomes an internal error.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Internal)
}

fn unavailable(cause: Cause) -> Error {
    let seconds = match cause {
        Cause::Throttled | Cause::Token => 5,
        Cause::Timeout | Cause::Connect | Cause::Upstream | Cause::Broken | Cause::Storage => 2,
        Cause::Busy | Cause::Draining | Cause::OutcomeUnknown => 1,
    };
    Error::Unavailable { cause, retry_after: Duration::from_secs(seconds) }
}

/// What an upstream error means for a request; `absent` is the error for a trusted 404.
fn explain(error: &UpstreamError, absent: impl FnOnce() -> Error, resource: &str) -> Error {
    match error {
        UpstreamError::NotFound => absent(),
        UpstreamError::Denied { .. } => {
            Error::Denied { action: "codeartifact:ReadFromRepository", resource: resource.to_owned() }
        }
        UpstreamError::Unavailable { reason, retry_after } => {
            let plain = unavailable(match reason {
                Unavailability::Token => Cause::Token,
                Unavailability::Connect => Cause::Connect,
                Unavailability::Timeout => Cause::Timeout,
                Unavailability::Throttled => Cause::Throttled,
                Unavailability::ServerError => Cause::Upstream,
                Unavailability::Broken | Unavailability::Redirect => Cause::Broken,
                Unavailability::Shutdown => Cause::Draining,
                Unavailability::Busy => Cause::Busy,
            });
            match (plain, retry_after) {
                (Error::Unavailable { cause, .. }, Some(wait)) => {
                    Error::Unavailable { cause, retry_after: (*wait).min(Duration::from_secs(30)) }
                }
                (plain, _) => plain,
            }
        }
        UpstreamError::TooLarge { .. } | UpstreamError::Malformed(_) | UpstreamError::CannotResume => {
            unavailable(Cause::Broken)
        }
    }
}

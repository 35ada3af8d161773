//! The use cases, one service each; the only place where policy meets parts.
//!
//! A service looks into the cache, joins or starts the one piece of work per key that is under way, and asks upstream.
//! It replies with a [`Lookup`]: what is in memory at once, or a future that carries what the look-up found out. Work
//! that outlives a request (downloads, refreshes, extraction of core metadata) runs as a task of the process, so a
//! client that disconnects cancels nothing. Nothing here knows an HTTP status of ours.

mod absence;
mod access;
mod advertise;
mod advisories;
mod advisory_feed;
mod agreements;
mod ahead;
mod ask;
mod asked_facts;
mod audit;
mod batch;
mod blob_checker;
mod bypass;
mod canary;
mod catalog;
mod change_guard;
mod changed_files;
mod delisted;
mod doubts;
mod download;
mod downloader;
mod error;
mod event_evidence;
mod extract;
mod fetch_terms;
mod figures;
mod file_report;
mod file_stream;
mod files;
mod held_parts;
mod hints;
mod index_cache;
mod index_entry;
mod intake;
mod internal_freshness;
mod judge;
mod judge_known;
mod linked_digest;
mod list_source;
mod lists;
mod lock_audit;
mod lookup;
mod metadata;
mod metadata_by_range;
mod name_index;
mod negative;
mod origins;
mod page_arrival;
mod page_facts;
mod page_source;
mod pages;
mod prefetch;
mod prepared_file;
mod project_facts;
mod project_view;
mod publish;
mod publish_refusal;
mod published_looks;
mod reader;
mod release_dates;
mod route;
mod served;
mod shared_advisories;
mod shared_exceptions;
mod shared_files;
mod shared_first_seen;
mod shared_list;
mod shared_metadata;
mod shared_pages;
mod shared_published;
mod shared_uploads;
mod shared_usage;
mod shown;
mod standing;
mod trial;
mod upload;
mod usage;
mod usage_books;
mod verdict;
mod warm;
mod wheel_parts;

use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Blobs, CacheSettings, Disk, FirstSeen, MetadataStore, PersistedIndex, Prefetch, Published};
use crate::fleet::Fleet;
use crate::notices::Notices;
use crate::usage::UsageSettings;
use wheelport_index::{ClientAgent, ProjectName};
use wheelport_runtime::{Clock, HumanDuration, Tasks};

pub use advisories::{Advisories, AdvisoryParts, AdvisoryState, ListedAdvisory, RefreshOutcome};
pub use ahead::Guess;
pub use audit::Attempt;
pub use catalog::{CATALOG_ROWS, CatalogPage, CatalogRow, CatalogService};
pub use change_guard::{ChangeCounts, ChangedFilePolicy, WatchedChanges};

pub(crate) use error::seconds;
pub use error::{BlockedFile, Cause, Error};
pub use figures::Figures;
pub use file_report::FileReport;
pub use file_stream::FileStream;
pub use files::{FileService, OpenFile};
pub use index_cache::IndexView;
pub use internal_freshness::EventTrust;
pub use lists::{ListView, ProjectListService};
pub use lock_audit::{AuditItem, AuditVerdict, AuditedFile, NamedAdvisory};
pub use lookup::Lookup;
pub use metadata::{MetadataService, ServedMetadata};
pub use metadata_by_range::ByRangeOutcome;
pub use pages::PageService;
pub use prefetch::PrefetchOutcome;
pub use project_facts::{NewestRelease, ProjectFacts};
pub use project_view::{FileView, MetadataView, ProjectOverview, ProjectViews, ReleaseView};
pub use publish::PublishService;
pub use route::{OriginFacts, ProjectSource, Resolution, Route, SharedRoute};
pub use served::Served;
pub use shared_exceptions::ExceptionSpread;
pub use shown::{PageView, ShownPage};
pub use trial::{RuleTrial, TrialError};
pub use upload::{Arrived, Publication, Received, Receiving, UploadSettings};
pub use usage::{UsageError, UsageFigures, UsageService};
pub use warm::{WarmDigest, WarmFailure, WarmItem, WarmSuccess, Warmed};

pub use crate::cache::{CachedMetadata, ChangedFile, ChangedFiles, ListContent};
pub use crate::notices::Notice;
pub use crate::policy::{
    GrantError, GrantedException, Grounds, Moment, NewException, PackageOrigin, PolicyHandle, PolicyState,
};
pub use crate::upstream::EndpointState;
pub use crate::usage::{ReportRow, UsageGrouping, UsageParams, UsageReport};

use agreements::Agreements;
use ahead::Ahead;
use blob_checker::BlobChecker;
use change_guard::ChangeGuard;
use delisted::Delisted;
use download::DownloadParts;
use downloader::Downloader;
use error::unavailable;
use event_evidence::EventEvidence;
use extract::MetadataExtractor;
use index_cache::Lifetimes;
use index_entry::IndexEntries;
use intake::Intake;
use internal_freshness::InternalFreshness;
use judge::Judge;
use list_source::ListSource;
use metadata_by_range::RangeReader;
use origins::Origins;
use page_source::PageSource;
use prefetch::Prefetcher;
use project_facts::KnownProjects;
use published_looks::PublishedLooks;
use served::role_served;
use shared_exceptions::SharedExceptions;
use shared_files::SharedFiles;
use shared_metadata::SharedMetadata;
use shared_uploads::SharedUploads;

/// How long a request waits before it is told to come back, for everything together; clients give up after 15 s. A
/// single step has the same limit, so that it ends when nothing limits the request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// The share of the memory for the index that project lists may take, in hundredths.
const LIST_SHARE: u64 = 10;
/// The share that the rulings of rules about pages may take, in hundredths.
const RULINGS_SHARE: u64 = 5;

/// Memory for what the services hold, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct FlowMemory {
    /// For records of the index.
    pub records: u64,
    /// For buffers that files pass through on their way to clients.
    pub buffers: u64,
}

/// What the services stand on.
pub struct FlowParts {
    pub disk: Arc<Disk>,
    pub uploads: UploadSettings,
    /// Whether and how downloads are counted.
    pub usage: UsageSettings,
    pub clock: Clock,
    pub tasks: Tasks,
    /// What replicas share.
    pub fleet: Fleet,
    /// The rules that hold.
    pub policy: PolicyHandle,
    /// What advisories say.
    pub advisories: Advisories,
    /// Tells operators of what they should hear of at once.
    pub notices: Notices,
}

/// The services over one cache. Cheap to clone.
#[derive(Clone)]
pub struct Flow {
    pub pages: PageService,
    pub lists: ProjectListService,
    pub files: FileService,
    pub metadata: MetadataService,
    pub publish: PublishService,
    pub catalog: CatalogService,
    pub projects: ProjectViews,
    pub usage: UsageService,
    downloader: Downloader,
    prefetcher: Prefetcher,
    exceptions: SharedExceptions,
    advisories: Advisories,
    disk: Arc<Disk>,
}

impl Flow {
    /// The services over a cache directory.
    pub fn new(parts: FlowParts, settings: &CacheSettings, memory: FlowMemory) -> Self {
        let FlowParts { disk, uploads, usage, clock, tasks, fleet, policy, advisories, notices } = parts;
        let lifetimes =
            |policy| Lifetimes { policy, absent_for: settings.missing_for.get(), doubt_for: Duration::ZERO };
        let persisted = Arc::new(PersistedIndex::new(Arc::clone(&disk), clock.clone()));
        let (blobs, store) =
            (Blobs::new(Arc::clone(&disk)).with_buffers(memory.buffers), MetadataStore::new(Arc::clone(&disk)));
        let list_memory = memory.records / 100 * LIST_SHARE;
        let rulings_memory = memory.records / 100 * RULINGS_SHARE;
        let origins = Origins::new(Arc::clone(&persisted), clock.clone(), tasks.clone());
        let exceptions = SharedExceptions::new(fleet.clone(), policy.clone(), tasks.clone());
        let internal = InternalFreshness {
            longest: settings.fresh_for_internal.map(HumanDuration::get),
            fleet: fleet.clone(),
            origins: origins.clone(),
            policy: policy.clone(),
            evidence: EventEvidence::default(),
        };
        let intake = Intake::new(Arc::clone(&persisted), tasks.clone());
        let usage = UsageService::new(usage, Arc::clone(&disk), fleet.clone(), clock.clone());
        let judge = Judge::new(policy, origins, intake, store.clone(), blobs.clone(), rulings_memory, tasks.clone());
        let source = PageSource {
            delisted: Delisted::new(Arc::clone(&persisted)),
            persisted: Arc::clone(&persisted),
            published: Published::open(Arc::clone(&disk), clock.clone()),
            changes: ChangeGuard::new(FirstSeen::new(Arc::clone(&disk), clock.clone()), notices.clone()),
            notices,
            metadata: store.clone(),
            largest_wheel: disk.max_size(),
            fleet: fleet.clone(),
            looks: PublishedLooks::default(),
            agreements: Agreements::default(),
            internal,
            clock: clock.clone(),
        };
        let page_memory = memory.records - list_memory - rulings_memory;
        let pages = PageService::new(source, judge.clone(), page_memory, lifetimes(settings.policy()), tasks.clone());
        let source = ListSource { persisted, fleet: fleet.clone(), pages: pages.clone(), clock: clock.clone() };
        let lists = ProjectListService::new(source, list_memory, lifetimes(settings.list_policy()), tasks.clone());
        let entries = IndexEntries::new(pages.clone(), judge, blobs.clone());
        let found = SharedMetadata::new(fleet.clone(), pages.clone(), tasks.clone());
        let extractor = MetadataExtractor::new(
            pages.clone(),
            entries.clone(),
            blobs.clone(),
            store.clone(),
            found.clone(),
            tasks.clone(),
        );
        let shared = SharedFiles::new(fleet, pages.clone(), blobs.buffers(), tasks.clone());
        let parts = DownloadParts::new(entries.clone(), blobs.clone(), extractor.clone(), shared.clone());
        let downloader = Downloader::new(parts, tasks.clone());
        let by_range = RangeReader::new(store.clone(), extractor.clone(), downloader.clone(), tasks.clone());
        let checker = BlobChecker::new(blobs.clone(), tasks.clone());
        let files = FileService::new(pages.clone(), entries.clone(), blobs.clone(), downloader.clone(), checker);
        let ahead = Ahead::new(
            pages.judge().clone(),
            by_range.clone(),
            extractor.clone(),
            downloader.clone(),
            store.clone(),
            settings.prefetch,
            tasks.clone(),
        );
        let is_on = settings.prefetch != Some(Prefetch::Off);
        let prefetcher = Prefetcher::new(pages.clone(), ahead, tasks.clone(), is_on);
        let known = KnownProjects::new(pages.clone(), store.clone(), blobs.clone(), tasks.clone());
        let catalog = CatalogService::new(pages.clone(), lists.clone(), known);
        let view_blobs = blobs.clone();
        let metadata = MetadataService {
            pages: pages.clone(),
            entries,
            downloader: downloader.clone(),
            blobs,
            store: store.clone(),
            extractor,
            by_range,
            prefetcher: prefetcher.clone(),
            largest_wheel: disk.max_size(),
        };
        let projects = ProjectViews { pages: pages.clone(), metadata: metadata.clone(), blobs: view_blobs };
        let offered = SharedUploads::new(shared, found);
        let publish = PublishService::new(pages.clone(), store, offered, Arc::clone(&disk), uploads, clock, tasks);
        Self {
            pages,
            lists,
            files,
            metadata,
            publish,
            catalog,
            projects,
            usage,
            downloader,
            prefetcher,
            exceptions,
            advisories,
            disk,
        }
    }

    /// Tells operators of what they should hear of at once.
    pub fn notices(&self) -> &Notices {
        &self.pages.cache().source().notices
    }

    /// The rules that hold.
    pub fn policy(&self) -> &PolicyHandle {
        self.pages.judge().policy()
    }

    /// What advisories say.
    pub fn advisories(&self) -> &Advisories {
        &self.advisories
    }

    /// How many names of a route's repository are known to have versions from outside and of the domain.
    pub fn names_on_both_sides(&self, route: &Route) -> usize {
        self.pages.judge().origins().on_both_sides(&route.repository)
    }

    /// Whether CodeArtifact's events would tell of every change of a route's own projects.
    pub fn event_trust(&self, route: &Route) -> EventTrust {
        self.pages.cache().source().internal.trust(&route.repository)
    }

    /// Whether the cache directory can be written. Quick.
    pub fn storage_works(&self) -> bool {
        self.disk.is_writable()
    }

    /// Whether anything is cached that could be served without upstream. Right after the start, what an earlier process
    /// cached counts as soon as it was measured.
    pub fn holds_anything(&self) -> bool {
        self.pages.bytes() + self.lists.bytes() + self.disk.used() > 0
    }

    /// A client had to wait for a page: what it asks for next is begun, if it says of itself what that will be.
    pub fn page_was_read(&self, route: &Arc<Route>, project: &ProjectName, page: &ShownPage, user_agent: Option<&str>) {
        if let Some(agent) = user_agent.and_then(ClientAgent::parse) {
            self.prefetcher.ahead().page_read(route, &route.key(project), &page.content, &agent);
        }
    }

    /// Starts no further work that no client waits for.
    pub fn begin_draining(&self) {
        self.prefetcher.stop();
    }

    /// Figures for metrics.
    pub fn figures(&self) -> Figures {
        Figures {
            records: self.pages.bytes() + self.lists.bytes(),
            negative: self.pages.negative_entries() + self.lists.negative_entries(),
            disk: self.disk.used(),
            disk_limit: self.disk.max_size(),
            buffers: self.files.buffered(),
            spooled: self.publish.spooled(),
            downloads: self.downloader.running() as u64,
            commit_failures: self.downloader.commit_failures(),
            damaged: self.disk.damaged(),
            scrubbed: self.disk.scrubbed(),
            prefetches: self.prefetcher.counts(),
            by_range: self.metadata.by_range.counts(),
            guesses: self.prefetcher.ahead().counts(),
            metadata_mismatches: self.metadata.extractor.mismatches(),
        }
    }
}

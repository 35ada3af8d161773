//! Leases: which replica fetches an object, while the others wait for it or fetch it themselves.
//!
//! ```text
//! acquire ─► Won: a guard; a task of its own repeats the lease with its progress until the guard is dropped
//!          ├► Held: a watch, which waits only while the holder's progress predicts the end
//!          └► Unleased: no form of lease works; every replica for itself
//! ```
//!
//! A lease saves work and guards nothing: two holders are one fetch too many, and no harm. There are two forms, in
//! Redis and in the object store; each is a [`LeaseForm`]. The first that responds is used.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease_record::{LeaseRecord, WaitDecision, decide};
use super::store::ObjectTag;
use wheelport_index::{ProjectName, Sha256};
use wheelport_runtime::{Tasks, sabotaged};

/// How often those who wait look at a lease.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first looks come sooner: most objects are small.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// What a lease is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseKey(String);

impl LeaseKey {
    /// Fetching the file with these bytes.
    pub fn blob(sha256: Sha256) -> Self {
        Self(format!("blob/{sha256}"))
    }

    /// Refreshing the page of a project.
    pub fn page(repository: &str, project: &ProjectName) -> Self {
        Self(format!("page/{repository}/{project}"))
    }

    /// Refreshing the list of a repository's projects.
    pub fn list(repository: &str) -> Self {
        Self(format!("list/{repository}"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// How often a form repeats a lease, and after how long without progress its holder counts as stuck.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseTiming {
    pub(super) renew_every: Duration,
    pub(super) stalled_after: Duration,
}

/// What came of trying to take a lease.
#[derive(Debug)]
pub(super) enum Taking {
    /// It was free, or its holder is dead; the version is the form's own.
    Won {
        version: Option<ObjectTag>,
        was_taken_over: bool,
    },
    Held(LeaseRecord),
    /// The form does not work now.
    Unavailable,
}

/// What a look at a lease shows.
#[derive(Debug)]
pub(super) enum LeaseReading {
    Held(LeaseRecord),
    Free,
    Unavailable,
}

/// One form of lease. Everything has a deadline inside.
pub(super) trait LeaseForm: Send + Sync + 'static {
    /// The metric label.
    fn name(&self) -> &'static str;
    fn timing(&self) -> LeaseTiming;
    /// Whether it can be tried at all.
    fn is_usable(&self) -> bool;
    fn take<'a>(&'a self, key: &'a LeaseKey, record: LeaseRecord) -> BoxFuture<'a, Taking>;
    /// Repeats a lease that is held; the error means that another holds it by now.
    fn renew<'a>(
        &'a self,
        key: &'a LeaseKey,
        version: Option<ObjectTag>,
        record: LeaseRecord,
    ) -> BoxFuture<'a, Result<Option<ObjectTag>, LeaseLost>>;
    fn release<'a>(&'a self, key: &'a LeaseKey, version: Option<ObjectTag>, record: LeaseRecord) -> BoxFuture<'a, ()>;
    fn look<'a>(&'a self, key: &'a LeaseKey) -> BoxFuture<'a, LeaseReading>;
}

/// Another holds the lease by now.
#[derive(Debug)]
pub(super) struct LeaseLost;

/// The leases of a fleet. Cheap to clone; the default has no form, so that nothing is ever leased.
#[derive(Clone, Default)]
pub struct Leases {
    forms: Vec<Arc<dyn LeaseForm>>,
    tasks: Tasks,
    metrics: LeaseMetrics,
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.forms.iter().map(|form| form.name())).finish()
    }
}

/// What came of a request for a lease.
pub enum Acquired {
    /// This replica does the work.
    Won(LeaseGuard),
    /// Another does it.
    Held(LeaseWatch),
    /// No form of lease works.
    Unleased,
}

/// Why a wait for another replica ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The holder has let go: the object is there, or it failed.
    Ended,
    /// The holder has not got on.
    Stalled,
    /// The holder will not be ready in time.
    TooSlow,
    /// The lease cannot be read any more.
    Unavailable,
}

impl Waited {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "waited",
            Self::Stalled => "stalled",
            Self::TooSlow => "too-slow",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Leases {
    /// Also in this form, where none of those before works.
    #[must_use]
    pub(super) fn or(mut self, form: Arc<dyn LeaseForm>, tasks: &Tasks) -> Self {
        self.forms.push(form);
        Self { tasks: tasks.clone(), ..self }
    }

    /// In this form first.
    #[must_use]
    pub(super) fn rather(mut self, form: Arc<dyn LeaseForm>, tasks: &Tasks) -> Self {
        self.forms.insert(0, form);
        Self { tasks: tasks.clone(), ..self }
    }

    /// Takes the lease of `key`, or says who has it.
    pub async fn acquire(&self, key: LeaseKey) -> Acquired {
        let record = LeaseRecord::begin(fastrand::u64(..));
        for form in self.forms.iter().filter(|form| form.is_usable()) {
            match form.take(&key, record.clone()).await {
                Taking::Won { version, was_taken_over } => {
                    self.metrics.count(form.name(), if was_taken_over { "taken-over" } else { "won" });
                    return Acquired::Won(self.guard(Arc::clone(form), key, version, record));
                }
                Taking::Held(record) => {
                    let (form, metrics, began) = (Arc::clone(form), self.metrics.clone(), Instant::now());
                    return Acquired::Held(LeaseWatch { form, key, metrics, record, began, moved: began });
                }
                Taking::Unavailable => {}
            }
        }
        Acquired::Unleased
    }

    /// Starts the task that repeats a lease until its guard is dropped, and gives it back then.
    fn guard(
        &self,
        form: Arc<dyn LeaseForm>,
        key: LeaseKey,
        version: Option<ObjectTag>,
        record: LeaseRecord,
    ) -> LeaseGuard {
        let (progress, mut seen) = watch::channel(HolderProgress::default());
        self.tasks.spawn("hold a lease", async move {
            let (mut record, mut version, began) = (record, version, Instant::now());
            let every = form.timing().renew_every;
            let ended = async |seen: &mut watch::Receiver<HolderProgress>| while seen.changed().await.is_ok() {};
            while tokio::time::timeout(every, ended(&mut seen)).await.is_err() {
                record = statement(&record, *seen.borrow(), began.elapsed());
                match form.renew(&key, version, record.clone()).await {
                    Ok(renewed) => version = renewed,
                    Err(LeaseLost) => return,
                }
            }
            record = LeaseRecord { is_done: true, ..statement(&record, *seen.borrow(), began.elapsed()) };
            form.release(&key, version, record).await;
        });
        LeaseGuard { progress }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Leases of objects to be fetched, by form and what came of them";
        registry.register("leases", help, self.metrics.outcomes.clone());
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct HolderProgress {
    bytes: u64,
    length: Option<u64>,
}

fn statement(last: &LeaseRecord, progress: HolderProgress, elapsed: Duration) -> LeaseRecord {
    let HolderProgress { bytes, length } = progress;
    LeaseRecord { sequence: last.sequence + 1, bytes, length, elapsed, ..last.clone() }
}

/// A lease that this replica holds. Dropping it gives it back: the object is where it belongs, or nowhere.
#[derive(Debug)]
pub struct LeaseGuard {
    progress: watch::Sender<HolderProgress>,
}

impl LeaseGuard {
    /// So much is here.
    pub fn progress(&self, bytes: u64, length: Option<u64>) {
        self.progress.send_replace(HolderProgress { bytes, length });
    }
}

/// A lease that another replica holds.
pub struct LeaseWatch {
    form: Arc<dyn LeaseForm>,
    key: LeaseKey,
    metrics: LeaseMetrics,
    record: LeaseRecord,
    began: Instant,
    moved: Instant,
}

impl LeaseWatch {
    /// Waits for the holder, as long as that pays.
    pub async fn wait(mut self) -> Waited {
        let waited = if sabotaged("lease-wait") { Waited::Unavailable } else { self.follow().await };
        self.metrics.count(self.form.name(), waited.as_str());
        waited
    }

    async fn follow(&mut self) -> Waited {
        let stalled_after = self.form.timing().stalled_after;
        let mut pause = FIRST_LOOK;
        loop {
            match decide(&self.record, self.began.elapsed(), self.moved.elapsed(), stalled_after) {
                WaitDecision::Look => return Waited::Ended,
                WaitDecision::Stalled => return Waited::Stalled,
                WaitDecision::TooSlow => return Waited::TooSlow,
                WaitDecision::Wait => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LOOK_EVERY);
            match self.form.look(&self.key).await {
                LeaseReading::Free => return Waited::Ended,
                LeaseReading::Unavailable => return Waited::Unavailable,
                LeaseReading::Held(record) => {
                    if record.bytes != self.record.bytes || record.owner != self.record.owner {
                        self.moved = Instant::now();
                    }
                    self.record = record;
                }
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabels {
    form: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Default)]
struct LeaseMetrics {
    outcomes: Family<LeaseLabels, Counter>,
}

impl LeaseMetrics {
    fn count(&self, form: &'static str, outcome: &'static str) {
        self.outcomes.get_or_create(&LeaseLabels { form, outcome }).inc();
    }
}

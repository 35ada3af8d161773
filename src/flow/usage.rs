//! Downloads: counted, kept, and reported over all replicas.
//!
//! ```text
//! response ─► counter ─► table of its day ─► record on disk ─► record in the store
//!                        every `write_every`, and when the process stops
//! report ◄── tables of this process, records of others on disk, records of other replicas in the store
//! ```
//!
//! A crash loses what was counted since the last record was written. A disk or a store that cannot be written keeps
//! the tables in memory, for a few days at most.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::shared_usage::SharedRecord;
use super::usage_books::{Books, Chores, log_panic, shared_name};
use crate::cache::Disk;
use crate::fleet::Fleet;
use crate::usage::{DayRecord, InvalidUsageQuery, UsageCollector, UsageNote, UsageParams, UsageReport, UsageSettings};
use wheelport_index::FileAddress;
use wheelport_runtime::{Clock, Panicked, Tasks, blocking, sabotaged};

/// How long a report may take; what is not read by then is missing.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);
/// Records of the store that are read at the same time.
const READS: usize = 16;
/// How long the stop waits for the store.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("downloads are not counted here: [usage] enabled is false")]
    Off,
    #[error(transparent)]
    Invalid(#[from] InvalidUsageQuery),
    #[error("another report is being made; try again")]
    Busy,
    #[error("the report cannot be made: {0}")]
    Failed(#[from] Panicked),
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, Default)]
pub struct UsageFigures {
    /// Counters in memory.
    pub entries: usize,
    /// Downloads that have lost the counter of their own.
    pub folded: u64,
    /// Records that could not be written, to the disk and to the store.
    pub failures: [(&'static str, u64); 2],
}

/// The service. Cheap to clone; counts nothing where it is switched off.
#[derive(Clone)]
pub struct UsageService(Option<Arc<Counting>>);

struct Counting {
    books: Arc<Books>,
    /// The turn to make a report.
    reporting: Arc<Semaphore>,
}

/// What is read for a report.
struct Reading {
    collector: UsageCollector,
    /// Records that are in it.
    read: HashSet<SharedRecord>,
    /// Records of this machine that are damaged; the store may have them whole.
    damaged: HashSet<SharedRecord>,
}

impl UsageService {
    pub(super) fn new(settings: UsageSettings, disk: Arc<Disk>, fleet: Fleet, clock: Clock) -> Self {
        if !settings.enabled && !sabotaged("usage-off") {
            return Self(None);
        }
        let books = Arc::new(Books::new(settings, disk, fleet, clock));
        Self(Some(Arc::new(Counting { books, reporting: Arc::new(Semaphore::new(1)) })))
    }

    /// Counts a download.
    pub fn count(&self, route: &Arc<str>, file: &FileAddress, identity: Option<&Arc<str>>) {
        let Some(Counting { books, .. }) = self.0.as_deref() else { return };
        let identity = identity.filter(|_| books.settings.identities || sabotaged("usage-anonymous"));
        books.counter.count(route, file, identity, books.clock.unix_seconds());
    }

    /// Writes what is counted, until the process stops, and once more then.
    pub async fn keep(self, tasks: Tasks) {
        let Some(books) = self.0.as_ref().map(|counting| Arc::clone(&counting.books)) else { return };
        let mut chores = Chores::default();
        let mut next = Instant::now() + books.settings.write_every.get();
        loop {
            let is_last = tokio::select! {
                () = tasks.stopping() => true,
                () = sleep_until(next) => false,
                () = books.counter.many() => {
                    let settling = Arc::clone(&books);
                    log_panic(blocking(move || settling.settle()).await);
                    continue;
                }
            };
            if is_last && sabotaged("usage-stop") {
                return;
            }
            // To its end, so that no older record is written after a newer one.
            let due = books.write().await;
            if is_last {
                if timeout(STOP_TIMEOUT, books.share(due)).await.is_err() {
                    tracing::warn!("downloads of the last minutes are not shared: the store did not respond in time");
                }
                return;
            }
            let sharing = async {
                books.share(due).await;
                books.tidy(&mut chores).await;
            };
            tokio::select! {
                () = tasks.stopping() => {}
                () = sharing => {}
            }
            next = Instant::now() + books.settings.write_every.get();
        }
    }

    /// What was downloaded by whom, as far as it is known.
    pub async fn report(&self, params: &UsageParams) -> Result<UsageReport, UsageError> {
        let Some(Counting { books, reporting }) = self.0.as_deref() else { return Err(UsageError::Off) };
        let today = books.today();
        let query = params.parse(books.kept(today), today)?;
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let turn = timeout_at(deadline, Arc::clone(reporting).acquire_owned());
        let Ok(Ok(turn)) = turn.await else { return Err(UsageError::Busy) };
        let (of, collector) = (Arc::clone(books), UsageCollector::new(query));
        // The turn goes through the work on the helper thread, which goes on when the operator has left.
        let read = move || (Reading::of_this_machine(&of, collector, deadline), turn);
        let (mut reading, _turn) = blocking(read).await?;
        if timeout_at(deadline, reading.add_shared(books)).await.is_err() {
            reading.collector.note(UsageNote::TimedOut);
        }
        reading.damaged.iter().for_each(|_| reading.collector.unreadable());
        Ok(reading.collector.report())
    }

    /// Figures for metrics.
    pub fn figures(&self) -> UsageFigures {
        let Some(Counting { books, .. }) = self.0.as_deref() else { return UsageFigures::default() };
        let [disk, store] = &books.failures;
        // What waits to be taken in is counted with the next record or report.
        UsageFigures {
            entries: books.days.lock().values().map(|book| book.table.entries()).sum(),
            folded: books.folded.load(Ordering::Relaxed),
            failures: [("disk", disk.load(Ordering::Relaxed)), ("store", store.load(Ordering::Relaxed))],
        }
    }
}

impl Reading {
    /// Takes in what this machine knows. Blocking.
    fn of_this_machine(books: &Books, mut collector: UsageCollector, deadline: Instant) -> Self {
        books.settle();
        let (mut read, mut damaged) = (HashSet::new(), HashSet::new());
        for (day, book) in &*books.days.lock() {
            collector.add(&book.table.record());
            read.insert((*day, books.writer.clone()));
        }
        let days = collector.query().since..=collector.query().until;
        for record in books.records.list() {
            let Some(name) = shared_name(&record).filter(|(day, _)| days.contains(day)) else { continue };
            if read.contains(&name) {
                continue;
            }
            if Instant::now() > deadline {
                collector.note(UsageNote::TimedOut);
                break;
            }
            match books.read(&record) {
                Ok(found) => {
                    collector.add(&found);
                    read.insert(name);
                }
                // Another process has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let (day, writer) = (&record.day, &record.writer);
                    tracing::warn!(day, writer, %error, "a record of downloads is left out");
                    damaged.insert(name);
                }
            }
        }
        Self { collector, read, damaged }
    }

    /// Takes in what other replicas have written.
    async fn add_shared(&mut self, books: &Books) {
        let (since, until) = (self.collector.query().since, self.collector.query().until);
        let listed = match books.shared.list(since, until).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(%error, "what other replicas have counted is not known");
                return self.collector.note(UsageNote::StoreAway);
            }
        };
        let wanted: Vec<_> = listed.into_iter().filter(|record| !self.read.contains(record)).collect();
        let mut reading =
            stream::iter(wanted).map(async |record| (books.shared.read(&record).await, record)).buffer_unordered(READS);
        while let Some((bytes, record)) = reading.next().await {
            match bytes {
                Ok(None) => {}
                Ok(Some(bytes)) => self.add_bytes(&bytes, record),
                Err(error) => {
                    tracing::debug!(day = %record.0, %error, "what another replica has counted is not known");
                    return self.collector.note(UsageNote::StoreAway);
                }
            }
        }
    }

    fn add_bytes(&mut self, bytes: &[u8], record: SharedRecord) {
        match DayRecord::decode(bytes) {
            Ok(found) if found.day() == record.0 => {
                self.collector.add(&found);
                self.damaged.remove(&record);
                self.read.insert(record);
            }
            Ok(_) => self.collector.unreadable(),
            Err(error) => {
                let (day, writer) = record;
                tracing::warn!(%day, writer, %error, "a record of downloads in the store is left out");
                self.collector.unreadable();
            }
        }
    }
}

//! The tables of downloads that are held in memory, and how they come to disk and to the store. A report reads them in
//! `usage.rs`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::shared_usage::{SharedRecord, SharedUsage};
use crate::cache::{Disk, UsageRecords, WrittenUsage};
use crate::fleet::{Fleet, StoreError};
use crate::usage::{DayRecord, DayTable, UsageCounter, UsageDay, UsageSettings, is_writer};
use wheelport_runtime::{Clock, Panicked, blocking, sabotaged};

/// Days that are held in memory while they cannot be written.
const MOST_DAYS: usize = 3;
/// Records of earlier processes are shared when they are not older than this, in days.
const RECENT: u64 = 7;

/// A table, and how much of it is written.
pub(super) struct Book {
    pub(super) table: DayTable,
    changes: u64,
    written: u64,
    shared: u64,
}

pub(super) struct Books {
    pub(super) settings: UsageSettings,
    pub(super) counter: UsageCounter,
    pub(super) days: Mutex<BTreeMap<UsageDay, Book>>,
    pub(super) records: UsageRecords,
    pub(super) shared: SharedUsage,
    /// The name of this process in records.
    pub(super) writer: String,
    pub(super) clock: Clock,
    pub(super) folded: AtomicU64,
    pub(super) failures: [AtomicU64; 2],
}

/// What is to be shared: a record and the state of its table.
pub(super) struct Due {
    record: SharedRecord,
    bytes: Bytes,
    changes: u64,
}

/// What is left to do besides writing tables.
#[derive(Default)]
pub(super) struct Chores {
    /// Records of processes that ran here before, which may not be shared.
    earlier: Option<Vec<WrittenUsage>>,
    /// Until when what is too old was removed.
    removed: Option<UsageDay>,
}

impl Books {
    pub(super) fn new(settings: UsageSettings, disk: Arc<Disk>, fleet: Fleet, clock: Clock) -> Self {
        Self {
            settings,
            counter: UsageCounter::default(),
            days: Mutex::default(),
            records: UsageRecords::new(disk),
            shared: SharedUsage::new(fleet),
            writer: format!("{:016x}", fastrand::u64(..)),
            clock,
            folded: AtomicU64::new(0),
            failures: Default::default(),
        }
    }

    pub(super) fn today(&self) -> UsageDay {
        UsageDay::of(self.clock.unix_seconds())
    }

    /// The first day whose records are kept.
    pub(super) fn kept(&self, today: UsageDay) -> UsageDay {
        today.before(self.settings.days() - 1)
    }

    fn named(&self, day: UsageDay) -> WrittenUsage {
        WrittenUsage { day: day.to_string(), writer: self.writer.clone() }
    }

    /// Takes what waits into the tables. Blocking.
    pub(super) fn settle(&self) {
        let (mut taken, missed) = self.counter.take();
        // What says most gets its place first.
        taken.sort_unstable_by_key(|(_, tally)| (Reverse(tally.count), tally.first));
        self.folded.fetch_add(missed, Ordering::Relaxed);
        let mut days = self.days.lock();
        for (key, tally) in taken {
            let book = days.entry(key.day).or_insert_with(|| self.book(key.day));
            book.table.absorb(&key, tally);
            book.changes += 1;
        }
        let folded: u64 = days.values_mut().map(|book| book.table.take_folded()).sum();
        self.folded.fetch_add(folded, Ordering::Relaxed);
    }

    /// The table of a day. It was written already where the calendar went back.
    fn book(&self, day: UsageDay) -> Book {
        let limits = self.settings.limits();
        let record = if sabotaged("usage-resume") { None } else { self.read(&self.named(day)).ok() };
        let table = record.map_or_else(|| DayTable::new(day, limits), |record| DayTable::resume(&record, limits));
        Book { table, changes: 0, written: 0, shared: 0 }
    }

    /// A record on disk. Blocking.
    pub(super) fn read(&self, record: &WrittenUsage) -> io::Result<DayRecord> {
        let bytes = self.records.read(record)?;
        DayRecord::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))
    }

    /// Writes what has changed to disk. Returns what is to be shared.
    pub(super) async fn write(self: &Arc<Self>) -> Vec<Due> {
        let books = Arc::clone(self);
        blocking(move || books.write_here()).await.unwrap_or_else(|panicked| {
            tracing::error!(%panicked, "downloads were not recorded");
            Vec::new()
        })
    }

    /// Writes what has changed to the store.
    pub(super) async fn share(&self, due: Vec<Due>) {
        for Due { record, bytes, changes } in due {
            if let Err(error) = self.shared.write(&record, bytes).await {
                self.store_failed(&error);
                break;
            }
            if let Some(book) = self.days.lock().get_mut(&record.0) {
                book.shared = changes;
            }
        }
        self.close_days();
    }

    fn write_here(&self) -> Vec<Due> {
        self.settle();
        let is_shared = self.shared.store().is_some();
        let is_due = |book: &Book| book.written < book.changes || is_shared && book.shared < book.changes;
        let due: Vec<(DayRecord, u64)> = self
            .days
            .lock()
            .values()
            .filter(|book| is_due(book))
            .map(|book| (book.table.record(), book.changes))
            .collect();
        let mut shared = Vec::new();
        for (record, changes) in due {
            let day = record.day();
            let bytes = match record.encode() {
                Ok(bytes) => Bytes::from(bytes),
                Err(error) => {
                    tracing::error!(%day, %error, "the record of a day's downloads cannot be made");
                    continue;
                }
            };
            match self.records.write(&self.named(day), &bytes) {
                Ok(()) => {
                    if let Some(book) = self.days.lock().get_mut(&day) {
                        book.written = changes;
                    }
                }
                Err(error) => {
                    self.failures[0].fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%day, %error, "downloads cannot be recorded in the cache directory for the moment");
                }
            }
            shared.push(Due { record: (day, self.writer.clone()), bytes, changes });
        }
        shared
    }

    fn store_failed(&self, error: &StoreError) {
        self.failures[1].fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "downloads are not shared with other replicas for the moment");
    }

    /// Forgets the tables of days that are over, once they are written.
    fn close_days(&self) {
        let (today, is_shared) = (self.today(), self.shared.store().is_some());
        let mut days = self.days.lock();
        days.retain(|day, book| {
            *day >= today || book.written < book.changes || is_shared && book.shared < book.changes
        });
        while days.len() > MOST_DAYS {
            let Some((day, book)) = days.pop_first() else { break };
            if book.written < book.changes {
                tracing::error!(%day, "the downloads of a day are lost: they could not be recorded for too long");
            }
        }
    }

    /// Shares what earlier processes have left on disk, and removes what is too old.
    pub(super) async fn tidy(self: &Arc<Self>, chores: &mut Chores) {
        let today = self.today();
        if self.shared.store().is_some() {
            self.share_earlier(&mut chores.earlier, today).await;
        }
        if chores.removed != Some(today) && !sabotaged("usage-keep") {
            let (books, kept) = (Arc::clone(self), self.kept(today));
            log_panic(blocking(move || books.remove_before(kept)).await);
            match self.shared.remove_before(kept).await {
                Ok(()) => chores.removed = Some(today),
                Err(error) => tracing::debug!(%error, "old records of downloads stay in the store for now"),
            }
        }
    }

    async fn share_earlier(self: &Arc<Self>, left: &mut Option<Vec<WrittenUsage>>, today: UsageDay) {
        if left.is_none() {
            let books = Arc::clone(self);
            let listed = blocking(move || books.records.list()).await.unwrap_or_default();
            let recent = today.before(RECENT).to_string();
            let is_earlier = |record: &WrittenUsage| record.day >= recent && record.writer != self.writer;
            *left = Some(listed.into_iter().filter(is_earlier).collect());
        }
        let Some(left) = left else { return };
        while let Some(record) = left.last().cloned() {
            let (books, of) = (Arc::clone(self), record.clone());
            let read = blocking(move || books.records.read(&of)).await;
            if let (Ok(Ok(bytes)), Some(shared)) = (read, shared_name(&record))
                && let Err(error) = self.shared.write(&shared, bytes.into()).await
            {
                return tracing::debug!(%error, "records of an earlier process are not shared yet");
            }
            left.pop();
        }
    }

    /// Removes what is too old. Blocking.
    fn remove_before(&self, kept: UsageDay) {
        let old =
            self.records.list().into_iter().filter(|record| shared_name(record).is_some_and(|(day, _)| day < kept));
        for record in old {
            if let Err(error) = self.records.remove(&record) {
                tracing::warn!(day = record.day, %error, "an old record of downloads cannot be removed");
            }
        }
    }
}

/// The name of a record in the store, if it is one of ours.
pub(super) fn shared_name(record: &WrittenUsage) -> Option<SharedRecord> {
    is_writer(&record.writer).then_some(())?;
    Some((record.day.parse().ok()?, record.writer.clone()))
}

pub(super) fn log_panic(outcome: Result<(), Panicked>) {
    if let Err(panicked) = outcome {
        tracing::error!(%panicked, "downloads were not recorded");
    }
}

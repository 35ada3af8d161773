//! Records of downloads among replicas: each process writes its own, so that none waits for another, and an index of
//! each month says which there are, because the store is never listed.
//!
//! ```text
//! usage/DAY/WRITER      written by one process, again and again on its day
//! usage-index/MONTH     merged on condition; once for each day and process
//! ```

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::fleet::{Fleet, ObjectKey, ObjectStore, ObjectTag, ObjectWrite, StoreError};
use crate::usage::{LARGEST_INDEX, UsageDay, UsageIndex};
use wheelport_runtime::sabotaged;

/// How often an index is read and written again because another replica has changed it meanwhile.
const MERGE_TRIES: u32 = 8;
/// The longest record, in bytes.
const LARGEST_RECORD: usize = 16 << 20;
/// Indexes that are looked at for what is too old to be kept.
const OLD_MONTHS: u64 = 3;

/// A record of the store.
pub(super) type SharedRecord = (UsageDay, String);

/// The records of all replicas.
pub(super) struct SharedUsage {
    fleet: Fleet,
    /// What stands in an index for certain.
    indexed: Mutex<HashSet<SharedRecord>>,
}

impl SharedUsage {
    pub(super) fn new(fleet: Fleet) -> Self {
        Self { fleet, indexed: Mutex::default() }
    }

    pub(super) fn store(&self) -> Option<&ObjectStore> {
        self.fleet.store()
    }

    /// Writes a record, and sees to it that an index names it.
    pub(super) async fn write(&self, record: &SharedRecord, bytes: Bytes) -> Result<(), StoreError> {
        let Some(store) = self.store() else { return Ok(()) };
        let (day, writer) = record;
        store.put(&ObjectKey::usage(&day.to_string(), writer), bytes, ObjectWrite::Always).await?;
        if self.indexed.lock().contains(record) || sabotaged("usage-index") {
            return Ok(());
        }
        let key = ObjectKey::usage_index(&day.month());
        for attempt in 1..=MERGE_TRIES {
            let (mut index, tag) = read_index(store, &key).await?;
            let is_there = !index.add([(*day, writer.as_str())]);
            let write = tag.map_or(ObjectWrite::Create, ObjectWrite::Replace);
            let written = if is_there { Ok(()) } else { store.put(&key, index.encode().into(), write).await.map(drop) };
            match written {
                Ok(()) => {
                    let mut indexed = self.indexed.lock();
                    indexed.retain(|(known, _)| known.next() >= *day);
                    indexed.insert(record.clone());
                    return Ok(());
                }
                Err(StoreError::Exists | StoreError::Missing) if attempt < MERGE_TRIES => {
                    tokio::time::sleep(Duration::from_millis(10).mul_f64(f64::from(attempt) * fastrand::f64())).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Raced)
    }

    /// The names of all records from one day to another.
    pub(super) async fn list(&self, since: UsageDay, until: UsageDay) -> Result<Vec<SharedRecord>, StoreError> {
        let Some(store) = self.store() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for month in since.months(until) {
            let (index, _) = read_index(store, &ObjectKey::usage_index(&month)).await?;
            let writers = index.writers().filter(|(day, _)| (since..=until).contains(day));
            found.extend(writers.map(|(day, writer)| (day, writer.to_owned())));
        }
        Ok(found)
    }

    /// A record; none where it is gone, as a lifecycle rule or another replica has removed it.
    pub(super) async fn read(&self, (day, writer): &SharedRecord) -> Result<Option<Bytes>, StoreError> {
        let Some(store) = self.store() else { return Ok(None) };
        match store.read(&ObjectKey::usage(&day.to_string(), writer), None, LARGEST_RECORD).await {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(StoreError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the records of months of which no day is kept. All replicas may do so at the same time.
    pub(super) async fn remove_before(&self, kept: UsageDay) -> Result<(), StoreError> {
        let Some(store) = self.store() else { return Ok(()) };
        for month in kept.before(31 * OLD_MONTHS).months(kept).into_iter().filter(|month| *month != kept.month()) {
            let key = ObjectKey::usage_index(&month);
            let (index, Some(tag)) = read_index(store, &key).await? else { continue };
            for (day, writer) in index.writers() {
                store.delete(&ObjectKey::usage(&day.to_string(), writer), None).await?;
            }
            // Where the store does not know conditions on removal, nothing is written to a month that is past.
            match store.delete(&key, Some(tag)).await {
                Ok(()) | Err(StoreError::Exists) => {}
                Err(_) => store.delete(&key, None).await?,
            }
        }
        Ok(())
    }
}

/// An index; an empty one where there is none.
async fn read_index(store: &ObjectStore, key: &ObjectKey) -> Result<(UsageIndex, Option<ObjectTag>), StoreError> {
    match store.read(key, None, LARGEST_INDEX).await {
        Ok((bytes, tag)) => match UsageIndex::decode(&bytes) {
            Some(index) => Ok((index, tag)),
            None => Err(StoreError::Broken(format!("{key} is no index of records of downloads"))),
        },
        Err(StoreError::Missing) => Ok((UsageIndex::default(), None)),
        Err(error) => Err(error),
    }
}

//! The store itself: how it is opened, read and changed. Its operations are in the files named after what they change.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::mpsc;

use super::blobs::BlobFiles;
use super::changes::VersionChange;
use super::disk::{self, FileChange, StoreLayout};
use super::error::StoreError;
use super::model::Timestamp;
use super::principals::PrincipalTable;
use super::records::{DirtyRecord, StoreRecords};
use super::tokens::TokenTable;
use wheelport_index::Sha256;
use wheelport_runtime::Clock;

/// The store. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub(crate) struct Store {
    pub(super) inner: Arc<StoreInner>,
}

pub(super) struct StoreInner {
    pub(super) layout: StoreLayout,
    pub(super) tokens: TokenTable,
    pub(super) principals: PrincipalTable,
    clock: Clock,
    records: RwLock<StoreRecords>,
    /// Held by the one change that is being applied and written.
    writer: Mutex<()>,
    blobs: BlobFiles,
    /// The receiver of changes, if there is one.
    watcher: OnceLock<mpsc::Sender<VersionChange>>,
}

impl Store {
    /// Opens the directory, creates what is missing in it, reads the state and empties `temporary/`.
    pub(crate) async fn open(dir: PathBuf, clock: Clock) -> Result<Self, StoreError> {
        let inner = wheelport_runtime::blocking(move || {
            let layout = StoreLayout::prepare(dir)?;
            Ok::<_, StoreError>(StoreInner {
                records: RwLock::new(disk::load(&layout)?),
                writer: Mutex::new(()),
                blobs: BlobFiles::new(layout.assets(), layout.temporary()),
                tokens: TokenTable::load(&layout)?,
                principals: PrincipalTable::load(&layout)?,
                layout,
                clock,
                watcher: OnceLock::new(),
            })
        })
        .await??;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The bytes of assets.
    pub(crate) fn blobs(&self) -> &BlobFiles {
        &self.inner.blobs
    }

    /// The changes of versions from now on. Only the first call gets them; a receiver that falls
    /// `capacity` changes behind misses some.
    pub(crate) fn watch(&self, capacity: usize) -> Option<mpsc::Receiver<VersionChange>> {
        let (sender, receiver) = mpsc::channel(capacity);
        self.inner.watcher.set(sender).ok().map(|()| receiver)
    }

    pub(super) fn announce(&self, changes: Vec<VersionChange>) {
        let Some(watcher) = self.inner.watcher.get() else { return };
        for change in changes {
            if watcher.try_send(change).is_err() {
                tracing::warn!("a change of a version is not announced, because its receiver is too slow or gone");
            }
        }
    }

    /// This moment by the store's clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.inner.clock.since_epoch().as_millis()).unwrap_or(u64::MAX))
    }

    /// This moment in seconds since the epoch, as tokens and sessions count.
    pub(super) fn unix_seconds(&self) -> u64 {
        self.inner.clock.unix_seconds()
    }

    pub(super) fn records(&self) -> RwLockReadGuard<'_, StoreRecords> {
        self.inner.records.read()
    }

    /// Applies a change and writes the records it made dirty. `apply` must not alter anything when it returns an error.
    pub(super) async fn change<T, F>(&self, apply: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut StoreRecords, Timestamp) -> Result<(T, Vec<DirtyRecord>), StoreError> + Send + 'static,
    {
        self.exclusively(move |store| {
            let (result, changes) = {
                let mut records = store.inner.records.write();
                let (result, dirty) = apply(&mut records, store.now())?;
                let layout = &store.inner.layout;
                let changes: Vec<_> = dirty.iter().map(|record| disk::file_change(layout, &records, record)).collect();
                (result, changes)
            };
            changes.into_iter().try_for_each(FileChange::apply)?;
            Ok(result)
        })
        .await
    }

    /// Removes the bytes that no asset refers to any more.
    pub(super) async fn forget_blobs(&self, candidates: BTreeSet<Sha256>) -> Result<(), StoreError> {
        if candidates.is_empty() {
            return Ok(());
        }
        self.exclusively(move |store| {
            let used: BTreeSet<Sha256> = store.records().blobs().collect();
            candidates.difference(&used).try_for_each(|digest| store.inner.blobs.remove(digest))
        })
        .await
    }

    /// Runs `work` on a blocking thread while nothing else changes the store.
    pub(super) async fn exclusively<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    {
        let store = self.clone();
        wheelport_runtime::blocking(move || {
            let _writer = store.inner.writer.lock();
            work(&store)
        })
        .await?
    }
}

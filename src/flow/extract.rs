//! Taking core metadata out of wheels, once per wheel: out of stored ones, or out of one that bypasses the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bypass::Bypass;
use super::index_entry::{IndexEntries, IndexEntry};
use super::shared_metadata::SharedMetadata;
use super::wheel_parts::WheelParts;
use super::{Cause, Error, PageService, Route, unavailable};
use crate::cache::{Blob, Blobs, CoreMetadataRecord, MetadataStore};
use wheelport_index::wheel::{self, WheelError};
use wheelport_index::{FileAddress, FileName, ReadAt, Sha256};
use wheelport_runtime::{Joined, Panicked, SingleFlight, Tasks, Turns, blocking, sabotaged};

/// The longest time a background extraction may take.
const TIMEOUT: Duration = Duration::from_mins(30);
/// Wheels that are read at the same time. Each takes the memory of its metadata.
const READ_AT_ONCE: usize = 4;
/// The memory for wheels that bypass the cache, in mebibytes.
const MEMORY: u32 = 64;

type Extracted = Result<CoreMetadataRecord, Error>;

/// Extracts core metadata and records it. Cheap to clone.
#[derive(Clone)]
pub(super) struct MetadataExtractor {
    pages: PageService,
    blobs: Blobs,
    entries: IndexEntries,
    store: MetadataStore,
    shared: SharedMetadata,
    extractions: SingleFlight<Sha256, Joined<Extracted>>,
    /// The turns to read a wheel.
    reading: Turns,
    /// Permits to hold a mebibyte of a wheel that bypasses the cache.
    memory: Arc<Semaphore>,
    /// Metadata that was read by range and is not that of its wheel.
    mismatches: Arc<AtomicU64>,
    tasks: Tasks,
}

impl MetadataExtractor {
    pub(super) fn new(
        pages: PageService,
        entries: IndexEntries,
        blobs: Blobs,
        store: MetadataStore,
        shared: SharedMetadata,
        tasks: Tasks,
    ) -> Self {
        let (reading, memory) = (Turns::new(READ_AT_ONCE), Arc::new(Semaphore::new(MEMORY as usize)));
        let (extractions, mismatches) = (SingleFlight::default(), Arc::default());
        Self { pages, blobs, entries, store, shared, extractions, reading, memory, mismatches, tasks }
    }

    /// How often metadata that was read by range was not that of its wheel, for metrics.
    pub(super) fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    /// Starts or joins the extraction from an open wheel. Its outcome does not wait for the record on disk.
    pub(super) fn extract(&self, route: &Arc<Route>, address: &FileAddress, wheel: Blob) -> Joined<Extracted> {
        let (extractor, route, address) = (self.clone(), Arc::clone(route), address.clone());
        let (joined, _) = self.extractions.run(wheel.sha256, &self.tasks, "extract core metadata", || async move {
            let sha256 = wheel.sha256;
            // Another extraction may have ended since the caller looked.
            if let Some(record) = extractor.store.in_memory(sha256) {
                return Ok(record);
            }
            let record = extractor.read(Arc::clone(&wheel.file), &address.file).await?;
            extractor.take_in(&route, &address, sha256, &record).await;
            Ok(record)
        });
        joined
    }

    /// Starts or joins the extraction from a wheel that the cache cannot take: it is fetched for its metadata alone.
    pub(super) fn extract_past_cache(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: IndexEntry,
    ) -> Joined<Extracted> {
        let (repository, digest) = (route.repository.as_str(), entry.expected.hashes.strongest());
        let key = Sha256::of(format!("{repository} {} {digest:?}", address.relative()).as_bytes());
        let (extractor, route, address) = (self.clone(), Arc::clone(route), address.clone());
        let (joined, _) =
            self.extractions.run(key, &self.tasks, "extract core metadata past the cache", || async move {
                let _memory = extractor.hold(mebibytes(entry.expected.length)).await;
                let first = extractor.pass(&route, &address, &entry, WheelParts::default()).await?;
                let missed = first.missed();
                let record = match (extractor.read(first, &address.file).await, missed.position()) {
                    // Now it is known where the metadata is.
                    (Err(_), Some(position)) => {
                        let parts = extractor.pass(&route, &address, &entry, WheelParts::around(position)).await?;
                        extractor.read(parts, &address.file).await?
                    }
                    (record, _) => record?,
                };
                match (entry.sha256, entry.metadata_key(&route, &address)) {
                    (Some(sha256), _) => extractor.take_in(&route, &address, sha256, &record).await,
                    (None, Some(key)) => extractor.store.remember(key, &record),
                    (None, None) => {}
                }
                Ok(record)
            });
        joined
    }

    /// Fetches a wheel and holds parts of it.
    async fn pass(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: &IndexEntry,
        mut parts: WheelParts,
    ) -> Result<WheelParts, Error> {
        let mut bypass = Bypass::begin(&self.entries, route, address, entry, 0).await?;
        // The end comes only when the bytes have the digest that the index names.
        while let Some(chunk) = bypass.next().await? {
            parts.push(&chunk);
        }
        Ok(parts)
    }

    /// What another replica has found in a wheel, remembered.
    pub(super) async fn shared(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        wheel: Sha256,
    ) -> Option<CoreMetadataRecord> {
        let record = self.shared.get(route, wheel).await?;
        self.remember(route, address, wheel, &record).await;
        Some(record)
    }

    /// Remembers what was found in a whole wheel, and shares it.
    async fn take_in(&self, route: &Arc<Route>, address: &FileAddress, wheel: Sha256, record: &CoreMetadataRecord) {
        self.shared.offer(wheel, record);
        self.remember(route, address, wheel, record).await;
    }

    /// Remembers what is proven. It takes the place of what was read from a part of the wheel before.
    async fn remember(&self, route: &Arc<Route>, address: &FileAddress, wheel: Sha256, record: &CoreMetadataRecord) {
        let (store, repository) = (self.store.clone(), route.repository.clone());
        let before = blocking(move || store.unproven(&repository, wheel)).await.ok().flatten();
        if before.as_ref().is_some_and(|before| before.differs(record)) {
            self.mismatches.fetch_add(1, Ordering::Relaxed);
            tracing::error!(file = %address.file, "core metadata that was read by range is not that of the wheel");
            if sabotaged("range-mismatch") {
                return;
            }
        }
        self.store.remember(wheel, record);
        if before.is_some() {
            let (store, repository) = (self.store.clone(), route.repository.clone());
            let _ = blocking(move || store.forget_unproven(&repository, wheel)).await;
        }
        match record {
            CoreMetadataRecord::Present(_) => {
                let (recorder, record) = (self.clone(), record.clone());
                self.tasks.spawn("record core metadata", async move { recorder.record(wheel, record).await });
            }
            CoreMetadataRecord::Absent => {
                self.record(wheel, record.clone()).await;
                self.pages.advertise_again(route, &address.project).await;
            }
        }
    }

    /// Extracts the metadata of a wheel that was fetched a moment ago, before a client asks for it.
    pub(super) fn extract_in_background(&self, route: &Arc<Route>, address: &FileAddress, blob: &Blob) {
        let (extractor, route, address) = (self.clone(), Arc::clone(route), address.clone());
        let (sha256, length) = (blob.sha256, blob.length);
        self.tasks.spawn("extract core metadata in background", async move {
            let (blobs, store) = (extractor.blobs.clone(), extractor.store.clone());
            let unknown = blocking(move || match store.digest(sha256) {
                Some(_) => None,
                None => blobs.get_verified(sha256, Some(length)),
            });
            if let Ok(Some(wheel)) = unknown.await {
                let _ = extractor.extract(&route, &address, wheel).within(TIMEOUT).await;
            }
        });
    }

    /// Records what was found; what cannot be recorded is served all the same.
    async fn record(&self, wheel: Sha256, record: CoreMetadataRecord) {
        let store = self.store.clone();
        if let Ok(Err(error)) = blocking(move || store.put(wheel, &record)).await {
            tracing::warn!(%error, "core metadata could not be recorded");
        }
    }

    /// The bytes of a wheel's metadata.
    pub(super) async fn read_metadata(
        &self,
        wheel: impl ReadAt + Send + 'static,
        file: &FileName,
    ) -> Result<Result<Vec<u8>, WheelError>, Panicked> {
        let name = file.clone();
        self.reading.run(move || wheel::core_metadata(wheel, &name)).await
    }

    /// Waits until so many mebibytes of a wheel that is not stored may be held.
    pub(super) async fn hold(&self, mebibytes: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.memory).acquire_many_owned(mebibytes.min(MEMORY)).await.ok()
    }

    /// Takes the metadata out of a wheel. A wheel that cannot be read may be a good one, so that is an error.
    async fn read(&self, wheel: impl ReadAt + Send + 'static, file: &FileName) -> Extracted {
        match self.read_metadata(wheel, file).await? {
            Ok(bytes) => Ok(CoreMetadataRecord::present(bytes.into())),
            Err(error) if error.is_transient() => {
                tracing::warn!(%file, ?error, "a wheel could not be read for its core metadata");
                Err(unavailable(Cause::Storage))
            }
            Err(error) => {
                tracing::warn!(%file, %error, "a wheel has no core metadata that could be served");
                Ok(CoreMetadataRecord::Absent)
            }
        }
    }
}

/// The memory that a wheel of this length takes while it bypasses the cache, in mebibytes.
fn mebibytes(length: Option<u64>) -> u32 {
    let held = length.unwrap_or(u64::MAX).min(WheelParts::MOST).div_ceil(1 << 20);
    u32::try_from(held).unwrap_or(MEMORY).clamp(1, MEMORY)
}

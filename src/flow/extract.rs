//! Taking core metadata out of stored wheels, once per wheel.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, PageService, Route};
use crate::cache::{Blob, Blobs, CoreMetadataRecord, MetadataStore};
use wheelport_index::{FileAddress, FileName, Sha256, wheel};
use wheelport_runtime::{Joined, SingleFlight, Tasks, blocking};

/// The longest time a background extraction may take.
const TIMEOUT: Duration = Duration::from_mins(30);

type Extracted = Result<CoreMetadataRecord, Error>;

/// Extracts core metadata and records it. Cheap to clone.
#[derive(Clone)]
pub(super) struct MetadataExtractor {
    pages: PageService,
    blobs: Blobs,
    store: MetadataStore,
    extractions: SingleFlight<Sha256, Joined<Extracted>>,
    tasks: Tasks,
}

impl MetadataExtractor {
    pub(super) fn new(pages: PageService, blobs: Blobs, store: MetadataStore, tasks: Tasks) -> Self {
        Self { pages, blobs, store, extractions: SingleFlight::default(), tasks }
    }

    /// Starts or joins the extraction from an open wheel. Its outcome does not wait for the record on disk.
    pub(super) fn extract(&self, route: &Arc<Route>, address: &FileAddress, wheel: Blob) -> Joined<Extracted> {
        let (extractor, route, address) = (self.clone(), Arc::clone(route), address.clone());
        let (joined, _) = self.extractions.run(wheel.sha256, &self.tasks, "extract core metadata", || async move {
            let (sha256, file) = (wheel.sha256, address.file.clone());
            let record = blocking(move || read_wheel(&wheel, &file)).await?;
            match record {
                CoreMetadataRecord::Present(_) => {
                    extractor.store.remember(sha256, &record);
                    let (recorder, record) = (extractor.clone(), record.clone());
                    extractor.tasks.spawn("record core metadata", async move { recorder.record(sha256, record).await });
                }
                CoreMetadataRecord::Absent => {
                    extractor.record(sha256, record.clone()).await;
                    extractor.pages.advertise_again(&route, &address.project).await;
                }
            }
            Ok(record)
        });
        joined
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
}

/// Takes the metadata out of a wheel. Blocking.
fn read_wheel(blob: &Blob, file: &FileName) -> CoreMetadataRecord {
    match wheel::core_metadata(&*blob.file, file) {
        Ok(bytes) => CoreMetadataRecord::present(bytes.into()),
        Err(error) => {
            tracing::warn!(%file, %error, "a wheel has no core metadata that could be served");
            CoreMetadataRecord::Absent
        }
    }
}

//! Uploads in the store that replicas share: the file goes there while upstream is asked for it, so that the replica
//! that lists it next need not fetch it. An upload that is refused leaves a file that no page names.

use std::sync::Arc;
use std::time::Duration;

use super::shared_files::SharedFiles;
use super::shared_metadata::SharedMetadata;
use crate::cache::{Blob, CoreMetadataRecord, Spooled};
use wheelport_index::Sha256;
use wheelport_runtime::{Joined, Waits};

/// How much longer than for upstream a publisher waits until the file is in the store.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shares what is uploaded. Cheap to clone.
#[derive(Clone)]
pub(super) struct SharedUploads {
    files: SharedFiles,
    metadata: SharedMetadata,
}

/// A file on its way to the store.
pub(super) struct SharedUpload(Option<Joined<()>>);

impl SharedUploads {
    pub(super) fn new(files: SharedFiles, metadata: SharedMetadata) -> Self {
        Self { files, metadata }
    }

    /// Begins to write the file of an upload to the store.
    pub(super) fn offer(&self, upload: &Spooled) -> SharedUpload {
        if !self.files.is_sharing() {
            return SharedUpload(None);
        }
        let (length, sha256) = (upload.content_length, upload.digests.sha256);
        let Ok(file) = upload.content() else { return SharedUpload(None) };
        SharedUpload(self.files.offer(Blob::new(Arc::new(file), length, sha256), None))
    }

    /// Writes the metadata of an accepted wheel to the store, in the background.
    pub(super) fn offer_metadata(&self, wheel: Sha256, record: &CoreMetadataRecord) {
        self.metadata.offer(wheel, record);
    }
}

impl SharedUpload {
    /// Waits until the file is there, or for a moment; it goes on in the background.
    pub(super) async fn wait(self) {
        if let Some(writing) = self.0 {
            let _ = Waits::note("store", writing.within(PATIENCE)).await;
        }
    }
}

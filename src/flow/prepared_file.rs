//! The temporary file of a download, made while upstream or the store is asked.
//!
//! Nothing is evicted for it before bytes come: where there is no room without that, it is made when they do.

use crate::cache::{Blobs, Expected, PartialBlob, WriteError};
use wheelport_runtime::{Blocking, blocking};

/// A temporary file that is being made.
pub(super) struct PreparedFile {
    blobs: Blobs,
    making: Option<Blocking<Option<PartialBlob>>>,
}

impl PreparedFile {
    /// Starts to make the file, if its length is known.
    pub(super) fn begin(blobs: &Blobs, expected: &Expected) -> Self {
        let (at, hashes) = (blobs.clone(), expected.hashes.clone());
        let making = expected.length.map(|length| blocking(move || at.try_begin(length, &hashes)));
        Self { blobs: blobs.clone(), making }
    }

    /// The file, once; then others like it.
    pub(super) async fn take(&mut self, expected: &Expected) -> Result<PartialBlob, WriteError> {
        if let Some(making) = self.making.take()
            && let Ok(Some(partial)) = making.await
        {
            return Ok(partial);
        }
        let (blobs, length, hashes) = (self.blobs.clone(), expected.length, expected.hashes.clone());
        Ok(blocking(move || blobs.begin(length, &hashes)).await.map_err(|_| WriteError::Interrupted)??)
    }
}

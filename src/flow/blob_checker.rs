//! Checks stored files while they are served. Readers follow a check as they follow a download: they get each byte
//! once it was hashed, and the last one when the digest agrees. So a file is checked once, however many read it.

use std::sync::Arc;

use super::downloader::FileDownload;
use super::error::Error;
use crate::cache::{Blob, BlobCheck, Blobs, Complete, DownloadFailure, DownloadWriter, JoinableDownload, Started};
use wheelport_index::Sha256;
use wheelport_runtime::{SingleFlight, Tasks, blocking};

/// Checks files, one task per file. Cheap to clone.
#[derive(Clone)]
pub(super) struct BlobChecker {
    blobs: Blobs,
    running: SingleFlight<Sha256, (Blob, JoinableDownload<Error>)>,
    tasks: Tasks,
}

impl BlobChecker {
    pub(super) fn new(blobs: Blobs, tasks: Tasks) -> Self {
        Self { blobs, running: SingleFlight::default(), tasks }
    }

    /// Starts or joins the check of a stored file. Returns the file that is checked, which is the one to be read.
    pub(super) fn follow(&self, blob: Blob) -> (Blob, FileDownload) {
        let (blobs, sha256) = (self.blobs.clone(), blob.sha256);
        let start = || {
            let (writer, download) = DownloadWriter::new();
            writer.start(Started { file: Arc::clone(&blob.file), length: Some(blob.length) });
            ((blob.clone(), download), check(blobs, blob, writer))
        };
        let ((blob, checking), _) = self.running.share(sha256, &self.tasks, "check file", start);
        (blob, checking.join())
    }
}

async fn check(blobs: Blobs, blob: Blob, writer: DownloadWriter<Error>) {
    let Ok(mut check) = BlobCheck::begin(&blob) else { return };
    while !check.is_complete() {
        let advancing = blocking(move || {
            let outcome = check.advance();
            (check, outcome)
        });
        let Ok((advanced, outcome)) = advancing.await else { return };
        if let Err(error) = outcome {
            let prefix = advanced.prefix();
            let _ = blocking(move || blobs.discard(&blob, &error)).await;
            return writer.unreadable(prefix);
        }
        writer.written(advanced.position());
        check = advanced;
    }
    match blocking(move || blobs.conclude(check)).await {
        Ok(Ok(())) => writer.verified(Complete { length: blob.length, sha256: blob.sha256, proven: true }),
        Ok(Err(_)) | Err(_) => writer.fail(DownloadFailure::Damaged),
    }
}

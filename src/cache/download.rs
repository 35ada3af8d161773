//! A file while it is downloaded: one writer and any number of readers, all of which read the file as it grows.
//!
//! The last byte is withheld until the complete file was verified, so no reader ever comes to the end of a wrong file.
//! Readers read the file that the writer has open, so they do not depend on whether the file is committed afterwards.
//!
//! `E` is the error of the layer that downloads; this module only hands it to the readers.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::blob::{Blob, Complete};
use super::blob_check::HashedPrefix;
use wheelport_runtime::sabotaged;

/// Why a download ended without a complete file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadFailure<E> {
    /// Upstream did not deliver the file, or delivered something else than the index says.
    #[error("{0}")]
    Upstream(E),
    /// The cache directory cannot take the file; it has to be streamed from upstream instead.
    #[error("the cache directory cannot take the file")]
    Storage,
    /// It was a stored file that was checked on the way, and its content is not what its name says. It was removed.
    #[error("the stored file is damaged")]
    Damaged,
    /// It was a stored file that was checked on the way, and the rest of it cannot be read. It was removed.
    #[error("the stored file cannot be read")]
    Unreadable(HashedPrefix),
    /// It was given up because it had no readers any more.
    #[error("the download had no readers and was given up")]
    Unread,
    /// The downloading task ended unexpectedly.
    #[error("the download was abandoned")]
    Abandoned,
}

/// What readers see of a download.
struct DownloadProgress<E> {
    started: Option<Started>,
    /// The number of bytes that readers may read.
    readable: u64,
    stored_already: bool,
    /// Set once the complete file was verified, or no more bytes will come.
    end: Option<Result<Complete, DownloadFailure<E>>>,
}

/// What is known as soon as upstream's response begins.
#[derive(Debug, Clone)]
pub struct Started {
    /// The growing file.
    pub file: Arc<File>,
    /// The length in bytes, if upstream or the index names it.
    pub length: Option<u64>,
}

/// A reader of a download. Clones are further readers.
pub struct Download<E> {
    progress: watch::Receiver<DownloadProgress<E>>,
    reader: Reader,
}

/// A download that can be joined. Cheap to clone; holding it is not reading.
pub struct JoinableDownload<E> {
    progress: watch::Receiver<DownloadProgress<E>>,
    readers: Arc<watch::Sender<usize>>,
}

/// The writer's side. Dropping it without an end is [`DownloadFailure::Abandoned`].
pub struct DownloadWriter<E> {
    progress: watch::Sender<DownloadProgress<E>>,
    readers: Arc<watch::Sender<usize>>,
}

/// One reader, counted until it is dropped.
struct Reader(Arc<watch::Sender<usize>>);

impl Reader {
    fn new(readers: &Arc<watch::Sender<usize>>) -> Self {
        readers.send_modify(|count| *count += 1);
        Self(Arc::clone(readers))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl<E> Clone for Download<E> {
    fn clone(&self) -> Self {
        Self { progress: self.progress.clone(), reader: Reader::new(&self.reader.0) }
    }
}

impl<E> Clone for JoinableDownload<E> {
    fn clone(&self) -> Self {
        Self { progress: self.progress.clone(), readers: Arc::clone(&self.readers) }
    }
}

impl<E> JoinableDownload<E> {
    /// A reader of the download, from its beginning.
    pub fn join(&self) -> Download<E> {
        Download { progress: self.progress.clone(), reader: Reader::new(&self.readers) }
    }
}

impl<E> DownloadWriter<E> {
    /// A download that has not started.
    pub fn new() -> (Self, JoinableDownload<E>) {
        let progress = DownloadProgress { started: None, readable: 0, stored_already: false, end: None };
        let ((sender, receiver), readers) = (watch::channel(progress), Arc::new(watch::Sender::new(0)));
        (Self { progress: sender, readers: Arc::clone(&readers) }, JoinableDownload { progress: receiver, readers })
    }

    /// Resolves when the download has had no reader for this long.
    pub async fn unread_for(&self, time: Duration) {
        let mut readers = self.readers.subscribe();
        loop {
            // The counter lives as long as this, so waiting does not fail.
            let _ = readers.wait_for(|count| *count == 0).await;
            if tokio::time::timeout(time, readers.wait_for(|count| *count > 0)).await.is_err() {
                return;
            }
        }
    }

    /// Whether more than half of the file is here, as far as its length is known.
    pub fn is_half_done(&self) -> bool {
        let progress = self.progress.borrow();
        let length = progress.started.as_ref().and_then(|started| started.length);
        length.is_some_and(|length| progress.readable > length / 2) && !sabotaged("half-done")
    }

    /// Upstream's response begins.
    pub fn start(&self, started: Started) {
        self.progress.send_modify(|progress| progress.started = Some(started));
    }

    /// The file has `length` bytes now; the last one is withheld.
    pub fn written(&self, length: u64) {
        self.progress.send_modify(|progress| {
            let withheld = u64::from(!sabotaged("withheld-byte"));
            progress.readable = progress.readable.max(length.saturating_sub(withheld));
        });
    }

    /// This many bytes were read and hashed, and the rest cannot be: they are not all, so none is withheld.
    pub fn unreadable(&self, prefix: HashedPrefix) {
        self.progress.send_modify(|progress| progress.readable = prefix.length);
        self.fail(DownloadFailure::Unreadable(prefix));
    }

    /// Length and digest agree: readers may have the last byte.
    pub fn verified(&self, complete: Complete) {
        self.progress.send_modify(|progress| {
            progress.readable = complete.length;
            progress.end = Some(Ok(complete));
        });
    }

    /// The cache has the file already: another download committed it a moment ago.
    pub fn stored_already(&self, blob: Blob) {
        self.progress.send_modify(|progress| {
            let complete = Complete { length: blob.length, sha256: blob.sha256, proven: true };
            progress.started = Some(Started { file: blob.file, length: Some(blob.length) });
            progress.readable = blob.length;
            progress.stored_already = true;
            progress.end = Some(Ok(complete));
        });
    }

    /// The download failed. A file that was verified before stays verified.
    pub fn fail(&self, failure: DownloadFailure<E>) {
        self.progress.send_modify(|progress| {
            progress.end.get_or_insert(Err(failure));
        });
    }
}

impl<E> Drop for DownloadWriter<E> {
    fn drop(&mut self) {
        self.fail(DownloadFailure::Abandoned);
    }
}

impl<E: Clone> Download<E> {
    /// Waits until upstream's response begins.
    pub async fn started(&mut self) -> Result<Started, DownloadFailure<E>> {
        let seen = self.progress.wait_for(|progress| progress.started.is_some() || progress.end.is_some()).await;
        match seen.map(|progress| (progress.started.clone(), progress.end.clone())) {
            Ok((Some(started), _)) => Ok(started),
            Ok((None, Some(Err(failure)))) => Err(failure),
            Ok((None, _)) | Err(_) => Err(DownloadFailure::Abandoned),
        }
    }

    /// Waits until more than `position` bytes may be read, or the download ended; returns how many may be read.
    pub async fn readable_past(&mut self, position: u64) -> Result<u64, DownloadFailure<E>> {
        let seen = self.progress.wait_for(|progress| progress.readable > position || progress.end.is_some()).await;
        match seen.map(|progress| (progress.readable, progress.end.clone())) {
            Ok((readable, _)) if readable > position => Ok(readable),
            Ok((readable, Some(Ok(_)))) => Ok(readable),
            Ok((_, Some(Err(failure)))) => Err(failure),
            Ok((_, None)) | Err(_) => Err(DownloadFailure::Abandoned),
        }
    }

    /// Whether it ended without a complete file.
    pub fn has_failed(&self) -> bool {
        matches!(self.progress.borrow().end, Some(Err(_)))
    }

    /// Whether the complete file was verified.
    pub fn is_verified(&self) -> bool {
        matches!(self.progress.borrow().end, Some(Ok(_)))
    }

    /// Whether the cache had the file already, so that nothing was downloaded.
    pub fn was_stored_already(&self) -> bool {
        self.progress.borrow().stored_already
    }

    /// The complete file, once it was verified by a digest that the index names. It is readable, committed or not.
    pub fn blob(&self) -> Option<Blob> {
        let progress = self.progress.borrow();
        match (&progress.started, &progress.end) {
            (Some(started), Some(Ok(Complete { length, sha256, proven: true }))) => {
                Some(Blob::new(Arc::clone(&started.file), *length, *sha256))
            }
            _ => None,
        }
    }

    /// Waits until the complete file was verified.
    pub async fn verified(&mut self) -> Result<Complete, DownloadFailure<E>> {
        match self.progress.wait_for(|progress| progress.end.is_some()).await.map(|progress| progress.end.clone()) {
            Ok(Some(end)) => end,
            Ok(None) | Err(_) => Err(DownloadFailure::Abandoned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::BlobCheck;
    use wheelport_index::Sha256;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn download() -> (DownloadWriter<&'static str>, Download<&'static str>) {
        let (writer, download) = DownloadWriter::new();
        (writer, download.join())
    }

    #[tokio::test(start_paused = true)]
    async fn the_writer_notices_when_readers_leave_and_come_back() -> Outcome {
        let second = Duration::from_secs(1);
        let (writer, joinable) = DownloadWriter::<()>::new();
        writer.start(Started { file: Arc::new(tempfile::tempfile()?), length: Some(10) });
        let began = tokio::time::Instant::now();
        let reading = async {
            let reader = joinable.join();
            let clone = reader.clone();
            drop(reader);
            tokio::time::sleep(second * 10).await;
            drop(clone);
            tokio::time::sleep(second * 29).await;
            let _back = joinable.join();
            tokio::time::sleep(second * 5).await;
        };
        tokio::join!(writer.unread_for(second * 30), reading);
        assert_eq!(began.elapsed().as_secs(), 10 + 29 + 5 + 30);
        writer.written(5);
        assert!(!writer.is_half_done());
        writer.written(7);
        assert!(writer.is_half_done());
        Ok(())
    }

    #[tokio::test]
    async fn the_last_byte_waits_for_verification() -> Outcome {
        let (writer, mut download) = download();
        writer.written(10);
        assert_eq!(download.readable_past(0).await?, 9);
        let complete = Complete { length: 10, sha256: Sha256::of(b""), proven: true };
        writer.verified(complete);
        assert_eq!(download.readable_past(9).await?, 10);
        assert_eq!(download.readable_past(10).await?, 10, "the end");
        assert_eq!(download.verified().await?, complete);
        Ok(())
    }

    #[tokio::test]
    async fn a_verified_file_stays_readable_when_it_cannot_be_committed() -> Outcome {
        for proven in [true, false] {
            let (writer, mut download) = download();
            writer.start(Started { file: Arc::new(tempfile::tempfile()?), length: None });
            writer.written(10);
            assert!(download.blob().is_none(), "not verified");
            let complete = Complete { length: 10, sha256: Sha256::of(b""), proven };
            writer.verified(complete);
            writer.fail(DownloadFailure::Storage);
            drop(writer);
            assert_eq!(download.verified().await, Ok(complete));
            assert_eq!(download.readable_past(9).await, Ok(10));
            assert!(download.started().await.is_ok());
            assert_eq!(download.blob().map(|blob| blob.length), proven.then_some(10));
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_file_that_is_stored_already_is_complete_without_waiting() -> Outcome {
        let (writer, mut download) = download();
        assert!(!download.was_stored_already());
        writer.stored_already(Blob::new(Arc::new(tempfile::tempfile()?), 10, Sha256::of(b"")));
        assert!(download.was_stored_already() && download.is_verified());
        assert_eq!(download.started().await.map(|started| started.length), Ok(Some(10)));
        assert_eq!(download.readable_past(9).await, Ok(10));
        assert_eq!(download.blob().map(|blob| blob.length), Some(10));
        Ok(())
    }

    #[tokio::test]
    async fn readers_get_the_error_of_the_layer_that_downloads() {
        let (writer, mut download) = download();
        writer.fail(DownloadFailure::Upstream("refused"));
        assert_eq!(download.started().await.map(drop), Err(DownloadFailure::Upstream("refused")));
        assert_eq!(download.verified().await, Err(DownloadFailure::Upstream("refused")));
    }

    #[tokio::test]
    async fn readers_get_all_that_could_be_read_of_a_stored_file_and_then_its_hash() -> Outcome {
        let (writer, mut download) = download();
        let file = Arc::new(tempfile::tempfile()?);
        file.set_len(5)?;
        let blob = Blob::found(file, 9, Sha256::of(b""), None);
        let mut prefix = BlobCheck::begin(&blob)?.prefix();
        prefix.length = 5;
        writer.written(5);
        assert!(!download.has_failed());
        writer.unreadable(prefix.clone());
        assert!(download.has_failed());
        assert_eq!(download.readable_past(4).await, Ok(5));
        assert_eq!(download.readable_past(5).await, Err(DownloadFailure::Unreadable(prefix)));
        Ok(())
    }

    #[tokio::test]
    async fn a_writer_that_vanishes_is_a_failure() {
        let (writer, mut download) = download();
        writer.written(10);
        drop(writer);
        assert_eq!(download.readable_past(0).await, Ok(9), "written bytes stay readable");
        assert_eq!(download.readable_past(9).await, Err(DownloadFailure::Abandoned));
        assert!(matches!(download.started().await, Err(DownloadFailure::Abandoned)));
    }
}

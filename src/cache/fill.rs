//! A file while it is fetched: one writer, any number of readers, all of them reading as it grows.
//!
//! The last byte is withheld until the whole file was verified, so no reader ever comes to the end of a wrong file. Whether
//! it could be kept after that is no concern of theirs: they read the file that the writer has open.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use super::blobs::Blob;
use crate::error::Error;
use wheelport_index::Sha256;

/// Why a fill ended without a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FillFailure {
    /// Upstream could not deliver, or delivered something else than the index says.
    Upstream(Error),
    /// The cache directory cannot take the file: it is to be passed through instead.
    Storage,
    /// The filling task ended unexpectedly.
    Abandoned,
}

/// What readers see of a fill.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Upstream answered, and the file exists to be read.
    pub head: Option<Head>,
    /// Bytes that may be read.
    pub readable: u64,
    /// It did not have to be fetched.
    pub found: bool,
    /// Set when the whole file was verified, or nothing more will come.
    pub end: Option<Result<Whole, FillFailure>>,
}

/// Known as soon as upstream's answer begins.
#[derive(Debug, Clone)]
pub struct Head {
    /// The growing file.
    pub file: Arc<File>,
    /// The length in bytes, if upstream or the index tells.
    pub length: Option<u64>,
}

/// A whole, verified file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// The length in bytes.
    pub length: u64,
    /// The SHA-256.
    pub sha256: Sha256,
    /// Whether the index named a digest that was checked.
    pub proven: bool,
}

/// The readers' side. Cheap to clone.
#[derive(Clone)]
pub struct Fill {
    progress: watch::Receiver<Progress>,
}

/// The writer's side. Dropping it without an end is [`FillFailure::Abandoned`].
pub struct FillWriter {
    progress: watch::Sender<Progress>,
}

impl FillWriter {
    /// A fill that has not begun.
    pub fn new() -> (Self, Fill) {
        let (sender, receiver) = watch::channel(Progress::default());
        (Self { progress: sender }, Fill { progress: receiver })
    }

    /// Upstream answered.
    pub fn begin(&self, head: Head) {
        self.progress.send_modify(|progress| progress.head = Some(head));
    }

    /// So many bytes were written; the last one is withheld.
    pub fn wrote(&self, written: u64) {
        self.progress.send_modify(|progress| {
            progress.readable = progress.readable.max(written.saturating_sub(1));
        });
    }

    /// Length and digest agree: readers may have the last byte.
    pub fn verified(&self, whole: Whole) {
        self.progress.send_modify(|progress| {
            progress.readable = whole.length;
            progress.end = Some(Ok(whole));
        });
    }

    /// The file is there already: it was kept a moment ago.
    pub fn found(&self, blob: Blob) {
        self.progress.send_modify(|progress| {
            let whole = Whole { length: blob.length, sha256: blob.sha256, proven: true };
            progress.head = Some(Head { file: blob.file, length: Some(blob.length) });
            progress.readable = blob.length;
            progress.found = true;
            progress.end = Some(Ok(whole));
        });
    }

    /// The fill failed. What was verified before stays so.
    pub fn fail(&self, failure: FillFailure) {
        self.progress.send_modify(|progress| {
            progress.end.get_or_insert(Err(failure));
        });
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        self.fail(FillFailure::Abandoned);
    }
}

impl Fill {
    /// Waits until upstream answered.
    pub async fn head(&mut self) -> Result<Head, FillFailure> {
        let seen = self.progress.wait_for(|progress| progress.head.is_some() || progress.end.is_some()).await;
        match seen.map(|progress| (progress.head.clone(), progress.end.clone())) {
            Ok((Some(head), _)) => Ok(head),
            Ok((None, Some(Err(failure)))) => Err(failure),
            Ok((None, _)) | Err(_) => Err(FillFailure::Abandoned),
        }
    }

    /// Waits until more than `position` bytes may be read, or the fill ended; says how many may be read.
    pub async fn readable_past(&mut self, position: u64) -> Result<u64, FillFailure> {
        let seen = self.progress.wait_for(|progress| progress.readable > position || progress.end.is_some()).await;
        match seen.map(|progress| (progress.readable, progress.end.clone())) {
            Ok((readable, _)) if readable > position => Ok(readable),
            Ok((readable, Some(Ok(_)))) => Ok(readable),
            Ok((_, Some(Err(failure)))) => Err(failure),
            Ok((_, None)) | Err(_) => Err(FillFailure::Abandoned),
        }
    }

    /// Whether the whole file was verified.
    pub fn is_verified(&self) -> bool {
        matches!(self.progress.borrow().end, Some(Ok(_)))
    }

    /// Whether nothing had to be fetched.
    pub fn was_found(&self) -> bool {
        self.progress.borrow().found
    }

    /// The whole file, once it was verified by a digest that the index names; kept or not, it can be read.
    pub fn blob(&self) -> Option<Blob> {
        let progress = self.progress.borrow();
        match (&progress.head, &progress.end) {
            (Some(head), Some(Ok(Whole { length, sha256, proven: true }))) => {
                Some(Blob::new(Arc::clone(&head.file), *length, *sha256))
            }
            _ => None,
        }
    }

    /// Waits until the whole file was verified.
    pub async fn verified(&mut self) -> Result<Whole, FillFailure> {
        match self.progress.wait_for(|progress| progress.end.is_some()).await.map(|progress| progress.end.clone()) {
            Ok(Some(end)) => end,
            Ok(None) | Err(_) => Err(FillFailure::Abandoned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_byte_waits_for_verification() -> Result<(), FillFailure> {
        let (writer, mut fill) = FillWriter::new();
        writer.wrote(10);
        assert_eq!(fill.readable_past(0).await?, 9);
        let whole = Whole { length: 10, sha256: Sha256::of(b""), proven: true };
        writer.verified(whole);
        assert_eq!(fill.readable_past(9).await?, 10);
        assert_eq!(fill.readable_past(10).await?, 10, "the end");
        assert_eq!(fill.verified().await?, whole);
        Ok(())
    }

    #[tokio::test]
    async fn what_was_verified_stays_readable_when_it_cannot_be_kept() -> Result<(), Box<dyn std::error::Error>> {
        for proven in [true, false] {
            let (writer, mut fill) = FillWriter::new();
            writer.begin(Head { file: Arc::new(tempfile::tempfile()?), length: None });
            writer.wrote(10);
            assert!(fill.blob().is_none(), "not verified");
            let whole = Whole { length: 10, sha256: Sha256::of(b""), proven };
            writer.verified(whole);
            writer.fail(FillFailure::Storage);
            drop(writer);
            assert_eq!(fill.verified().await, Ok(whole));
            assert_eq!(fill.readable_past(9).await, Ok(10));
            assert!(fill.head().await.is_ok());
            assert_eq!(fill.blob().map(|blob| blob.length), proven.then_some(10));
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_is_found_is_whole_at_once() -> Result<(), Box<dyn std::error::Error>> {
        let (writer, mut fill) = FillWriter::new();
        assert!(!fill.was_found());
        writer.found(Blob::new(Arc::new(tempfile::tempfile()?), 10, Sha256::of(b"")));
        assert!(fill.was_found() && fill.is_verified());
        assert_eq!(fill.head().await.map(|head| head.length), Ok(Some(10)));
        assert_eq!(fill.readable_past(9).await, Ok(10));
        assert_eq!(fill.blob().map(|blob| blob.length), Some(10));
        Ok(())
    }

    #[tokio::test]
    async fn a_writer_that_vanishes_is_a_failure() {
        let (writer, mut fill) = FillWriter::new();
        writer.wrote(10);
        drop(writer);
        assert_eq!(fill.readable_past(0).await, Ok(9), "what is there may be read");
        assert_eq!(fill.readable_past(9).await, Err(FillFailure::Abandoned));
        assert!(matches!(fill.head().await, Err(FillFailure::Abandoned)));
    }
}

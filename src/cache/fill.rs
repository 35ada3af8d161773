//! A file while it is fetched: one writer, any number of readers, all of them reading as it grows.
//!
//! The last byte is withheld until the whole file was verified, so no reader ever comes to the end of a wrong file.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Error;
use crate::pypi::Sha256;

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
    /// Set at the end.
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

    /// Everything is done: the file can be found under its digest, if it could be kept.
    pub fn complete(&self, whole: Whole) {
        self.progress.send_modify(|progress| {
            progress.readable = whole.length;
            progress.end = Some(Ok(whole));
        });
    }

    /// The fill failed.
    pub fn fail(&self, failure: FillFailure) {
        self.progress.send_modify(|progress| progress.end = Some(Err(failure)));
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        if self.progress.borrow().end.is_none() {
            self.fail(FillFailure::Abandoned);
        }
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
        let seen =
            self.progress.wait_for(|progress| progress.readable > position || progress.end.is_some()).await;
        match seen.map(|progress| (progress.readable, progress.end.clone())) {
            Ok((readable, _)) if readable > position => Ok(readable),
            Ok((readable, Some(Ok(_)))) => Ok(readable),
            Ok((_, Some(Err(failure)))) => Err(failure),
            Ok((_, None)) | Err(_) => Err(FillFailure::Abandoned),
        }
    }

    /// Whether the whole file was verified.
    pub fn is_finished(&self) -> bool {
        matches!(self.progress.borrow().end, Some(Ok(_)))
    }

    /// Waits for the end: the file can be found under its digest, if it could be kept.
    pub async fn finished(&mut self) -> Result<Whole, FillFailure> {
        match self
            .progress
            .wait_for(|progress| progress.end.is_some())
            .await
            .map(|progress| progress.end.clone())
        {
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
        let whole = Whole { length: 10, sha256: Sha256::of(b"") };
        writer.complete(whole);
        assert_eq!(fill.readable_past(9).await?, 10);
        assert_eq!(fill.readable_past(10).await?, 10, "the end");
        assert_eq!(fill.finished().await?, whole);
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

//! Writes a download to disk: while a helper thread writes and hashes one batch, the caller receives the next.
//!
//! The helper thread itself tells readers of a batch as soon as the batch is written. Memory never holds more than two
//! batches, one being written and one being gathered by the caller.

use std::sync::Arc;

use bytes::Bytes;

use super::blob::{Expected, Mismatch};
use super::blobs::{PartialBlob, VerifiedBlob};
use super::download::{DownloadWriter, Started};
use super::space::StorageError;
use wheelport_runtime::{Blocking, blocking, sabotaged};

/// Readers get a last batch longer than this before it is hashed; for a shorter one that only costs.
const LONG_BATCH: usize = 128 << 10;

/// Why bytes could not be written, or are not what was expected.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The cache directory cannot take them.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// They are wrong.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The helper thread ended in the middle, or an earlier call failed.
    #[error("writing was interrupted")]
    Interrupted,
}

/// A file on its way to disk. Dropping it leaves nothing behind.
pub struct WritePipeline<E> {
    readers: Arc<DownloadWriter<E>>,
    length: Option<u64>,
    state: WriteState,
    /// Whether readers have the file.
    is_seen: bool,
}

enum WriteState {
    Idle(Box<PartialBlob>),
    Writing(Blocking<(Box<PartialBlob>, Result<(), WriteError>)>),
    Failed(WriteError),
    Taken,
}

impl<E: Send + Sync + 'static> WritePipeline<E> {
    /// Starts the download for its readers. They are promised `length` bytes, if it is known.
    pub fn begin(partial: PartialBlob, length: Option<u64>, readers: Arc<DownloadWriter<E>>) -> Self {
        readers.start(Started { file: partial.readers(), length });
        Self { is_seen: true, ..Self::begin_unseen(partial, length, readers) }
    }

    /// Starts a download that its readers do not see before it was verified or [`WritePipeline::reveal`]ed. Until then
    /// it can be dropped, and another one begun for them.
    pub fn begin_unseen(partial: PartialBlob, length: Option<u64>, readers: Arc<DownloadWriter<E>>) -> Self {
        Self { readers, length, state: WriteState::Idle(Box::new(partial)), is_seen: false }
    }

    /// Lets readers in.
    pub async fn reveal(&mut self) -> Result<(), WriteError> {
        if !self.is_seen {
            let partial = self.take().await?;
            self.readers.start(Started { file: partial.readers(), length: self.length });
            self.readers.written(partial.written());
            self.state = WriteState::Idle(partial);
            self.is_seen = true;
        }
        Ok(())
    }

    /// Whether readers have the file.
    pub fn is_seen(&self) -> bool {
        self.is_seen
    }

    /// Waits until no batch is being written; returns how many bytes are written in all.
    pub async fn settle(&mut self) -> Result<u64, WriteError> {
        let partial = self.take().await?;
        let written = partial.written();
        self.state = WriteState::Idle(partial);
        Ok(written)
    }

    /// Starts to write a batch, once the batch before is written. An error of this batch turns up at the next call.
    pub async fn write(&mut self, batch: Vec<Bytes>) -> Result<(), WriteError> {
        let mut partial = self.take().await?;
        let (readers, length, is_seen) = (Arc::clone(&self.readers), self.length, self.is_seen);
        self.state = WriteState::Writing(blocking(move || {
            let outcome = append(&mut partial, &batch, length, |written| {
                if is_seen {
                    readers.written(written);
                }
            });
            (partial, outcome)
        }));
        Ok(())
    }

    /// Writes the last batch and verifies the complete file. If a digest proves the file, readers get the last byte.
    pub async fn finish(mut self, batch: Vec<Bytes>, expected: Expected) -> Result<VerifiedBlob, WriteError> {
        let mut partial = self.take().await?;
        let (readers, is_seen, length) = (self.readers, self.is_seen, self.length);
        let finishing = blocking(move || {
            let long = is_seen && batch.iter().map(Bytes::len).sum::<usize>() > LONG_BATCH;
            append(&mut partial, &batch, expected.length, |written| {
                if long {
                    readers.written(written);
                }
            })?;
            let file = partial.readers();
            let verified = partial.verify(&expected)?;
            if !is_seen {
                readers.start(Started { file, length: length.or(Some(verified.complete().length)) });
            }
            // Only requests that joined this download may have an unproven file, so the caller decides when it ends.
            if verified.proven {
                readers.verified(verified.complete());
            }
            Ok(verified)
        });
        finishing.await.map_err(|_| WriteError::Interrupted)?
    }

    /// Waits until no batch is being written. An error turns up at the next call that returns one.
    pub async fn idle(&mut self) {
        if let WriteState::Writing(writing) = &mut self.state {
            self.state = match writing.await {
                Ok((partial, Ok(()))) => WriteState::Idle(partial),
                Ok((_, Err(error))) => WriteState::Failed(error),
                Err(_) => WriteState::Failed(WriteError::Interrupted),
            };
        }
    }

    async fn take(&mut self) -> Result<Box<PartialBlob>, WriteError> {
        self.idle().await;
        match std::mem::replace(&mut self.state, WriteState::Taken) {
            WriteState::Idle(partial) => Ok(partial),
            WriteState::Failed(error) => Err(error),
            WriteState::Writing(_) | WriteState::Taken => Err(WriteError::Interrupted),
        }
    }
}

/// Writes a batch, unless the file then had more bytes than readers were promised: they would take that many for the
/// complete file.
fn append(
    partial: &mut PartialBlob,
    batch: &[Bytes],
    length: Option<u64>,
    written: impl FnOnce(u64),
) -> Result<(), WriteError> {
    let found = partial.written() + batch.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
    if let Some(expected) = length.filter(|length| found > *length && !sabotaged("promised-length")) {
        return Err(Mismatch::Length { expected, found }.into());
    }
    Ok(partial.write(batch, written)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cache::{Blobs, Disk, Download, DownloadFailure};
    use wheelport_index::{Hashes, Sha256};
    use wheelport_runtime::Clock;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn expected(bytes: &[u8]) -> Expected {
        let mut hashes = Hashes::default();
        hashes.insert("sha256", &Sha256::of(bytes).to_string());
        Expected { length: Some(bytes.len() as u64), hashes }
    }

    fn begin(root: &Path, expected: &Expected) -> Result<(WritePipeline<()>, Download<()>), StorageError> {
        let blobs = Blobs::new(Disk::open(root, 1 << 20, Clock::system())?);
        let (writer, download) = DownloadWriter::new();
        let partial = blobs.begin(expected.length, &expected.hashes)?;
        Ok((WritePipeline::begin(partial, expected.length, Arc::new(writer)), download.join()))
    }

    fn batch(bytes: &'static [u8]) -> Vec<Bytes> {
        vec![Bytes::from_static(bytes)]
    }

    #[tokio::test]
    async fn readers_have_all_of_a_verified_file_before_it_is_committed() -> Outcome {
        let root = tempfile::tempdir()?;
        let expected = expected(b"wheelport");
        let (mut pipeline, mut download) = begin(root.path(), &expected)?;
        pipeline.write(batch(b"whe")).await?;
        assert_eq!(download.readable_past(0).await, Ok(2), "the last byte is withheld");
        pipeline.write(batch(b"el")).await?;
        assert_eq!(pipeline.settle().await?, 5);
        let verified = pipeline.finish(batch(b"port"), expected).await?;
        assert_eq!(download.readable_past(5).await, Ok(9));
        let open = download.blob().ok_or("verified by its digest")?;
        assert_eq!(std::io::read_to_string(&*open.file)?, "wheelport");
        assert_eq!(std::fs::read_dir(root.path().join("blobs"))?.count(), 0, "not committed yet");
        verified.commit()?;
        assert_eq!(download.verified().await.map(|complete| complete.sha256), Ok(Sha256::of(b"wheelport")));
        Ok(())
    }

    #[tokio::test]
    async fn readers_never_get_all_of_a_wrong_file() -> Outcome {
        let good = expected(b"wheelport");
        for (first, last) in [(b"whee", b"LPORT".as_slice()), (b"whee", b"lpor"), (b"whee", b"lports")] {
            let root = tempfile::tempdir()?;
            let (mut pipeline, mut download) = begin(root.path(), &good)?;
            pipeline.write(batch(first)).await?;
            let outcome = pipeline.finish(batch(last), good.clone()).await;
            assert!(matches!(outcome, Err(WriteError::Mismatch(_))));
            assert_eq!(download.verified().await, Err(DownloadFailure::Abandoned));
            assert!(download.readable_past(8).await.is_err(), "the last byte stays withheld");
        }
        Ok(())
    }

    #[tokio::test]
    async fn more_bytes_than_promised_are_refused_before_readers_see_them() -> Outcome {
        let root = tempfile::tempdir()?;
        let (mut pipeline, mut download) = begin(root.path(), &expected(b"wheel"))?;
        pipeline.write(batch(b"wheelport")).await?;
        pipeline.idle().await;
        assert!(matches!(pipeline.settle().await, Err(WriteError::Mismatch(Mismatch::Length { .. }))));
        assert!(matches!(pipeline.settle().await, Err(WriteError::Interrupted)), "nothing is left");
        drop(pipeline);
        assert_eq!(download.readable_past(0).await, Err(DownloadFailure::Abandoned));
        Ok(())
    }
}

//! The way of a fill's bytes to disk: while one batch is written and hashed on a helper thread, the next one is received.
//!
//! Readers hear of a batch as soon as it is written, from the helper thread itself. There are never more than two batches
//! in memory, one on its way and one being gathered by the caller.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::blobs::{Expected, Mismatch, Partial, Verified};
use super::disk::StorageError;
use super::fill::{FillWriter, Head};

/// A last batch longer than this is given to readers before it is hashed; for a shorter one that only costs.
const LONG: usize = 128 << 10;

/// Why bytes could not be written, or are not what was expected.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// They cannot be kept.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// They are wrong.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The helper thread ended in the middle, or nothing was begun.
    #[error("writing was interrupted")]
    Interrupted,
}

/// A file on its way to disk. Dropping it leaves nothing behind.
pub struct Pipeline {
    readers: Arc<FillWriter>,
    length: Option<u64>,
    state: State,
}

enum State {
    Waiting(Box<Partial>),
    Writing(JoinHandle<(Box<Partial>, Result<(), WriteError>)>),
    Failed(WriteError),
    Gone,
}

impl Pipeline {
    /// Lets readers in. They are promised `length` bytes, if it is known.
    pub fn begin(partial: Partial, length: Option<u64>, readers: Arc<FillWriter>) -> Self {
        readers.begin(Head { file: partial.readers(), length });
        Self { readers, length, state: State::Waiting(Box::new(partial)) }
    }

    /// Waits for what is on its way; says how many bytes are written in all.
    pub async fn settle(&mut self) -> Result<u64, WriteError> {
        let partial = self.take().await?;
        let written = partial.written();
        self.state = State::Waiting(partial);
        Ok(written)
    }

    /// Sends a batch on its way, as soon as the one before has arrived. Its own errors turn up at the next call.
    pub async fn write(&mut self, batch: Vec<Bytes>) -> Result<(), WriteError> {
        let mut partial = self.take().await?;
        let (readers, length) = (Arc::clone(&self.readers), self.length);
        self.state = State::Writing(tokio::task::spawn_blocking(move || {
            let outcome = append(&mut partial, &batch, length, |written| readers.wrote(written));
            (partial, outcome)
        }));
        Ok(())
    }

    /// Writes the last batch and checks the whole; then readers may have the last byte, if a digest vouches for it.
    pub async fn finish(mut self, batch: Vec<Bytes>, expected: Expected) -> Result<Verified, WriteError> {
        let mut partial = self.take().await?;
        let readers = self.readers;
        let finishing = tokio::task::spawn_blocking(move || {
            let long = batch.iter().map(Bytes::len).sum::<usize>() > LONG;
            append(&mut partial, &batch, expected.length, |written| {
                if long {
                    readers.wrote(written);
                }
            })?;
            let verified = partial.verify(&expected)?;
            // What nothing vouches for is nobody's but theirs who wait for it now, so it is for the fill to say when it ends.
            if verified.proven {
                readers.verified(verified.whole());
            }
            Ok(verified)
        });
        finishing.await.map_err(|_| WriteError::Interrupted)?
    }

    /// Waits until nothing is on its way. What went wrong turns up at the next call that can say so.
    pub async fn idle(&mut self) {
        if let State::Writing(writing) = &mut self.state {
            self.state = match writing.await {
                Ok((partial, Ok(()))) => State::Waiting(partial),
                Ok((_, Err(error))) => State::Failed(error),
                Err(_) => State::Failed(WriteError::Interrupted),
            };
        }
    }

    async fn take(&mut self) -> Result<Box<Partial>, WriteError> {
        self.idle().await;
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Waiting(partial) => Ok(partial),
            State::Failed(error) => Err(error),
            State::Writing(_) | State::Gone => Err(WriteError::Interrupted),
        }
    }
}

/// Writes pieces, unless they are more than readers were promised: they would take so many bytes for the whole file.
fn append(
    partial: &mut Partial,
    batch: &[Bytes],
    length: Option<u64>,
    written: impl FnOnce(u64),
) -> Result<(), WriteError> {
    let found = partial.written() + batch.iter().map(|piece| piece.len() as u64).sum::<u64>();
    if let Some(expected) = length.filter(|length| found > *length) {
        return Err(Mismatch::Length { expected, found }.into());
    }
    Ok(partial.write(batch, written)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cache::{Blobs, Disk, Fill, FillFailure};
    use wheelport_index::{Hashes, Sha256};
    use wheelport_runtime::Clock;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn expected(bytes: &[u8]) -> Expected {
        let mut hashes = Hashes::default();
        hashes.insert("sha256", &Sha256::of(bytes).to_string());
        Expected { length: Some(bytes.len() as u64), hashes }
    }

    fn begin(root: &Path, expected: &Expected) -> Result<(Pipeline, Fill), StorageError> {
        let blobs = Blobs::new(Disk::open(root, 1 << 20, Clock::system())?);
        let (writer, fill) = FillWriter::new();
        let partial = blobs.begin(expected.length, &expected.hashes)?;
        Ok((Pipeline::begin(partial, expected.length, Arc::new(writer)), fill))
    }

    fn batch(bytes: &'static [u8]) -> Vec<Bytes> {
        vec![Bytes::from_static(bytes)]
    }

    #[tokio::test]
    async fn readers_have_all_of_a_verified_file_before_it_is_kept() -> Outcome {
        let root = tempfile::tempdir()?;
        let expected = expected(b"wheelport");
        let (mut pipeline, mut fill) = begin(root.path(), &expected)?;
        pipeline.write(batch(b"whe")).await?;
        assert_eq!(fill.readable_past(0).await, Ok(2), "the last byte is withheld");
        pipeline.write(batch(b"el")).await?;
        assert_eq!(pipeline.settle().await?, 5);
        let verified = pipeline.finish(batch(b"port"), expected).await?;
        assert_eq!(fill.readable_past(5).await, Ok(9));
        let open = fill.blob().ok_or("verified by its digest")?;
        assert_eq!(std::io::read_to_string(&*open.file)?, "wheelport");
        assert_eq!(std::fs::read_dir(root.path().join("blobs"))?.count(), 0, "not kept yet");
        verified.commit()?;
        assert_eq!(fill.verified().await.map(|whole| whole.sha256), Ok(Sha256::of(b"wheelport")));
        Ok(())
    }

    #[tokio::test]
    async fn wrong_bytes_never_reach_readers_whole() -> Outcome {
        let good = expected(b"wheelport");
        for (first, last) in [(b"whee", b"LPORT".as_slice()), (b"whee", b"lpor"), (b"whee", b"lports")] {
            let root = tempfile::tempdir()?;
            let (mut pipeline, mut fill) = begin(root.path(), &good)?;
            pipeline.write(batch(first)).await?;
            let outcome = pipeline.finish(batch(last), good.clone()).await;
            assert!(matches!(outcome, Err(WriteError::Mismatch(_))));
            assert_eq!(fill.verified().await, Err(FillFailure::Abandoned));
            assert!(fill.readable_past(8).await.is_err(), "the last byte stays withheld");
        }
        Ok(())
    }

    #[tokio::test]
    async fn more_than_was_promised_is_refused_before_readers_hear_of_it() -> Outcome {
        let root = tempfile::tempdir()?;
        let (mut pipeline, mut fill) = begin(root.path(), &expected(b"wheel"))?;
        pipeline.write(batch(b"wheelport")).await?;
        pipeline.idle().await;
        assert!(matches!(pipeline.settle().await, Err(WriteError::Mismatch(Mismatch::Length { .. }))));
        assert!(matches!(pipeline.settle().await, Err(WriteError::Interrupted)), "nothing is left");
        drop(pipeline);
        assert_eq!(fill.readable_past(0).await, Err(FillFailure::Abandoned));
        Ok(())
    }
}

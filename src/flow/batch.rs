//! Batches of a download: what is written to disk in one go.

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::error::Error;
use crate::cache::WritePipeline;
use crate::fleet::{ObjectBody, StoreError};
use crate::upstream::{FileBody, UpstreamError};

/// The largest batch, in bytes.
const BATCH_SIZE: usize = 1 << 20;

/// What follows a batch.
pub(super) enum Next<E> {
    More,
    End,
    Broken(E),
}

/// Where the chunks of a file come from.
pub(super) trait ChunkSource {
    type Error;

    /// The next chunk; `None` after the last one of a complete file, or after an error.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, Self::Error>>> + Send;
}

impl ChunkSource for FileBody {
    type Error = UpstreamError;

    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, UpstreamError>>> + Send {
        Self::next(self)
    }
}

impl ChunkSource for ObjectBody {
    type Error = StoreError;

    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, StoreError>>> + Send {
        Self::next(self)
    }
}

/// The next chunk, those that arrive while the batch before is still being written, and those that are there then. So
/// the slower side decides how large a batch is: nothing waits while there is nothing to do, and few batches are made
/// otherwise.
pub(super) async fn gather<S: ChunkSource>(
    body: &mut S,
    pipeline: &mut WritePipeline<Error>,
) -> (Vec<Bytes>, Next<S::Error>) {
    let (mut batch, mut size, mut is_idle) = (Vec::new(), 0, false);
    loop {
        let next = if batch.is_empty() {
            body.next().await
        } else if is_idle {
            let Some(next) = body.next().now_or_never() else { return (batch, Next::More) };
            next
        } else {
            tokio::select! {
                biased;
                next = body.next() => next,
                () = pipeline.idle() => {
                    is_idle = true;
                    continue;
                }
            }
        };
        match next {
            Some(Ok(chunk)) => {
                size += chunk.len();
                batch.push(chunk);
            }
            Some(Err(error)) => return (batch, Next::Broken(error)),
            None => return (batch, Next::End),
        }
        if size >= BATCH_SIZE {
            return (batch, Next::More);
        }
    }
}

/// Leaves out the first `skip` bytes, as far as they are in this batch.
pub(super) fn skip_bytes(batch: &mut Vec<Bytes>, skip: &mut u64) {
    for chunk in &mut *batch {
        let over = chunk.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
        *skip -= over as u64;
        let _ = chunk.split_to(over);
    }
    batch.retain(|chunk| !chunk.is_empty());
}

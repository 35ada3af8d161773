//! Bodies of assets: from disk or from an import that is under way, with the rate and the cuts that are set.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::io::ReaderStream;

use crate::shared::EmulatorState;

/// Chunks per second of a body with a limited rate.
const CHUNKS_PER_SECOND: u64 = 10;

/// Chunks of a body.
pub(super) type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// The next `length` bytes of a file.
pub(super) fn from_file(file: File, length: u64) -> Chunks {
    ReaderStream::with_capacity(file.take(length), 64 << 10).boxed()
}

/// The chunks that an import streams.
pub(super) fn from_channel(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Chunks {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|chunk| (chunk, receiver)) }).boxed()
}

struct ShapedBody {
    shared: Arc<EmulatorState>,
    chunks: Chunks,
    waiting: Bytes,
    /// Bytes in a chunk, if the rate is limited.
    chunk: Option<u64>,
    /// Bytes until the cut, if there is one.
    left: Option<u64>,
}

/// The body with the rate and the cut of the oddities that are set; it counts the bytes it sends.
pub(super) fn shaped(shared: &Arc<EmulatorState>, chunks: Chunks) -> Body {
    let rate = shared.oddities.get().slow_body;
    let shape = ShapedBody {
        shared: Arc::clone(shared),
        chunks,
        waiting: Bytes::new(),
        chunk: (rate > 0).then(|| (rate / CHUNKS_PER_SECOND).max(1)),
        left: shared.oddities.cut(),
    };
    Body::from_stream(stream::unfold(Some(shape), |shape| async move {
        let mut shape = shape?;
        match shape.next().await? {
            Ok(chunk) => Some((Ok(chunk), Some(shape))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl ShapedBody {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.left == Some(0) {
            return Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose")));
        }
        while self.waiting.is_empty() {
            match self.chunks.next().await? {
                Ok(chunk) => self.waiting = chunk,
                Err(error) => return Some(Err(error)),
            }
        }
        let length = self.waiting.len() as u64;
        let length = length.min(self.chunk.unwrap_or(length)).min(self.left.unwrap_or(length));
        if self.chunk.is_some() {
            sleep(Duration::from_millis(1000 / CHUNKS_PER_SECOND)).await;
        }
        if let Some(left) = &mut self.left {
            *left -= length;
        }
        self.shared.stats.asset_bytes(length);
        let at = usize::try_from(length).unwrap_or(usize::MAX).min(self.waiting.len());
        Some(Ok(self.waiting.split_to(at)))
    }
}

//! The bytes of a file response, wherever they come from.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::bypass::Bypass;
use super::error::Error;
use crate::cache::{BlobReader, DownloadFailure, ReadError};

/// Fetches the rest of a file, from a position on, past the cache.
pub(super) type Fallback = Box<dyn Fn(u64) -> BoxFuture<'static, Result<Bypass, Error>> + Send + Sync>;

/// The bytes of a file response. After an error the response must be cut, not ended.
pub struct FileStream {
    source: StreamSource,
}

enum StreamSource {
    Cached { reader: BlobReader<Error>, fallback: Fallback },
    Bypass(Box<Bypass>),
}

impl FileStream {
    pub(super) fn cached(reader: BlobReader<Error>, fallback: Fallback) -> Self {
        Self { source: StreamSource::Cached { reader, fallback } }
    }

    /// The part of a file from `start` to `end` (exclusive), or to its end.
    pub(super) fn bypass(mut bypass: Box<Bypass>, start: u64, end: Option<u64>) -> Self {
        bypass.restrict(start, end);
        Self { source: StreamSource::Bypass(bypass) }
    }

    /// All bytes, if they are few and can be had without waiting.
    pub fn rest_without_waiting(&mut self) -> Option<Bytes> {
        match &mut self.source {
            StreamSource::Cached { reader, .. } => reader.rest_without_waiting(),
            StreamSource::Bypass(_) => None,
        }
    }

    /// The next chunk, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let bypass = match &mut self.source {
                StreamSource::Bypass(bypass) => return bypass.next().await,
                StreamSource::Cached { reader, fallback } => match reader.next().await {
                    Ok(chunk) => return Ok(chunk),
                    // The disk filled up in the middle, or the download was given up just when this reader joined: the
                    // rest comes straight from upstream.
                    Err(ReadError::Download(DownloadFailure::Storage | DownloadFailure::Unread)) => {
                        let position = reader.position();
                        let end = reader.remaining().map(|left| position + left);
                        let mut bypass = fallback(position).await?;
                        bypass.restrict(position, end);
                        bypass
                    }
                    Err(ReadError::Download(DownloadFailure::Upstream(error))) => return Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "a response is cut");
                        return Err(Error::internal("a cached file could not be read"));
                    }
                },
            };
            self.source = StreamSource::Bypass(Box::new(bypass));
        }
    }
}

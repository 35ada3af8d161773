//! The bytes of a file response, wherever they come from.

use std::io;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::bypass::Bypass;
use super::downloader::FileDownload;
use super::error::Error;
use super::verdict::PendingVerdict;
use crate::cache::{Blob, BlobReader, Blobs, DownloadFailure, ReadError};
use wheelport_runtime::{blocking, sabotaged};

/// Fetches the rest of a file, from a position on, past the cache.
pub(super) type Fallback = Box<dyn Fn(u64) -> BoxFuture<'static, Result<Bypass, Error>> + Send + Sync>;

/// The bytes of a file response. After an error the response must be cut, not ended.
pub struct FileStream {
    source: StreamSource,
}

enum StreamSource {
    Cached(Box<CachedSource>),
    Bypass(Box<Bypass>),
}

struct CachedSource {
    reader: BlobReader<Error>,
    stored: Option<StoredFile>,
    fallback: Fallback,
    /// What has to be decided before the end.
    verdict: Option<Box<PendingVerdict>>,
}

/// The stored file behind a stream.
pub(super) struct StoredFile {
    pub blobs: Blobs,
    pub blob: Blob,
    /// Where the stream begins and ends in the file.
    pub start: u64,
    pub end: u64,
    /// A check that runs beside the stream, where the stream does not follow it.
    pub checking: Option<FileDownload>,
}

impl FileStream {
    /// A file that is being downloaded.
    pub(super) fn growing(reader: BlobReader<Error>, fallback: Fallback, verdict: Option<Box<PendingVerdict>>) -> Self {
        Self { source: StreamSource::Cached(Box::new(CachedSource { reader, stored: None, fallback, verdict })) }
    }

    pub(super) fn stored(reader: BlobReader<Error>, stored: StoredFile, fallback: Fallback) -> Self {
        let (stored, verdict) = (Some(stored), None);
        Self { source: StreamSource::Cached(Box::new(CachedSource { reader, stored, fallback, verdict })) }
    }

    /// The part of a file from `start` to `end` (exclusive), or to its end.
    pub(super) fn bypass(mut bypass: Box<Bypass>, start: u64, end: Option<u64>) -> Self {
        bypass.restrict(start, end);
        Self { source: StreamSource::Bypass(bypass) }
    }

    /// All bytes, if they are few and can be had without waiting.
    pub fn rest_without_waiting(&mut self) -> Option<Bytes> {
        match &mut self.source {
            StreamSource::Cached(source) => source.reader.rest_without_waiting(),
            StreamSource::Bypass(_) => None,
        }
    }

    /// The next chunk, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let bypass = match &mut self.source {
                StreamSource::Bypass(bypass) => return bypass.next().await,
                StreamSource::Cached(source) => match source.next().await {
                    Ok(chunk) => return Ok(chunk),
                    Err(error) => source.fall_back(error).await?,
                },
            };
            self.source = StreamSource::Bypass(Box::new(bypass));
        }
    }
}

impl CachedSource {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError<Error>> {
        let checking = self.stored.as_ref().and_then(|stored| stored.checking.as_ref());
        if checking.is_some_and(FileDownload::has_failed) && !sabotaged("large-range-cut") {
            return Err(ReadError::Download(DownloadFailure::Damaged));
        }
        let chunk = self.reader.next().await?;
        if let Some(verdict) = &mut self.verdict
            && !sabotaged("late-verdict")
            && verdict.settle().await.map_err(|error| ReadError::Download(DownloadFailure::Upstream(error)))?
        {
            self.verdict = None;
        }
        Ok(chunk)
    }

    /// Where the rest comes from after an error, if that makes a right response. Otherwise the response must be cut.
    async fn fall_back(&mut self, error: ReadError<Error>) -> Result<Bypass, Error> {
        let position = self.reader.position();
        let end = self.reader.remaining().map(|left| position + left);
        let cut = |error: ReadError<Error>| {
            tracing::warn!(%error, "a response is cut");
            Error::internal("a cached file could not be read")
        };
        if self.verdict.is_some() && !matches!(error, ReadError::Download(DownloadFailure::Upstream(_))) {
            return Err(cut(error));
        }
        let mut bypass = match (error, &self.stored) {
            // The disk filled up in the middle, or the download was given up just when this reader joined.
            (ReadError::Download(DownloadFailure::Storage | DownloadFailure::Unread), _) => {
                (self.fallback)(position).await?
            }
            (ReadError::Download(DownloadFailure::Upstream(error)), _) => return Err(error),
            (ReadError::Download(DownloadFailure::Unreadable(prefix)), Some(stored)) => {
                let some_left = position > stored.start;
                // A range that ends before the file does would end before all of it was hashed.
                if some_left && stored.end < stored.blob.length {
                    return Err(cut(ReadError::Download(DownloadFailure::Unreadable(prefix))));
                }
                let mut bypass = (self.fallback)(position).await?;
                bypass.demand(stored.blob.sha256, Some(prefix).filter(|_| some_left));
                bypass
            }
            (ReadError::Io(error), Some(stored)) => {
                // What left before was checked, so it need not be hashed again.
                let was_right = stored.blob.is_verified() && error.kind() != io::ErrorKind::UnexpectedEof;
                let (blobs, blob) = (stored.blobs.clone(), stored.blob.clone());
                let error = blocking(move || {
                    blobs.discard(&blob, &error);
                    error
                });
                let error = error.await?;
                if !was_right {
                    return Err(cut(error.into()));
                }
                let mut bypass = (self.fallback)(position).await?;
                bypass.demand(stored.blob.sha256, None);
                bypass
            }
            (error, _) => return Err(cut(error)),
        };
        bypass.restrict(position, end);
        Ok(bypass)
    }
}

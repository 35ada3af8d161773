//! The bytes of a file response, wherever they come from.

use std::sync::Arc;

use bytes::Bytes;

use super::bypass::Bypass;
use super::files::{FileService, OpenFile};
use super::{Error, Route};
use crate::cache::{BlobReader, DownloadFailure, ReadError};
use wheelport_index::FileAddress;
use wheelport_runtime::Priority;

/// The bytes of a file response. After an error the response must be cut, not ended.
pub struct FileStream {
    source: StreamSource,
}

enum StreamSource {
    Cached {
        reader: BlobReader<Error>,
        files: FileService,
        route: Arc<Route>,
        address: FileAddress,
        priority: Priority,
    },
    Bypass(Box<Bypass>),
}

impl FileStream {
    pub(super) fn cached(
        reader: BlobReader<Error>,
        files: &FileService,
        route: &Arc<Route>,
        address: &FileAddress,
    ) -> Self {
        Self {
            source: StreamSource::Cached {
                reader,
                files: files.clone(),
                route: Arc::clone(route),
                address: address.clone(),
                priority: Priority::current(),
            },
        }
    }

    pub(super) fn bypass(bypass: Bypass) -> Self {
        Self { source: StreamSource::Bypass(Box::new(bypass)) }
    }

    pub(super) fn restrict(&mut self, start: u64, end: Option<u64>) {
        if let StreamSource::Bypass(bypass) = &mut self.source {
            bypass.restrict(start, end);
        }
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
            let (position, end) = match &mut self.source {
                StreamSource::Bypass(bypass) => return bypass.next().await,
                StreamSource::Cached { reader, address, .. } => match reader.next().await {
                    Ok(chunk) => return Ok(chunk),
                    // The disk filled up in the middle: the rest comes straight from upstream.
                    Err(ReadError::Download(DownloadFailure::Storage)) => {
                        (reader.position(), reader.remaining().map(|left| reader.position() + left))
                    }
                    Err(ReadError::Download(DownloadFailure::Upstream(error))) => return Err(error),
                    Err(error) => {
                        tracing::warn!(file = %address.file, %error, "a response is cut");
                        return Err(Error::internal("a cached file could not be read"));
                    }
                },
            };
            let StreamSource::Cached { files, route, address, priority, .. } = &self.source else {
                return Err(Error::internal("a bypass has no position to go on from"));
            };
            // A body is sent after the handler has returned, so its priority has to be set again.
            let bypass = priority.serve(async {
                let page = files.inner.pages.get(route, &address.project);
                let entry = files.entry(route, address, page).await?;
                files.stream_uncached(route, address, &entry, position).await
            });
            if let OpenFile::Bypass { mut stream, .. } = bypass.await? {
                stream.restrict(position, end);
                self.source = stream.source;
            }
        }
    }
}

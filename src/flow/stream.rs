//! The bytes of a file answer, wherever they come from.

use std::sync::Arc;

use bytes::Bytes;

use super::passing::Passing;
use super::{Flow, OpenFile, Route};
use crate::cache::{BlobReader, DownloadFailure, ReadError};
use crate::error::Error;
use wheelport_index::FileAddress;
use wheelport_runtime::Priority;

/// The bytes of a file answer. After an error the answer must be broken off, not ended.
pub struct FileStream {
    source: Source,
}

enum Source {
    Cached { reader: BlobReader<Error>, flow: Flow, route: Arc<Route>, address: FileAddress, caller: Priority },
    Passing(Box<Passing>),
}

impl FileStream {
    pub(super) fn cached(reader: BlobReader<Error>, flow: &Flow, route: &Arc<Route>, address: &FileAddress) -> Self {
        Self {
            source: Source::Cached {
                reader,
                flow: flow.clone(),
                route: Arc::clone(route),
                address: address.clone(),
                caller: Priority::current(),
            },
        }
    }

    pub(super) fn passing(passing: Passing) -> Self {
        Self { source: Source::Passing(Box::new(passing)) }
    }

    pub(super) fn restrict(&mut self, start: u64, end: Option<u64>) {
        if let Source::Passing(passing) = &mut self.source {
            passing.restrict(start, end);
        }
    }

    /// All bytes, if they are few and at hand.
    pub fn rest_at_once(&mut self) -> Option<Bytes> {
        match &mut self.source {
            Source::Cached { reader, .. } => reader.rest_without_waiting(),
            Source::Passing(_) => None,
        }
    }

    /// The next piece, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let (position, end) = match &mut self.source {
                Source::Passing(passing) => return passing.next().await,
                Source::Cached { reader, address, .. } => match reader.next().await {
                    Ok(piece) => return Ok(piece),
                    // The disk filled up in the middle: the rest comes straight from upstream.
                    Err(ReadError::Download(DownloadFailure::Storage)) => {
                        (reader.position(), reader.remaining().map(|left| reader.position() + left))
                    }
                    Err(ReadError::Download(DownloadFailure::Upstream(error))) => return Err(error),
                    Err(error) => {
                        tracing::warn!(file = %address.file, %error, "an answer breaks off");
                        return Err(Error::Internal);
                    }
                },
            };
            let Source::Cached { flow, route, address, caller, .. } = &self.source else {
                return Err(Error::Internal);
            };
            // A body is sent when its request is answered, so the client has to be named again.
            let passing = caller.serve(async {
                let facts = flow.facts(route, address).await?;
                flow.pass_through(route, address, &facts, position).await
            });
            if let OpenFile::Passing { mut stream, .. } = passing.await? {
                stream.restrict(position, end);
                self.source = stream.source;
            }
        }
    }
}

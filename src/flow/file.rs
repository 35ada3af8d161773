//! The file flow: what the page says of the file, the blob store, one fill per file with everybody reading along.
//!
//! ```text
//! open ─► facts from the page (digest, length, upstream address) ─► stored? serve
//!                                                                  └ join the fill, or start it ─► read while it grows
//! ```
//!
//! A file address works without its page having been asked first. A file that no page lists (an unlisted version that
//! a lock file still names) is fetched and passed on, but never kept: nothing vouches for its bytes.

use std::sync::Arc;
use std::time::Duration;

use super::{FileKey, FileStream, Flow, PATIENCE, Route, Served, blocking, unavailable};
use crate::cache::{
    Blob, BlobReader, Decision, Download, DownloadFailure, DownloadWriter, Expected, PageContent, Started,
};
use crate::error::{Cause, Error};
use url::Url;
use wheelport_index::{FileAddress, Sha256};

/// A file that is missing from a page older than this may be newer than the page.
const LISTING_AGE: Duration = Duration::from_secs(5);

/// What the index says of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Where upstream keeps it, if not at its address below the page.
    pub url: Option<Url>,
    /// Length and digests.
    pub expected: Expected,
    /// The SHA-256, from the page or recorded when the file was fetched.
    pub sha256: Option<Sha256>,
    /// Whether a page lists the file.
    pub listed: bool,
    /// Why that cannot be said, where no page young enough could be had.
    pub doubt: Option<Error>,
}

/// An open file.
pub enum OpenFile {
    /// It is stored.
    Stored(Blob),
    /// It is being fetched.
    Growing {
        /// The fill.
        fill: Download<Error>,
        /// What is known since upstream answered.
        head: Started,
        /// The SHA-256, if the index names it.
        sha256: Option<Sha256>,
        /// Whether this request started the fill.
        served: Served,
    },
    /// The cache cannot take it: it is passed through.
    Passing {
        /// The bytes on their way.
        stream: Box<FileStream>,
        /// The length, if known.
        length: Option<u64>,
        /// The SHA-256, if the index names it.
        sha256: Option<Sha256>,
    },
    /// Only asked about: the index says enough to answer a HEAD.
    Described {
        /// The length in bytes.
        length: u64,
        /// The SHA-256.
        sha256: Sha256,
    },
}

impl Flow {
    /// Opens a file. With `describe`, a file that is not stored is described from the index if that suffices.
    pub async fn open(&self, route: &Arc<Route>, address: &FileAddress, describe: bool) -> Result<OpenFile, Error> {
        if let Some(open) = self.file_at_hand(route, address) {
            return Ok(open);
        }
        let facts = self.facts(route, address).await?;
        if let Some(blob) = self.stored(&facts).await? {
            return Ok(OpenFile::Stored(blob));
        }
        if let (true, Some(length), Some(sha256)) = (describe, facts.expected.length, facts.sha256) {
            return Ok(OpenFile::Described { length, sha256 });
        }
        let sha256 = facts.sha256;
        let (mut fill, led) = self.fill(route, address, facts.clone());
        let begun = tokio::time::timeout(PATIENCE, fill.started()).await;
        match (begun.map_err(|_| unavailable(Cause::Timeout))?, fill.blob()) {
            // Verified and about to be kept: as good as stored, and it need not be found under its name for that.
            (Ok(_), Some(blob)) if !led || fill.was_stored_already() => Ok(OpenFile::Stored(blob)),
            (Ok(head), _) => Ok(OpenFile::Growing { fill, head, sha256, served: Served::led(led) }),
            (Err(DownloadFailure::Storage), _) => self.pass_through(route, address, &facts, 0).await,
            (Err(DownloadFailure::Upstream(error)), _) => Err(error),
            (Err(DownloadFailure::Abandoned), _) => Err(Error::Internal),
        }
    }

    /// A stored file that is open, under a page in memory that is fresh: nothing has to be waited for.
    pub fn file_at_hand(&self, route: &Route, address: &FileAddress) -> Option<OpenFile> {
        let look = |page: &PageContent, position: usize| {
            let file = &page.page.files[position];
            self.shared.blobs.get_open(file.hashes.sha256()?, file.size)
        };
        self.on_fresh_page(route, address, look).map(OpenFile::Stored)
    }

    /// Looks at a fresh page in memory and the position of a file's entry on it.
    pub(super) fn on_fresh_page<T>(
        &self,
        route: &Route,
        address: &FileAddress,
        look: impl FnOnce(&PageContent, usize) -> Option<T>,
    ) -> Option<T> {
        let record = self.shared.pages.get(&route.key(&address.project))?;
        if self.shared.policy.decide(record.fetched.age()) != Decision::Fresh {
            return None;
        }
        let content = record.content.as_ref();
        let position = content.position(&address.file)?;
        if content.page.files[position].version != address.version {
            return None;
        }
        look(content, position)
    }

    /// The bytes of an open file from `start` to `end` (exclusive), or to its end.
    pub fn read(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        open: OpenFile,
        start: u64,
        end: Option<u64>,
    ) -> Option<FileStream> {
        match open {
            OpenFile::Stored(blob) => {
                let end = end.unwrap_or(blob.length).min(blob.length);
                let reader = BlobReader::stored(&blob, start..end, self.shared.blobs.buffers());
                Some(FileStream::cached(reader, self, route, address))
            }
            OpenFile::Growing { fill, head, .. } => {
                let (end, buffers) = (end.or(head.length), self.shared.blobs.buffers());
                let reader = BlobReader::growing(fill, head.file, start, end, buffers);
                Some(FileStream::cached(reader, self, route, address))
            }
            OpenFile::Passing { mut stream, .. } => {
                stream.restrict(start, end);
                Some(*stream)
            }
            OpenFile::Described { .. } => None,
        }
    }

    /// Starts or joins the fill of a file.
    pub(super) fn fill(&self, route: &Arc<Route>, address: &FileAddress, facts: Facts) -> (Download<Error>, bool) {
        let key = FileKey { repository: route.repository.clone(), address: address.clone() };
        let (flow, route, address) = (self.clone(), Arc::clone(route), address.clone());
        self.shared.fills.join(key, &self.shared.tasks, "fill file", || {
            let (writer, fill) = DownloadWriter::new();
            (fill, async move { flow.run_fill(&route, &address, facts, writer).await })
        })
    }

    /// The blob of a file, if it is stored.
    pub(super) async fn stored(&self, facts: &Facts) -> Result<Option<Blob>, Error> {
        let Some(sha256) = facts.sha256 else { return Ok(None) };
        let (blobs, length) = (self.shared.blobs.clone(), facts.expected.length);
        blocking(move || blobs.get(sha256, length)).await
    }

    /// What is known of a file before it is opened.
    pub(super) async fn facts(&self, route: &Arc<Route>, address: &FileAddress) -> Result<Facts, Error> {
        let project = &address.project;
        let (record, doubt) = match self.page(route, project).await {
            Ok(answer) => match listed(address, &answer.record) {
                Some(facts) => return self.with_link(route, address, facts).await,
                None if answer.record.fetched.age() < LISTING_AGE => (None, None),
                None => match self.page_younger_than(route, project, LISTING_AGE).await {
                    Ok(answer) => (Some(answer.record), None),
                    Err(error) => (None, Some(error)),
                },
            },
            Err(denied @ Error::Denied { .. }) => return Err(denied),
            // A file stays the same for ever, so what an old page says of it is still true.
            Err(error @ Error::Unavailable { .. }) => (self.held_page(route, project).await, Some(error)),
            Err(error) => (None, Some(error)),
        };
        if let Some(facts) = record.and_then(|record| listed(address, &record)) {
            return self.with_link(route, address, facts).await;
        }
        let doubt = doubt.filter(|error| !matches!(error, Error::NoSuchProject { .. }));
        Ok(Facts { doubt, ..Facts::default() })
    }

    /// Where the index names no SHA-256, the one recorded when the file was fetched.
    pub(super) async fn with_link(
        &self,
        route: &Route,
        address: &FileAddress,
        mut facts: Facts,
    ) -> Result<Facts, Error> {
        if facts.sha256.is_none()
            && let Some(key) = link_key(route, address, &facts)
        {
            let blobs = self.shared.blobs.clone();
            facts.sha256 = blocking(move || blobs.linked(key)).await?;
        }
        Ok(facts)
    }
}

/// What a page says of a file, if it lists it at this address.
fn listed(address: &FileAddress, record: &crate::cache::PageRecord) -> Option<Facts> {
    let file = record.content.file(&address.file).filter(|file| file.version == address.version)?;
    Some(Facts {
        url: file.url.clone(),
        expected: Expected { length: file.size, hashes: file.hashes.clone() },
        sha256: file.hashes.sha256(),
        listed: true,
        doubt: None,
    })
}

/// The key under which the SHA-256 of a file is recorded for which the index names another digest only. That digest is
/// part of the key, so other bytes under the same name never meet an old record.
pub(super) fn link_key(route: &Route, address: &FileAddress, facts: &Facts) -> Option<Sha256> {
    let (algorithm, value) = facts.expected.hashes.strongest()?;
    let parts = [
        route.repository.as_str(),
        address.project.as_str(),
        address.version.as_str(),
        address.file.as_str(),
        &format!("{algorithm:?}"),
        value,
    ];
    Some(Sha256::of(parts.join("\0").as_bytes()))
}

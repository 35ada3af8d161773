//! The file flow: what the index says of the file, the blob store, one download per file that its readers follow.
//!
//! ```text
//! open ─► entry on the page (digest, length, upstream address) ─► stored? serve
//!                                                                └ join or start the download ─► read while it grows
//! ```
//!
//! A file that no page lists (an unlisted version that a lock file still names) is fetched and passed on, but never
//! stored: nothing vouches for its bytes.

use std::sync::Arc;

use super::blob_checker::BlobChecker;
use super::bypass::Bypass;
use super::downloader::{Downloader, FileDownload};
use super::file_stream::{Fallback, FileStream, StoredFile};
use super::index_entry::{EntrySource, IndexEntries, IndexEntry};
use super::shown::{PageView, ShownPage};
use super::verdict::PendingVerdict;
use super::{Cause, Error, Lookup, PageService, REQUEST_TIMEOUT, Route, Served, role_served, unavailable};
use crate::cache::{Blob, BlobReader, Blobs, DownloadFailure, Started};
use wheelport_index::{FileAddress, Sha256};
use wheelport_runtime::{Priority, Role, Waits, blocking, sabotaged};

/// A range of a larger file that was not checked yet does not wait for the check: it may be a small part of it.
const LARGE: u64 = 64 << 20;

/// An open file.
pub enum OpenFile {
    /// It is stored.
    Stored(Blob),
    /// It is being fetched.
    Growing {
        download: FileDownload,
        /// What is known since upstream responded.
        started: Started,
        /// The SHA-256, if the index names it.
        sha256: Option<Sha256>,
        /// Whether this request started the download.
        served: Served,
        /// What has to be decided before the response may end.
        verdict: Option<Box<PendingVerdict>>,
    },
    /// The cache cannot take it: it is streamed without being stored.
    Bypass {
        bypass: Box<Bypass>,
        /// The length in bytes, if known.
        length: Option<u64>,
        /// The SHA-256, if the index names it.
        sha256: Option<Sha256>,
    },
    /// The response needs no bytes, and the index says all of it.
    Described {
        /// The length in bytes.
        length: u64,
        sha256: Sha256,
    },
}

/// The files of all routes. Cheap to clone.
#[derive(Clone)]
pub struct FileService {
    pages: PageService,
    entries: IndexEntries,
    blobs: Blobs,
    downloader: Downloader,
    checker: BlobChecker,
}

impl FileService {
    pub(super) fn new(
        pages: PageService,
        entries: IndexEntries,
        blobs: Blobs,
        downloader: Downloader,
        checker: BlobChecker,
    ) -> Self {
        Self { pages, entries, blobs, downloader, checker }
    }

    /// Bytes in buffers on their way to clients.
    pub(super) fn buffered(&self) -> u64 {
        self.blobs.buffers().held()
    }

    /// Opens a file. `needs_body` says whether a response about content with this digest carries bytes; where it does
    /// not, a file that is not stored is described from the index instead of being fetched.
    pub fn open(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        needs_body: impl Fn(Sha256) -> bool + Send + Sync + 'static,
    ) -> Lookup<OpenFile> {
        let page = self.pages.get(route, &address.project);
        if let Lookup::Hit(view) = &page
            && let Some(blob) = self.already_open(&view.shown, address)
        {
            return Lookup::Hit(OpenFile::Stored(blob));
        }
        let (files, route, address) = (self.clone(), Arc::clone(route), address.clone());
        Lookup::miss(async move { files.open_missed(&route, &address, page, needs_body).await })
    }

    /// A stored file that is open already.
    fn already_open(&self, page: &ShownPage, address: &FileAddress) -> Option<Blob> {
        let (sha256, length) = page.proven(address)?;
        self.blobs.get_open(sha256, length)
    }

    async fn open_missed(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        page: Lookup<PageView>,
        needs_body: impl Fn(Sha256) -> bool,
    ) -> Result<OpenFile, Error> {
        let entry = self.entry(route, address, page).await?;
        let before = entry.expected.hashes.clone();
        match self.open_entry(route, address, entry, &needs_body).await {
            // The page was asked for again. Where it lists other bytes by now, those are meant.
            Err(error @ Error::Integrity { .. }) => {
                let entry = self.entry(route, address, self.pages.get(route, &address.project)).await?;
                if entry.source == EntrySource::Record {
                    return Err(Error::ChangedFile { file: address.file.clone() });
                }
                if entry.expected.hashes == before && !entry.is_refused() {
                    return Err(error);
                }
                Box::pin(self.open_entry(route, address, entry, &needs_body)).await
            }
            outcome => outcome,
        }
    }

    async fn open_entry(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: IndexEntry,
        needs_body: impl Fn(Sha256) -> bool,
    ) -> Result<OpenFile, Error> {
        if let Some(blob) = self.stored(&entry).await? {
            return Ok(OpenFile::Stored(blob));
        }
        if entry.is_refused() {
            return Err(Error::ChangedFile { file: address.file.clone() });
        }
        if let (Some(length), Some(sha256)) = (entry.expected.length, entry.sha256)
            && !needs_body(sha256)
        {
            return Ok(OpenFile::Described { length, sha256 });
        }
        let sha256 = entry.sha256;
        loop {
            let (mut download, role) = self.downloader.download(route, address, entry.clone());
            let started = Waits::note("file", tokio::time::timeout(REQUEST_TIMEOUT, download.started())).await;
            let started = started.map_err(|_| unavailable(Cause::Timeout))?;
            let verdict = match &started {
                Ok(_) if entry.is_unjudged => {
                    PendingVerdict::new(&self.entries, route, address, download.clone()).early().await?
                }
                _ => None,
            };
            return match (started, download.blob().filter(|_| verdict.is_none())) {
                // Verified and about to be committed: as good as stored, and nothing has to look for its name.
                (Ok(_), Some(blob)) if role == Role::Follower || download.was_stored_already() => {
                    Ok(OpenFile::Stored(blob))
                }
                (Ok(started), _) => {
                    Ok(OpenFile::Growing { download, started, sha256, served: role_served(role), verdict })
                }
                // Past the cache, a part of it could be had before the digest is known.
                (Err(DownloadFailure::Storage), _) if entry.is_unjudged => Err(unavailable(Cause::Storage)),
                (Err(DownloadFailure::Storage), _) => Box::pin(self.bypass(route, address, &entry)).await,
                (Err(DownloadFailure::Upstream(error)), _) if entry.is_listed => Err(error),
                (Err(DownloadFailure::Upstream(error)), _) => self.former(route, address, error).await,
                (Err(DownloadFailure::Unread), _) => {
                    // This request came at the moment at which the download was given up.
                    tokio::task::yield_now().await;
                    continue;
                }
                (Err(_), _) => Err(Error::internal("a download ended without an outcome")),
            };
        }
    }

    /// A stored file that its page listed once, while it is not proven that it is gone.
    async fn former(&self, route: &Arc<Route>, address: &FileAddress, error: Error) -> Result<OpenFile, Error> {
        if !matches!(error, Error::Unavailable { .. }) || sabotaged("delisted-file") {
            return Err(error);
        }
        let Some(sha256) = self.pages.delisted(route, address).await? else { return Err(error) };
        self.entries.admit_bytes(route, address, sha256).await?;
        let blobs = self.blobs.clone();
        blocking(move || blobs.get(sha256, None)).await?.map(OpenFile::Stored).ok_or(error)
    }

    /// A file that bypasses the cache.
    async fn bypass(&self, route: &Arc<Route>, address: &FileAddress, entry: &IndexEntry) -> Result<OpenFile, Error> {
        let bypass =
            Box::new(Box::pin(Waits::note("file", Bypass::begin(&self.entries, route, address, entry, 0))).await?);
        let length = bypass.length();
        Ok(OpenFile::Bypass { bypass, length, sha256: entry.sha256 })
    }

    /// The bytes of an open file from `start` to `end` (exclusive), or to its end; `None` where there are none.
    pub fn read(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        open: OpenFile,
        start: u64,
        end: Option<u64>,
    ) -> Option<FileStream> {
        let buffers = self.blobs.buffers();
        match open {
            OpenFile::Stored(blob) => {
                let end = end.unwrap_or(blob.length).min(blob.length);
                Some(self.read_stored(blob, start, end, self.fallback(route, address)))
            }
            OpenFile::Growing { download, started, verdict, .. } => {
                let reader = BlobReader::growing(download, started.file, start, end.or(started.length), buffers);
                Some(FileStream::growing(reader, self.fallback(route, address), verdict))
            }
            OpenFile::Bypass { bypass, .. } => Some(FileStream::bypass(bypass, start, end)),
            OpenFile::Described { .. } => None,
        }
    }

    /// The bytes of a stored file. Where it was not checked yet, or not for a day, the stream follows the check, so it
    /// ends only if the file is right. A part of a large file does not, but is cut if the check fails meanwhile.
    fn read_stored(&self, blob: Blob, start: u64, end: u64, fallback: Fallback) -> FileStream {
        let (blobs, buffers) = (self.blobs.clone(), self.blobs.buffers());
        if blob.is_verified() || sabotaged("stored-check") {
            let reader = BlobReader::stored(&blob, start..end, buffers);
            return FileStream::stored(reader, StoredFile { blobs, blob, start, end, checking: None }, fallback);
        }
        let (blob, checking) = self.checker.follow(blob);
        let is_part = start > 0 || end < blob.length;
        if is_part && (blob.length > LARGE || sabotaged("range-check")) {
            let reader = BlobReader::stored(&blob, start..end, buffers);
            let checking = Some(checking);
            return FileStream::stored(reader, StoredFile { blobs, blob, start, end, checking }, fallback);
        }
        let reader = BlobReader::growing(checking, Arc::clone(&blob.file), start, Some(end), buffers);
        FileStream::stored(reader, StoredFile { blobs, blob, start, end, checking: None }, fallback)
    }

    /// Where the rest of a file comes from when the cache cannot take all of it.
    fn fallback(&self, route: &Arc<Route>, address: &FileAddress) -> Fallback {
        let (files, route, address) = (self.clone(), Arc::clone(route), address.clone());
        // A body is sent after the handler has returned, so its priority has to be set again.
        let priority = Priority::current();
        Box::new(move |position| {
            let (files, route, address) = (files.clone(), Arc::clone(&route), address.clone());
            Box::pin(priority.serve(async move {
                let page = files.pages.get(&route, &address.project);
                let entry = files.entry(&route, &address, page).await?;
                Bypass::begin(&files.entries, &route, &address, &entry, position).await
            }))
        })
    }

    /// What the index says of a file, from its page.
    pub(super) async fn entry(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        page: Lookup<PageView>,
    ) -> Result<IndexEntry, Error> {
        self.entries.find(route, address, page.wait().await).await
    }

    /// The blob of a file, if it is stored.
    async fn stored(&self, entry: &IndexEntry) -> Result<Option<Blob>, Error> {
        let Some(sha256) = entry.sha256 else { return Ok(None) };
        let (blobs, length) = (self.blobs.clone(), entry.expected.length);
        Ok(Waits::note("disk", blocking(move || blobs.get(sha256, length))).await?)
    }
}

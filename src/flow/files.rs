//! The file flow: what the index says of the file, the blob store, one download per file that all its readers follow.
//!
//! ```text
//! open ─► entry on the page (digest, length, upstream address) ─► stored? serve
//!                                                                └ join the download, or start it ─► read while it grows
//! ```
//!
//! A file that no page lists (an unlisted version that a lock file still names) is fetched and passed on, but never
//! stored: nothing vouches for its bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::download::{self, DownloadTask};
use super::extract::MetadataExtractor;
use super::file_stream::FileStream;
use super::index_entry::{IndexEntries, IndexEntry};
use super::{Cause, Error, Lookup, PageService, PageView, REQUEST_TIMEOUT, Route, Served, role_served, unavailable};
use crate::cache::{Blob, BlobReader, Blobs, DownloadFailure, DownloadWriter, PageContent, RepositoryId, Started};
use wheelport_index::{FileAddress, Sha256};
use wheelport_runtime::{Role, SingleFlight, Tasks, blocking};

/// A file while it is fetched.
pub(super) type Download = crate::cache::Download<Error>;

/// An open file.
pub enum OpenFile {
    /// It is stored.
    Stored(Blob),
    /// It is being fetched.
    Growing {
        download: Download,
        /// What is known since upstream responded.
        started: Started,
        /// The SHA-256, if the index names it.
        sha256: Option<Sha256>,
        /// Whether this request started the download.
        served: Served,
    },
    /// The cache cannot take it: it is streamed without being stored.
    Bypass {
        stream: Box<FileStream>,
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

/// The key of a download: which repository, which file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DownloadKey {
    repository: RepositoryId,
    address: FileAddress,
}

/// The files of all routes. Cheap to clone.
#[derive(Clone)]
pub struct FileService {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub pages: PageService,
    pub entries: IndexEntries,
    pub blobs: Blobs,
    pub extractor: MetadataExtractor,
    downloads: SingleFlight<DownloadKey, Download>,
    /// Permits for downloads that are being committed.
    pub committing: Semaphore,
    /// Files that were served and could not be stored.
    pub commit_failures: AtomicU64,
    tasks: Tasks,
}

impl FileService {
    pub(super) fn new(pages: PageService, blobs: Blobs, extractor: MetadataExtractor, tasks: Tasks) -> Self {
        let inner = Inner {
            entries: IndexEntries::new(pages.clone(), blobs.clone()),
            pages,
            blobs,
            extractor,
            downloads: SingleFlight::default(),
            committing: Semaphore::new(download::COMMITS_AT_ONCE),
            commit_failures: AtomicU64::new(0),
            tasks,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Opens a file. `needs_body` says whether a response about content with this digest carries bytes; where it does
    /// not, a file that is not stored is described from the index instead of being fetched.
    pub fn open(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        needs_body: impl FnOnce(Sha256) -> bool + Send + 'static,
    ) -> Lookup<OpenFile> {
        let page = self.inner.pages.get(route, &address.project);
        if let Lookup::Hit(view) = &page
            && let Some(blob) = self.already_open(&view.content, address)
        {
            return Lookup::Hit(OpenFile::Stored(blob));
        }
        let (files, route, address) = (self.clone(), Arc::clone(route), address.clone());
        Lookup::miss(async move { files.open_missed(&route, &address, page, needs_body).await })
    }

    /// A stored file that is open already.
    fn already_open(&self, page: &PageContent, address: &FileAddress) -> Option<Blob> {
        let file = page.listed(address)?;
        self.inner.blobs.get_open(file.hashes.sha256()?, file.size)
    }

    async fn open_missed(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        page: Lookup<PageView>,
        needs_body: impl FnOnce(Sha256) -> bool,
    ) -> Result<OpenFile, Error> {
        let entry = self.entry(route, address, page).await?;
        if let Some(blob) = self.stored(&entry).await? {
            return Ok(OpenFile::Stored(blob));
        }
        if let (Some(length), Some(sha256)) = (entry.expected.length, entry.sha256)
            && !needs_body(sha256)
        {
            return Ok(OpenFile::Described { length, sha256 });
        }
        let sha256 = entry.sha256;
        let (mut download, role) = self.download(route, address, entry.clone());
        let started = tokio::time::timeout(REQUEST_TIMEOUT, download.started()).await;
        match (started.map_err(|_| unavailable(Cause::Timeout))?, download.blob()) {
            // Verified and about to be committed: as good as stored, and nothing has to look for its name.
            (Ok(_), Some(blob)) if role == Role::Follower || download.was_stored_already() => {
                Ok(OpenFile::Stored(blob))
            }
            (Ok(started), _) => Ok(OpenFile::Growing { download, started, sha256, served: role_served(role) }),
            (Err(DownloadFailure::Storage), _) => self.stream_uncached(route, address, &entry, 0).await,
            (Err(DownloadFailure::Upstream(error)), _) => Err(error),
            (Err(DownloadFailure::Abandoned), _) => Err(Error::internal("a download ended without an outcome")),
        }
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
        let pool = || self.inner.blobs.buffers();
        match open {
            OpenFile::Stored(blob) => {
                let end = end.unwrap_or(blob.length).min(blob.length);
                Some(FileStream::cached(BlobReader::stored(&blob, start..end, pool()), self, route, address))
            }
            OpenFile::Growing { download, started, .. } => {
                let end = end.or(started.length);
                let reader = BlobReader::growing(download, started.file, start, end, pool());
                Some(FileStream::cached(reader, self, route, address))
            }
            OpenFile::Bypass { mut stream, .. } => {
                stream.restrict(start, end);
                Some(*stream)
            }
            OpenFile::Described { .. } => None,
        }
    }

    /// What the index says of a file, from its page.
    pub(super) async fn entry(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        page: Lookup<PageView>,
    ) -> Result<IndexEntry, Error> {
        self.inner.entries.find(route, address, page.wait().await).await
    }

    /// Starts or joins the download of a file.
    pub(super) fn download(&self, route: &Arc<Route>, address: &FileAddress, entry: IndexEntry) -> (Download, Role) {
        let key = DownloadKey { repository: route.repository.clone(), address: address.clone() };
        let (files, route, address) = (self.clone(), Arc::clone(route), address.clone());
        self.inner.downloads.share(key, &self.inner.tasks, "download file", || {
            let (writer, download) = DownloadWriter::new();
            (download, async move { DownloadTask::run(&files, &route, &address, entry, writer).await })
        })
    }

    /// The blob of a file, if it is stored.
    async fn stored(&self, entry: &IndexEntry) -> Result<Option<Blob>, Error> {
        let Some(sha256) = entry.sha256 else { return Ok(None) };
        let (blobs, length) = (self.inner.blobs.clone(), entry.expected.length);
        Ok(blocking(move || blobs.get(sha256, length)).await?)
    }

    /// Downloads under way, for metrics.
    pub(super) fn downloads_running(&self) -> usize {
        self.inner.downloads.len()
    }

    /// Files that were served and could not be stored, for metrics.
    pub(super) fn commit_failures(&self) -> u64 {
        self.inner.commit_failures.load(Ordering::Relaxed)
    }
}

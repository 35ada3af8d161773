//! Downloads, one task per file that its readers join; what the task does is in `download.rs`.

use std::sync::Arc;

use super::download::{DownloadParts, DownloadTask, Writer};
use super::error::Error;
use super::index_entry::IndexEntry;
use super::route::Route;
use crate::cache::{JoinableDownload, RepositoryId};
use crate::upstream::FileReply;
use wheelport_index::{FileAddress, Hashes};
use wheelport_runtime::{Role, SingleFlight, Tasks};

pub(super) type FileDownload = crate::cache::Download<Error>;

/// The key of a download: which repository, which file, which bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DownloadKey {
    repository: RepositoryId,
    address: FileAddress,
    hashes: Hashes,
}

/// Downloads files, one task per file. Cheap to clone.
#[derive(Clone)]
pub(super) struct Downloader {
    parts: Arc<DownloadParts>,
    running: SingleFlight<DownloadKey, JoinableDownload<Error>>,
    tasks: Tasks,
}

impl Downloader {
    pub(super) fn new(parts: DownloadParts, tasks: Tasks) -> Self {
        Self { parts: Arc::new(parts), running: SingleFlight::default(), tasks }
    }

    /// Starts or joins the download of a file.
    pub(super) fn download(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: IndexEntry,
    ) -> (FileDownload, Role) {
        let (download, role) = self.download_from(route, address, entry, None);
        (download.join(), role)
    }

    /// The same, where upstream may have begun to send the file already. Without a reader so far.
    pub(super) fn download_from(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: IndexEntry,
        reply: Option<FileReply>,
    ) -> (JoinableDownload<Error>, Role) {
        let (repository, hashes) = (route.repository.clone(), entry.expected.hashes.clone());
        let key = DownloadKey { repository, address: address.clone(), hashes };
        let (parts, route, address) = (Arc::clone(&self.parts), Arc::clone(route), address.clone());
        self.running.share(key, &self.tasks, "download file", || {
            let (writer, download) = Writer::new();
            (download, async move { DownloadTask::run(&parts, &route, &address, entry, writer, reply).await })
        })
    }

    /// Downloads under way, for metrics.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Files that were served and could not be stored, for metrics.
    pub(super) fn commit_failures(&self) -> u64 {
        self.parts.commit_failures()
    }
}

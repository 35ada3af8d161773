//! The verdict about bytes whose digest nothing names before all of them are here, where a rule names digests.
//!
//! A request waits a moment for the whole file, so that the refusal can say why. A file that takes longer is passed on,
//! but for the end of the response: it comes only if the bytes may be served. So no client ever has all of a file that
//! a rule refuses, and none has to wait for a large one that no rule is about.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Route;
use super::downloader::FileDownload;
use super::error::Error;
use super::index_entry::IndexEntries;
use wheelport_index::FileAddress;
use wheelport_runtime::Waits;

/// How long a request waits for the whole file before any of it is sent.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is not decided yet about a file that is being fetched.
pub struct PendingVerdict {
    entries: IndexEntries,
    route: Arc<Route>,
    address: FileAddress,
    download: FileDownload,
}

impl PendingVerdict {
    pub(super) fn new(
        entries: &IndexEntries,
        route: &Arc<Route>,
        address: &FileAddress,
        download: FileDownload,
    ) -> Self {
        Self { entries: entries.clone(), route: Arc::clone(route), address: address.clone(), download }
    }

    /// Waits a moment; `None` if the file may be served. A download that fails is for its readers to tell.
    pub(super) async fn early(mut self) -> Result<Option<Box<Self>>, Error> {
        let _ = Waits::note("file", timeout(PATIENCE, self.download.verified())).await;
        let is_settled = self.settle().await?;
        Ok((!is_settled).then(|| Box::new(self)))
    }

    /// Decides, if the digest is known by now. A reader asks after it has read bytes and before it passes them on: the
    /// last of them are readable only when the digest is known.
    pub(super) async fn settle(&mut self) -> Result<bool, Error> {
        if !self.download.is_verified() {
            return Ok(false);
        }
        match self.download.verified().await {
            Ok(complete) => {
                self.entries.admit_bytes(&self.route, &self.address, complete.sha256).await?;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }
}

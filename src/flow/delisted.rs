//! Files that a page no longer lists: what is stored of them is still good as long as upstream does not say that they
//! are gone.
//!
//! Recorded beside the page, so that a restart neither forgets them nor brings back what was proven gone. Only a page
//! that stops listing files and a file that no page lists lead here.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::cache::{PageKey, PersistedIndex, delisted_path};
use wheelport_index::{File, FileAddress, FileName, Page, Sha256, VersionSegment};

/// Files remembered of a project at most; the oldest make room.
const REMEMBERED: usize = 10_000;

/// The files that pages no longer list.
pub(super) struct Delisted {
    persisted: Arc<PersistedIndex>,
    /// Held while a record is changed.
    changing: Mutex<()>,
}

/// What was said of a file while it was listed.
#[derive(Serialize, Deserialize)]
struct FormerFile {
    version: VersionSegment,
    name: FileName,
    sha256: String,
}

impl FormerFile {
    fn is_at(&self, address: &FileAddress) -> bool {
        self.version == address.version && self.name == address.file
    }
}

impl Delisted {
    pub(super) fn new(persisted: Arc<PersistedIndex>) -> Self {
        Self { persisted, changing: Mutex::default() }
    }

    /// Remembers the files of a page that its successor does not list. Blocking.
    pub(super) fn compare(&self, key: &PageKey, before: &Page, lists: impl Fn(&File) -> bool) {
        let former = |file: &File| {
            let sha256 = file.hashes.sha256().filter(|_| !lists(file))?.to_string();
            Some(FormerFile { version: file.version.clone(), name: file.name.clone(), sha256 })
        };
        let gone: Vec<FormerFile> = before.files.iter().filter_map(former).collect();
        if gone.is_empty() {
            return;
        }
        self.change(key, |known| {
            known.retain(|known| gone.iter().all(|gone| gone.name != known.name || gone.version != known.version));
            known.extend(gone);
            known.drain(..known.len().saturating_sub(REMEMBERED));
        });
    }

    /// The SHA-256 of a file that was listed once. Blocking.
    pub(super) fn get(&self, key: &PageKey, address: &FileAddress) -> Option<Sha256> {
        self.load(key).into_iter().find(|known| known.is_at(address)).and_then(|known| known.sha256.parse().ok())
    }

    /// It is proven that the file is gone. Blocking.
    pub(super) fn gone(&self, key: &PageKey, address: &FileAddress) {
        if self.get(key, address).is_some() {
            self.change(key, |known| known.retain(|known| !known.is_at(address)));
        }
    }

    /// It is proven that the project is gone. Blocking.
    pub(super) fn forget(&self, key: &PageKey) {
        let _changing = self.changing.lock();
        if let Err(error) = self.persisted.remove(&delisted_path(key)) {
            tracing::warn!(project = %key.project, %error, "it is still recorded which files were listed once");
        }
    }

    fn load(&self, key: &PageKey) -> Vec<FormerFile> {
        self.persisted.load(&delisted_path(key), |_| true).map(|(known, _)| known).unwrap_or_default()
    }

    fn change(&self, key: &PageKey, change: impl FnOnce(&mut Vec<FormerFile>)) {
        let _changing = self.changing.lock();
        let mut known = self.load(key);
        change(&mut known);
        if let Err(error) = self.persisted.persist(&delisted_path(key), &known) {
            tracing::warn!(project = %key.project, %error, "it could not be recorded which files are no longer listed");
        }
    }
}

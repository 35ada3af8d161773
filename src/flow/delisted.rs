//! Files that a page listed until recently: what is stored of them is still good as long as upstream does not say that
//! they are gone.

use crate::cache::RepositoryId;
use wheelport_index::{File, FileAddress, Page, Sha256};

/// Files remembered at most; older ones make room.
const REMEMBERED: u64 = 10_000;

/// The SHA-256 of files by their address, until the next start.
pub(super) struct Delisted {
    files: moka::sync::Cache<(RepositoryId, FileAddress), Sha256>,
}

impl Default for Delisted {
    fn default() -> Self {
        Self { files: moka::sync::Cache::new(REMEMBERED) }
    }
}

impl Delisted {
    /// Remembers the files of a page that its successor does not list.
    pub(super) fn compare(&self, repository: &RepositoryId, before: &Page, lists: impl Fn(&File) -> bool) {
        for file in before.files.iter().filter(|file| !lists(file)) {
            let Some(sha256) = file.hashes.sha256() else { continue };
            let address =
                FileAddress { project: before.name.clone(), version: file.version.clone(), file: file.name.clone() };
            self.files.insert((repository.clone(), address), sha256);
        }
    }

    pub(super) fn get(&self, repository: &RepositoryId, address: &FileAddress) -> Option<Sha256> {
        self.files.get(&(repository.clone(), address.clone()))
    }
}

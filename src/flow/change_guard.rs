//! Files whose bytes are no longer those that were first seen under their name, and what a page says of them.
//!
//! A page is compared when it is taken in. Where changed files are refused, the page keeps naming the known bytes, so
//! that everything else finds those, or nothing: they are served as long as they are stored, and never fetched again.

use std::collections::HashSet;
use std::slice;
use std::sync::OnceLock;

use serde::Deserialize;

use super::advertise::advertise_core_metadata;
use crate::cache::{ChangedFile, FirstSeen, MetadataStore, PageKey, RefusedFiles, RepositoryId, UndatedFiles};
use wheelport_index::{CoreMetadata, Page};
use wheelport_runtime::sabotaged;

/// What becomes of a file when the repository has other bytes under its name than before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ChangedFilePolicy {
    /// The new bytes are served, and operators hear of it.
    #[default]
    Alarm,
    /// The known bytes are served where they are stored, and no others, until an operator accepts the new ones.
    Refuse,
}

/// Compares pages with what is recorded of their files.
pub(super) struct ChangeGuard {
    pub first_seen: FirstSeen,
    /// Repositories whose changed files are refused.
    refusing: OnceLock<HashSet<RepositoryId>>,
}

/// Changes in a route's repository, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct ChangeCounts {
    /// Changes noticed since the start.
    pub noticed: u64,
    /// Changed files that are not accepted.
    pub pending: u64,
}

impl ChangeGuard {
    pub(super) fn new(first_seen: FirstSeen) -> Self {
        Self { first_seen, refusing: OnceLock::new() }
    }

    /// Refuses the changed files of these repositories from now on. Only the first call counts.
    pub(super) fn refuse(&self, repositories: HashSet<RepositoryId>) {
        let _ = self.refusing.set(repositories);
    }

    pub(super) fn refuses(&self, repository: &RepositoryId) -> bool {
        self.refusing.get().is_some_and(|refusing| refusing.contains(repository)) && !sabotaged("changed-files")
    }

    /// Compares a page, of whose files upstream lists the first `listed`, with what is recorded, and records what is
    /// new. Where changed files are refused, puts their known bytes onto the page, and returns the entries that it had.
    /// Returns, too, since when the files are known that have no time of upload. Blocking.
    pub(super) fn compare(&self, key: &PageKey, page: &mut Page, listed: usize) -> (RefusedFiles, UndatedFiles) {
        let (changed, undated) = self.first_seen.observe(key, &page.files, listed);
        let mut refused = RefusedFiles::default();
        if changed.is_empty() || !self.refuses(&key.repository) {
            return (refused, undated);
        }
        let index = page.index();
        for ChangedFile { file, known, .. } in changed {
            let Some(entry) = index.get(&file).and_then(|position| page.files.get_mut(*position)) else { continue };
            refused.insert(file, entry.clone());
            (entry.hashes, entry.size) = (known.digest, known.size);
            // What upstream says of the metadata belongs to the other bytes.
            entry.core_metadata = CoreMetadata::Absent;
        }
        (refused, undated)
    }
}

/// Completes what a page says of the core metadata of refused files: it is advertised where it is known. Blocking.
pub(super) fn advertise_known_metadata(page: &mut Page, refused: &RefusedFiles, store: &MetadataStore, largest: u64) {
    for file in page.files.iter_mut().filter(|file| refused.contains_key(&file.name)) {
        advertise_core_metadata(slice::from_mut(file), store, largest);
        if file.core_metadata == CoreMetadata::Available {
            file.core_metadata = CoreMetadata::Absent;
        }
    }
}

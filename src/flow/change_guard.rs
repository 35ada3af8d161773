//! Files whose bytes are no longer those that were first seen under their name, and what a page says of them.
//!
//! A page is compared when it is taken in. Where changed files are refused, the page keeps naming the known bytes, so
//! that everything else finds those, or nothing: they are served as long as they are stored, and never fetched again.

use std::collections::HashMap;
use std::slice;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use super::advertise::advertise_core_metadata;
use crate::cache::{
    ChangedFile, FirstSeen, MetadataStore, Observed, PageKey, RefusedFiles, RepositoryId, UndatedFiles,
};
use crate::notices::{Notice, Notices};
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

/// Changed files of one page that operators hear of one by one.
const TOLD: usize = 20;

/// What becomes of the changed files of a repository.
#[derive(Debug, Clone)]
pub struct WatchedChanges {
    /// A route that shows it.
    pub route: Arc<str>,
    pub policy: ChangedFilePolicy,
}

/// Compares pages with what is recorded of their files.
pub(super) struct ChangeGuard {
    pub first_seen: FirstSeen,
    notices: Notices,
    watched: OnceLock<HashMap<RepositoryId, WatchedChanges>>,
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
    pub(super) fn new(first_seen: FirstSeen, notices: Notices) -> Self {
        Self { first_seen, notices, watched: OnceLock::new() }
    }

    /// Says what becomes of the changed files of these repositories. Only the first call counts.
    pub(super) fn watch(&self, repositories: HashMap<RepositoryId, WatchedChanges>) {
        let _ = self.watched.set(repositories);
    }

    pub(super) fn refuses(&self, repository: &RepositoryId) -> bool {
        let is_refusing = |watched: &WatchedChanges| watched.policy == ChangedFilePolicy::Refuse;
        self.watched(repository).is_some_and(is_refusing) && !sabotaged("changed-files")
    }

    fn watched(&self, repository: &RepositoryId) -> Option<&WatchedChanges> {
        self.watched.get()?.get(repository)
    }

    fn tell(&self, key: &PageKey, news: Vec<ChangedFile>) {
        let Some(WatchedChanges { route, policy }) = self.watched(&key.repository) else { return };
        for ChangedFile { file, known, listed, .. } in news.into_iter().take(TOLD) {
            self.notices.tell(Notice::ChangedFile {
                route: Arc::clone(route),
                project: key.project.clone(),
                file,
                was: known.text(),
                now: listed.text(),
                is_refused: *policy == ChangedFilePolicy::Refuse,
            });
        }
    }

    /// Compares a page, of whose files upstream lists the first `listed`, with what is recorded, and records what is
    /// new. Where changed files are refused, puts their known bytes onto the page, and returns the entries that it had.
    /// Returns, too, since when the files are known that have no time of upload. Blocking.
    pub(super) fn compare(&self, key: &PageKey, page: &mut Page, listed: usize) -> (RefusedFiles, UndatedFiles) {
        let Observed { changed, news, undated } = self.first_seen.observe(key, &page.files, listed);
        self.tell(key, news);
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

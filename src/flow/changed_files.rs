//! Files whose bytes are no longer those that were first seen under their name: what a page says of them, and an
//! operator's word that the new ones are right.
//!
//! A page is compared when it is taken in. Where changed files are refused, the page keeps naming the known bytes, so
//! that everything else finds those, or nothing: they are served as long as they are stored, and never fetched again.

use std::collections::HashSet;
use std::slice;
use std::sync::OnceLock;

use serde::Deserialize;

use super::advertise::advertise_core_metadata;
use super::index_cache::IndexCache;
use super::pages::{PageService, PageSource};
use super::{Error, Flow, Route};
use crate::cache::{
    ChangedFile, ChangedFiles, Expected, FirstSeen, MetadataStore, PageKey, RefusedFiles, RepositoryId,
};
use wheelport_index::{CoreMetadata, FileAddress, FileName, Page, ProjectName};
use wheelport_runtime::{blocking, sabotaged};

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

    pub(super) fn refuses(&self, repository: &RepositoryId) -> bool {
        self.refusing.get().is_some_and(|refusing| refusing.contains(repository)) && !sabotaged("changed-files")
    }

    /// Compares a page, of whose files upstream lists the first `listed`, with what is recorded, and records what is
    /// new. Where changed files are refused, puts their known bytes onto the page, and returns the entries that it had.
    /// Blocking.
    pub(super) fn compare(&self, key: &PageKey, page: &mut Page, listed: usize) -> RefusedFiles {
        let changed = self.first_seen.observe(key, &page.files, listed);
        let mut refused = RefusedFiles::default();
        if changed.is_empty() || !self.refuses(&key.repository) {
            return refused;
        }
        let index = page.index();
        for ChangedFile { file, known, .. } in changed {
            let Some(entry) = index.get(&file).and_then(|position| page.files.get_mut(*position)) else { continue };
            refused.insert(file, entry.clone());
            (entry.hashes, entry.size) = (known.digest, known.size);
            // What upstream says of the metadata belongs to the other bytes.
            entry.core_metadata = CoreMetadata::Absent;
        }
        refused
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

impl PageService {
    /// The changed files of a route's repository, by project.
    pub fn changed_files(&self, route: &Route) -> Vec<(ProjectName, ChangedFiles)> {
        self.cache().source().changes.first_seen.changed(&route.repository)
    }

    /// What a file that no page lists must be, where changed files are refused: a name that is not listed stands for
    /// the same bytes as before.
    pub(super) async fn known_bytes(&self, route: &Route, address: &FileAddress) -> Option<Expected> {
        let (cache, key, file) = (self.cache().clone(), route.key(&address.project), address.file.clone());
        if !cache.source().changes.refuses(&key.repository) {
            return None;
        }
        let known = blocking(move || cache.source().changes.first_seen.known(&key, &file)).await.ok()??;
        Some(Expected { length: known.size, hashes: known.digest })
    }

    /// Accepts what upstream lists now of one changed file of a project, or of all. Returns what was accepted. It is
    /// recorded then, and holds for the next request.
    pub async fn accept_changed(
        &self,
        route: &Route,
        project: &ProjectName,
        file: Option<FileName>,
        reason: String,
        by: Option<String>,
    ) -> Result<Vec<ChangedFile>, Error> {
        let (cache, key) = (self.cache().clone(), route.key(project));
        // Brings a persisted page into memory, so that its files are compared again.
        let _ = cache.held(&key).await;
        blocking(move || {
            let accepted = cache.source().changes.first_seen.accept(&key, file.as_ref(), &reason, by.as_deref());
            let accepted = accepted.map_err(|error| {
                tracing::error!(project = %key.project, %error, "an accepted change could not be recorded");
                super::unavailable(super::Cause::Storage)
            })?;
            cache.show_again(&key);
            Ok(accepted)
        })
        .await?
    }
}

impl IndexCache<PageSource> {
    /// Compares and completes a held page again. Blocking.
    fn show_again(&self, key: &PageKey) {
        if let Some(held) = self.records().get(key) {
            self.show(key, held.content.as_listed(), held.fetched);
        }
    }
}

impl Flow {
    /// The same services, which refuse the changed files of these repositories.
    #[must_use]
    pub fn refusing_changed_files_of(self, repositories: HashSet<RepositoryId>) -> Self {
        let _ = self.pages.cache().source().changes.refusing.set(repositories);
        self
    }

    /// Changes in a route's repository, for metrics.
    pub fn changes(&self, route: &Route) -> ChangeCounts {
        let (noticed, pending) = self.pages.cache().source().changes.first_seen.counts(&route.repository);
        ChangeCounts { noticed, pending }
    }

    /// Finds the changes that an earlier process has noticed. The start need not wait for it.
    pub async fn recall_changes(&self) {
        let pages = self.pages.cache().clone();
        let _ = blocking(move || pages.source().changes.first_seen.recall()).await;
    }
}

//! Changed files as operators see them, and an operator's word that the new bytes are right.

use std::collections::HashMap;

use super::change_guard::{ChangeCounts, WatchedChanges};
use super::index_cache::IndexCache;
use super::page_source::PageSource;
use super::pages::PageService;
use super::shared_exceptions::ExceptionSpread;
use super::{Cause, Error, Flow, Route, unavailable};
use crate::cache::{ChangedFile, ChangedFiles, Expected, KnownSince, PageKey, RepositoryId};
use crate::fleet::Hint;
use wheelport_index::{FileAddress, FileName, ProjectName};
use wheelport_runtime::blocking;

/// What is recorded of a file.
#[derive(Default)]
pub(super) struct KnownFile {
    /// What it must be.
    pub bytes: Option<Expected>,
    pub since: Option<KnownSince>,
}

impl PageService {
    /// The changed files of a route's repository, by project.
    pub fn changed_files(&self, route: &Route) -> Vec<(ProjectName, ChangedFiles)> {
        self.cache().source().changes.first_seen.changed(&route.repository)
    }

    /// What is recorded of a file, whether or not a page lists it.
    pub(super) async fn known_file(&self, route: &Route, address: &FileAddress) -> KnownFile {
        let (cache, key, file) = (self.cache().clone(), route.key(&address.project), address.file.clone());
        let known = blocking(move || {
            let first_seen = &cache.source().changes.first_seen;
            let bytes = first_seen.known(&key, &file);
            let bytes = bytes.map(|known| Expected { length: known.size, hashes: known.digest });
            KnownFile { bytes, since: first_seen.known_since(&key, &file) }
        });
        known.await.unwrap_or_default()
    }

    /// Whether a name stands for the same bytes as before, also where no page lists it.
    pub(super) fn refuses_changes(&self, route: &Route) -> bool {
        self.cache().source().changes.refuses(&route.repository)
    }

    /// Accepts what upstream lists now of one changed file of a project, or of all. Returns what was accepted, and
    /// where. It is recorded then, and holds for the next request.
    pub async fn accept_changed(
        &self,
        route: &Route,
        project: &ProjectName,
        file: Option<FileName>,
        reason: String,
        by: Option<String>,
    ) -> Result<(Vec<ChangedFile>, ExceptionSpread), Error> {
        let (cache, key) = (self.cache().clone(), route.key(project));
        // Brings a persisted page into memory, so that its files are compared again.
        let _ = cache.held(&key).await;
        if cache.may_read_shared(route).await {
            cache.learn_first_seen(route, &key).await;
        }
        let of_project = key.clone();
        let accepted = blocking(move || {
            let accepted = cache.source().changes.first_seen.accept(&key, file.as_ref(), &reason, by.as_deref());
            let accepted = accepted.map_err(|error| {
                tracing::error!(project = %key.project, %error, "an accepted change could not be recorded");
                unavailable(Cause::Storage)
            })?;
            cache.show_again(&key);
            Ok::<_, Error>(accepted)
        })
        .await??;
        if accepted.is_empty() {
            return Ok((accepted, ExceptionSpread::Here));
        }
        let spread = self.cache().share_acceptance(route, &of_project).await;
        if let Some(shared) = &route.shared {
            let (repository, project) = (shared.repository.clone(), project.clone());
            self.cache().source().fleet.hints().send(Hint::Accept { repository, project }).await;
        }
        Ok((accepted, spread))
    }
}

impl IndexCache<PageSource> {
    /// Compares and completes a held page again. Blocking.
    pub(super) fn show_again(&self, key: &PageKey) {
        if let Some(held) = self.records().get(key) {
            self.show(key, held.content.as_listed(), held.fetched);
        }
    }
}

impl Flow {
    /// The same services, with what becomes of the changed files of these repositories.
    #[must_use]
    pub fn watching_changed_files_of(self, repositories: HashMap<RepositoryId, WatchedChanges>) -> Self {
        self.pages.cache().source().changes.watch(repositories);
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

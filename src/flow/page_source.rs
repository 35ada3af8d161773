//! Where pages come from, and what completes them. `pages.rs` asks, `page_arrival.rs` takes in what comes.

use std::sync::Arc;

use super::advertise::advertise_core_metadata;
use super::agreements::Agreements;
use super::change_guard::ChangeGuard;
use super::delisted::Delisted;
use super::internal_freshness::InternalFreshness;
use super::published_looks::PublishedLooks;
use crate::cache::{MetadataStore, PersistedIndex, Published};
use crate::fleet::Fleet;
use crate::notices::Notices;
use wheelport_index::File;
use wheelport_runtime::Clock;

/// Where pages come from, and what completes them.
pub(super) struct PageSource {
    pub persisted: Arc<PersistedIndex>,
    pub published: Published,
    pub changes: ChangeGuard,
    pub notices: Notices,
    pub metadata: MetadataStore,
    pub delisted: Delisted,
    /// The largest wheel whose metadata can be served, in bytes.
    pub largest_wheel: u64,
    /// What replicas share.
    pub fleet: Fleet,
    /// When it was looked what other replicas have published.
    pub looks: PublishedLooks,
    /// What of the records of first seen files is in the store.
    pub agreements: Agreements,
    /// How long the domain's own projects are fresh.
    pub internal: InternalFreshness,
    pub clock: Clock,
}

impl PageSource {
    /// Completes what is advertised of the core metadata of files. Blocking.
    pub(super) fn advertise(&self, files: &mut [File]) {
        advertise_core_metadata(files, &self.metadata, self.largest_wheel);
    }
}

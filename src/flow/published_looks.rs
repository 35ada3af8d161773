//! When it was looked what other replicas have published, by project.

use tokio::time::Instant;

use crate::cache::PageKey;
use crate::fleet::ObjectTag;

/// Projects whose last look is remembered.
const MAX_LOOKS: u64 = 50_000;

/// When a project's record was read last, and its version then.
#[derive(Debug, Clone)]
pub(super) struct PublishedLook {
    pub at: Instant,
    pub tag: Option<ObjectTag>,
}

/// The last looks.
pub(super) struct PublishedLooks(moka::sync::Cache<PageKey, PublishedLook>);

impl Default for PublishedLooks {
    fn default() -> Self {
        Self(moka::sync::Cache::new(MAX_LOOKS))
    }
}

impl PublishedLooks {
    pub(super) fn get(&self, key: &PageKey) -> Option<PublishedLook> {
        self.0.get(key)
    }

    pub(super) fn insert(&self, key: PageKey, look: PublishedLook) {
        self.0.insert(key, look);
    }
}

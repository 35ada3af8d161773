//! In which versions the record of first seen files here and the one that replicas share said the same, by project.

use crate::cache::{PageKey, RecordVersion};
use crate::fleet::ObjectTag;

/// Projects of which that is remembered.
const MAX_AGREED: u64 = 50_000;

/// Both records of a project, in the versions in which they said the same.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Agreement {
    pub shared: ObjectTag,
    pub here: Option<RecordVersion>,
}

/// The last agreements.
pub(super) struct Agreements(moka::sync::Cache<PageKey, Agreement>);

impl Default for Agreements {
    fn default() -> Self {
        Self(moka::sync::Cache::new(MAX_AGREED))
    }
}

impl Agreements {
    pub(super) fn get(&self, key: &PageKey) -> Option<Agreement> {
        self.0.get(key)
    }

    pub(super) fn insert(&self, key: PageKey, agreement: Agreement) {
        self.0.insert(key, agreement);
    }
}

//! Where project lists come from: the disk and what replicas share. `lists.rs` asks upstream.

use std::sync::Arc;

use super::pages::PageService;
use crate::cache::PersistedIndex;
use crate::fleet::Fleet;
use wheelport_runtime::Clock;

/// Where project lists come from.
pub(super) struct ListSource {
    pub persisted: Arc<PersistedIndex>,
    /// What replicas share.
    pub fleet: Fleet,
    /// Knows who may read what replicas share.
    pub pages: PageService,
    pub clock: Clock,
}

//! What replicas share: an object store that holds truth, Redis that carries hints, CodeArtifact's events.
//!
//! Every part is optional and behind a circuit breaker of its own: when it is away, this replica does what it would do
//! alone. Nothing here knows a page of the index or a response; `flow` joins it with the cache and with upstream.

mod breaker;
mod events;
mod package_event;
mod queue;
mod settings;
mod store;

use prometheus_client::registry::Registry;

pub use breaker::{Breaker, BreakerState};
pub use events::{EventOutcome, Events, EventsState};
pub use package_event::{InvalidEvent, PackageEvent, PackageOperation, QueueMessage, read_event};
pub use queue::{EventQueue, QueueError, QueueFault};
pub use settings::{FleetSettings, RedisAddress, StoreLocation};
pub use store::{
    MultipartUpload, ObjectBody, ObjectHead, ObjectKey, ObjectStore, ObjectTag, ObjectWrite, SourceBytes, StoreAccess,
    StoreError, StoreSetupError, StoredObject,
};

/// What this replica shares with others. Cheap to clone; the default shares nothing.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    store: Option<ObjectStore>,
}

impl Fleet {
    /// With an object store.
    #[must_use]
    pub fn with_store(self, store: Option<ObjectStore>) -> Self {
        Self { store }
    }

    /// The object store.
    pub fn store(&self) -> Option<&ObjectStore> {
        self.store.as_ref()
    }

    /// Makes the counters of all parts part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("fleet");
        if let Some(store) = &self.store {
            store.register(registry);
        }
    }
}

//! What replicas share: an object store that holds truth, Redis that carries hints, CodeArtifact's events.
//!
//! Every part is optional and behind a circuit breaker of its own: when it is away, this replica does what it would do
//! alone. Nothing here knows a page of the index or a response; `flow` joins it with the cache and with upstream.

mod breaker;
mod hint_channel;
mod hints;
mod redis;
mod repository;
mod settings;
mod store;

use prometheus_client::registry::Registry;

use wheelport_runtime::Tasks;

pub use self::redis::{RedisFailure, RedisUnusable};
pub use breaker::{Breaker, BreakerState};
pub use hint_channel::{Heard, HintListener, HintSent, Hints};
pub use hints::{Hint, Message, QuotaName, ReplicaId, UnreadableHint};
pub use repository::{InvalidRepository, SharedRepository};
pub use settings::{FleetSettings, RedisAddress, StoreLocation};
pub use store::{
    MultipartUpload, ObjectBody, ObjectHead, ObjectKey, ObjectStore, ObjectTag, ObjectWrite, SourceBytes, StoreAccess,
    StoreError, StoreSetupError, StoredObject,
};

use self::redis::{RedisLink, subscribe};

/// What this replica shares with others. Cheap to clone; the default shares nothing.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    store: Option<ObjectStore>,
    redis: Option<RedisLink>,
    hints: Hints,
}

impl Fleet {
    /// With an object store.
    #[must_use]
    pub fn with_store(self, store: Option<ObjectStore>) -> Self {
        Self { store, ..self }
    }

    /// With Redis, if the settings name one. Begins to hear hints; Redis need not be reachable for that.
    pub fn with_redis(self, settings: &FleetSettings, tasks: &Tasks) -> Result<Self, RedisUnusable> {
        let Some(address) = &settings.redis else { return Ok(self) };
        let link = RedisLink::new(address, settings)?;
        let hints = Hints::over(Some(link.clone()));
        tasks.spawn_loop("hear hints", subscribe(link.clone(), hints.clone()));
        Ok(Self { redis: Some(link), hints, ..self })
    }

    /// The object store.
    pub fn store(&self) -> Option<&ObjectStore> {
        self.store.as_ref()
    }

    /// What replicas tell each other.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// Whether Redis is asked, if it is configured.
    pub fn redis_breaker(&self) -> Option<&Breaker> {
        self.redis.as_ref().map(RedisLink::breaker)
    }

    /// Makes the counters of all parts part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("fleet");
        if let Some(store) = &self.store {
            store.register(registry);
        }
        if self.redis.is_some() {
            self.hints.register(registry);
        }
    }
}

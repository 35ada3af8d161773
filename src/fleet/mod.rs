//! What replicas share: an object store that holds truth, Redis that carries hints, CodeArtifact's events.
//!
//! Every part is optional and behind a circuit breaker of its own: when it is away, this replica does what it would do
//! alone. Nothing here knows a page of the index or a response; `flow` joins it with the cache and with upstream.

mod breaker;
mod budget;
mod events;
mod hint_channel;
mod hints;
mod lease_record;
mod leases;
mod metrics;
mod package_event;
mod queue;
mod queue_traits;
mod redis;
mod repository;
mod settings;
mod store;
mod unsent_hints;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;

use wheelport_runtime::Tasks;

pub use self::redis::{RedisFailure, RedisUnusable, prove_redis};
pub use breaker::{Breaker, BreakerState};
pub use budget::{BudgetPermit, QuotaBudget};
pub use events::{EventOutcome, Events, EventsState, QUEUE_READ_WITHIN};
pub use hint_channel::{Heard, HintListener, HintSent, Hints};
pub use hints::{Hint, Message, QuotaName, ReplicaId, UnreadableHint};
pub use leases::{Acquired, LeaseGuard, LeaseKey, LeaseWatch, Leases, Waited};
pub use metrics::{TierMetrics, TierResult};
pub use package_event::{InvalidEvent, PackageEvent, PackageOperation, QueueMessage, read_event};
pub use queue::{EventQueue, QueueError, QueueFault};
pub use queue_traits::{QueueEncryption, QueueTraits, SendRight};
pub use repository::{InvalidRepository, SharedRepository};
pub use settings::{FleetSettings, RedisAddress, StoreLocation};
pub use store::{
    MultipartUpload, ObjectBody, ObjectHead, ObjectKey, ObjectStore, ObjectTag, ObjectWrite, SourceBytes, StoreAccess,
    StoreError, StoreSetupError, StoreTraits, StoredObject,
};

use self::redis::{RedisLeases, RedisLink, subscribe};
use budget::BudgetMetrics;
use leases::LeaseForm;
use store::StoreLeases;

/// How long after its first failure the store is tried out again; later it takes longer.
const PROBE_AGAIN: Duration = Duration::from_secs(1);
/// The longest time until it is tried out again.
const PROBE_RARELY: Duration = Duration::from_secs(30);

/// What this replica shares with others. Cheap to clone; the default shares nothing.
#[derive(Clone, Default)]
pub struct Fleet {
    store: Option<ObjectStore>,
    store_leases: Option<Arc<StoreLeases>>,
    redis: Option<RedisLink>,
    hints: Hints,
    leases: Leases,
    tier: TierMetrics,
    budgets: BudgetMetrics,
    events: Option<Events>,
    /// Whether no other replica reads the queue of events.
    owns_queue: bool,
}

impl Fleet {
    /// With an object store. Begins to find out whether it can hold leases; it need not be reachable for that.
    #[must_use]
    pub fn with_store(self, store: ObjectStore, tasks: &Tasks) -> Self {
        let held = Arc::new(StoreLeases::new(store.clone()));
        tasks.spawn_loop("probe the object store", prove(store.clone(), Arc::clone(&held)));
        let leases = self.leases.or(Arc::clone(&held) as Arc<dyn LeaseForm>, tasks);
        Self { store: Some(store), store_leases: Some(held), leases, ..self }
    }

    /// With Redis, if the settings name one. Begins to hear hints; Redis need not be reachable for that.
    pub fn with_redis(self, settings: &FleetSettings, tasks: &Tasks) -> Result<Self, RedisUnusable> {
        let Some(address) = &settings.redis else { return Ok(self) };
        let link = RedisLink::new(address, settings)?;
        let hints = Hints::over(Some(link.clone()));
        tasks.spawn_loop("hear hints", subscribe(link.clone(), hints.clone()));
        tasks.spawn_loop("tell hints again", hints.clone().tell_again());
        let leases = self.leases.rather(Arc::new(RedisLeases::new(link.clone())), tasks);
        Ok(Self { redis: Some(link), hints, leases, ..self })
    }

    /// With the queue of CodeArtifact's events. Does not begin to receive.
    #[must_use]
    pub fn with_events(self, events: Events, owns_queue: bool) -> Self {
        Self { events: Some(events), owns_queue, ..self }
    }

    /// The queue of CodeArtifact's events.
    pub fn events(&self) -> Option<&Events> {
        self.events.as_ref()
    }

    /// Whether every event reaches this replica now: no other one reads the queue, or what others receive is heard.
    pub fn hears_every_event(&self) -> bool {
        self.owns_queue || self.hints.is_hearing()
    }

    /// The object store.
    pub fn store(&self) -> Option<&ObjectStore> {
        self.store.as_ref()
    }

    /// What the object store was seen to do, once it was tried.
    pub fn store_traits(&self) -> Option<StoreTraits> {
        self.store_leases.as_ref()?.traits()
    }

    /// Which replica fetches what.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Counts what came of looking into the shared tier.
    pub fn tier(&self) -> &TierMetrics {
        &self.tier
    }

    /// Whether nothing is shared with other replicas.
    pub fn is_alone(&self) -> bool {
        self.store().is_none() && !self.hints().are_shared()
    }

    /// What replicas tell each other.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// The budget of requests that replicas share for a quota, where Redis is configured: so many a second, and so many
    /// at once.
    pub fn budget(&self, quota: QuotaName, rate: u32, burst: u32, tasks: &Tasks) -> Option<QuotaBudget> {
        let link = self.redis.clone()?;
        Some(QuotaBudget::start(link, &self.hints, quota, (rate, burst), self.budgets.clone(), tasks))
    }

    /// Whether Redis is asked, if it is configured.
    pub fn redis_breaker(&self) -> Option<&Breaker> {
        self.redis.as_ref().map(RedisLink::breaker)
    }

    /// The breakers of the parts that are configured, by name.
    pub fn breakers(&self) -> Vec<(&'static str, &Breaker)> {
        let store = self.store.as_ref().map(|store| ("store", store.breaker()));
        store.into_iter().chain(self.redis_breaker().map(|breaker| ("redis", breaker))).collect()
    }

    /// Makes the counters of all parts part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("fleet");
        if let Some(store) = &self.store {
            store.register(registry);
            self.tier.register(registry);
            self.leases.register(registry);
        }
        if self.redis.is_some() {
            self.hints.register(registry);
            self.budgets.register(registry);
        }
        if let Some(events) = &self.events {
            events.register(registry);
        }
    }
}

/// Tries the store out until it has shown what it can do.
async fn prove(store: ObjectStore, leases: Arc<StoreLeases>) {
    let mut pause = PROBE_AGAIN;
    loop {
        match store.probe().await {
            Ok(traits) => {
                if traits.can_lease() {
                    tracing::info!(store = %store.location(), ?traits, "the object store can hold leases");
                } else {
                    tracing::warn!(
                        store = %store.location(), ?traits,
                        "the object store does not keep conditions under a race; replicas hold no leases in it and \
                         may fetch the same file more than once"
                    );
                }
                return leases.proven(traits);
            }
            Err(error) if pause > PROBE_AGAIN => tracing::debug!(%error, "the object store cannot be tried out"),
            Err(error) => tracing::warn!(store = %store.location(), %error, "the object store cannot be tried out yet"),
        }
        tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(PROBE_RARELY);
    }
}

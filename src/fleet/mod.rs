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

use wheelport_runtime::Tasks;

pub use self::redis::{RedisFailure, RedisUnusable};
pub use breaker::{Breaker, BreakerState};
pub use hint_channel::{Heard, HintListener, HintMetrics, HintSent, Hints};
pub use hints::{Hint, Message, QuotaName, ReplicaId, UnreadableHint};
pub use repository::{InvalidRepository, SharedRepository};
pub use settings::{FleetSettings, RedisAddress, StoreLocation};

use self::redis::{RedisLink, subscribe};

/// What this replica shares with others. Cheap to clone. The default shares nothing.
#[derive(Clone, Default)]
pub struct Fleet {
    hints: Hints,
    redis: Option<RedisLink>,
}

/// Why what replicas share cannot be used as it is configured. That it cannot be reached is no reason.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error(transparent)]
    Redis(#[from] RedisUnusable),
}

impl Fleet {
    /// Prepares what is configured, and starts to hear. Nothing needs to be reachable for that.
    pub fn start(settings: &FleetSettings, tasks: &Tasks) -> Result<Self, FleetError> {
        let redis = settings.redis.as_ref().map(|address| RedisLink::new(address, settings)).transpose()?;
        let hints = Hints::over(redis.clone());
        if let Some(link) = redis.clone() {
            tasks.spawn_loop("hear hints", subscribe(link, hints.clone()));
        }
        Ok(Self { hints, redis })
    }

    /// What replicas tell each other.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// What Redis is used through, if it is configured.
    pub fn redis_breaker(&self) -> Option<&Breaker> {
        self.redis.as_ref().map(RedisLink::breaker)
    }
}

//! Leases in Redis: set where none is, with an end; repeated with the holder's progress once a second, which puts off
//! the end; given back only by their holder.

use std::sync::LazyLock;
use std::time::Duration;

use ::redis::Script;
use futures_util::future::BoxFuture;

use super::link::{RedisFailure, RedisLink};
use crate::fleet::breaker::BreakerState;
use crate::fleet::lease_record::LeaseRecord;
use crate::fleet::leases::{LeaseForm, LeaseKey, LeaseLost, LeaseReading, LeaseTiming, Taking};
use crate::fleet::store::ObjectTag;
use wheelport_runtime::sabotaged;

/// When the lease of a holder that is dead ends.
const LIFE: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Two seconds without progress, and half of one for a statement that may be under way.
const STALLED_AFTER: Duration = Duration::from_millis(2500);

/// Replaces a lease whose text begins as its holder's does.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1])
         if not held or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
         return 1",
    )
});

/// Removes a lease whose text begins as its holder's does.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1])
         if not held or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
         return redis.call('DEL', KEYS[1])",
    )
});

/// Leases in Redis.
pub(in crate::fleet) struct RedisLeases {
    link: RedisLink,
}

impl RedisLeases {
    pub(in crate::fleet) fn new(link: RedisLink) -> Self {
        Self { link }
    }

    fn key(lease: &LeaseKey) -> String {
        format!("wheelport:v1:lease:{}", lease.as_str())
    }

    /// How the text of every statement of a holder begins.
    fn beginning(record: &LeaseRecord) -> String {
        let text = record.to_string();
        let words: Vec<&str> = text.splitn(3, ' ').take(2).collect();
        if sabotaged("lease-owner") { String::new() } else { words.join(" ") + " " }
    }

    async fn try_take(&self, lease: &LeaseKey, record: &LeaseRecord) -> Result<Taking, RedisFailure> {
        let key = Self::key(lease);
        let millis = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
        // A holder may let go between the two commands; then it is free.
        for _ in 0..2 {
            let mut set = ::redis::cmd("SET");
            set.arg(&key).arg(record.to_string()).arg("NX").arg("PX").arg(millis);
            if self.link.ask::<Option<String>>(&set).await?.is_some() {
                return Ok(Taking::Won { version: None, was_taken_over: false });
            }
            if let Some(text) = self.read(&key).await? {
                return Ok(text.parse().map_or(Taking::Unavailable, Taking::Held));
            }
        }
        Ok(Taking::Unavailable)
    }

    async fn read(&self, key: &str) -> Result<Option<String>, RedisFailure> {
        self.link.ask(::redis::cmd("GET").arg(key)).await
    }
}

impl LeaseForm for RedisLeases {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn timing(&self) -> LeaseTiming {
        LeaseTiming { renew_every: RENEW_EVERY, stalled_after: STALLED_AFTER }
    }

    fn is_usable(&self) -> bool {
        self.link.breaker().state() != BreakerState::Open
    }

    fn take<'a>(&'a self, key: &'a LeaseKey, record: LeaseRecord) -> BoxFuture<'a, Taking> {
        Box::pin(async move {
            self.try_take(key, &record).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "a lease cannot be taken in Redis");
                Taking::Unavailable
            })
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a LeaseKey,
        _version: Option<ObjectTag>,
        record: LeaseRecord,
    ) -> BoxFuture<'a, Result<Option<ObjectTag>, LeaseLost>> {
        Box::pin(async move {
            let mut renewing = RENEW.key(Self::key(key));
            let millis = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
            renewing.arg(Self::beginning(&record)).arg(record.to_string()).arg(millis);
            match self.link.run::<u8>(&renewing).await {
                Ok(0) => Err(LeaseLost),
                // While Redis is away nothing else can take it there.
                Ok(_) | Err(_) => Ok(None),
            }
        })
    }

    fn release<'a>(&'a self, key: &'a LeaseKey, _version: Option<ObjectTag>, record: LeaseRecord) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut releasing = RELEASE.key(Self::key(key));
            releasing.arg(Self::beginning(&record));
            if let Err(error) = self.link.run::<u8>(&releasing).await {
                tracing::debug!(%error, "a lease was not given back and will expire");
            }
        })
    }

    fn look<'a>(&'a self, key: &'a LeaseKey) -> BoxFuture<'a, LeaseReading> {
        Box::pin(async move {
            match self.read(&Self::key(key)).await {
                Ok(None) => LeaseReading::Free,
                Ok(Some(text)) => text.parse().map_or(LeaseReading::Unavailable, LeaseReading::Held),
                Err(_) => LeaseReading::Unavailable,
            }
        })
    }
}

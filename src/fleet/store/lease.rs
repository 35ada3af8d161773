//! Leases as objects: created where none is, rewritten on condition while they are held, taken over when nothing has
//! changed for six seconds of the reader's own clock.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::lease_record::LeaseRecord;
use super::super::leases::{LeaseForm, LeaseKey, LeaseLost, LeaseReading, LeaseTiming, Taking};
use super::ObjectStore;
use super::error::StoreError;
use super::key::ObjectKey;
use super::operations::{ObjectTag, ObjectWrite};
use super::probe::StoreTraits;

/// How often a holder rewrites its lease.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A holder whose progress is older than this is stuck: two seconds, and one rewriting that may be under way.
const STALLED_AFTER: Duration = Duration::from_millis(3500);
/// A lease that has not changed for this long has no holder any more.
const EXPIRED_AFTER: Duration = Duration::from_secs(6);
/// The longest lease that is read, in bytes.
const MAX_RECORD: usize = 256;
/// Leases whose last change is remembered.
const REMEMBERED: usize = 4096;

/// Leases in an object store that was seen to hold them.
pub(crate) struct StoreLeases {
    store: ObjectStore,
    /// What the probe found; nothing is leased before.
    traits: Mutex<Option<StoreTraits>>,
    /// When this replica first saw the version that a lease has.
    seen: Mutex<HashMap<LeaseKey, (ObjectTag, Instant)>>,
}

impl StoreLeases {
    pub(crate) fn new(store: ObjectStore) -> Self {
        Self { store, traits: Mutex::new(None), seen: Mutex::default() }
    }

    /// The probe found this.
    pub(crate) fn proven(&self, traits: StoreTraits) {
        *self.traits.lock() = Some(traits);
    }

    /// What the probe found, if it has.
    pub(crate) fn traits(&self) -> Option<StoreTraits> {
        *self.traits.lock()
    }

    fn key(lease: &LeaseKey) -> ObjectKey {
        ObjectKey::lease(lease.as_str())
    }

    /// Creates, or takes over what is over.
    async fn try_take(&self, lease: &LeaseKey, record: &LeaseRecord) -> Result<Taking, StoreError> {
        let (key, bytes) = (Self::key(lease), Bytes::from(record.to_string()));
        // A holder may let go between the two looks; then it is free.
        for _ in 0..2 {
            match self.store.put(&key, bytes.clone(), ObjectWrite::Create).await {
                Ok(tag) => return Ok(Taking::Won { version: Some(tag), was_taken_over: false }),
                Err(StoreError::Exists) => {}
                Err(error) => return Err(error),
            }
            let (held, tag) = match self.read(lease).await {
                Ok(found) => found,
                Err(StoreError::Missing) => continue,
                Err(error) => return Err(error),
            };
            if !held.as_ref().is_none_or(|held| held.is_done) && !self.is_expired(lease, &tag) {
                return Ok(held.map_or(Taking::Unavailable, Taking::Held));
            }
            return match self.store.put(&key, bytes.clone(), ObjectWrite::Replace(tag)).await {
                Ok(tag) => {
                    let was_taken_over = held.is_some_and(|held| !held.is_done);
                    Ok(Taking::Won { version: Some(tag), was_taken_over })
                }
                Err(StoreError::Exists | StoreError::Missing) => Ok(Taking::Unavailable),
                Err(error) => Err(error),
            };
        }
        Ok(Taking::Unavailable)
    }

    /// The statement of a holder, `None` where it is not legible, and its version.
    async fn read(&self, lease: &LeaseKey) -> Result<(Option<LeaseRecord>, ObjectTag), StoreError> {
        let (bytes, tag) = self.store.read(&Self::key(lease), None, MAX_RECORD).await?;
        let tag = tag.ok_or_else(|| StoreError::Broken("it gave a lease no version".into()))?;
        self.note(lease, &tag);
        Ok((std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()), tag))
    }

    /// Remembers since when a lease has had this version.
    fn note(&self, lease: &LeaseKey, tag: &ObjectTag) {
        let mut seen = self.seen.lock();
        if seen.get(lease).is_some_and(|(known, _)| known == tag) {
            return;
        }
        if seen.len() >= REMEMBERED {
            // What is forgotten only takes six seconds more to expire.
            seen.clear();
        }
        seen.insert(lease.clone(), (tag.clone(), Instant::now()));
    }

    fn is_expired(&self, lease: &LeaseKey, tag: &ObjectTag) -> bool {
        let seen = self.seen.lock();
        seen.get(lease).is_some_and(|(known, since)| known == tag && since.elapsed() >= EXPIRED_AFTER)
    }
}

impl std::fmt::Debug for StoreLeases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreLeases({})", self.store.location())
    }
}

impl LeaseForm for StoreLeases {
    fn name(&self) -> &'static str {
        "store"
    }

    fn timing(&self) -> LeaseTiming {
        LeaseTiming { renew_every: RENEW_EVERY, stalled_after: STALLED_AFTER }
    }

    fn is_usable(&self) -> bool {
        self.traits().is_some_and(|traits| traits.can_lease())
    }

    fn take<'a>(&'a self, key: &'a LeaseKey, record: LeaseRecord) -> BoxFuture<'a, Taking> {
        Box::pin(async move {
            self.try_take(key, &record).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "a lease cannot be taken in the store");
                Taking::Unavailable
            })
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a LeaseKey,
        version: Option<ObjectTag>,
        record: LeaseRecord,
    ) -> BoxFuture<'a, Result<Option<ObjectTag>, LeaseLost>> {
        Box::pin(async move {
            let Some(tag) = version else { return Err(LeaseLost) };
            let write = ObjectWrite::Replace(tag.clone());
            match self.store.put(&Self::key(key), record.to_string().into(), write).await {
                Ok(renewed) => Ok(Some(renewed)),
                Err(StoreError::Exists | StoreError::Missing) => Err(LeaseLost),
                // It may have been written all the same; then the next attempt finds another version and gives up.
                Err(_) => Ok(Some(tag)),
            }
        })
    }

    fn release<'a>(&'a self, key: &'a LeaseKey, version: Option<ObjectTag>, record: LeaseRecord) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Some(tag) = version else { return };
            let object = Self::key(key);
            let released = if self.traits().is_some_and(|traits| traits.deletes_version) {
                self.store.delete(&object, Some(tag)).await
            } else {
                self.store.put(&object, record.to_string().into(), ObjectWrite::Replace(tag)).await.map(drop)
            };
            if let Err(error) = released {
                tracing::debug!(%error, "a lease was not given back and will expire");
            }
        })
    }

    fn look<'a>(&'a self, key: &'a LeaseKey) -> BoxFuture<'a, LeaseReading> {
        Box::pin(async move {
            match self.read(key).await {
                Ok((Some(record), _)) => LeaseReading::Held(record),
                Err(StoreError::Missing) => LeaseReading::Free,
                Ok((None, _)) | Err(_) => LeaseReading::Unavailable,
            }
        })
    }
}

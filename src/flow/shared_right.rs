//! Whether a route may read what replicas share of its repository: only once its own role has read the repository, here
//! or on another replica that is configured with the same role.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::route::Route;
use crate::fleet::{Fleet, ObjectKey, ObjectWrite, StoreError};
use wheelport_runtime::sabotaged;

/// How often the store is asked whether another replica has shown it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The longest record, in bytes.
const MAX_RECORD: usize = 64;
const RECORD: &[u8] = b"may read\n";

/// When a route last asked in vain whether its role has read on another replica.
#[derive(Debug, Default)]
pub(super) struct LastLook(Mutex<Option<Instant>>);

impl LastLook {
    /// Whether it is time to look, claimed by the caller.
    fn claim(&self) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Whether the role of a route has read the repository.
pub(super) async fn may_read_shared(fleet: &Fleet, route: &Route) -> bool {
    if sabotaged("shared-right") {
        return true;
    }
    if route.standing.is_closed() {
        return false;
    }
    if route.standing.has_read() {
        return true;
    }
    let (Some(store), Some(key)) = (fleet.store(), key(route)) else { return false };
    if !route.shared_look.claim() {
        return false;
    }
    if store.read(&key, None, MAX_RECORD).await.is_ok_and(|(record, _)| &*record == RECORD) {
        route.standing.had_read();
    }
    route.standing.has_read()
}

/// The role of a route has read the repository; others may hear of it.
pub(super) async fn record(fleet: &Fleet, route: &Route) {
    let (Some(store), Some(key)) = (fleet.store(), key(route)) else { return };
    match store.put(&key, Bytes::from_static(RECORD), ObjectWrite::Create).await {
        Ok(_) | Err(StoreError::Exists) => {}
        Err(error) => tracing::debug!(%error, "other replicas do not hear that a role may read"),
    }
}

/// The role of a route may no longer read.
pub(super) async fn forget(fleet: &Fleet, route: &Route) {
    let (Some(store), Some(key)) = (fleet.store(), key(route)) else { return };
    if let Err(error) = store.delete(&key, None).await {
        tracing::warn!(%error, "replicas still believe that a role may read which may not");
    }
}

fn key(route: &Route) -> Option<ObjectKey> {
    let role = route.role.as_ref()?;
    Some(ObjectKey::reader(route.repository.as_str(), role))
}

//! What is recorded of roles where several read one repository: that a role has shown that it may read, also in an
//! earlier process.

use std::sync::Arc;

use super::route::Route;
use crate::cache::{PersistedIndex, reader_path};
use wheelport_runtime::blocking;

/// Brings back what the role of a route has shown in an earlier process.
pub(super) async fn restore(persisted: &Arc<PersistedIndex>, route: &Route) {
    let Some(reader) = route.reader.clone().filter(|_| !route.may_read_cache()) else { return };
    let (persisted, repository) = (Arc::clone(persisted), route.repository.clone());
    let recorded = blocking(move || {
        let path = reader_path(&repository, &reader);
        persisted.load::<String>(&path, |recorded| **recorded == *reader).is_some()
    });
    if recorded.await == Ok(true) {
        route.standing.had_read();
    }
}

/// The role of a route has shown that it may read.
pub(super) async fn record(persisted: &Arc<PersistedIndex>, route: &Route) {
    let Some(reader) = route.reader.clone() else { return };
    let (persisted, repository) = (Arc::clone(persisted), route.repository.clone());
    let recorded = blocking(move || persisted.persist(&reader_path(&repository, &reader), &&*reader));
    if let Ok(Err(error)) = recorded.await {
        tracing::warn!(%error, "it could not be recorded that a role may read; it has to show it after a restart");
    }
}

/// The role of a route may no longer read.
pub(super) async fn forget(persisted: &Arc<PersistedIndex>, route: &Route) {
    let Some(reader) = route.reader.clone() else { return };
    let (persisted, repository) = (Arc::clone(persisted), route.repository.clone());
    let removed = blocking(move || persisted.remove(&reader_path(&repository, &reader)));
    if let Ok(Err(error)) = removed.await {
        tracing::warn!(%error, "it is still recorded that a role may read which may not");
    }
}

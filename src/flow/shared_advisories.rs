//! The copy of advisories in the store that replicas share: a replica that has something newer writes it there and says
//! so, and the others take it in place of asking the source themselves.
//!
//! Without hints, each replica looks whether the copy there is another. Where the store is away, each has what its
//! source gave it.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use super::advisories::{Advisories, AdvisoriesInner, LoadedAdvisories, RefreshOutcome};
use crate::advisories::load;
use crate::cache::NewAdvisories;
use crate::fleet::{Hint, ObjectKey, ObjectStore, ObjectWrite, SourceBytes, StoreError, StoredObject};
use wheelport_runtime::{blocking, sabotaged};

/// How often the store is looked at while hints are heard.
const LOOK_RARELY: Duration = Duration::from_secs(30);
/// How often it is looked at while they are not.
const LOOK_OFTEN: Duration = Duration::from_millis(800);
/// What is read at a time of what is sent to the store, in bytes.
const CHUNK: u64 = 1 << 20;
/// How often the copy is written again because another replica has changed it meanwhile.
const TRIES: u32 = 4;
/// The largest copy, in bytes.
const LARGEST_COPY: u64 = 1 << 30;

impl Advisories {
    /// Others have said that the copy has changed, or may have.
    pub(super) fn look_soon(&self) {
        if !sabotaged("shared-advisories") {
            self.inner.hint.notify_one();
        }
    }

    /// How long it is until the store is looked at again.
    pub(super) fn store_pause(&self) -> Duration {
        let fleet = &self.inner.fleet;
        if fleet.store().is_none() {
            return LOOK_RARELY;
        }
        if fleet.hints().is_hearing() || sabotaged("shared-advisories") { LOOK_RARELY } else { LOOK_OFTEN }
    }

    /// Takes in the copy in the store, if it is newer than what is in force.
    pub(super) async fn take_shared(&self) {
        let Some(store) = self.inner.fleet.store().cloned() else { return };
        match self.compare(&store).await {
            Err(StoreError::Missing) if self.current().sha256.is_some() => {
                self.inner.unshared.store(true, Ordering::Relaxed);
            }
            Ok(()) | Err(StoreError::Missing) => {}
            Err(error) => tracing::debug!(%error, "the advisories that replicas share are not known"),
        }
    }

    async fn compare(&self, store: &ObjectStore) -> Result<(), StoreError> {
        let key = ObjectKey::advisories();
        let tag = store.head(&key).await?.tag;
        if tag.is_some() && *self.inner.shared.lock() == tag {
            return Ok(());
        }
        let StoredObject { head, mut body } = store.get(&key).await?;
        let record = self.inner.record.clone();
        let mut new = written(blocking(move || record.begin()).await)?;
        let mut length = 0;
        while let Some(chunk) = body.next().await {
            let chunk: Bytes = chunk?;
            length += chunk.len() as u64;
            if length > LARGEST_COPY {
                return Err(StoreError::TooLarge);
            }
            new = written(blocking(move || new.write_all(&chunk).map(|()| new)).await)?;
        }
        if head.sha256.is_some_and(|announced| announced != new.sha256()) {
            return Err(StoreError::Checksum);
        }
        let inner = Arc::clone(&self.inner);
        let is_older = written(blocking(move || inner.adopt(new)).await)?;
        *self.inner.shared.lock() = head.tag;
        self.inner.unshared.store(is_older, Ordering::Relaxed);
        Ok(())
    }

    /// Writes what is in force where all replicas see it, and tells them.
    pub(super) async fn share(&self) {
        let Some(store) = self.inner.fleet.store().cloned() else { return };
        for _ in 0..TRIES {
            if !self.inner.unshared.load(Ordering::Relaxed) {
                return;
            }
            match self.write(&store).await {
                Ok(()) => {
                    self.inner.fleet.hints().send(Hint::Advisories).await;
                    return;
                }
                Err(StoreError::Exists | StoreError::Missing | StoreError::Raced) => self.take_shared().await,
                Err(error) => {
                    tracing::warn!(%error, "the advisories are not shared with other replicas");
                    return;
                }
            }
        }
    }

    async fn write(&self, store: &ObjectStore) -> Result<(), StoreError> {
        let key = ObjectKey::advisories();
        let known = match store.head(&key).await {
            Ok(head) => head.tag,
            Err(StoreError::Missing) => None,
            Err(error) => return Err(error),
        };
        if known.is_some() && *self.inner.shared.lock() != known {
            return Err(StoreError::Exists);
        }
        let loaded = self.current();
        let Some(sha256) = loaded.sha256 else { return Ok(()) };
        let (length, write) = (loaded.length, known.map_or(ObjectWrite::Create, ObjectWrite::Replace));
        let tag = store.put_stream(&key, bytes_of(loaded), length, sha256, write).await?;
        *self.inner.shared.lock() = Some(tag);
        self.inner.unshared.store(false, Ordering::Relaxed);
        Ok(())
    }
}

fn written<T>(done: Result<io::Result<T>, wheelport_runtime::Panicked>) -> Result<T, StoreError> {
    let done = done.map_err(|panicked| io::Error::other(panicked.to_string())).and_then(|done| done);
    done.map_err(|error| {
        tracing::warn!(%error, "the advisories that replicas share cannot be taken in");
        StoreError::Source
    })
}

/// The bytes of the copy that is in force.
fn bytes_of(loaded: Arc<LoadedAdvisories>) -> SourceBytes {
    Box::pin(stream::unfold((loaded, 0), |(loaded, position)| async move {
        let length = CHUNK.min(loaded.length - position);
        if length == 0 {
            return None;
        }
        let reading = Arc::clone(&loaded);
        let read = blocking(move || match &reading.documents {
            Some(documents) => documents.bytes(position, length),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        let read = read.await.map_err(|panicked| io::Error::other(panicked.to_string())).and_then(|read| read);
        Some((read.map(Bytes::from), (loaded, position + length)))
    }))
}

impl AdvisoriesInner {
    /// Puts a copy of another replica in force, if it is newer. Whether it is older. Blocking.
    fn adopt(&self, mut new: NewAdvisories) -> io::Result<bool> {
        let (header, table) = load(io::BufReader::new(new.reader()?))?;
        let known = self.known();
        let is_known = table.digest() == known.table.digest();
        if table.is_empty() || is_known {
            return Ok(false);
        }
        if header.made < known.header.made && !known.table.is_empty() {
            return Ok(true);
        }
        let (advisories, malware, made) = (table.len(), table.malware(), header.made);
        tracing::info!(advisories, malware, "advisories are in force, from another replica");
        self.put_in_force(header, table, new.commit()?);
        self.confirm(RefreshOutcome::Shared, made);
        Ok(false)
    }
}

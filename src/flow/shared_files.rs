//! Files in the store that replicas share: looked for before upstream is asked, leased so that one replica asks, and
//! written once they are here.
//!
//! ```text
//! find ─► in the store? receive it, verified like upstream's
//!        └ lease ─► won: fetch, then offer, then give the lease back
//!                  └ held: wait while that pays ─► in the store? … ─► else fetch alone
//! ```
//!
//! Whatever the store does, a client never hears of it: the worst outcome is that this replica fetches by itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::batch::{Next, gather};
use super::error::Error;
use super::pages::PageService;
use super::prepared_file::PreparedFile;
use super::route::Route;
use crate::cache::{Blob, BlobReader, BufferPool, DownloadWriter, Expected, VerifiedBlob, WriteError, WritePipeline};
use crate::fleet::{
    Acquired, Fleet, LeaseGuard, LeaseKey, ObjectKey, ObjectStore, ObjectWrite, SourceBytes, StoreError, StoredObject,
    TierResult, Waited,
};
use wheelport_index::Sha256;
use wheelport_runtime::{Joined, Tasks, sabotaged};

/// The label of files in metrics.
const KIND: &str = "blob";
/// A file up to this size is in readers' hands once it is verified: upstream can still replace a wrong one.
const SEEN_ABOVE: u64 = 1 << 20;
/// The same, where the store does not say that it has checked the digest itself.
const UNPROVEN_SEEN_ABOVE: u64 = 64 << 20;
/// A file that takes longer to come is in readers' hands from then on.
const SEEN_AFTER: Duration = Duration::from_secs(2);
/// Files that are written to the store at the same time.
const WRITES_AT_ONCE: usize = 8;
/// Files that wait for that; what is more is not written.
const WRITES_WAITING: usize = 256;
/// The largest object that one request takes.
const ONE_REQUEST: u64 = 5 << 30;
/// How often a lease is asked for.
const LEASE_TRIES: usize = 2;

/// Shares files. Cheap to clone.
#[derive(Clone)]
pub(super) struct SharedFiles {
    fleet: Fleet,
    pages: PageService,
    buffers: BufferPool,
    tasks: Tasks,
    writing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// What looking for a file among replicas came to.
pub(super) enum SharedLookup {
    /// It is in the store, and is arriving.
    Object(Box<StoredObject>),
    /// This replica fetches it for all.
    Lead(LeaseGuard),
    /// This replica fetches it for itself.
    Alone,
}

/// What receiving a file from the store came to.
pub(super) enum SharedReceipt {
    /// It is here and right.
    Verified(Box<VerifiedBlob>),
    /// It is not, and no reader has seen any of it.
    Nothing,
    /// It broke off, and readers follow what is here.
    Begun(Box<WritePipeline<Error>>),
    /// It is wrong.
    Wrong {
        /// Whether readers have seen parts of it.
        is_seen: bool,
    },
    /// The cache directory cannot take it.
    Storage(WriteError),
}

impl SharedFiles {
    pub(super) fn new(fleet: Fleet, pages: PageService, buffers: BufferPool, tasks: Tasks) -> Self {
        let (writing, waiting) = (Semaphore::new(WRITES_AT_ONCE), Semaphore::new(WRITES_WAITING));
        Self { fleet, pages, buffers, tasks, writing: Arc::new(writing), waiting: Arc::new(waiting) }
    }

    /// Whether there is a store.
    pub(super) fn is_sharing(&self) -> bool {
        self.fleet.store().is_some()
    }

    /// Looks for a file in the store, and where it is not, for who fetches it.
    pub(super) async fn find(&self, route: &Route, sha256: Option<Sha256>) -> SharedLookup {
        let (Some(store), Some(sha256)) = (self.fleet.store(), sha256) else { return SharedLookup::Alone };
        if !self.pages.may_read_shared(route).await {
            return SharedLookup::Alone;
        }
        for _ in 0..LEASE_TRIES {
            match self.get(store, sha256).await {
                Ok(object) => return SharedLookup::Object(Box::new(object)),
                Err(StoreError::Missing) => {}
                Err(_) => return SharedLookup::Alone,
            }
            match self.fleet.leases().acquire(LeaseKey::blob(sha256)).await {
                Acquired::Won(lease) => return self.look_again(store, sha256, lease).await,
                Acquired::Unleased => return SharedLookup::Alone,
                Acquired::Held(watch) => match watch.wait().await {
                    Waited::Ended => {}
                    Waited::Stalled | Waited::TooSlow | Waited::Unavailable => return SharedLookup::Alone,
                },
            }
        }
        SharedLookup::Alone
    }

    /// The holder before may have written the file between the look into the store and the lease.
    async fn look_again(&self, store: &ObjectStore, sha256: Sha256, lease: LeaseGuard) -> SharedLookup {
        match store.get(&ObjectKey::blob(sha256)).await {
            Ok(object) => SharedLookup::Object(Box::new(object)),
            Err(_) => SharedLookup::Lead(lease),
        }
    }

    async fn get(&self, store: &ObjectStore, sha256: Sha256) -> Result<StoredObject, StoreError> {
        let found = store.get(&ObjectKey::blob(sha256)).await;
        match &found {
            Ok(_) => {}
            Err(StoreError::Missing) => self.fleet.tier().count(KIND, TierResult::Miss),
            Err(error) => {
                self.fleet.tier().count(KIND, TierResult::Error);
                tracing::debug!(%error, "the store cannot be asked for a file");
            }
        }
        found
    }

    /// Receives a file from the store into the cache directory.
    pub(super) async fn receive(
        &self,
        object: StoredObject,
        sha256: Sha256,
        expected: &Expected,
        prepared: &mut PreparedFile,
        readers: &Arc<DownloadWriter<Error>>,
    ) -> SharedReceipt {
        let told = (object.head.length, object.head.sha256);
        let is_other = told.0.zip(expected.length).is_some_and(|(found, expected)| found != expected)
            || told.1.is_some_and(|found| found != sha256);
        if is_other && !sabotaged("shared-digest") {
            self.is_wrong(sha256).await;
            return SharedReceipt::Wrong { is_seen: false };
        }
        let expected = if sabotaged("shared-digest") {
            Expected { length: told.0, ..Expected::default() }
        } else {
            Expected { length: expected.length.or(told.0), ..expected.clone() }
        };
        let partial = match prepared.take(&expected).await {
            Ok(partial) => partial,
            Err(error) => return SharedReceipt::Storage(error),
        };
        let pipeline = WritePipeline::begin_unseen(partial, expected.length, Arc::clone(readers));
        let receipt = take(object, pipeline, &expected).await;
        match &receipt {
            SharedReceipt::Verified(_) => self.fleet.tier().count(KIND, TierResult::Hit),
            SharedReceipt::Wrong { .. } => self.is_wrong(sha256).await,
            SharedReceipt::Nothing | SharedReceipt::Begun(_) | SharedReceipt::Storage(_) => {
                self.fleet.tier().count(KIND, TierResult::Error);
            }
        }
        receipt
    }

    /// Removes an object that is not what its name says; the right one is written when it is here.
    async fn is_wrong(&self, sha256: Sha256) {
        self.fleet.tier().count(KIND, TierResult::Wrong);
        tracing::error!(%sha256, "the store holds other bytes than the name of the object says; they are not served");
        if let Some(store) = self.fleet.store()
            && let Err(error) = store.delete(&ObjectKey::blob(sha256), None).await
        {
            tracing::warn!(%sha256, %error, "a wrong object stays in the store");
        }
    }

    /// Writes a verified file to the store, and gives the lease back when it is there.
    pub(super) fn offer(&self, blob: Blob, lease: Option<LeaseGuard>) -> Option<Joined<()>> {
        let store = self.fleet.store()?.clone();
        let place = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        let shared = self.clone();
        Some(self.tasks.run("share file", async move {
            let _permit = shared.writing.acquire().await;
            let result = match shared.write(&store, &blob).await {
                Ok(()) | Err(StoreError::Exists) => TierResult::Written,
                Err(error) => {
                    tracing::debug!(sha256 = %blob.sha256, %error, "a file could not be shared");
                    TierResult::Unwritten
                }
            };
            shared.fleet.tier().count(KIND, result);
            drop((place, lease));
        }))
    }

    async fn write(&self, store: &ObjectStore, blob: &Blob) -> Result<(), StoreError> {
        let key = ObjectKey::blob(blob.sha256);
        if blob.length <= ONE_REQUEST {
            let bytes = self.read(blob);
            return store.put_stream(&key, bytes, blob.length, blob.sha256, ObjectWrite::Create).await.map(drop);
        }
        let mut upload = store.begin(&key).await?;
        let mut reader = BlobReader::<Error>::stored(blob, 0..blob.length, self.buffers.clone());
        loop {
            match reader.next().await {
                Ok(Some(bytes)) => {
                    if let Err(error) = upload.push(&bytes).await {
                        let _ = upload.abort().await;
                        return Err(error);
                    }
                }
                Ok(None) => return upload.complete().await,
                Err(_) => {
                    let _ = upload.abort().await;
                    return Err(StoreError::Source);
                }
            }
        }
    }

    fn read(&self, blob: &Blob) -> SourceBytes {
        let reader = BlobReader::<Error>::stored(blob, 0..blob.length, self.buffers.clone());
        Box::pin(stream::unfold(reader, |mut reader| async move {
            let next = reader.next().await.map_err(std::io::Error::other).transpose()?;
            Some((next, reader))
        }))
    }
}

async fn take(mut object: StoredObject, mut pipeline: WritePipeline<Error>, expected: &Expected) -> SharedReceipt {
    let began = Instant::now();
    let seen_above = if object.head.sha256.is_some() { SEEN_ABOVE } else { UNPROVEN_SEEN_ABOVE };
    let is_large = expected.length.is_none_or(|length| length > seen_above);
    loop {
        if (is_large || began.elapsed() >= SEEN_AFTER)
            && let Err(error) = pipeline.reveal().await
        {
            // It is that of the batch before, which no reader has seen.
            return if sabotaged("unseen-batch") { SharedReceipt::Storage(error) } else { unwritten(error, false) };
        }
        let (batch, next) = gather(&mut object.body, &mut pipeline).await;
        match next {
            Next::End => return finish(pipeline, batch, expected).await,
            Next::More => {
                if let Err(error) = pipeline.write(batch).await {
                    return unwritten(error, pipeline.is_seen());
                }
            }
            Next::Broken(error) => {
                tracing::info!(%error, "the store broke off; the file is fetched from upstream");
                let is_seen = pipeline.is_seen();
                return if is_seen { SharedReceipt::Begun(Box::new(pipeline)) } else { SharedReceipt::Nothing };
            }
        }
    }
}

async fn finish(pipeline: WritePipeline<Error>, last: Vec<Bytes>, expected: &Expected) -> SharedReceipt {
    let is_seen = pipeline.is_seen();
    match pipeline.finish(last, expected.clone()).await {
        Ok(verified) => SharedReceipt::Verified(Box::new(verified)),
        Err(error) => unwritten(error, is_seen),
    }
}

/// What it means that bytes were not written.
fn unwritten(error: WriteError, is_seen: bool) -> SharedReceipt {
    match error {
        WriteError::Mismatch(_) => SharedReceipt::Wrong { is_seen },
        error => SharedReceipt::Storage(error),
    }
}

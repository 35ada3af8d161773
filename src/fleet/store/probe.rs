//! Whether a store keeps its promises: conditions under a race, not only one after the other, and checksums. A store
//! that passes a sequential trial can still let all racers win.

use bytes::Bytes;
use futures_util::future::join_all;

use super::ObjectStore;
use super::error::StoreError;
use super::key::ObjectKey;
use super::operations::{ObjectTag, ObjectWrite};
use wheelport_index::Sha256;

/// Requests that race for one object.
const RACERS: usize = 8;
/// The longest object of the probe, in bytes.
const MAX_OBJECT: usize = 64;
/// How often they race.
const ROUNDS: usize = 5;

/// What a store was seen to do.
#[expect(clippy::struct_excessive_bools, reason = "four independent findings")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTraits {
    /// Of many that create one object at once, exactly one does.
    pub creates_once: bool,
    /// Of many that replace one version at once, exactly one does, and a version that is gone is not replaced.
    pub replaces_version: bool,
    /// A version that is gone is not removed.
    pub deletes_version: bool,
    /// Bytes with another checksum than announced are refused.
    pub refuses_checksum: bool,
}

impl StoreTraits {
    /// Whether replicas can hold leases in it.
    pub const fn can_lease(&self) -> bool {
        self.creates_once && self.replaces_version
    }
}

impl ObjectStore {
    /// Writes, reads and removes an object; an error comes with the action that it is about.
    pub async fn try_rights(&self) -> Result<(), (&'static str, StoreError)> {
        let key = ObjectKey::probe(&format!("{:016x}-rights", fastrand::u64(..)));
        let written = self.put(&key, Bytes::from_static(b"may write"), ObjectWrite::Create).await;
        written.map_err(|error| ("s3:PutObject", error))?;
        self.read(&key, None, MAX_OBJECT).await.map_err(|error| ("s3:GetObject", error))?;
        self.delete(&key, None).await.map_err(|error| ("s3:DeleteObject", error))
    }

    /// Tries the store out, on objects of its own that it removes afterwards.
    pub async fn probe(&self) -> Result<StoreTraits, StoreError> {
        let mut creates_once = true;
        let name = fastrand::u64(..);
        let mut last = None;
        for round in 0..ROUNDS {
            let key = ObjectKey::probe(&format!("{name:016x}-{round}"));
            let winners = self.race(&key, &ObjectWrite::Create).await?;
            creates_once &= winners.len() == 1;
            if let Some(winner) = winners.into_iter().next()
                && let Some((key, _)) = last.replace((key, winner))
            {
                self.delete(&key, None).await?;
            }
        }
        let Some((key, first)) = last else { return Err(StoreError::Broken("no object could be created".into())) };
        let replaced = self.race(&key, &ObjectWrite::Replace(first.clone())).await?;
        let again = self.put(&key, Bytes::from_static(b"late"), ObjectWrite::Replace(first.clone())).await;
        let replaces_version = replaced.len() == 1 && again == Err(StoreError::Exists);
        let deletes_version = self.delete(&key, Some(first)).await.is_err() && self.head(&key).await.is_ok();
        let announced = Sha256::of(b"announced");
        let other = Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(b"different"))]));
        let stored = self.put_stream(&key, other, 9, announced, ObjectWrite::Always).await;
        self.delete(&key, None).await?;
        Ok(StoreTraits { creates_once, replaces_version, deletes_version, refuses_checksum: stored.is_err() })
    }

    /// The versions that the winners of a race got.
    async fn race(&self, key: &ObjectKey, write: &ObjectWrite) -> Result<Vec<ObjectTag>, StoreError> {
        // No two write the same bytes: a version may be nothing but their digest.
        let racer = |number: usize| {
            let bytes = format!("racer {number} {:016x}", fastrand::u64(..));
            self.put(key, Bytes::from(bytes), write.clone())
        };
        let mut winners = Vec::new();
        for outcome in join_all((0..RACERS).map(racer)).await {
            match outcome {
                Ok(tag) => winners.push(tag),
                Err(StoreError::Exists | StoreError::Raced) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(winners)
    }
}

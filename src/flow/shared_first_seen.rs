//! What files were when they were first seen, and what operators accepted, in the store that replicas share: a change
//! is noticed by a replica that never saw the first bytes, and an acceptance holds for all.
//!
//! ```text
//! page arrives ─► record in the store, if it is another than at the last look ─► merged into the one here
//!       ─► page is compared ─► what only the record here has ─► merged into the one in the store, on condition
//! ```
//!
//! Nothing is ever removed from either. Where the store cannot be asked, a page is compared with what is known here,
//! and the two records meet with the next page.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::agreements::Agreement;
use super::index_cache::IndexCache;
use super::page_source::PageSource;
use super::route::{Route, SharedRoute};
use super::shared_exceptions::ExceptionSpread;
use crate::cache::{LARGEST_SHARED, PageKey, RecordVersion};
use crate::fleet::{ObjectKey, ObjectStore, ObjectWrite, StoreError, TierResult};
use wheelport_runtime::{blocking, sabotaged};

/// The word in metrics.
const KIND: &str = "first-seen";
/// How long a page waits until it is compared.
const LEARN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an operator waits until an acceptance holds on other replicas.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a record is read and written again because another replica has changed it meanwhile.
const MERGE_TRIES: u32 = 8;

/// What came of reading the record in the store.
struct Meeting {
    /// The record here has learned something.
    is_news: bool,
    /// What the record in the store lacks.
    lacking: Option<(Vec<u8>, ObjectWrite)>,
    here: Option<RecordVersion>,
}

impl Meeting {
    const AGREED: Self = Self { is_news: false, lacking: None, here: None };
}

impl IndexCache<PageSource> {
    /// Learns what other replicas have recorded of a project, before a page of it is compared. The page waits for that,
    /// but not for long.
    pub(super) async fn learn_first_seen(&self, route: &Route, key: &PageKey) {
        let Some((store, shared)) = self.sharing(route).filter(|_| !sabotaged("shared-first-seen")) else { return };
        match timeout(LEARN_TIMEOUT, self.meet(store, shared, key)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.unlearned(key, &error),
            Err(_) => self.unlearned(key, &StoreError::TimedOut),
        }
    }

    fn unlearned(&self, key: &PageKey, error: &StoreError) {
        self.source().fleet.tier().count(KIND, TierResult::Error);
        tracing::debug!(project = %key.project, %error, "what other replicas have first seen is not known");
    }

    /// A page was compared: writes what the record in the store lacks. Nothing waits for it.
    pub(super) fn share_first_seen(&self, route: &Route, key: &PageKey) {
        let Some((store, shared)) = self.sharing(route) else { return };
        let (cache, store, shared, key) = (self.clone(), store.clone(), shared.clone(), key.clone());
        self.tasks().spawn("share first seen", async move {
            if let Err(error) = cache.unite(&store, &shared, &key).await {
                tracing::debug!(project = %key.project, %error, "what was first seen is not shared yet");
            }
        });
    }

    /// An operator accepted a change here: writes it where all replicas see it. The operator waits for that.
    pub(super) async fn share_acceptance(&self, route: &Route, key: &PageKey) -> ExceptionSpread {
        let Some((store, shared)) = self.sharing(route) else {
            return ExceptionSpread::without_store(&self.source().fleet);
        };
        let error = match timeout(ACCEPT_TIMEOUT, self.unite(store, shared, key)).await {
            Ok(Ok(())) => return ExceptionSpread::Everywhere,
            Ok(Err(error)) => error,
            Err(_) => StoreError::TimedOut,
        };
        tracing::warn!(
            project = %key.project, %error,
            "an accepted change holds on this replica; the others learn of it when its page next arrives here"
        );
        ExceptionSpread::Later
    }

    /// Makes both records say the same, whichever replicas write to the one in the store at the same time.
    async fn unite(&self, store: &ObjectStore, shared: &SharedRoute, key: &PageKey) -> Result<(), StoreError> {
        let object = ObjectKey::first_seen(shared.repository.as_str(), &key.project);
        let tier = self.source().fleet.tier();
        for attempt in 1..=MERGE_TRIES {
            if self.agrees(key).await {
                return Ok(());
            }
            let Meeting { is_news, lacking, here } = self.meet(store, shared, key).await?;
            if is_news {
                let (cache, key) = (self.clone(), key.clone());
                let _ = blocking(move || cache.show_again(&key)).await;
            }
            let Some((bytes, write)) = lacking else { return Ok(()) };
            match store.put(&object, Bytes::from(bytes), write).await {
                Ok(tag) => {
                    tier.count(KIND, TierResult::Written);
                    self.source().agreements.insert(key.clone(), Agreement { shared: tag, here });
                    return Ok(());
                }
                Err(StoreError::Exists | StoreError::Missing) => {
                    tokio::time::sleep(Duration::from_millis(10).mul_f64(f64::from(attempt) * fastrand::f64())).await;
                }
                Err(error) => {
                    tier.count(KIND, TierResult::Unwritten);
                    return Err(error);
                }
            }
        }
        Err(StoreError::Raced)
    }

    /// Whether the record here is still what the one in the store was at the last look.
    async fn agrees(&self, key: &PageKey) -> bool {
        let Some(known) = self.source().agreements.get(key) else { return false };
        let (cache, key) = (self.clone(), key.clone());
        blocking(move || cache.source().changes.first_seen.version(&key)).await.is_ok_and(|here| here == known.here)
    }

    /// Reads the record in the store, unless both said the same at the last look and it has not changed since, and
    /// merges it into the one here.
    async fn meet(&self, store: &ObjectStore, shared: &SharedRoute, key: &PageKey) -> Result<Meeting, StoreError> {
        let object = ObjectKey::first_seen(shared.repository.as_str(), &key.project);
        let known = if self.agrees(key).await { self.source().agreements.get(key) } else { None };
        let tier = self.source().fleet.tier();
        let (bytes, tag) = match store.read(&object, known.as_ref().map(|known| &known.shared), LARGEST_SHARED).await {
            Ok((bytes, tag)) => (Some(bytes), tag),
            Err(StoreError::NotModified) => {
                tier.count(KIND, TierResult::Hit);
                return Ok(Meeting::AGREED);
            }
            Err(StoreError::Missing) => (None, None),
            Err(error) => return Err(error),
        };
        tier.count(KIND, if bytes.is_some() { TierResult::Hit } else { TierResult::Miss });
        let (cache, wanted) = (self.clone(), key.clone());
        let met = blocking(move || cache.source().changes.first_seen.meet(&wanted, bytes.as_deref()));
        let met = met.await.map_err(|_| StoreError::Source)?.map_err(|error| {
            // It may be of a later version; what it says is worth more than what would be written in its place.
            tracing::warn!(project = %key.project, %error, "what replicas have first seen cannot be merged");
            StoreError::Source
        })?;
        if let (None, Some(tag)) = (&met.lacking, &tag) {
            let agreed = Agreement { shared: tag.clone(), here: met.here };
            self.source().agreements.insert(key.clone(), agreed);
        }
        let write = tag.map_or(ObjectWrite::Create, ObjectWrite::Replace);
        Ok(Meeting { is_news: met.is_news, lacking: met.lacking.map(|bytes| (bytes, write)), here: met.here })
    }
}

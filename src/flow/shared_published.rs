//! Files that were published a moment ago, through whichever replica: upstream may not list them yet, and every replica
//! shows them within a second.
//!
//! The record of a project in the store is merged on condition, so that no replica takes back what another has written.
//! With Redis a hint says when to read it; without, a requested page of a route that takes uploads looks after it, when
//! the last look is older than [`LOOK_AFTER`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::index_cache::IndexCache;
use super::page_source::PageSource;
use super::published_looks::PublishedLook;
use super::route::{Route, SharedRoute};
use crate::cache::{PageKey, PublishedFile};
use crate::fleet::{HintSent, ObjectKey, ObjectStore, ObjectWrite, StoreError};
use wheelport_index::File;
use wheelport_runtime::{Clock, blocking, sabotaged};

/// How old the last look may be while no hints are heard.
const LOOK_AFTER: Duration = Duration::from_millis(800);
/// How long a request waits for such a look.
const LOOK_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a publisher waits until other replicas can know of its file.
const SHARE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a record is read and written again because another replica has changed it meanwhile.
const MERGE_TRIES: u32 = 8;
/// The longest record, in bytes.
const LARGEST_RECORD: usize = 4 << 20;
/// A hint that says: what is shared has changed, in whatever generation.
const ANY_GENERATION: u64 = 1;

impl IndexCache<PageSource> {
    /// A file was published and is held: writes it where all replicas see it, and tells them. The publisher waits for
    /// that, but not for long: CodeArtifact has the file.
    pub(super) async fn share_published(&self, route: &Arc<Route>, key: &PageKey, file: File) {
        if route.shared.is_none() || self.source().fleet.is_alone() {
            return;
        }
        let (cache, of, wanted) = (self.clone(), Arc::clone(route), key.clone());
        let sharing =
            self.tasks().run("share published file", async move { cache.record_and_tell(&of, &wanted, file).await });
        match sharing.within(SHARE_TIMEOUT).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(project = %key.project, "a published file is not shared with other replicas"),
            Err(_) => tracing::warn!(project = %key.project, "a published file is shared with other replicas later"),
        }
    }

    /// Returns whether the others see the file.
    async fn record_and_tell(&self, route: &Route, key: &PageKey, file: File) -> bool {
        let Some(shared) = &route.shared else { return false };
        let clock = &self.source().clock;
        let recorded = match self.sharing(route) {
            None => false,
            Some((store, shared)) => {
                let entry = PublishedFile::now(file, clock);
                let merged = update(store, shared, key, clock, |entries| {
                    entries.retain(|known| known.file().name != entry.file().name);
                    entries.push(entry.clone());
                    true
                });
                merged.await.inspect_err(|error| tracing::warn!(project = %key.project, %error, "no record")).is_ok()
            }
        };
        // Where there is no record, upstream is what the others have to ask.
        let generation = if recorded { ANY_GENERATION } else { 0 };
        self.tell_changed(shared, key, generation).await == HintSent::Sent || recorded
    }

    /// Takes in what was published through other replicas. Returns whether anything was new.
    pub(super) async fn learn_published(&self, route: &Route, key: &PageKey) -> bool {
        let Some((store, shared)) = self.sharing(route).filter(|(_, shared)| shared.takes_uploads) else {
            return false;
        };
        let looks = &self.source().looks;
        let known = looks.get(key).and_then(|look| look.tag);
        let object = ObjectKey::published(shared.repository.as_str(), &key.project);
        let at = Instant::now();
        let (bytes, tag) = match store.read(&object, known.as_ref(), LARGEST_RECORD).await {
            Ok(found) => found,
            Err(StoreError::NotModified) => {
                looks.insert(key.clone(), PublishedLook { at, tag: known });
                return false;
            }
            Err(error) => {
                // A store that fails is not asked again by each request.
                looks.insert(key.clone(), PublishedLook { at, tag: None });
                if error != StoreError::Missing {
                    tracing::debug!(project = %key.project, %error, "what other replicas published is not known");
                }
                return false;
            }
        };
        let (cache, wanted) = (self.clone(), key.clone());
        let merged = blocking(move || {
            let Ok(entries) = serde_json::from_slice::<Vec<PublishedFile>>(&bytes) else { return false };
            let merged = cache.source().published.merge(&wanted, entries);
            merged.unwrap_or_else(|error| {
                tracing::warn!(%error, "what other replicas published is remembered until the next start only");
                true
            })
        });
        looks.insert(key.clone(), PublishedLook { at, tag });
        merged.await.unwrap_or(false)
    }

    /// Whether a request has to look itself what others have published: no hint would say so.
    pub(super) fn must_look(&self, route: &Route, key: &PageKey) -> bool {
        let is_shared = self.sharing(route).is_some_and(|(_, shared)| shared.takes_uploads);
        let is_told = self.source().fleet.hints().is_hearing() || sabotaged("published-look");
        let is_recent = || self.source().looks.get(key).is_some_and(|look| look.at.elapsed() < LOOK_AFTER);
        is_shared && !is_told && !is_recent()
    }

    /// Looks what others have published, and shows it on the held page. Waits for a moment; the look goes on.
    pub(super) async fn look_for_published(&self, route: &Arc<Route>, key: &PageKey) {
        // Claimed before it begins, so that requests do not wait one after the other for a store that keeps silent.
        let tag = self.source().looks.get(key).and_then(|look| look.tag);
        self.source().looks.insert(key.clone(), PublishedLook { at: Instant::now(), tag });
        let (cache, route, key) = (self.clone(), Arc::clone(route), key.clone());
        let looking = self.tasks().run("look for published files", async move {
            if cache.learn_published(&route, &key).await {
                // There may be no page in memory, and an entry that says that there is none.
                cache.clear_negative(&key);
                let _ = blocking(move || cache.show_again(&key)).await;
            }
        });
        let _ = looking.within(LOOK_TIMEOUT).await;
    }

    /// Upstream lists files that were published: drops them from the record that replicas share.
    pub(super) fn settle_published(&self, route: &Route, key: &PageKey, settled: Vec<PublishedFile>) {
        let Some((store, shared)) = self.sharing(route).filter(|_| !settled.is_empty()) else { return };
        let (store, shared, key) = (store.clone(), shared.clone(), key.clone());
        let clock = self.source().clock.clone();
        self.tasks().spawn("settle published", async move {
            let settling = update(&store, &shared, &key, &clock, |entries| {
                let before = entries.len();
                entries.retain(|known| !settled.contains(known));
                entries.len() != before
            });
            if let Ok(Err(error)) = timeout(SHARE_TIMEOUT, settling).await {
                tracing::debug!(project = %key.project, %error, "what upstream lists is still shared as published");
            }
        });
    }
}

/// Changes the shared record of a project, whichever replicas do so at the same time.
async fn update(
    store: &ObjectStore,
    shared: &SharedRoute,
    key: &PageKey,
    clock: &Clock,
    mut change: impl FnMut(&mut Vec<PublishedFile>) -> bool,
) -> Result<(), StoreError> {
    let object = ObjectKey::published(shared.repository.as_str(), &key.project);
    for attempt in 1..=MERGE_TRIES {
        let (mut entries, tag) = match store.read(&object, None, LARGEST_RECORD).await {
            // What cannot be read is replaced.
            Ok((bytes, tag)) => (serde_json::from_slice::<Vec<PublishedFile>>(&bytes).unwrap_or_default(), tag),
            Err(StoreError::Missing) => (Vec::new(), None),
            Err(error) => return Err(error),
        };
        if !change(&mut entries) {
            return Ok(());
        }
        entries.retain(|entry| !entry.is_over(clock));
        let Ok(bytes) = serde_json::to_vec(&entries) else { return Err(StoreError::Source) };
        let write = match tag {
            Some(tag) => ObjectWrite::Replace(tag),
            None => ObjectWrite::Create,
        };
        match store.put(&object, bytes.into(), write).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Exists | StoreError::Missing) if attempt < MERGE_TRIES => {
                tokio::time::sleep(Duration::from_millis(10).mul_f64(f64::from(attempt) * fastrand::f64())).await;
            }
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Raced)
}

//! Pages in the store that replicas share: what upstream said, when, and in which generation.
//!
//! ```text
//! fetch ─► shared page fresh and new enough? ─yes─► take it
//!             │ no: lease of the page ─► another has it: wait, look again
//!             └ ask upstream ─► write, if nothing newer was written meanwhile ─► tell the others where it changed
//! ```
//!
//! So upstream is asked once per page and freshness window, and not once per replica. Without a store, or while it is
//! away, each replica asks for itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::doubts::DoubtKind;
use super::index_cache::{IndexCache, Need};
use super::page_source::PageSource;
use super::route::{Route, SharedRoute};
use crate::cache::{FetchedAt, LARGEST_SHARED, PageContent, PageKey, Record, SharedDocument};
use crate::fleet::{
    Acquired, Hint, HintSent, LeaseGuard, LeaseKey, ObjectKey, ObjectStore, ObjectTag, ObjectWrite, StoreError,
    TierResult,
};
use wheelport_index::{Page, Sha256};
use wheelport_runtime::{blocking, sabotaged};

/// The word in metrics.
const KIND: &str = "page";
/// The generation of a hint when any shared page will do.
const ANY_GENERATION: u64 = 1;

/// What is in the store in place of a page.
pub(super) enum SharedPlace {
    /// That was not to be seen yet: the role had not shown that it may read.
    Unseen,
    /// Nothing.
    Free,
    Taken {
        tag: ObjectTag,
        generation: u64,
        /// The digest of the page that is there, as far as it was legible.
        digest: Option<Sha256>,
    },
}

/// What a fetch found before it asks upstream.
pub(super) enum Consulted {
    /// A page that will do; it is held now.
    Found(Record<PageContent>),
    /// Upstream has to be asked.
    Ask(Box<Errand>),
}

/// What a replica knows that asks upstream on behalf of all.
pub(super) struct Errand {
    /// Where the outcome is written; `None` where nothing is shared.
    place: Option<SharedPlace>,
    /// An older page, for when upstream fails.
    pub stale: Option<(Page, Duration)>,
    /// Held until the outcome is written.
    lease: Option<LeaseGuard>,
    /// Another replica, or an event, said that upstream has changed: the others know it, too.
    was_told: bool,
}

struct FoundPage {
    page: Page,
    generation: u64,
    age: Duration,
}

/// Whether a shared page of this age and generation settles what is doubted.
fn settles(need: Need, age: Duration, generation: u64) -> bool {
    match need {
        Need::Upstream => false,
        Need::Shared(None) => true,
        Need::Shared(Some(doubt)) => match doubt.kind {
            DoubtKind::Missed => true,
            DoubtKind::Shared(at_least) => generation >= at_least,
            DoubtKind::Upstream => age <= doubt.since.elapsed() && !sabotaged("upstream-doubt"),
        },
    }
}

impl Errand {
    /// Of a replica that shares nothing of this.
    fn alone(need: Need) -> Self {
        let was_told = matches!(need, Need::Shared(Some(doubt)) if doubt.kind == DoubtKind::Upstream);
        Self { place: None, stale: None, lease: None, was_told }
    }
}

impl IndexCache<PageSource> {
    /// Looks for a page in what replicas share, and takes the right to ask upstream where it has none that will do.
    pub(super) async fn consult(&self, route: &Arc<Route>, key: &PageKey, need: Need) -> Consulted {
        let mut errand = Errand::alone(need);
        let Some((store, shared)) = self.sharing(route) else { return Consulted::Ask(Box::new(errand)) };
        if need == Need::Upstream || !self.may_share(store, route, shared).await {
            errand.place = Some(SharedPlace::Unseen);
            return Consulted::Ask(Box::new(errand));
        }
        self.learn_published(route, key).await;
        if let Some(record) = self.look(route, key, need, &mut errand).await {
            return Consulted::Found(record);
        }
        if errand.place.is_none() {
            return Consulted::Ask(Box::new(errand));
        }
        let lease = LeaseKey::page(shared.repository.as_str(), &key.project);
        match self.source().fleet.leases().acquire(lease).await {
            Acquired::Won(guard) => errand.lease = Some(guard),
            Acquired::Held(watch) => drop(watch.wait().await),
            Acquired::Unleased => return Consulted::Ask(Box::new(errand)),
        }
        // Another replica may have written it between the look and the lease.
        match self.look(route, key, need, &mut errand).await {
            Some(record) => Consulted::Found(record),
            None => Consulted::Ask(Box::new(errand)),
        }
    }

    /// The shared page, held, if it will do; else what is there is noted in the errand.
    async fn look(
        &self,
        route: &Arc<Route>,
        key: &PageKey,
        need: Need,
        errand: &mut Errand,
    ) -> Option<Record<PageContent>> {
        let (asked, tier) = (Instant::now(), self.source().fleet.tier());
        let (place, found) = self.find(route, key).await?;
        errand.place = Some(place);
        let Some(found) = found else {
            tier.count(KIND, TierResult::Miss);
            return None;
        };
        let fetched = FetchedAt::shared(asked, found.age);
        let is_fresh = found.age < self.fresh_for() || self.source().internal.covers(route, key, &fetched);
        if !is_fresh || !settles(need, found.age, found.generation) {
            tier.count(KIND, TierResult::Miss);
            errand.stale = Some((found.page, found.age));
            return None;
        }
        tier.count(KIND, TierResult::Hit);
        self.hold_shared(route, key, found.page, fetched).await
    }

    /// What is in the store in place of a page; nothing if the store cannot tell.
    async fn find(&self, route: &Route, key: &PageKey) -> Option<(SharedPlace, Option<FoundPage>)> {
        let (store, shared) = self.sharing(route)?;
        let object = ObjectKey::page(shared.repository.as_str(), &key.project);
        let (bytes, tag) = match store.read(&object, None, LARGEST_SHARED).await {
            Ok((bytes, tag)) => (bytes, tag?),
            Err(StoreError::Missing) => return Some((SharedPlace::Free, None)),
            Err(error) => {
                self.source().fleet.tier().count(KIND, TierResult::Error);
                tracing::debug!(project = %key.project, %error, "a shared page cannot be read");
                return None;
            }
        };
        let found = self.read_shared(key, bytes).await;
        if found.is_none() {
            self.source().fleet.tier().count(KIND, TierResult::Wrong);
        }
        let generation = found.as_ref().map_or(0, |found| found.generation);
        let digest = found.as_ref().map(|found| page_digest(&found.page));
        Some((SharedPlace::Taken { tag, generation, digest }, found))
    }

    async fn read_shared(&self, key: &PageKey, bytes: Bytes) -> Option<FoundPage> {
        let (now, project) = (self.source().clock.since_epoch(), key.project.clone());
        let read = blocking(move || {
            let shared = SharedDocument::<Page>::decode(&bytes)
                .inspect_err(|error| tracing::warn!(%project, %error, "a shared page is not legible"))
                .ok()?;
            let age = shared.age(now).filter(|_| shared.document.name == project)?;
            Some(FoundPage { page: shared.document, generation: shared.generation, age })
        });
        read.await.ok().flatten()
    }

    /// Writes what upstream said where replicas share it, and tells them where it is something else than before. A
    /// client does not wait for it.
    pub(super) fn share(&self, route: &Arc<Route>, key: &PageKey, errand: Errand, page: Page, is_changed: bool) {
        let fleet = &self.source().fleet;
        let Some(shared) = route.shared.clone().filter(|_| errand.place.is_some() || fleet.hints().are_shared()) else {
            return;
        };
        let (cache, route, key) = (self.clone(), Arc::clone(route), key.clone());
        let fetched = self.source().clock.since_epoch();
        self.tasks().spawn("share page", async move {
            let Errand { place, lease, was_told, .. } = errand;
            let place = match place {
                Some(SharedPlace::Unseen) => cache.find(&route, &key).await.map(|(place, _)| place),
                seen => seen,
            };
            let (generation, is_news) = match place {
                Some(place) => cache.write_shared(&shared, &key, place, page, fetched).await,
                None => (0, is_changed && !was_told),
            };
            drop(lease);
            if is_news {
                cache.tell_changed(&shared, &key, generation).await;
            }
        });
    }

    /// Returns the generation that is there now, 0 where it is not known, and whether the others have to hear of it.
    async fn write_shared(
        &self,
        shared: &SharedRoute,
        key: &PageKey,
        place: SharedPlace,
        page: Page,
        fetched: Duration,
    ) -> (u64, bool) {
        let Some(store) = self.source().fleet.store() else { return (0, true) };
        let (write, generation, before) = match place {
            SharedPlace::Free | SharedPlace::Unseen => (ObjectWrite::Create, ANY_GENERATION, None),
            SharedPlace::Taken { tag, generation, digest } => (ObjectWrite::Replace(tag), generation + 1, digest),
        };
        let encoded = blocking(move || {
            let digest = page_digest(&page);
            let fetched = u64::try_from(fetched.as_millis()).unwrap_or(u64::MAX);
            SharedDocument { generation, fetched, document: page }.encode().map(|bytes| (bytes, digest))
        });
        let Ok(Ok((bytes, digest))) = encoded.await else { return (0, true) };
        let is_news = before != Some(digest);
        let object = ObjectKey::page(shared.repository.as_str(), &key.project);
        let written = store.put(&object, bytes.into(), write).await;
        let is_there = matches!(written, Ok(_) | Err(StoreError::Exists));
        let result = if is_there { TierResult::Written } else { TierResult::Unwritten };
        self.source().fleet.tier().count(KIND, result);
        match written {
            Ok(_) => (generation, is_news),
            // Another replica wrote what it fetched meanwhile, and told.
            Err(StoreError::Exists) => (generation, false),
            Err(error) => {
                tracing::debug!(project = %key.project, %error, "a page could not be shared");
                (0, is_news)
            }
        }
    }

    /// Tells the other replicas that a page is another than before; a generation of 0 means that upstream has it.
    pub(super) async fn tell_changed(&self, shared: &SharedRoute, key: &PageKey, generation: u64) -> HintSent {
        let (repository, project) = (shared.repository.clone(), key.project.clone());
        self.source().fleet.hints().send(Hint::PageChanged { repository, project, generation }).await
    }

    /// The shared page is not to be used again.
    pub(super) async fn unshare(&self, route: &Route, key: &PageKey) {
        let Some((store, shared)) = self.sharing(route) else { return };
        let object = ObjectKey::page(shared.repository.as_str(), &key.project);
        if let Err(error) = store.delete(&object, None).await {
            tracing::warn!(project = %key.project, %error, "a purged page is still in the store that replicas share");
        }
    }

    /// The store, and what the route is there.
    pub(super) fn sharing<'a>(&'a self, route: &'a Route) -> Option<(&'a ObjectStore, &'a SharedRoute)> {
        self.source().fleet.store().zip(route.shared.as_ref()).filter(|_| !route.is_denied())
    }

    /// Whether the route may read what replicas share of its repository.
    pub(super) async fn may_read_shared(&self, route: &Route) -> bool {
        let Some((store, shared)) = self.sharing(route) else { return false };
        self.may_share(store, route, shared).await
    }

    /// Whether the role of the route has shown that it may read the repository: here, or through another replica with
    /// the same role.
    async fn may_share(&self, store: &ObjectStore, route: &Route, shared: &SharedRoute) -> bool {
        if route.standing.has_read() || sabotaged("shared-roles") {
            return true;
        }
        let object = ObjectKey::reader(shared.repository.as_str(), &shared.role);
        let has_read = store.head(&object).await.is_ok();
        if has_read {
            route.standing.had_read();
        }
        has_read
    }

    /// The role of the route has shown that it may read: replicas with the same role need not show it again.
    pub(super) fn share_right(&self, route: &Route) {
        let Some((store, shared)) = self.sharing(route) else { return };
        let (store, object) = (store.clone(), ObjectKey::reader(shared.repository.as_str(), &shared.role));
        self.tasks().spawn("share right", async move {
            match store.put(&object, Bytes::from_static(b"read\n"), ObjectWrite::Create).await {
                Ok(_) | Err(StoreError::Exists) => {}
                Err(error) => tracing::debug!(%error, "it could not be shared that a role may read"),
            }
        });
    }

    /// The role of the route may no longer read.
    pub(super) async fn withdraw_right(&self, route: &Route) {
        let (Some(store), Some(shared)) = (self.source().fleet.store(), &route.shared) else { return };
        let object = ObjectKey::reader(shared.repository.as_str(), &shared.role);
        if let Err(error) = store.delete(&object, None).await {
            tracing::warn!(%error, "it is still shared that a role may read which may not");
        }
    }
}

/// What tells pages apart.
fn page_digest(page: &Page) -> Sha256 {
    // A page that cannot be written is like no other.
    serde_json::to_vec(page).map_or(Sha256([0; 32]), |bytes| Sha256::of(&bytes))
}

#[cfg(test)]
mod tests {
    use super::super::doubts::Doubt;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_shared_page_will_do_that_settles_the_doubt() {
        let since = Instant::now();
        tokio::time::advance(SECOND * 10).await;
        let doubt = |kind| Need::Shared(Some(Doubt { since, kind }));
        for (need, age, generation, will_do) in [
            (Need::Shared(None), 59, 1, true),
            (Need::Upstream, 0, 9, false),
            (doubt(DoubtKind::Missed), 59, 1, true),
            (doubt(DoubtKind::Shared(5)), 59, 4, false),
            (doubt(DoubtKind::Shared(5)), 59, 5, true),
            (doubt(DoubtKind::Upstream), 11, 9, false),
            (doubt(DoubtKind::Upstream), 9, 1, true),
        ] {
            assert_eq!(settles(need, SECOND * age, generation), will_do, "{need:?} {age} {generation}");
        }
    }
}

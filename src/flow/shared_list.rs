//! Project lists in the store that replicas share, so that `ListPackages` is called once for all of them. Like pages,
//! but without hints: a list is as old as its own freshness allows, on every replica.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::index_cache::{IndexCache, Need};
use super::list_source::ListSource;
use super::route::{Route, SharedRoute};
use crate::cache::{FetchedAt, LARGEST_SHARED, RepositoryId, SharedDocument};
use crate::fleet::{Acquired, LeaseGuard, LeaseKey, ObjectKey, ObjectStore, ObjectWrite, StoreError, TierResult};
use wheelport_index::ProjectList;
use wheelport_runtime::{blocking, sabotaged};

/// The word in metrics.
const KIND: &str = "list";

/// What a fetch found before it asks upstream.
pub(super) enum ConsultedList {
    /// A list that is fresh.
    Found(ProjectList, FetchedAt),
    /// Upstream has to be asked.
    Ask(Box<ListErrand>),
}

/// What a replica knows that asks upstream on behalf of all.
#[derive(Default)]
pub(super) struct ListErrand {
    /// How the outcome is written, and in which generation; none where nothing is shared.
    place: Option<(ObjectWrite, u64)>,
    /// An older list, for when upstream fails.
    pub stale: Option<(ProjectList, Duration)>,
    /// Held until the outcome is written.
    lease: Option<LeaseGuard>,
}

impl IndexCache<ListSource> {
    /// Looks for the list in what replicas share, and takes the right to ask upstream where it has none that is fresh.
    pub(super) async fn consult_list(&self, route: &Arc<Route>, key: &RepositoryId, need: Need) -> ConsultedList {
        let mut errand = Box::<ListErrand>::default();
        let Some((store, shared)) = self.sharing_list(route) else { return ConsultedList::Ask(errand) };
        if need == Need::Upstream || !self.source().pages.may_read_shared(route).await {
            return ConsultedList::Ask(errand);
        }
        if let Some(found) = self.look_for_list(store, shared, &mut errand).await {
            return found;
        }
        if errand.place.is_none() {
            return ConsultedList::Ask(errand);
        }
        match self.source().fleet.leases().acquire(LeaseKey::list(shared.repository.as_str())).await {
            Acquired::Won(guard) => errand.lease = Some(guard),
            Acquired::Held(watch) => drop(watch.wait().await),
            Acquired::Unleased => return ConsultedList::Ask(errand),
        }
        tracing::trace!(repository = ?key, "the shared project list is looked at again");
        // Another replica may have written it between the look and the lease.
        match self.look_for_list(store, shared, &mut errand).await {
            Some(found) => found,
            None => ConsultedList::Ask(errand),
        }
    }

    /// The shared list, if it is fresh; else what is there is noted in the errand.
    async fn look_for_list(
        &self,
        store: &ObjectStore,
        shared: &SharedRoute,
        errand: &mut ListErrand,
    ) -> Option<ConsultedList> {
        let (asked, tier) = (Instant::now(), self.source().fleet.tier());
        let object = ObjectKey::list(shared.repository.as_str());
        let (bytes, tag) = match store.read(&object, None, LARGEST_SHARED).await {
            Ok((bytes, tag)) => (bytes, tag?),
            Err(StoreError::Missing) => {
                errand.place = Some((ObjectWrite::Create, 1));
                tier.count(KIND, TierResult::Miss);
                return None;
            }
            Err(error) => {
                tier.count(KIND, TierResult::Error);
                tracing::debug!(%error, "a shared project list cannot be read");
                return None;
            }
        };
        let now = self.source().clock.since_epoch();
        let read = blocking(move || SharedDocument::<ProjectList>::decode(&bytes)).await;
        let found = read.ok().and_then(|read| {
            let found =
                read.inspect_err(|error| tracing::warn!(%error, "a shared project list is not legible")).ok()?;
            found.age(now).map(|age| (found, age))
        });
        errand.place = Some((ObjectWrite::Replace(tag), found.as_ref().map_or(1, |(found, _)| found.generation + 1)));
        let Some((found, age)) = found else {
            tier.count(KIND, TierResult::Wrong);
            return None;
        };
        if age >= self.fresh_for() || sabotaged("shared-list") {
            tier.count(KIND, TierResult::Miss);
            errand.stale = Some((found.document, age));
            return None;
        }
        tier.count(KIND, TierResult::Hit);
        Some(ConsultedList::Found(found.document, FetchedAt::shared(asked, age)))
    }

    /// Writes what upstream said where replicas share it. A client does not wait for it.
    pub(super) fn share_list(&self, route: &Arc<Route>, errand: ListErrand, list: ProjectList) {
        let ListErrand { place, lease, .. } = errand;
        let Some((write, generation)) = place else { return };
        let (cache, route) = (self.clone(), Arc::clone(route));
        let fetched = u64::try_from(self.source().clock.since_epoch().as_millis()).unwrap_or(u64::MAX);
        self.tasks().spawn("share project list", async move {
            let Some((store, shared)) = cache.sharing_list(&route) else { return };
            let encoded = blocking(move || SharedDocument { generation, fetched, document: list }.encode()).await;
            let Ok(Ok(bytes)) = encoded else { return };
            let written = store.put(&ObjectKey::list(shared.repository.as_str()), bytes.into(), write).await;
            let is_there = matches!(written, Ok(_) | Err(StoreError::Exists));
            let result = if is_there { TierResult::Written } else { TierResult::Unwritten };
            cache.source().fleet.tier().count(KIND, result);
            drop(lease);
        });
    }

    fn sharing_list<'a>(&'a self, route: &'a Route) -> Option<(&'a ObjectStore, &'a SharedRoute)> {
        self.source().fleet.store().zip(route.shared.as_ref()).filter(|_| !route.is_denied())
    }
}

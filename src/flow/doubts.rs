//! What must not be believed any more, because another replica, or CodeArtifact, said that it has changed: by key, and
//! since when. What was learned before has to be asked again; what was learned since is good.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::quality::RandomState;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::cache::FetchedAt;
use wheelport_runtime::sabotaged;

/// Keys that are doubted one by one. When there are more, everything is doubted at once, which is always right.
const MAX_DOUBTED: usize = 10_000;

/// Why something is doubted, and what settles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Doubt {
    pub since: Instant,
    pub kind: DoubtKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum DoubtKind {
    /// Something may have been missed. What replicas share knows it, whatever it is.
    Missed,
    /// Replicas share something newer: this generation.
    Shared(u64),
    /// Upstream has changed, and as far as is known no replica has asked since.
    Upstream,
}

/// The doubts of one cache.
#[derive(Debug)]
pub(super) struct Doubts<K> {
    /// Whether there is any, for every request.
    are_there: AtomicBool,
    state: RwLock<DoubtsState<K>>,
}

#[derive(Debug)]
struct DoubtsState<K> {
    /// About everything.
    all: Option<Doubt>,
    keys: HashMap<K, Doubt, RandomState>,
}

impl<K> Default for Doubts<K> {
    fn default() -> Self {
        let state = RwLock::new(DoubtsState { all: None, keys: HashMap::default() });
        Self { are_there: AtomicBool::new(false), state }
    }
}

impl<K: Eq + Hash + Clone> Doubts<K> {
    /// What is held under this key is no longer good.
    pub(super) fn add(&self, key: &K, kind: DoubtKind) {
        let since = Instant::now();
        let mut state = self.state.write();
        if state.keys.len() >= MAX_DOUBTED && !state.keys.contains_key(key) {
            state.keys.clear();
            state.all = Some(Doubt { since, kind: DoubtKind::Upstream });
        }
        state.keys.insert(key.clone(), Doubt { since, kind });
        self.are_there.store(true, Ordering::Release);
    }

    /// Nothing that is held is good without being asked again.
    pub(super) fn add_all(&self) {
        let mut state = self.state.write();
        state.all = Some(Doubt { since: Instant::now(), kind: DoubtKind::Missed });
        self.are_there.store(true, Ordering::Release);
    }

    /// Why what was learned then is doubted, if it is.
    pub(super) fn of(&self, key: &K, learned: &FetchedAt) -> Option<Doubt> {
        if !self.are_there.load(Ordering::Acquire) || sabotaged("hinted-pages") {
            return None;
        }
        let state = self.state.read();
        let own = state.keys.get(key).copied();
        own.into_iter().chain(state.all).find(|doubt| !learned.is_since(doubt.since))
    }

    /// What has to be asked to know the truth about this key.
    pub(super) fn latest(&self, key: &K) -> Option<Doubt> {
        if !self.are_there.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.read();
        state.keys.get(key).copied().or(state.all)
    }

    /// What is held under this key was learned since.
    pub(super) fn settle(&self, key: &K, learned: &FetchedAt) {
        if !self.are_there.load(Ordering::Acquire) {
            return;
        }
        let is_settled =
            |state: &DoubtsState<K>| state.keys.get(key).is_some_and(|doubt| learned.is_since(doubt.since));
        if is_settled(&self.state.read()) {
            let mut state = self.state.write();
            if is_settled(&state) {
                state.keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_was_learned_before_is_doubted_and_what_was_learned_since_is_not() {
        let doubts = Doubts::default();
        let before = FetchedAt::now();
        assert_eq!(doubts.of(&1, &before), None);
        tokio::time::advance(SECOND).await;
        doubts.add(&1, DoubtKind::Shared(7));
        let doubt = doubts.of(&1, &before).expect("a doubt");
        assert_eq!(doubt.kind, DoubtKind::Shared(7));
        assert_eq!(doubts.of(&2, &before), None);
        assert_eq!(doubts.of(&1, &FetchedAt::now()), None);
        tokio::time::advance(SECOND).await;
        assert!(doubts.of(&1, &FetchedAt::aged(Duration::ZERO)).is_some(), "a copy on disk proves nothing");
        assert_eq!(doubts.of(&1, &FetchedAt::shared(Instant::now(), SECOND * 30)), None);
        doubts.settle(&1, &before);
        assert!(doubts.of(&1, &before).is_some());
        doubts.settle(&1, &FetchedAt::now());
        assert_eq!(doubts.of(&1, &before), None);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_gap_everything_older_is_doubted() {
        let doubts = Doubts::default();
        let before = FetchedAt::now();
        tokio::time::advance(SECOND).await;
        doubts.add_all();
        assert_eq!(doubts.of(&1, &before).map(|doubt| doubt.kind), Some(DoubtKind::Missed));
        assert_eq!(doubts.of(&1, &FetchedAt::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_doubts_become_one_about_everything() {
        let doubts = Doubts::default();
        let before = FetchedAt::now();
        tokio::time::advance(SECOND).await;
        (0..=MAX_DOUBTED).for_each(|key| doubts.add(&key, DoubtKind::Upstream));
        assert!(doubts.state.read().keys.len() <= MAX_DOUBTED);
        assert!((0..=MAX_DOUBTED).all(|key| doubts.of(&key, &before).is_some()));
    }
}

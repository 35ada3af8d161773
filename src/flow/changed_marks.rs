//! Marks of records of which something said that upstream has other content by now: events, other replicas.
//!
//! A mark is a moment. What was fetched before it is asked for again; nothing is removed for it, so a mark that is wrong
//! costs one request, and one that is lost leaves a record to its age.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

use wheelport_runtime::sabotaged;

/// Marks at most; older ones make room.
const MAX_MARKS: u64 = 50_000;

/// The marks by key.
pub(super) struct ChangedMarks<K> {
    marks: moka::sync::Cache<K, Instant, RandomState>,
    /// Whether there ever was one. A process that nothing tells of changes looks no key up.
    any: AtomicBool,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> ChangedMarks<K> {
    pub(super) fn new() -> Self {
        let marks = moka::sync::Cache::builder().max_capacity(MAX_MARKS).build_with_hasher(RandomState::default());
        Self { marks, any: AtomicBool::new(false) }
    }

    pub(super) fn set(&self, key: &K) {
        self.marks.insert(key.clone(), Instant::now());
        self.any.store(true, Ordering::Release);
    }

    /// Whether what has this age is from before the mark.
    pub(super) fn outdates(&self, key: &K, age: Duration) -> bool {
        self.any.load(Ordering::Acquire)
            && self.marks.get(key).is_some_and(|at| at.elapsed() < age)
            && !sabotaged("changed-mark")
    }

    /// What was marked while it was being fetched may be what upstream had before: the mark holds for it, too.
    pub(super) fn set_again(&self, key: &K, fetch_began: Instant) {
        let is_marked = self.any.load(Ordering::Acquire) && self.marks.get(key).is_some_and(|at| at > fetch_began);
        if is_marked && !sabotaged("changed-while-fetched") {
            self.set(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_mark_outdates_what_was_fetched_before_it_or_meanwhile() {
        let marks = ChangedMarks::new();
        assert!(!marks.outdates(&1, SECOND));
        tokio::time::advance(SECOND).await;
        let began = Instant::now();
        tokio::time::advance(SECOND).await;
        marks.set(&1);
        tokio::time::advance(SECOND).await;
        assert!(marks.outdates(&1, 2 * SECOND) && !marks.outdates(&1, SECOND) && !marks.outdates(&2, 2 * SECOND));
        // The fetch that began before the mark ends now.
        marks.set_again(&1, began);
        tokio::time::advance(SECOND).await;
        assert!(marks.outdates(&1, 2 * SECOND));
        // One that began after it settles it.
        let began = Instant::now();
        tokio::time::advance(SECOND).await;
        marks.set_again(&1, began);
        assert!(!marks.outdates(&1, SECOND));
    }
}

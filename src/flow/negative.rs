//! What is known to be missing or failing, and since when: bounded, in memory only.

use std::hash::Hash;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

use super::Error;
use wheelport_runtime::sabotaged;

/// How long upstream is not asked again after it failed, as long as a stale record can be served.
const FAILURE_BACKOFF: Duration = Duration::from_secs(10);
/// Negative entries at most; older ones make room.
const MAX_NEGATIVE: u64 = 50_000;

#[derive(Debug, Clone)]
pub(super) struct NegativeEntry {
    pub reason: NegativeReason,
    pub at: Instant,
}

#[derive(Debug, Clone)]
pub(super) enum NegativeReason {
    /// Upstream said, to a good token, that there is none.
    Absent(Error),
    /// Upstream could not be asked.
    Failed,
}

/// The entries of one cache.
pub(super) struct NegativeEntries<K> {
    entries: moka::sync::Cache<K, NegativeEntry, RandomState>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Default for NegativeEntries<K> {
    fn default() -> Self {
        let most = if sabotaged("negative-count") { u64::MAX } else { MAX_NEGATIVE };
        let entries = moka::sync::Cache::builder().max_capacity(most);
        Self { entries: entries.build_with_hasher(RandomState::default()) }
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> NegativeEntries<K> {
    pub(super) fn get(&self, key: &K) -> Option<NegativeEntry> {
        self.entries.get(key)
    }

    pub(super) fn set(&self, key: &K, reason: NegativeReason) {
        self.entries.insert(key.clone(), NegativeEntry { reason, at: Instant::now() });
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.entries.entry_count()
    }

    pub(super) fn clear(&self, key: &K) {
        self.entries.invalidate(key);
    }

    /// The error for a key that is believed to be absent for so long.
    pub(super) fn absent(&self, key: &K, absent_for: Duration) -> Option<Error> {
        let entry = self.entries.get(key)?;
        match entry.reason {
            NegativeReason::Absent(error) if entry.at.elapsed() < absent_for => Some(error),
            NegativeReason::Absent(_) | NegativeReason::Failed => None,
        }
    }

    /// Whether a held record is served without asking upstream; `doubt_for` after an absence.
    pub(super) fn backs_off(&self, key: &K, doubt_for: Duration) -> bool {
        self.entries.get(key).is_some_and(|entry| {
            let wait = match entry.reason {
                NegativeReason::Absent(_) => doubt_for,
                NegativeReason::Failed => FAILURE_BACKOFF,
            };
            entry.at.elapsed() < wait
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_names_leaves_no_more_entries_than_the_bound() {
        let entries = NegativeEntries::default();
        for name in 0..MAX_NEGATIVE * 4 {
            entries.set(&name, NegativeReason::Failed);
            assert!(entries.count() <= MAX_NEGATIVE, "{} after {name}", entries.count());
        }
        entries.entries.run_pending_tasks();
        let held = (0..MAX_NEGATIVE * 4).filter(|name| entries.get(name).is_some()).count();
        assert!(held as u64 <= MAX_NEGATIVE && held as u64 > MAX_NEGATIVE / 2, "{held}");
    }
}

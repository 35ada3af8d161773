//! Records of the index in memory: project pages and project lists, bounded by bytes.
//!
//! A record is content and its age. Ages are judged in [`super::freshness`], never by the map: an old record is still
//! good when upstream fails.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A moment that survives a restart: a monotonic instant and the age it already had then.
#[derive(Debug, Clone, Copy)]
pub struct FetchedAt {
    at: Instant,
    prior: Duration,
    /// Whether it was learned at that instant that nothing newer is known.
    is_news: bool,
}

/// What upstream said of one project or repository, and when.
#[derive(Debug)]
pub struct Record<C> {
    pub content: Arc<C>,
    /// When upstream said so.
    pub fetched: FetchedAt,
}

/// What can be held as a record.
pub trait Weighted: Send + Sync + 'static {
    /// Its size in memory in bytes, as a rounded estimate.
    fn weight(&self) -> usize;
}

/// Records by key. The ones used least make room.
pub struct Records<K, C> {
    held: moka::sync::Cache<K, Record<C>, RandomState>,
    memory: u64,
    /// Records that are too large to be held, while requests use them: those at the same time share one.
    large: Mutex<HashMap<K, (Weak<C>, FetchedAt)>>,
}

impl FetchedAt {
    pub fn now() -> Self {
        Self::asked(Instant::now())
    }

    /// What was asked at this instant: the response may not know what happened since.
    pub fn asked(at: Instant) -> Self {
        Self { at, prior: Duration::ZERO, is_news: true }
    }

    /// This long ago.
    pub fn aged(prior: Duration) -> Self {
        Self { at: Instant::now(), prior, is_news: false }
    }

    /// Fetched this long ago by another replica, and asked of what replicas share at this instant.
    pub fn shared(at: Instant, prior: Duration) -> Self {
        Self { at, prior, is_news: true }
    }

    /// Whether it was learned at this instant or later.
    pub fn is_since(&self, instant: Instant) -> bool {
        self.is_news && self.at >= instant
    }

    /// Whether upstream was asked at this instant or later, here or by the replica that shared it.
    pub fn is_asked_since(&self, instant: Instant) -> bool {
        self.is_news && self.at >= instant + self.prior
    }

    pub fn age(&self) -> Duration {
        self.prior + self.at.elapsed()
    }
}

impl<C> Clone for Record<C> {
    fn clone(&self) -> Self {
        Self { content: Arc::clone(&self.content), fetched: self.fetched }
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static, C: Weighted> Records<K, C> {
    /// Room for records of `memory` bytes together.
    pub fn new(memory: u64) -> Self {
        let held = moka::sync::Cache::builder()
            .max_capacity(memory)
            .weigher(|_, record: &Record<C>| u32::try_from(record.content.weight()).unwrap_or(u32::MAX))
            .build_with_hasher(RandomState::default());
        Self { held, memory, large: Mutex::default() }
    }

    pub fn get(&self, key: &K) -> Option<Record<C>> {
        self.held.get(key).or_else(|| {
            let large = self.large.lock();
            let (content, fetched) = large.get(key)?;
            Some(Record { content: content.upgrade()?, fetched: *fetched })
        })
    }

    /// Holds a record. One that is larger than all the memory for records is held only while it is used; the map would
    /// hold it until something else makes it tidy up.
    pub fn put(&self, key: &K, record: Record<C>) {
        let mut large = self.large.lock();
        large.retain(|other, (content, _)| other != key && content.strong_count() > 0);
        if record.content.weight() as u64 <= self.memory {
            self.held.insert(key.clone(), record);
        } else {
            large.insert(key.clone(), (Arc::downgrade(&record.content), record.fetched));
            self.held.invalidate(key);
        }
    }

    pub fn remove(&self, key: &K) {
        self.large.lock().remove(key);
        self.held.invalidate(key);
    }

    /// Bytes held, for metrics.
    pub fn bytes(&self) -> u64 {
        self.held.weighted_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Weighing(usize);

    impl Weighted for Weighing {
        fn weight(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_record_too_large_for_the_memory_is_held_only_while_it_is_used() {
        let records = Records::<&str, Weighing>::new(100);
        let record = |weight| Record { content: Arc::new(Weighing(weight)), fetched: FetchedAt::now() };
        let weight = |key| records.get(key).map(|record| record.content.0);
        records.put(&"a", record(100));
        assert_eq!(weight(&"a"), Some(100));
        let large = record(101);
        records.put(&"a", large.clone());
        assert_eq!(weight(&"a"), Some(101), "in place of the one before");
        drop(large);
        assert_eq!(weight(&"a"), None);
        let large = record(102);
        records.put(&"a", large.clone());
        records.put(&"a", record(1));
        assert_eq!(weight(&"a"), Some(1));
        records.put(&"a", large.clone());
        records.remove(&"a");
        assert_eq!((weight(&"a"), large.content.0), (None, 102));
    }
}

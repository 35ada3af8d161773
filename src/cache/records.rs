//! Records of the index in memory: project pages and project lists, bounded by bytes.
//!
//! A record is content and its age. Ages are judged in [`super::freshness`], never by the map: an old record is still
//! good when upstream fails.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

/// A moment that survives a restart: a monotonic instant and the age it already had then.
#[derive(Debug, Clone, Copy)]
pub struct FetchedAt {
    at: Instant,
    prior: Duration,
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
}

impl FetchedAt {
    pub fn now() -> Self {
        Self::aged(Duration::ZERO)
    }

    /// This long ago.
    pub fn aged(prior: Duration) -> Self {
        Self { at: Instant::now(), prior }
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
        Self { held }
    }

    pub fn get(&self, key: &K) -> Option<Record<C>> {
        self.held.get(key)
    }

    pub fn put(&self, key: &K, record: Record<C>) {
        self.held.insert(key.clone(), record);
    }

    pub fn remove(&self, key: &K) {
        self.held.invalidate(key);
    }

    /// Bytes held, for metrics.
    pub fn bytes(&self) -> u64 {
        self.held.weighted_size()
    }
}

//! How often an identity may do something: a bucket for each, which fills evenly and holds what a minute brings.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use wheelport_runtime::sabotaged;

use super::Identity;

/// The most buckets that are held; one that was not used for a minute is full again anyway.
const MAX_BUCKETS: u64 = 10_000;
const MINUTE: Duration = Duration::from_mins(1);

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limited {
    Upload,
    Download,
}

/// Limits in a minute; none if not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateCaps {
    pub(super) uploads: Option<NonZeroU32>,
    pub(super) downloads: Option<NonZeroU32>,
}

impl RateCaps {
    /// Several rules: a right without a limit has none, and of two limits the higher one counts.
    pub(super) fn widen(&mut self, more: Self) {
        let higher = |one: Option<NonZeroU32>, two: Option<NonZeroU32>| one.zip(two).map(|(one, two)| one.max(two));
        *self = Self { uploads: higher(self.uploads, more.uploads), downloads: higher(self.downloads, more.downloads) };
    }
}

/// The buckets of all identities that have limits.
pub(super) struct RateBuckets(moka::sync::Cache<(Arc<str>, Limited), Arc<Mutex<Bucket>>>);

/// What is in a bucket, in parts of a whole.
struct Bucket {
    fill: f64,
    at: Instant,
}

impl Default for RateBuckets {
    fn default() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(MAX_BUCKETS).time_to_idle(MINUTE).build())
    }
}

impl RateBuckets {
    /// Takes one out of the bucket; how long until there is one, if it is empty.
    pub(super) fn take(&self, identity: &Identity, what: Limited) -> Result<(), Duration> {
        let cap = match what {
            Limited::Upload => identity.caps.uploads,
            Limited::Download => identity.caps.downloads,
        };
        let Some(cap) = cap.filter(|_| !sabotaged("identity-rate")) else { return Ok(()) };
        let cap = f64::from(cap.get());
        let now = Instant::now();
        let full = || Arc::new(Mutex::new(Bucket { fill: cap, at: now }));
        let bucket = self.0.get_with((Arc::clone(&identity.name), what), full);
        let mut bucket = bucket.lock();
        let brought = now.duration_since(bucket.at).as_secs_f64() * cap / MINUTE.as_secs_f64();
        *bucket = Bucket { fill: (bucket.fill + brought).min(cap), at: now };
        if bucket.fill >= 1.0 {
            bucket.fill -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.fill) * MINUTE.as_secs_f64() / cap))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Grants, IdentityKind};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_holds_what_a_minute_brings() {
        let caps = RateCaps { uploads: NonZeroU32::new(2), downloads: None };
        let one = Identity { name: "one".into(), kind: IdentityKind::IdToken, grants: Grants::default(), caps };
        let other = Identity { name: "other".into(), ..one.clone() };
        let buckets = RateBuckets::default();
        assert_eq!((buckets.take(&one, Limited::Upload), buckets.take(&one, Limited::Upload)), (Ok(()), Ok(())));
        assert_eq!(buckets.take(&one, Limited::Upload), Err(Duration::from_secs(30)));
        assert_eq!(buckets.take(&other, Limited::Upload), Ok(()), "others have a bucket of their own");
        assert_eq!(buckets.take(&one, Limited::Download), Ok(()), "what has no limit has none");
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(buckets.take(&one, Limited::Upload), Ok(()));
        assert!(buckets.take(&one, Limited::Upload).is_err());
    }
}

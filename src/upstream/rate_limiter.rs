//! How many requests per second go to a service: the rate limit that all endpoints of one quota share.
//!
//! Rate permits come with time. The rate is halved when the service throttles, lowered a little when it fails, and
//! grows back steadily, so that it settles below what the service takes at the moment.
//!
//! Where several processes share the quota, a permit is taken from what they share, too; while that cannot be asked,
//! each has its part of the rate.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::busiest_second::BusiestSecond;
use super::settings::ClientSettings;
use wheelport_runtime::{FairLimiter, Overloaded, Priority, Resource};

/// What several processes share of a quota.
pub trait SharedQuota: Send + Sync + fmt::Debug + 'static {
    /// Takes a permit. Never waits.
    fn try_take(&self, now: Instant) -> SharedPermit;

    /// The service throttled a request of this process.
    fn throttled(&self);
}

/// What a process gets that wants a permit of what several share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedPermit {
    Taken,
    /// There may be one then.
    Later(Instant),
    /// It cannot be asked.
    Away,
}

/// Finds what processes share of the quota with this name, for so many requests a second and so many at once.
pub type SharedQuotas = Arc<dyn Fn(&str, u32, u32) -> Option<Arc<dyn SharedQuota>> + Send + Sync>;

/// Rate permits, shared by all endpoints whose requests count against the same quota.
#[derive(Debug)]
pub(super) struct RateLimiter {
    permits: FairLimiter<RateResource>,
    shared: Option<Arc<dyn SharedQuota>>,
    sent: Mutex<BusiestSecond>,
}

/// The bucket of this process, and what it has of the quota while it is alone.
#[derive(Debug)]
struct RateResource {
    bucket: TokenBucket,
    shared: Option<(Arc<dyn SharedQuota>, TokenBucket)>,
}

impl RateLimiter {
    /// `replicas` processes share the quota: through what is shared, or, without, in equal parts.
    pub(super) fn new(settings: &ClientSettings, shared: Option<Arc<dyn SharedQuota>>, replicas: NonZeroU32) -> Self {
        let (rate, burst, now) = (settings.request_rate.get(), settings.request_burst.get(), Instant::now());
        let part = || TokenBucket::new((rate / replicas).max(1), (burst / replicas).max(1), now);
        let resource = match &shared {
            Some(shared) => {
                RateResource { bucket: TokenBucket::new(rate, burst, now), shared: Some((Arc::clone(shared), part())) }
            }
            None => RateResource { bucket: part(), shared: None },
        };
        let sent = Mutex::new(BusiestSecond::new(now));
        Self { permits: FairLimiter::new(resource, settings.max_queue), shared, sent }
    }

    /// Waits for a rate permit until the deadline.
    pub(super) async fn acquire(&self, priority: Priority, deadline: Instant) -> Result<(), Overloaded> {
        self.permits.acquire(priority, deadline).await
    }

    /// The service throttled a request that was sent at `sent`; no permits are handed out before `until`.
    pub(super) fn throttled(&self, sent: Instant, until: Option<Instant>) {
        self.permits.with_resource(|resource| {
            for bucket in resource.buckets() {
                bucket.lower(TokenBucket::THROTTLED, sent, Instant::now());
                bucket.rest(until);
            }
        });
        if let Some(shared) = &self.shared {
            shared.throttled();
        }
    }

    /// The service failed at a request that was sent at `sent`.
    pub(super) fn failed(&self, sent: Instant) {
        self.permits.with_resource(|resource| resource.bucket.lower(TokenBucket::FAILED, sent, Instant::now()));
    }

    /// Whether permits are left over for background work: no request waits for one, at least half of a burst is there,
    /// and the service has not throttled or failed recently.
    pub(super) fn has_spare_capacity(&self) -> bool {
        let is_relaxed = self.permits.with_resource(|RateResource { bucket, .. }| {
            bucket.refill(Instant::now());
            bucket.rate >= bucket.max_rate && bucket.permits * 2.0 >= bucket.capacity()
        });
        is_relaxed && !self.permits.has_waiters()
    }

    /// A request is sent.
    pub(super) fn sent(&self, now: Instant) {
        self.sent.lock().count(now);
    }

    /// The requests of this process in the busiest second of the last minute.
    pub(super) fn busiest_second(&self, now: Instant) -> u32 {
        self.sent.lock().most(now)
    }

    /// The permits per second that there are now.
    pub(super) fn rate(&self) -> f64 {
        self.permits.with_resource(|RateResource { bucket, .. }| {
            bucket.refill(Instant::now());
            bucket.rate
        })
    }
}

impl RateResource {
    fn buckets(&mut self) -> impl Iterator<Item = &mut TokenBucket> {
        std::iter::once(&mut self.bucket).chain(self.shared.as_mut().map(|(_, alone)| alone))
    }
}

impl Resource for RateResource {
    fn try_acquire(&mut self, client: Priority, now: Instant) -> Result<(), Option<Instant>> {
        self.bucket.try_acquire(client, now)?;
        let Some((shared, alone)) = &mut self.shared else { return Ok(()) };
        let taken = match shared.try_take(now) {
            SharedPermit::Taken => Ok(()),
            SharedPermit::Later(when) => Err(Some(when)),
            SharedPermit::Away => alone.try_acquire(client, now),
        };
        // Nothing goes out without both.
        taken.inspect_err(|_| self.bucket.release(client))
    }

    fn release(&mut self, client: Priority) {
        self.bucket.release(client);
    }
}

/// A bucket that fills at a rate that adapts. What it holds is called permits here; a token is CodeArtifact's.
#[derive(Debug)]
struct TokenBucket {
    /// The configured rate, in permits per second.
    max_rate: f64,
    rate: f64,
    burst: f64,
    permits: f64,
    refilled: Instant,
    /// When the rate was lowered last, and by which factor.
    lowered: Option<(Instant, f64)>,
}

impl TokenBucket {
    const THROTTLED: f64 = 0.5;
    const FAILED: f64 = 0.9;
    /// The lowest rate, as a part of the configured one.
    const MIN_RATE: f64 = 0.02;
    /// What the rate grows by in a second, as a part of the configured one.
    const GROWTH: f64 = 1.0 / 60.0;
    /// Failures within this time are one event.
    const EVENT: Duration = Duration::from_secs(1);
    /// The shortest wait: no timer is finer, and what is missing may be less than floats can tell apart.
    const TICK: Duration = Duration::from_millis(1);

    fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let (rate, burst) = (f64::from(per_second), f64::from(burst));
        Self { max_rate: rate, rate, burst, permits: burst, refilled: now, lowered: None }
    }

    /// Adds the permits that have come since the last call, and lets the rate grow.
    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = self.refilled.max(now);
        self.permits = (self.permits + seconds * self.rate).min(self.capacity());
        self.rate = (self.rate + seconds * self.max_rate * Self::GROWTH).min(self.max_rate);
    }

    /// Empties the bucket and fills it again only from `until` on: a backoff must not end in a burst.
    fn rest(&mut self, until: Option<Instant>) {
        if let Some(until) = until.filter(|until| *until > self.refilled) {
            self.refilled = until;
            self.permits = 0.0;
        }
    }

    /// The most permits that the bucket holds: a lower rate allows a smaller burst.
    fn capacity(&self) -> f64 {
        (self.burst * self.rate / self.max_rate).max(1.0)
    }

    fn lower(&mut self, factor: f64, sent: Instant, now: Instant) {
        self.refill(now);
        // A request that was sent before the rate was lowered says nothing new.
        let is_known = self
            .lowered
            .is_some_and(|(at, by)| by <= factor && (sent <= at || now.saturating_duration_since(at) < Self::EVENT));
        if is_known {
            return;
        }
        self.lowered = Some((now, factor));
        self.rate = (self.rate * factor).max(self.max_rate * Self::MIN_RATE);
        self.permits = 0.0;
    }
}

impl Resource for TokenBucket {
    fn try_acquire(&mut self, _client: Priority, now: Instant) -> Result<(), Option<Instant>> {
        self.refill(now);
        if self.permits >= 1.0 {
            self.permits -= 1.0;
            return Ok(());
        }
        let missing = Duration::from_secs_f64((1.0 - self.permits) / self.rate);
        Err(Some(self.refilled + missing.max(Self::TICK)))
    }

    fn release(&mut self, _client: Priority) {
        self.permits += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shared, as a test says.
    #[derive(Debug)]
    struct Scripted(Mutex<SharedPermit>);

    impl SharedQuota for Scripted {
        fn try_take(&self, _now: Instant) -> SharedPermit {
            *self.0.lock()
        }

        fn throttled(&self) {}
    }

    #[test]
    fn what_is_shared_limits_and_while_it_is_away_there_is_a_part_of_the_rate() {
        let start = Instant::now();
        let shared = Arc::new(Scripted(Mutex::new(SharedPermit::Taken)));
        let dynamic: Arc<dyn SharedQuota> = Arc::clone(&shared) as Arc<dyn SharedQuota>;
        let bucket = |rate| TokenBucket::new(rate, 10, start);
        let mut resource = RateResource { bucket: bucket(1000), shared: Some((dynamic, bucket(10))) };
        assert_eq!(resource.try_acquire(Priority::Background, start), Ok(()));
        *shared.0.lock() = SharedPermit::Later(start + SECOND);
        assert_eq!(resource.try_acquire(Priority::Background, start), Err(Some(start + SECOND)));
        assert!((resource.bucket.permits - 9.0).abs() < 0.01, "nothing is lost: {resource:?}");
        *shared.0.lock() = SharedPermit::Away;
        let taken = |at: Duration, resource: &mut RateResource| {
            (0..50).filter(|_| resource.try_acquire(Priority::Background, start + at).is_ok()).count()
        };
        assert_eq!(taken(Duration::ZERO, &mut resource), 9, "what its own bucket still has");
        assert!((1..=11).contains(&taken(SECOND, &mut resource)));
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// The permits that a client gets in this time if it always wants more.
    fn acquired(bucket: &mut TokenBucket, from: Instant, time: Duration) -> u32 {
        let (mut now, mut permits) = (from, 0);
        loop {
            match bucket.try_acquire(Priority::Background, now) {
                Ok(()) => permits += 1,
                Err(Some(next)) if next < from + time => now = next,
                Err(_) => return permits,
            }
        }
    }

    #[test]
    fn no_second_sees_more_than_the_rate_and_the_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100, 20, start);
        assert!((115..=120).contains(&acquired(&mut bucket, start, SECOND)));
        let second = acquired(&mut bucket, start + SECOND, SECOND);
        assert!((95..=101).contains(&second), "{second}");
        let after_idling = acquired(&mut bucket, start + SECOND * 60, SECOND);
        assert!((115..=120).contains(&after_idling), "{after_idling}");
    }

    #[test]
    fn throttling_halves_the_rate_once_per_event_and_it_grows_back() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(600, 60, start);
        bucket.lower(TokenBucket::THROTTLED, start, start + SECOND);
        assert!((bucket.rate - 300.0).abs() < 0.01, "{bucket:?}");
        assert!(bucket.try_acquire(Priority::Background, start + SECOND).is_err(), "the bucket is empty");
        let late = start + SECOND + SECOND / 10;
        bucket.lower(TokenBucket::THROTTLED, start + SECOND / 2, late);
        assert!(bucket.rate > 300.0, "it was sent before");
        bucket.lower(TokenBucket::THROTTLED, start + SECOND * 3, start + SECOND * 4);
        assert!((bucket.rate - 165.0).abs() < 0.01, "{bucket:?}");
        bucket.refill(start + SECOND * 14);
        assert!((bucket.rate - 265.0).abs() < 0.01, "ten a second: {bucket:?}");
        bucket.refill(start + SECOND * 600);
        assert!((bucket.rate - 600.0).abs() < 0.01, "never above the configured rate: {bucket:?}");
    }

    #[test]
    fn a_backoff_ends_without_a_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100, 50, start);
        bucket.rest(Some(start + SECOND * 5));
        let Err(Some(next)) = bucket.try_acquire(Priority::Background, start + SECOND) else {
            panic!("a permit during the backoff")
        };
        assert!(next >= start + SECOND * 5, "{:?}", next - start);
        assert_eq!(acquired(&mut bucket, start + SECOND * 5, SECOND / 10), 9);
    }

    #[test]
    fn failures_lower_it_a_little_and_do_not_hide_throttling() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(600, 60, start);
        for _ in 0..50 {
            bucket.lower(TokenBucket::FAILED, start, start);
        }
        assert!((bucket.rate - 540.0).abs() < 0.01, "{bucket:?}");
        bucket.lower(TokenBucket::THROTTLED, start, start);
        assert!((bucket.rate - 270.0).abs() < 0.01, "{bucket:?}");
        for second in 1..60 {
            bucket.lower(TokenBucket::THROTTLED, start + SECOND * 2 * second, start + SECOND * 2 * second);
        }
        assert!(bucket.rate >= 12.0, "it never comes to a stop: {bucket:?}");
        let permits = acquired(&mut bucket, start + SECOND * 120, SECOND);
        assert!((10..=60).contains(&permits), "{permits}");
    }
}

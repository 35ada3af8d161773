//! What all requests to one endpoint share: permits for requests in flight, rate permits of the [`RateLimiter`], the
//! backoff after a 429, the retry budget and the circuit breaker.
//!
//! The parts are plain state machines over explicit instants; [`Admission`] puts them behind one short lock that is
//! never held across an await.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::circuit_breaker::CircuitBreaker;
use super::error::{Unavailability, UpstreamError};
use super::range_support::RangeSupport;
use super::rate_limiter::RateLimiter;
use super::retry_budget::RetryBudget;
use super::settings::ClientSettings;
use wheelport_runtime::{FairLimiter, FairPermit, Overloaded, Permits, Priority, sabotaged};

/// How long a request may hold its permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestClass {
    /// A moment: a page.
    Short,
    /// Longer, but what waits for it should not have to: a small file, a file whose metadata is waited for, an upload.
    SmallFile,
    /// Minutes: any other file.
    LargeFile,
}

/// Permission to have one request in flight; dropping it releases it.
#[derive(Debug)]
pub(super) struct Permit {
    _large: Option<FairPermit>,
    _file: Option<FairPermit>,
    _any: FairPermit,
}

/// The limits of one endpoint, and what its responses say about them.
#[derive(Debug)]
pub(super) struct Admission {
    any: Arc<FairLimiter<Permits>>,
    files: Arc<FairLimiter<Permits>>,
    large_files: Arc<FairLimiter<Permits>>,
    rate: Arc<RateLimiter>,
    state: Mutex<AdmissionState>,
    ranges: Mutex<RangeSupport>,
}

/// Whether requests go to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// It responds, or nothing was sent yet.
    Closed,
    /// The last attempts failed, and more are made.
    Failing,
    /// The circuit breaker keeps requests back.
    Open,
    /// One request at a time finds out whether it responds again.
    Probing,
    /// Requests wait, because the endpoint said that there were too many.
    Throttled,
}

impl EndpointState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Failing => "failing",
            Self::Open => "open",
            Self::Probing => "probing",
            Self::Throttled => "throttled",
        }
    }
}

/// One address has no more ports for connections to another.
const MOST_IN_FLIGHT: usize = 1 << 16;

#[derive(Debug)]
struct AdmissionState {
    backoff: Backoff,
    retries: RetryBudget,
    breaker: CircuitBreaker,
}

impl Admission {
    pub(super) fn new(settings: &ClientSettings, rate: Arc<RateLimiter>) -> Self {
        let all = settings.max_in_flight.clamp(2, MOST_IN_FLIGHT);
        // A quarter is reserved for pages, because files can hold their permits for minutes, and a quarter of the rest
        // for small files. No client holds all of either.
        let files = (all * 3 / 4).max(1);
        let large_files = (files * 3 / 4).max(1);
        let limiter = |permits| Arc::new(FairLimiter::new(permits, settings.max_queue));
        Self {
            any: limiter(Permits::new(all)),
            files: limiter(Permits::shared(files)),
            large_files: limiter(Permits::shared(large_files)),
            rate,
            ranges: Mutex::default(),
            state: Mutex::new(AdmissionState {
                backoff: Backoff::default(),
                retries: RetryBudget::new(settings.retry_ratio, settings.retry_floor),
                breaker: CircuitBreaker::new(settings.failures_to_open),
            }),
        }
    }

    /// Waits for a permit until the deadline, fairly between clients.
    pub(super) async fn permit(&self, class: RequestClass, deadline: Instant) -> Result<Permit, UpstreamError> {
        let acquire = async |limiter| FairPermit::acquire(limiter, deadline).await.map_err(busy);
        // The scarcest first, so that what waits holds nothing that others could use.
        let is_large = class == RequestClass::LargeFile && !sabotaged("large-files");
        let is_file = class != RequestClass::Short && !sabotaged("page-permits");
        let large = if is_large { Some(acquire(&self.large_files).await?) } else { None };
        let file = if is_file { Some(acquire(&self.files).await?) } else { None };
        Ok(Permit { _large: large, _file: file, _any: acquire(&self.any).await? })
    }

    /// Waits for the end of a backoff and for a rate permit. Fails at once if a request cannot go out before the
    /// deadline.
    pub(super) async fn admit(&self, deadline: Instant) -> Result<(), UpstreamError> {
        loop {
            while let Some(until) = self.obstacle(deadline, |breaker, now| breaker.open_for(now))? {
                // Spread, so that the requests that waited do not go out as one burst.
                sleep_until(until + Duration::from_millis(fastrand::u64(0..150))).await;
            }
            if !sabotaged("request-rate") {
                self.rate.acquire(Priority::current(), deadline).await.map_err(busy)?;
            }
            // Much may have happened during the wait. A rate permit is not kept over a backoff, or all that were
            // acquired meanwhile would be used at its end.
            if self.obstacle(deadline, CircuitBreaker::try_probe)?.is_none() {
                self.state.lock().retries.deposit();
                self.rate.sent(Instant::now());
                return Ok(());
            }
        }
    }

    /// The end of the current backoff, if any; an error if no request can go out before the deadline.
    fn obstacle(
        &self,
        deadline: Instant,
        open_for: impl Fn(&mut CircuitBreaker, Instant) -> Option<Duration>,
    ) -> Result<Option<Instant>, UpstreamError> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let unavailable = |reason, wait| UpstreamError::Unavailable { reason, retry_after: Some(wait) };
        match state.backoff.until(now) {
            Some(until) if until >= deadline => Err(unavailable(Unavailability::Throttled, until - now)),
            Some(until) => Ok(Some(until)),
            None => match open_for(&mut state.breaker, now) {
                Some(wait) => Err(unavailable(Unavailability::Connect, wait)),
                None => Ok(None),
            },
        }
    }

    /// Whether background work can be done without making a client wait: the endpoint responds, no request is queued,
    /// and at least half of each limit is free.
    pub(super) fn has_spare_capacity(&self) -> bool {
        let is_healthy = {
            let state = self.state.lock();
            state.backoff.until(Instant::now()).is_none() && state.breaker.is_closed()
        };
        is_healthy
            && !self.any.has_waiters()
            && self.any.with_resource(|permits| permits.are_half_free())
            && self.rate.has_spare_capacity()
    }

    /// Whether the last attempt to reach the endpoint failed.
    pub(super) fn is_unreachable(&self) -> bool {
        self.state.lock().breaker.has_failed()
    }

    /// What the endpoint's responses have shown of ranges. Not to be held across an await.
    pub(super) fn ranges(&self) -> MutexGuard<'_, RangeSupport> {
        self.ranges.lock()
    }

    /// Takes one retry out of the shared budget.
    pub(super) fn may_retry(&self) -> bool {
        self.state.lock().retries.withdraw(Instant::now()) || sabotaged("retry-budget")
    }

    /// The upstream responded with 429 to a request sent at `sent`.
    pub(super) fn throttled(&self, sent: Instant, retry_after: Option<Duration>) {
        let until = {
            let (mut state, now) = (self.state.lock(), Instant::now());
            if !sabotaged("backoff") {
                state.backoff.throttled(sent, now, retry_after, fastrand::f64());
            }
            state.backoff.until(now)
        };
        self.rate.throttled(sent, until);
    }

    /// The upstream responded with 5xx to a request sent at `sent`. A `Retry-After` says that it is short of something.
    pub(super) fn failed(&self, sent: Instant, retry_after: Option<Duration>) {
        match retry_after {
            Some(_) => self.rate.throttled(sent, None),
            None => self.rate.failed(sent),
        }
    }

    /// Whether requests go to the endpoint, and why not.
    pub(super) fn endpoint_state(&self, now: Instant) -> EndpointState {
        let state = self.state.lock();
        match (state.breaker.open_for(now), state.backoff.until(now)) {
            (Some(_), _) => EndpointState::Open,
            (None, Some(_)) => EndpointState::Throttled,
            (None, None) if !state.breaker.is_closed() => EndpointState::Probing,
            (None, None) if state.breaker.has_failed() => EndpointState::Failing,
            (None, None) => EndpointState::Closed,
        }
    }

    /// The most requests in one second of the last minute to all endpoints of the quota.
    pub(super) fn busiest_second(&self, now: Instant) -> u32 {
        self.rate.busiest_second(now)
    }

    /// The requests per second that may go to the endpoint now.
    pub(super) fn rate(&self) -> f64 {
        self.rate.rate()
    }

    /// A response came, whatever its status.
    pub(super) fn responded(&self, throttled: bool) {
        let mut state = self.state.lock();
        state.breaker.succeeded();
        if !throttled {
            state.backoff.responded();
        }
    }

    /// No connection, or no response in time.
    pub(super) fn unreachable(&self) {
        if !sabotaged("circuit-breaker") {
            self.state.lock().breaker.failed(Instant::now(), fastrand::f64());
        }
    }
}

fn busy(Overloaded: Overloaded) -> UpstreamError {
    UpstreamError::Unavailable { reason: Unavailability::Busy, retry_after: Some(Duration::from_secs(1)) }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn admission(settings: &ClientSettings) -> Admission {
        Admission::new(settings, Arc::new(RateLimiter::new(settings, None, NonZeroU32::MIN)))
    }

    fn client(number: u8) -> Priority {
        Priority::client([10, 0, 0, number].into())
    }

    #[tokio::test]
    async fn any_number_of_requests_may_be_configured() {
        for max_in_flight in [0, 1, usize::MAX] {
            let admission = admission(&ClientSettings { max_in_flight, ..ClientSettings::default() });
            let permit = client(1).serve(admission.permit(RequestClass::LargeFile, Instant::now() + SECOND));
            assert!(permit.await.is_ok(), "{max_in_flight}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn files_leave_room_for_pages_and_large_ones_for_small_ones() {
        let admission = admission(&ClientSettings { max_in_flight: 16, ..ClientSettings::default() });
        let permit = |number, class| client(number).serve(admission.permit(class, Instant::now() + SECOND));
        let mut held = Vec::new();
        for (class, clients) in [(RequestClass::LargeFile, 0..9), (RequestClass::SmallFile, 10..13)] {
            for number in clients {
                held.push(permit(number, class).await.expect("a permit"));
            }
            let busy = permit(99, class).await.expect_err("files have used up their share");
            assert_eq!(busy.as_str(), "busy");
        }
        let page = permit(1, RequestClass::Short).await;
        assert!(page.is_ok(), "a page still gets through");
        held.pop();
        drop(page);
        assert!(permit(20, RequestClass::SmallFile).await.is_ok(), "a dropped permit is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_many_files_leaves_permits_to_others() {
        let admission = admission(&ClientSettings::default());
        for class in [RequestClass::LargeFile, RequestClass::SmallFile] {
            let mut held = Vec::new();
            while let Ok(permit) = client(1).serve(admission.permit(class, Instant::now())).await {
                held.push(permit);
            }
            assert!((20..=32).contains(&held.len()), "{}", held.len());
            let other = client(2).serve(admission.permit(class, Instant::now())).await;
            assert!(other.is_ok(), "{class:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_spare_capacity_only_while_no_client_could_miss_it() {
        let settings = ClientSettings {
            max_in_flight: 4,
            request_rate: std::num::NonZeroU32::new(10).expect("not zero"),
            request_burst: std::num::NonZeroU32::new(4).expect("not zero"),
            ..ClientSettings::default()
        };
        let admission = admission(&settings);
        let deadline = || Instant::now() + SECOND;
        assert!(admission.has_spare_capacity());
        let two = [
            admission.permit(RequestClass::Short, deadline()).await,
            admission.permit(RequestClass::LargeFile, deadline()).await,
        ];
        assert!(admission.has_spare_capacity());
        let third = admission.permit(RequestClass::Short, deadline()).await;
        assert!(!admission.has_spare_capacity(), "more than half of the permits are taken");
        drop((two, third));
        for _ in 0..3 {
            assert!(admission.has_spare_capacity());
            admission.admit(deadline()).await.expect("a rate permit");
        }
        assert!(!admission.has_spare_capacity(), "more than half of the rate permits are used");
        tokio::time::advance(SECOND).await;
        assert!(admission.has_spare_capacity());
        admission.throttled(Instant::now(), None);
        assert!(!admission.has_spare_capacity());
        tokio::time::advance(SECOND * 10).await;
        assert!(!admission.has_spare_capacity(), "the rate has not grown back");
        tokio::time::advance(SECOND * 30).await;
        assert!(admission.has_spare_capacity());
        for _ in 0..settings.failures_to_open {
            admission.unreachable();
        }
        tokio::time::advance(SECOND * 30).await;
        assert!(!admission.has_spare_capacity(), "no probe has succeeded yet");
        admission.responded(false);
        assert!(admission.has_spare_capacity());
    }

    #[tokio::test(start_paused = true)]
    async fn every_request_waits_for_the_end_of_a_backoff_or_fails_at_once_if_it_is_too_long() {
        let admission = admission(&ClientSettings::default());
        let start = Instant::now();
        admission.throttled(start, Some(SECOND * 2));
        admission.admit(start + SECOND * 10).await.expect("admitted after the backoff");
        assert!(start.elapsed() >= SECOND * 2);
        admission.throttled(Instant::now(), Some(SECOND * 8));
        let before = Instant::now();
        let refused = admission.admit(before + SECOND).await.expect_err("too long");
        assert_eq!(
            refused,
            UpstreamError::Unavailable { reason: Unavailability::Throttled, retry_after: Some(SECOND * 8) }
        );
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}

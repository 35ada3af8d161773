//! Whether an endpoint can be reached: after some failures in a row no request goes to it for a while, and then one
//! request at a time probes it. Pure state over explicit instants.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct CircuitBreaker {
    failures_to_open: u32,
    failures: u32,
    open_until: Option<Instant>,
}

impl CircuitBreaker {
    /// How long one probe may take before another request may probe.
    const PROBE: Duration = Duration::from_secs(5);

    pub(super) fn new(failures_to_open: u32) -> Self {
        Self { failures_to_open: failures_to_open.max(1), failures: 0, open_until: None }
    }

    /// How long the breaker stays open; `None` if it is closed, or if a probe is due.
    pub(super) fn open_for(&self, now: Instant) -> Option<Duration> {
        self.open_until.filter(|until| now < *until).map(|until| until - now)
    }

    /// Like [`CircuitBreaker::open_for`], but claims the probe: when the open period has elapsed, the first caller gets
    /// `None` and probes the endpoint.
    pub(super) fn try_probe(&mut self, now: Instant) -> Option<Duration> {
        let until = self.open_until?;
        if now < until {
            return Some(until - now);
        }
        self.open_until = Some(now + Self::PROBE);
        None
    }

    /// Whether the endpoint has responded since the last failure that opened the breaker.
    pub(super) fn is_closed(&self) -> bool {
        self.open_until.is_none()
    }

    /// Whether the last attempt failed, even if too few have failed to open the breaker.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.open_until = None;
    }

    /// The endpoint could not be reached. `random` is a number between 0 and 1.
    pub(super) fn failed(&mut self, now: Instant, random: f64) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.failures_to_open {
            let step = (self.failures - self.failures_to_open).min(2);
            let pause = Duration::from_secs(1 << step).mul_f64(0.75 + random / 2.0);
            self.open_until = Some(now + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_unreachable_endpoint_gets_no_request_but_one_probe_at_a_time() {
        let now = Instant::now();
        let mut breaker = CircuitBreaker::new(5);
        for _ in 0..4 {
            breaker.failed(now, 0.5);
            assert!(breaker.has_failed());
            assert_eq!(breaker.try_probe(now), None);
        }
        breaker.failed(now, 0.5);
        assert_eq!(breaker.try_probe(now), Some(SECOND));
        let later = now + SECOND;
        assert_eq!(breaker.try_probe(later), None, "the probe");
        assert!(breaker.try_probe(later).is_some(), "the others");
        breaker.failed(later, 0.5);
        assert_eq!(breaker.try_probe(later), Some(SECOND * 2));
        assert!(breaker.has_failed(), "a probe that is due proves nothing");
        breaker.succeeded();
        assert!(!breaker.has_failed());
        assert_eq!(breaker.try_probe(later), None);
    }
}

//! Whether a shared part (the object store, Redis) is asked at all: after three time-outs in a row no request goes to
//! it, but one probe every five seconds, more or less, so that replicas do not probe in step.
//!
//! Pure state over explicit instants inside; outside a guard that each request holds until it knows its outcome. What a
//! part responds, even an error, proves that it is there: only silence and lost connections count as failures.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures in a row that open a breaker.
const FAILURES_TO_OPEN: u32 = 3;
/// How long an open breaker waits for its next probe, on average.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// How much shorter or longer than the average a wait may be, as a part of it.
const JITTER: f64 = 0.2;

/// What a breaker does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// All of them pass.
    Closed,
    /// One of them passes, as a probe; its outcome decides.
    HalfOpen,
    /// None of them passes.
    Open,
}

impl BreakerState {
    /// The word in metrics and in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// The breaker of one part. Cheap to clone; clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    state: Arc<Mutex<BreakerMachine>>,
}

impl Breaker {
    /// The right to send one request; `None` while the part is not asked.
    pub(crate) fn try_enter(&self) -> Option<BreakerPass> {
        let entry = self.state.lock().enter(Instant::now())?;
        Some(BreakerPass { breaker: self.clone(), entry, is_settled: false })
    }

    /// What it does with requests now.
    pub fn state(&self) -> BreakerState {
        self.state.lock().state(Instant::now())
    }
}

/// The right to send one request. Dropped without an outcome (its request was no longer needed), it proves nothing, and
/// where it was the probe, the next request is.
#[derive(Debug)]
pub(crate) struct BreakerPass {
    breaker: Breaker,
    entry: BreakerEntry,
    is_settled: bool,
}

impl BreakerPass {
    /// The part responded.
    pub(crate) fn succeeded(mut self) {
        self.is_settled = true;
        self.breaker.state.lock().succeeded();
    }

    /// The part kept silent, or could not be reached.
    pub(crate) fn failed(mut self) {
        self.is_settled = true;
        self.breaker.state.lock().failed(Instant::now(), self.entry, fastrand::f64());
    }
}

impl Drop for BreakerPass {
    fn drop(&mut self) {
        if !self.is_settled {
            self.breaker.state.lock().gave_up(self.entry);
        }
    }
}

/// As what a request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerEntry {
    Ordinary,
    Probe,
}

#[derive(Debug, Default)]
struct BreakerMachine {
    failures: u32,
    /// When the next probe may pass; `None` while it is closed.
    probe_at: Option<Instant>,
    is_probing: bool,
}

impl BreakerMachine {
    fn state(&self, now: Instant) -> BreakerState {
        match self.probe_at {
            None => BreakerState::Closed,
            Some(_) if self.is_probing => BreakerState::HalfOpen,
            Some(at) if now >= at => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }

    fn enter(&mut self, now: Instant) -> Option<BreakerEntry> {
        match self.probe_at {
            None => Some(BreakerEntry::Ordinary),
            Some(at) if now >= at && !self.is_probing => {
                self.is_probing = true;
                Some(BreakerEntry::Probe)
            }
            Some(_) => None,
        }
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// `random` is a number between 0 and 1.
    fn failed(&mut self, now: Instant, entry: BreakerEntry, random: f64) {
        let is_probe = entry == BreakerEntry::Probe;
        if self.probe_at.is_some() && !is_probe {
            // Sent before it opened: it tells nothing new, and would put off the probe.
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if is_probe || self.failures >= FAILURES_TO_OPEN {
            let pause = PROBE_INTERVAL.mul_f64(1.0 + JITTER * (random * 2.0 - 1.0));
            self.probe_at = Some(now + pause);
            self.is_probing = false;
        }
    }

    fn gave_up(&mut self, entry: BreakerEntry) {
        if entry == BreakerEntry::Probe {
            self.is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker) {
        breaker.try_enter().expect("a pass").failed();
    }

    #[tokio::test(start_paused = true)]
    async fn three_failures_in_a_row_open_it_and_one_probe_closes_it() {
        let breaker = Breaker::default();
        fail(&breaker);
        fail(&breaker);
        breaker.try_enter().expect("a pass").succeeded();
        fail(&breaker);
        fail(&breaker);
        assert_eq!(breaker.state(), BreakerState::Closed, "not in a row");
        fail(&breaker);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.try_enter().is_none());
        tokio::time::advance(PROBE_INTERVAL.mul_f64(1.0 + JITTER)).await;
        let probe = breaker.try_enter().expect("the probe");
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.try_enter().is_none(), "one at a time");
        probe.failed();
        assert_eq!(breaker.state(), BreakerState::Open, "one failed probe is enough");
        tokio::time::advance(PROBE_INTERVAL.mul_f64(1.0 + JITTER)).await;
        breaker.try_enter().expect("the probe").succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
        fail(&breaker);
        assert_eq!(breaker.state(), BreakerState::Closed, "it counts from nothing again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_outcome_is_left_to_the_next_request() {
        let breaker = Breaker::default();
        (0..FAILURES_TO_OPEN).for_each(|_| fail(&breaker));
        tokio::time::advance(PROBE_INTERVAL * 2).await;
        drop(breaker.try_enter().expect("the probe"));
        assert!(breaker.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_requests_sent_before_do_not_put_off_the_probe() {
        let breaker = Breaker::default();
        let late: Vec<_> = (0..5).map(|_| breaker.try_enter().expect("a pass")).collect();
        (0..FAILURES_TO_OPEN).for_each(|_| fail(&breaker));
        tokio::time::advance(PROBE_INTERVAL).await;
        late.into_iter().for_each(BreakerPass::failed);
        tokio::time::advance(PROBE_INTERVAL.mul_f64(JITTER)).await;
        assert!(breaker.try_enter().is_some());
    }
}

//! What is known of the way to a repository under one token from the responses so far: whether a 404 can be believed,
//! whether the role may read, whether upstream is slow, and which projects exist. Routes that agree in both share it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, MutexGuard as TurnGuard};
use tokio::time::{Instant, sleep_until};

use super::absence::{Absence, Judgement};
use super::access::{Access, Denial};
use crate::upstream::Witness;
use wheelport_index::ProjectName;
use wheelport_runtime::sabotaged;

/// Canaries are asked this far apart.
const CANARY_INTERVAL: Duration = Duration::from_secs(1);
/// Projects remembered that upstream has, the latest first.
const REMEMBERED: usize = 16;

/// Whether a route may be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// The role may not read the repository.
    Closed,
    /// Nor may it, as far as is known; this request asks upstream again.
    Probe,
}

/// What a success changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The role has shown for the first time that it may read.
    pub(super) is_first: bool,
    /// The route was closed until now.
    pub(super) opens: bool,
}

#[derive(Debug, Default)]
pub(super) struct Standing {
    state: Mutex<StandingState>,
    /// The same as in `state`, for every request.
    is_closed: AtomicBool,
    has_read: AtomicBool,
    /// The right to ask canaries, and when the last one was asked; one for a repository, whatever the token.
    canaries: Arc<Turn<Option<Instant>>>,
}

#[derive(Debug, Default)]
struct StandingState {
    absence: Absence,
    access: Access,
    is_slow: bool,
    existing: VecDeque<ProjectName>,
}

/// The right to ask canaries, one after the other.
pub(super) struct CanaryTurn<'a>(TurnGuard<'a, Option<Instant>>);

impl CanaryTurn<'_> {
    /// Waits until the next canary may be asked, and returns that moment.
    pub(super) async fn next(&mut self) -> Instant {
        if let Some(last) = *self.0
            && !sabotaged("canary-interval")
        {
            sleep_until(last + CANARY_INTERVAL).await;
        }
        *self.0.insert(Instant::now())
    }
}

impl Standing {
    /// What another token shows of the same repository: it says nothing of this one, but canaries of both are asked
    /// one after the other.
    pub(super) fn of_other_token(&self) -> Self {
        Self { canaries: Arc::clone(&self.canaries), ..Self::default() }
    }

    /// Upstream sent the page of a project.
    pub(super) fn succeeded(&self, witness: &Witness, project: &ProjectName) -> Change {
        let mut state = self.state.lock();
        state.is_slow = false;
        state.absence.succeeded(witness);
        state.existing.retain(|known| known != project);
        state.existing.push_front(project.clone());
        state.existing.truncate(REMEMBERED);
        let opens = state.access.succeeded(witness);
        self.is_closed.store(state.access.is_closed(), Ordering::Release);
        let is_first = !state.access.is_closed() && !self.has_read.swap(true, Ordering::AcqRel);
        Change { is_first, opens }
    }

    /// Upstream denied a page.
    pub(super) fn denied(&self, witness: &Witness) -> Denial {
        let mut state = self.state.lock();
        state.is_slow = false;
        let denial = state.access.denied(witness);
        if state.access.is_closed() {
            self.is_closed.store(true, Ordering::Release);
            self.has_read.store(false, Ordering::Release);
        }
        denial
    }

    /// What a 404 means, as far as is known now.
    pub(super) fn judge(&self, missing: &Witness) -> Judgement {
        let mut state = self.state.lock();
        state.is_slow = false;
        state.absence.judge(missing)
    }

    /// The project is gone: it can be no canary any more.
    pub(super) fn gone(&self, project: &ProjectName) {
        self.state.lock().existing.retain(|known| known != project);
    }

    /// Projects that upstream had when it was last asked, the latest first.
    pub(super) fn existing(&self) -> Vec<ProjectName> {
        self.state.lock().existing.iter().cloned().collect()
    }

    /// Waits for the right to ask canaries.
    pub(super) async fn canary_turn(&self) -> CanaryTurn<'_> {
        CanaryTurn(self.canaries.lock().await)
    }

    pub(super) fn canaries_failed(&self, began: Instant) {
        self.state.lock().absence.canaries_failed(began);
    }

    /// Canaries are missing. Returns whether that begins an outage.
    pub(super) fn canaries_missing(&self, began: Instant, last: &Witness) -> bool {
        self.state.lock().absence.canaries_missing(began, last)
    }

    /// Whether everything is missing upstream at the moment.
    pub(super) fn is_outage(&self) -> bool {
        self.state.lock().absence.is_outage()
    }

    /// Whether a newer token than that of this 404 is needed to know more of an outage.
    pub(super) fn needs_new_token(&self, missing: &Witness) -> bool {
        self.state.lock().absence.needs_new_token(missing)
    }

    /// A request has waited in vain for as long as it would.
    pub(super) fn was_slow(&self) {
        self.state.lock().is_slow = true;
    }

    /// Whether upstream has responded to nothing, or with no page, since it last failed.
    pub(super) fn is_failing(&self) -> bool {
        let state = self.state.lock();
        state.is_slow || state.absence.is_outage() || state.access != Access::Open
    }

    /// Whether the route may be read; claims the probe of a closed one.
    pub(super) fn gate(&self) -> Gate {
        if !self.is_closed() {
            return Gate::Open;
        }
        let probes = !sabotaged("probe") && self.state.lock().access.try_probe(Instant::now());
        if probes { Gate::Probe } else { Gate::Closed }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Whether the role has shown that it may read the repository.
    pub(super) fn has_read(&self) -> bool {
        self.has_read.load(Ordering::Acquire)
    }

    /// The role showed earlier, in another process, that it may read the repository.
    pub(super) fn had_read(&self) {
        if !self.is_closed() {
            self.has_read.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_canary_is_in_flight_at_a_time_and_one_a_second() {
        let (standing, began) = (Standing::default(), Instant::now());
        let mut turn = standing.canary_turn().await;
        turn.next().await;
        assert!(standing.canary_turn().now_or_never().is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
        turn.next().await;
        assert_eq!(began.elapsed().as_secs(), 1);
        drop(turn);
        standing.canary_turn().await.next().await;
        assert_eq!(began.elapsed().as_secs(), 2);
    }
}

//! What requests hold: the newest token, waiting for it within a deadline, and telling the keeper what upstream said.
//!
//! Nothing here mints. The common path reads one shared snapshot and clones a header value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{KeeperState, MintError, TRUST_WINDOW, Token, TokenError};
use wheelport_runtime::Clock;

/// The way to the token of one keeper. Cheap to clone.
#[derive(Clone)]
pub struct TokenHandle {
    snapshots: watch::Receiver<Snapshot>,
    signals: Arc<Signals>,
}

/// What the keeper publishes after every attempt.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    pub(super) held: Option<Held>,
    pub(super) renewals: u64,
    pub(super) failures: u64,
    pub(super) failures_in_a_row: u32,
    pub(super) last_error: Option<MintError>,
}

/// A token with its end on both clocks.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) minted: Instant,
    pub(super) ends: Instant,
    /// Since the Unix epoch. The monotonic clock stands still while the machine sleeps; the calendar does not.
    pub(super) ends_on_calendar: Duration,
}

/// How far a held token can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Both clocks say that it lives.
    Sure,
    /// Only the monotonic clock does: the machine slept, or somebody moved the calendar.
    Doubtful,
    /// It is over.
    Over,
}

impl Held {
    pub(super) fn life(&self, clock: &Clock) -> Life {
        if Instant::now() >= self.ends {
            Life::Over
        } else if clock.since_epoch() >= self.ends_on_calendar {
            Life::Doubtful
        } else {
            Life::Sure
        }
    }

    /// Life left, by the clock that is further ahead.
    pub(super) fn remaining(&self, clock: &Clock) -> Duration {
        let monotonic = self.ends.saturating_duration_since(Instant::now());
        monotonic.min(self.ends_on_calendar.saturating_sub(clock.since_epoch()))
    }
}

/// What requests tell the keeper.
pub(super) struct Signals {
    /// The newest generation that upstream refused and has not accepted since; 0 for none.
    rejected: AtomicU64,
    /// The newest generation that upstream accepted and has not refused since; 0 for none.
    proven: AtomicU64,
    /// Asks the keeper to look again.
    pub(super) wake: Notify,
    pub(super) clock: Clock,
}

impl Signals {
    pub(super) fn new(clock: Clock) -> Self {
        Self { rejected: AtomicU64::new(0), proven: AtomicU64::new(0), wake: Notify::new(), clock }
    }

    pub(super) fn is_rejected(&self, generation: u64) -> bool {
        self.rejected.load(Ordering::Relaxed) == generation
    }

    fn is_proven(&self, generation: u64) -> bool {
        self.proven.load(Ordering::Relaxed) == generation
    }
}

/// What a waiter makes of a snapshot.
enum Verdict {
    Take(Token),
    Fail(MintError),
    Wait,
}

impl TokenHandle {
    pub(super) fn new(snapshots: watch::Receiver<Snapshot>, signals: Arc<Signals>) -> Self {
        Self { snapshots, signals }
    }

    /// The newest living token; waits for the first mint, or for the one after a long sleep of the machine, at
    /// most until the deadline.
    ///
    /// Fails before the deadline when the last attempt failed for a reason that a person has to remove.
    pub async fn current(&self, deadline: Instant) -> Result<Token, TokenError> {
        if let Verdict::Take(token) = self.judge(&self.snapshots.borrow(), 0) {
            return Ok(token);
        }
        self.signals.wake.notify_one();
        match self.wait(0, deadline).await {
            Err(error) => self.doubtful().ok_or(error),
            token => token,
        }
    }

    /// The first token after `generation`, for the one repetition of a refused request.
    pub async fn newer_than(&self, generation: u64, deadline: Instant) -> Result<Token, TokenError> {
        self.wait(generation, deadline).await
    }

    /// Upstream refused this generation (401): the keeper mints at once, but at most once in
    /// [`MINT_DISTANCE`](super::schedule::MINT_DISTANCE).
    pub fn reject(&self, generation: u64) {
        if generation != self.generation() {
            return;
        }
        self.signals.rejected.store(generation, Ordering::Relaxed);
        let _ = self.signals.proven.compare_exchange(generation, 0, Ordering::Relaxed, Ordering::Relaxed);
        self.signals.wake.notify_one();
    }

    /// Upstream accepted this generation (2xx).
    pub fn confirm(&self, generation: u64) {
        if self.signals.is_proven(generation) || generation != self.generation() {
            return;
        }
        self.signals.proven.store(generation, Ordering::Relaxed);
        let _ = self.signals.rejected.compare_exchange(generation, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether a 404 given to this generation can be believed: it was accepted before and never refused since, or
    /// it was minted within [`TRUST_WINDOW`].
    pub fn is_trusted(&self, generation: u64) -> bool {
        let snapshot = self.snapshots.borrow();
        let Some(held) = snapshot.held.as_ref().filter(|held| held.token.generation == generation) else {
            return false;
        };
        held.life(&self.signals.clock) == Life::Sure
            && !self.signals.is_rejected(generation)
            && (self.signals.is_proven(generation) || held.minted.elapsed() <= TRUST_WINDOW)
    }

    /// What the keeper is doing now.
    pub fn state(&self) -> KeeperState {
        let snapshot = self.snapshots.borrow();
        let held = snapshot.held.as_ref();
        let clock = &self.signals.clock;
        KeeperState {
            generation: held.map_or(0, |held| held.token.generation),
            usable: held
                .is_some_and(|held| held.life(clock) != Life::Over && !self.signals.is_rejected(held.token.generation)),
            remaining: held.map(|held| held.remaining(clock)),
            age: held.map(|held| held.minted.elapsed()),
            renewals: snapshot.renewals,
            failures: snapshot.failures,
            failures_in_a_row: snapshot.failures_in_a_row,
            last_error: snapshot.last_error.clone(),
        }
    }

    fn generation(&self) -> u64 {
        self.snapshots.borrow().held.as_ref().map_or(0, |held| held.token.generation)
    }

    async fn wait(&self, after: u64, deadline: Instant) -> Result<Token, TokenError> {
        let mut snapshots = self.snapshots.clone();
        loop {
            match self.judge(&snapshots.borrow_and_update(), after) {
                Verdict::Take(token) => return Ok(token),
                Verdict::Fail(error) => return Err(TokenError::Failed(error)),
                Verdict::Wait => {}
            }
            match tokio::time::timeout_at(deadline, snapshots.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(TokenError::Stopped),
                Err(_) => {
                    let error = snapshots.borrow().last_error.clone();
                    return Err(error.map_or(TokenError::Late, TokenError::Failed));
                }
            }
        }
    }

    fn judge(&self, snapshot: &Snapshot, after: u64) -> Verdict {
        let held = snapshot.held.as_ref().filter(|held| held.token.generation > after);
        match (held.map(|held| (held, held.life(&self.signals.clock))), &snapshot.last_error) {
            // A doubtful one only after an attempt to replace it failed; whether it is over, upstream will say.
            (Some((held, Life::Sure)), _) | (Some((held, Life::Doubtful)), Some(_)) => {
                Verdict::Take(held.token.clone())
            }
            (_, Some(error)) if error.kind.needs_a_person() => Verdict::Fail(error.clone()),
            _ => Verdict::Wait,
        }
    }

    fn doubtful(&self) -> Option<Token> {
        let snapshot = self.snapshots.borrow();
        let held = snapshot.held.as_ref().filter(|held| held.life(&self.signals.clock) != Life::Over)?;
        Some(held.token.clone())
    }
}

impl std::fmt::Debug for TokenHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenHandle({:?})", self.state())
    }
}

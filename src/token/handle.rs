//! The requests' side of a keeper: the newest token, waiting for it until a deadline, and reporting to the keeper
//! whether upstream accepts it.
//!
//! Nothing here mints. The common path reads one shared snapshot and clones a header value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{KeeperState, MintError, Token, TokenError};
use wheelport_runtime::Clock;

/// A first mint that takes longer than this may not come to an end for a long time.
const FIRST_MINT: Duration = Duration::from_secs(1);

/// How long a request waits for the attempt that follows a first failure. After a second one it does not wait.
const SECOND_ATTEMPT: Duration = Duration::from_secs(2);

/// Access to the token of one keeper. Cheap to clone.
#[derive(Clone)]
pub struct TokenHandle {
    snapshots: watch::Receiver<Snapshot>,
    signals: Arc<Signals>,
}

/// What the keeper publishes after every attempt.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    pub(super) newest: Option<CurrentToken>,
    pub(super) renewals: u64,
    pub(super) failures: u64,
    pub(super) failures_in_a_row: u32,
    pub(super) last_error: Option<MintError>,
    /// When the last attempt failed.
    pub(super) failed: Option<Instant>,
}

/// A token with its expiry on both clocks.
#[derive(Clone)]
pub(super) struct CurrentToken {
    pub(super) token: Token,
    pub(super) expires: Instant,
    /// Since the Unix epoch. The monotonic clock stands still while the machine sleeps; the calendar does not.
    pub(super) expires_on_calendar: Duration,
}

/// Whether a token has expired, as far as the clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validity {
    /// Both clocks say that it has not expired.
    Valid,
    /// Only the monotonic clock does: the machine slept, or the calendar was moved.
    Doubtful,
    Expired,
}

impl CurrentToken {
    pub(super) fn validity(&self, clock: &Clock) -> Validity {
        if Instant::now() >= self.expires {
            Validity::Expired
        } else if clock.since_epoch() >= self.expires_on_calendar {
            Validity::Doubtful
        } else {
            Validity::Valid
        }
    }

    /// Time until it expires, by the clock that is further ahead.
    pub(super) fn remaining(&self, clock: &Clock) -> Duration {
        let monotonic = self.expires.saturating_duration_since(Instant::now());
        monotonic.min(self.expires_on_calendar.saturating_sub(clock.since_epoch()))
    }
}

/// What requests report to the keeper.
pub(super) struct Signals {
    /// The newest generation that upstream has refused and not accepted since; 0 for none.
    rejected: AtomicU64,
    /// When the keeper started.
    started: Instant,
    /// Makes the keeper check again whether a mint is due.
    pub(super) wake: Notify,
    pub(super) clock: Clock,
}

impl Signals {
    pub(super) fn new(clock: Clock) -> Self {
        Self { rejected: AtomicU64::new(0), started: Instant::now(), wake: Notify::new(), clock }
    }

    pub(super) fn is_rejected(&self, generation: u64) -> bool {
        self.rejected.load(Ordering::Relaxed) == generation
    }
}

/// What a snapshot means for a request that needs a token.
enum TokenStatus {
    Ready(Token),
    Failed(MintError),
    Pending,
}

impl TokenHandle {
    pub(super) fn new(snapshots: watch::Receiver<Snapshot>, signals: Arc<Signals>) -> Self {
        Self { snapshots, signals }
    }

    /// The newest valid token. Waits for the first mint, or for the one after a long sleep of the machine, at most
    /// until the deadline.
    ///
    /// Fails before the deadline if no token is in sight: if the last mint failed for a reason that a person has to
    /// remove, or if mints failed more than once.
    pub async fn current(&self, deadline: Instant) -> Result<Token, TokenError> {
        if let TokenStatus::Ready(token) = self.status(&self.snapshots.borrow(), 0) {
            return Ok(token);
        }
        self.signals.wake.notify_one();
        match self.wait(0, deadline).await {
            Err(error) => self.doubtful().ok_or(error),
            token => token,
        }
    }

    /// The first token after `generation`, for the one retry of a refused request.
    pub async fn newer_than(&self, generation: u64, deadline: Instant) -> Result<Token, TokenError> {
        self.wait(generation, deadline).await
    }

    /// Whether both are handles to one keeper, so to the same tokens.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.signals, &other.signals)
    }

    /// Upstream refused this generation (401), or does not seem to know it: the keeper mints at once, but at most once
    /// in `MINT_DISTANCE`.
    pub fn reject(&self, generation: u64) {
        if generation != self.generation() {
            return;
        }
        self.signals.rejected.store(generation, Ordering::Relaxed);
        self.signals.wake.notify_one();
    }

    /// Upstream accepted this generation (2xx).
    pub fn confirm(&self, generation: u64) {
        let _ = self.signals.rejected.compare_exchange(generation, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether there is no valid token and none in sight: the last mint failed, or the first one takes long.
    pub fn is_lacking(&self) -> bool {
        let snapshot = self.snapshots.borrow();
        let is_valid = |newest: &CurrentToken| newest.validity(&self.signals.clock) != Validity::Expired;
        !snapshot.newest.as_ref().is_some_and(is_valid)
            && (snapshot.last_error.is_some() || self.signals.started.elapsed() >= FIRST_MINT)
    }

    /// The state of the keeper now.
    pub fn state(&self) -> KeeperState {
        let snapshot = self.snapshots.borrow();
        let newest = snapshot.newest.as_ref();
        let clock = &self.signals.clock;
        KeeperState {
            generation: newest.map_or(0, |newest| newest.token.generation),
            usable: newest.is_some_and(|newest| {
                newest.validity(clock) != Validity::Expired && !self.signals.is_rejected(newest.token.generation)
            }),
            remaining: newest.map(|newest| newest.remaining(clock)),
            age: newest.map(|newest| newest.token.minted.elapsed()),
            renewals: snapshot.renewals,
            failures: snapshot.failures,
            failures_in_a_row: snapshot.failures_in_a_row,
            last_error: snapshot.last_error.clone(),
        }
    }

    fn generation(&self) -> u64 {
        self.snapshots.borrow().newest.as_ref().map_or(0, |newest| newest.token.generation)
    }

    async fn wait(&self, after: u64, deadline: Instant) -> Result<Token, TokenError> {
        let mut snapshots = self.snapshots.clone();
        loop {
            match self.status(&snapshots.borrow_and_update(), after) {
                TokenStatus::Ready(token) => return Ok(token),
                TokenStatus::Failed(error) => return Err(TokenError::Failed(error)),
                TokenStatus::Pending => {}
            }
            let failed = snapshots.borrow().failed.map(|failed| failed + SECOND_ATTEMPT);
            let until = failed.map_or(deadline, |failed| failed.min(deadline));
            match tokio::time::timeout_at(until, snapshots.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(TokenError::Stopped),
                Err(_) => {
                    let error = snapshots.borrow().last_error.clone();
                    return Err(error.map_or(TokenError::Late, TokenError::Failed));
                }
            }
        }
    }

    fn status(&self, snapshot: &Snapshot, after: u64) -> TokenStatus {
        let newest = snapshot.newest.as_ref().filter(|newest| newest.token.generation > after);
        match (newest.map(|newest| (newest, newest.validity(&self.signals.clock))), &snapshot.last_error) {
            // A doubtful one only after an attempt to replace it has failed. Upstream will say whether it has expired.
            (Some((newest, Validity::Valid)), _) | (Some((newest, Validity::Doubtful)), Some(_)) => {
                TokenStatus::Ready(newest.token.clone())
            }
            (_, Some(error)) if error.kind.needs_a_person() || snapshot.failures_in_a_row > 1 => {
                TokenStatus::Failed(error.clone())
            }
            _ => TokenStatus::Pending,
        }
    }

    fn doubtful(&self) -> Option<Token> {
        let snapshot = self.snapshots.borrow();
        let newest =
            snapshot.newest.as_ref().filter(|newest| newest.validity(&self.signals.clock) != Validity::Expired)?;
        Some(newest.token.clone())
    }
}

impl std::fmt::Debug for TokenHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenHandle({:?})", self.state())
    }
}

//! The loop that renews one token: mint, publish, sleep until renewal, rejection or a jump of the calendar.
//!
//! The old token stays published until it expires, whatever happens to the mints after it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::handle::{CurrentToken, Signals, Snapshot, Validity};
use super::schedule::{self, MINT_DISTANCE};
use super::{KeeperSettings, MintError, MintErrorKind, Minted, Token, TokenHandle, TokenSource};
use wheelport_runtime::{Tasks, sabotaged};

/// A mint that takes longer has failed, whatever the source promises.
const MINT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the keeper reads the calendar, so that it notices without a request that the machine slept.
const CALENDAR_INTERVAL: Duration = Duration::from_secs(30);
/// A failed mint is logged as an error when the token expires in less than this.
const ALARM_BELOW: Duration = Duration::from_hours(1);

/// Starts the keeper of one token and returns the handle to it. The loop ends when the tasks stop.
pub fn keep(source: Arc<dyn TokenSource>, settings: KeeperSettings, tasks: &Tasks) -> TokenHandle {
    let (publish, snapshots) = watch::channel(Snapshot::default());
    let signals = Arc::new(Signals::new(settings.clock.clone()));
    let handle = TokenHandle::new(snapshots, Arc::clone(&signals));
    let keeper = Keeper { source, settings, signals, publish, last_forced: None, alarmed: false };
    tasks.spawn_loop("token keeper", keeper.run());
    handle
}

/// Why a new mint is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MintCause {
    Start,
    Renewal,
    Rejected,
    CalendarJump,
    Retry,
}

impl MintCause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Renewal => "renewal",
            Self::Rejected => "rejected",
            Self::CalendarJump => "calendar-jump",
            Self::Retry => "retry",
        }
    }
}

struct Keeper {
    source: Arc<dyn TokenSource>,
    settings: KeeperSettings,
    signals: Arc<Signals>,
    publish: watch::Sender<Snapshot>,
    last_forced: Option<Instant>,
    /// Whether an error was logged in this row of failures.
    alarmed: bool,
}

impl Keeper {
    async fn run(mut self) {
        sleep(self.settings.start_spread.mul_f64(fastrand::f64())).await;
        let mut cause = MintCause::Start;
        loop {
            cause = match self.attempt().await {
                Ok(minted) => {
                    let renewal = self.succeed(&minted, cause);
                    self.sleep_until_due(renewal).await
                }
                Err(error) => {
                    let pause = self.fail(error, cause);
                    sleep(pause).await;
                    MintCause::Retry
                }
            };
        }
    }

    /// One mint; a source that hangs or panics is a failed attempt, not the end of the keeper.
    async fn attempt(&self) -> Result<Minted, MintError> {
        let mint = AssertUnwindSafe(async { self.source.mint().await }).catch_unwind();
        match timeout(MINT_TIMEOUT, mint).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => {
                Err(MintError::new(MintErrorKind::Other, "the token source panicked; this is a bug, please report it"))
            }
            Err(_) => Err(MintError::new(
                MintErrorKind::Unreachable,
                format!("no response from AWS within {} s", MINT_TIMEOUT.as_secs()),
            )),
        }
    }

    /// Publishes the new generation and returns when to renew it.
    fn succeed(&mut self, minted: &Minted, cause: MintCause) -> Instant {
        let lifetime = schedule::believable_lifetime(minted.lifetime, self.settings.requested_lifetime);
        let now = Instant::now();
        let expires_on_calendar = self.settings.clock.since_epoch() + lifetime;
        let mut failures = 0;
        let mut generation = 0;
        self.publish.send_modify(|snapshot| {
            snapshot.renewals += 1;
            generation = snapshot.renewals;
            failures = snapshot.failures_in_a_row;
            snapshot.newest = Some(CurrentToken {
                token: Token::new(generation, &minted.secret),
                expires: now + lifetime,
                expires_on_calendar,
            });
            snapshot.failures_in_a_row = 0;
            (snapshot.last_error, snapshot.failed) = (None, None);
        });
        self.alarmed = false;
        let renew_after = schedule::renew_after(lifetime, fastrand::f64());
        let (label, cause) = (&*self.settings.label, cause.as_str());
        info!(
            label,
            cause,
            generation,
            failures,
            life_seconds = lifetime.as_secs(),
            renew_seconds = renew_after.as_secs(),
            "token minted"
        );
        if lifetime != minted.lifetime {
            debug!(label, claimed_seconds = minted.lifetime.as_secs(), "token lifetime corrected");
        }
        now + renew_after
    }

    /// Publishes the failure, logs it, and returns how long to wait.
    fn fail(&mut self, error: MintError, cause: MintCause) -> Duration {
        let (failures, known, left) = {
            let before = self.publish.borrow();
            let known = before.last_error.as_ref().is_some_and(|last| last.kind == error.kind);
            let left = before.newest.as_ref().map_or(Duration::ZERO, |newest| newest.remaining(&self.settings.clock));
            (before.failures_in_a_row.saturating_add(1), known, left)
        };
        let pause = schedule::pause(failures, error.kind, error.retry_after, fastrand::f64());
        self.log_failure(&error, cause, failures, known, left);
        self.publish.send_modify(|snapshot| {
            snapshot.failures += 1;
            snapshot.failures_in_a_row = failures;
            if sabotaged("kept-token") {
                snapshot.newest = None;
            }
            (snapshot.last_error, snapshot.failed) = (Some(error), Some(Instant::now()));
        });
        pause
    }

    fn log_failure(&mut self, error: &MintError, cause: MintCause, failures: u32, known: bool, left: Duration) {
        let (label, cause, kind, left_seconds) =
            (&*self.settings.label, cause.as_str(), error.kind.as_str(), left.as_secs());
        if left < ALARM_BELOW && (!self.alarmed || !known) {
            self.alarmed = true;
            let what = "token mint failed, and little or no lifetime is left";
            error!(label, cause, kind, failures, left_seconds, %error, "{what}");
        } else if known {
            debug!(label, cause, kind, failures, left_seconds, %error, "token mint failed again");
        } else {
            warn!(label, cause, kind, failures, left_seconds, %error, "token mint failed; the old token stays in use");
        }
    }

    /// Sleeps until a mint is due and returns why.
    async fn sleep_until_due(&mut self, renewal: Instant) -> MintCause {
        loop {
            let now = Instant::now();
            if now >= renewal {
                return MintCause::Renewal;
            }
            let mut until = renewal.min(now + CALENDAR_INTERVAL);
            if let Some(cause) = self.urgent() {
                let earliest = self.last_forced.map_or(now, |last| last + MINT_DISTANCE);
                if now >= earliest {
                    self.last_forced = Some(now);
                    return cause;
                }
                until = until.min(earliest);
            }
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.signals.wake.notified() => {}
            }
        }
    }

    /// Why a mint is due before the renewal.
    fn urgent(&self) -> Option<MintCause> {
        let snapshot = self.publish.borrow();
        let newest = snapshot.newest.as_ref()?;
        if self.signals.is_rejected(newest.token.generation) {
            Some(MintCause::Rejected)
        } else if newest.validity(&self.settings.clock) == Validity::Doubtful {
            Some(MintCause::CalendarJump)
        } else {
            None
        }
    }
}

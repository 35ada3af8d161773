//! Stories of one keeper with a scripted source, on the paused clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::time::{Instant, sleep, sleep_until};

use super::*;
use wheelport_runtime::Tasks;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

enum Step {
    Lives(Duration),
    Fails(MintErrorKind, Option<Duration>),
    Takes(Duration),
    Hangs,
    Panics,
}

/// Plays its steps, then continues with twelve-hour tokens; records when it was called.
struct Script {
    steps: Mutex<VecDeque<Step>>,
    asked: Mutex<Vec<Instant>>,
    forever: Option<MintErrorKind>,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>, forever: Option<MintErrorKind>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps.into_iter().collect()), asked: Mutex::new(Vec::new()), forever })
    }

    fn asked(&self) -> Vec<Instant> {
        self.asked.lock().clone()
    }
}

impl TokenSource for Script {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>> {
        async {
            let number = {
                let mut asked = self.asked.lock();
                asked.push(Instant::now());
                asked.len()
            };
            let step = self.steps.lock().pop_front();
            let token = |lifetime| Ok(Minted { secret: SecretString::from(format!("t{number}")), lifetime });
            match (step, self.forever) {
                (Some(Step::Lives(lifetime)), _) => token(lifetime),
                (Some(Step::Fails(kind, retry_after)), _) => {
                    Err(MintError { kind, message: "scripted".to_owned(), retry_after })
                }
                (Some(Step::Takes(time)), _) => {
                    sleep(time).await;
                    token(HOUR * 12)
                }
                (Some(Step::Hangs), _) => std::future::pending().await,
                (Some(Step::Panics), _) => panic!("scripted panic"),
                (None, Some(kind)) => Err(MintError::new(kind, "scripted")),
                (None, None) => token(HOUR * 12),
            }
        }
        .boxed()
    }
}

struct Stage {
    script: Arc<Script>,
    handle: TokenHandle,
    clock: Clock,
    tasks: Tasks,
}

fn stage(steps: impl IntoIterator<Item = Step>) -> Stage {
    stage_with(steps, None, Some(HOUR * 12))
}

fn stage_with(steps: impl IntoIterator<Item = Step>, forever: Option<MintErrorKind>, asked: Option<Duration>) -> Stage {
    let script = Script::new(steps, forever);
    let clock = Clock::system();
    let settings = KeeperSettings { requested_lifetime: asked, clock: clock.clone(), ..KeeperSettings::new("acme") };
    let tasks = Tasks::new();
    let handle = keep(Arc::clone(&script) as Arc<dyn TokenSource>, settings, &tasks);
    Stage { script, handle, clock, tasks }
}

fn within(time: Duration) -> Instant {
    Instant::now() + time
}

/// Lets the keeper do what it can do without time passing.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_request_waits_for_the_first_mint() {
    let stage = stage([Step::Takes(SECOND * 3)]);
    assert_eq!(stage.handle.current(within(SECOND)).await.err(), Some(TokenError::Late));
    let token = stage.handle.current(within(SECOND * 5)).await.expect("minted after 3 s");
    assert_eq!(token.generation, 1);
    assert_eq!(token.basic_header().as_bytes(), b"Basic YXdzOnQx");
    assert_eq!(stage.script.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_at_a_sixth_of_its_life_and_the_old_one_serves_meanwhile() {
    let stage = stage([Step::Lives(HOUR * 12), Step::Takes(SECOND * 20)]);
    let start = Instant::now();
    stage.handle.current(within(SECOND)).await.expect("minted");
    sleep_until(start + HOUR * 3).await;
    let asked = stage.script.asked();
    assert_eq!(asked.len(), 2);
    let renewed_after = asked[1] - start;
    assert!((Duration::from_mins(108)..=Duration::from_mins(133)).contains(&renewed_after), "{renewed_after:?}");
    assert_eq!(stage.handle.state().generation, 2);
}

#[tokio::test(start_paused = true)]
async fn requests_during_a_renewal_do_not_wait() {
    let stage = stage([Step::Lives(HOUR * 12), Step::Hangs]);
    stage.handle.current(within(SECOND)).await.expect("minted");
    while stage.script.asked().len() < 2 {
        sleep(SECOND).await;
    }
    let before = Instant::now();
    let token = stage.handle.current(within(SECOND)).await.expect("the old token is valid");
    assert_eq!((token.generation, before.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_hours_does_not_reach_requests() {
    let stage = stage_with([Step::Lives(HOUR * 12)], Some(MintErrorKind::Unreachable), Some(HOUR * 12));
    let start = Instant::now();
    stage.handle.current(within(SECOND)).await.expect("minted");
    sleep_until(start + HOUR * 11).await;
    assert_eq!(stage.handle.current(within(SECOND)).await.map(|token| token.generation), Ok(1));
    let state = stage.handle.state();
    assert!(state.usable && state.failures_in_a_row > 100, "{state:?}");
    sleep_until(start + HOUR * 12 + SECOND).await;
    let before = Instant::now();
    let error = stage.handle.current(within(SECOND * 2)).await.err();
    assert!(matches!(&error, Some(TokenError::Failed(e)) if e.kind == MintErrorKind::Unreachable), "{error:?}");
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(!stage.handle.state().usable);
    // Full jitter up to a minute means half a minute on average.
    let attempts = stage.script.asked().len();
    assert!((600..3_000).contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn a_denied_mint_is_reported_at_once_and_retried_after_a_minute() {
    let stage = stage([Step::Fails(MintErrorKind::Denied, None)]);
    let start = Instant::now();
    let error = stage.handle.current(within(SECOND * 20)).await.err();
    assert!(matches!(&error, Some(TokenError::Failed(e)) if e.kind == MintErrorKind::Denied), "{error:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(stage.handle.state().failures_in_a_row, 1);
    sleep_until(start + MINUTE + SECOND).await;
    assert_eq!(stage.handle.current(within(SECOND)).await.map(|token| token.generation), Ok(1));
    assert_eq!(stage.script.asked(), [start, start + MINUTE]);
    let state = stage.handle.state();
    assert_eq!((state.failures, state.failures_in_a_row, state.last_error), (1, 0, None));
}

#[tokio::test(start_paused = true)]
async fn throttling_is_honoured() {
    let stage = stage([Step::Fails(MintErrorKind::Throttled, Some(SECOND * 40))]);
    let start = Instant::now();
    sleep(MINUTE).await;
    stage.handle.current(within(SECOND)).await.expect("minted after the Retry-After");
    let waited = stage.script.asked()[1] - start;
    assert!((SECOND * 40..=SECOND * 45).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once_for_all_requests() {
    let stage = stage([]);
    let first = stage.handle.current(within(SECOND)).await.expect("minted");
    for _ in 0..50 {
        stage.handle.reject(first.generation);
    }
    assert!(!stage.handle.state().usable);
    let second = stage.handle.newer_than(first.generation, within(SECOND)).await.expect("replaced");
    assert_eq!(second.generation, 2);
    stage.handle.reject(first.generation);
    settle().await;
    assert_eq!(stage.script.asked().len(), 2, "a late refusal of an old generation changes nothing");
}

#[tokio::test(start_paused = true)]
async fn forced_mints_keep_their_distance() {
    let stage = stage([]);
    let start = Instant::now();
    stage.handle.current(within(SECOND)).await.expect("minted");
    stage.handle.reject(1);
    let second = stage.handle.newer_than(1, within(SECOND)).await.expect("the first refusal is served at once");
    stage.handle.reject(second.generation);
    assert_eq!(stage.handle.newer_than(2, within(SECOND * 10)).await.err(), Some(TokenError::Late));
    assert_eq!(stage.handle.current(within(SECOND)).await.map(|token| token.generation), Ok(2));
    let third = stage.handle.newer_than(2, within(MINUTE)).await.expect("replaced after the distance");
    assert_eq!((third.generation, start.elapsed()), (3, schedule::MINT_DISTANCE));
    for generation in 3..=100 {
        stage.handle.reject(generation);
        sleep(SECOND).await;
    }
    assert!(stage.script.asked().len() <= 7, "{:?}", stage.script.asked().len());
}

#[tokio::test(start_paused = true)]
async fn an_accepted_token_is_usable_again_after_a_refusal() {
    let stage = stage_with([Step::Lives(HOUR * 12)], Some(MintErrorKind::Denied), Some(HOUR * 12));
    stage.handle.current(within(SECOND)).await.expect("minted");
    stage.handle.reject(1);
    assert!(!stage.handle.state().usable);
    stage.handle.confirm(1);
    assert!(stage.handle.state().usable, "upstream changed its mind");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_lacking_when_a_mint_fails_or_the_first_one_takes_long() {
    let slow = stage([Step::Takes(SECOND * 3)]);
    assert!(!slow.handle.is_lacking(), "it may come at any moment");
    sleep(SECOND * 2).await;
    assert!(slow.handle.is_lacking());
    sleep(SECOND * 2).await;
    assert!(!slow.handle.is_lacking());

    let failing = stage_with([], Some(MintErrorKind::Unreachable), None);
    settle().await;
    assert!(failing.handle.is_lacking());

    let expiring = stage_with([Step::Lives(HOUR)], Some(MintErrorKind::Unreachable), Some(HOUR));
    sleep(MINUTE * 50).await;
    assert!(!expiring.handle.is_lacking(), "renewals fail, and the old token is still good");
    sleep(MINUTE * 20).await;
    assert!(expiring.handle.is_lacking());
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_for_a_token_once_mints_fail_again_and_again() {
    let recovering = stage([Step::Fails(MintErrorKind::Unreachable, None)]);
    assert!(recovering.handle.current(within(SECOND * 12)).await.is_ok(), "a second attempt follows at once");

    let began = Instant::now();
    let slow = stage([Step::Fails(MintErrorKind::Unreachable, None), Step::Hangs]);
    assert!(matches!(slow.handle.current(within(SECOND * 12)).await, Err(TokenError::Failed(_))));
    assert!(began.elapsed() <= SECOND * 2, "{:?}", began.elapsed());

    let failing = stage_with([], Some(MintErrorKind::Unreachable), None);
    sleep(SECOND * 5).await;
    let began = Instant::now();
    assert!(matches!(failing.handle.current(within(SECOND * 12)).await, Err(TokenError::Failed(_))));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_of_the_machine_the_first_request_gets_a_new_token() {
    let stage = stage([]);
    stage.handle.current(within(SECOND)).await.expect("minted");
    stage.clock.shift(13 * 3600);
    let before = Instant::now();
    let token = stage.handle.current(within(SECOND)).await.expect("minted again");
    assert_eq!((token.generation, before.elapsed()), (2, Duration::ZERO));
    assert_eq!(stage.script.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_moved_calendar_does_not_take_a_valid_token_away() {
    let stage = stage_with([Step::Lives(HOUR * 12)], Some(MintErrorKind::ClockSkew), Some(HOUR * 12));
    stage.handle.current(within(SECOND)).await.expect("minted");
    stage.clock.shift(24 * 3600);
    assert_eq!(stage.handle.current(within(SECOND)).await.map(|token| token.generation), Ok(1));
    assert_eq!(stage.handle.state().last_error.map(|error| error.kind), Some(MintErrorKind::ClockSkew));
    stage.clock.shift(-48 * 3600);
    assert_eq!(stage.handle.current(within(SECOND)).await.map(|token| token.generation), Ok(1));
    let state = stage.handle.state();
    assert!(state.remaining <= Some(HOUR * 12), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_small_jump_of_the_calendar_renews_nothing() {
    let stage = stage([]);
    stage.handle.current(within(SECOND)).await.expect("minted");
    stage.clock.shift(360);
    sleep(MINUTE).await;
    stage.clock.shift(-720);
    sleep(MINUTE).await;
    assert_eq!(stage.script.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn absurd_lifetimes_never_loop() {
    for lives in [Duration::ZERO, SECOND, HOUR * 9_999] {
        let stage = stage((0..2_000).map(|_| Step::Lives(lives)));
        let start = Instant::now();
        stage.handle.current(within(SECOND)).await.expect("minted");
        sleep_until(start + HOUR).await;
        let asked = stage.script.asked();
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= schedule::MINT_DISTANCE), "{lives:?}");
        assert!(asked.len() <= 121, "{lives:?}: {}", asked.len());
        stage.tasks.join(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn session_tokens_follow_the_lifetime_of_the_response() {
    let stage = stage_with([Step::Lives(MINUTE * 6)], None, None);
    let start = Instant::now();
    stage.handle.current(within(SECOND)).await.expect("minted");
    sleep_until(start + MINUTE * 2).await;
    let renewed_after = stage.script.asked()[1] - start;
    assert!((MINUTE..=SECOND * 67).contains(&renewed_after), "{renewed_after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_and_a_panicking_source_are_failures_like_others() {
    let stage = stage([Step::Hangs, Step::Panics]);
    sleep(MINUTE).await;
    let token = stage.handle.current(within(SECOND)).await.expect("minted in the end");
    assert_eq!((token.generation, stage.handle.state().failures), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn waiters_learn_that_the_keeper_stopped() {
    let stage = stage([Step::Hangs]);
    settle().await;
    let waiting = stage.handle.current(within(MINUTE));
    let (outcome, joined) = tokio::join!(waiting, stage.tasks.join(SECOND));
    assert_eq!((outcome.err(), joined), (Some(TokenError::Stopped), true));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_spreads_its_first_mints() {
    let script = Script::new([], None);
    let tasks = Tasks::new();
    let start = Instant::now();
    let settings = KeeperSettings { start_spread: SECOND * 5, ..KeeperSettings::new("acme") };
    let source = Arc::clone(&script) as Arc<dyn TokenSource>;
    let handles: Vec<_> = (0..200).map(|_| keep(Arc::clone(&source), settings.clone(), &tasks)).collect();
    sleep_until(start + SECOND * 6).await;
    assert!(handles.iter().all(|handle| handle.state().generation == 1));
    let asked = script.asked();
    let peak = (0..5).map(|second| asked.iter().filter(|at| (**at - start).as_secs() == second).count());
    assert!(peak.max() < Some(80), "200 first mints within five seconds");
}

#[test]
fn no_debug_output_shows_the_token() {
    let token = Token::new(7, &SecretString::from("canary"));
    assert_eq!(format!("{token:?}"), "Token(generation 7)");
    assert!(!format!("{:?}", token.basic_header()).contains("Y2FuYXJ5"));
}

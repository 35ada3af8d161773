//! What all requests to one endpoint share: places in flight, turns of the [`Quota`], the pause after a 429, the budget
//! for repetitions and the knowledge that the endpoint cannot be reached.
//!
//! The state machines are plain structs over explicit instants; [`Gate`] puts them behind one short lock that is
//! never held across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::error::{Unavailability, UpstreamError};
use super::line::{Crowded, Line, Places};
use super::quota::Quota;
use super::retry::LONGEST_WISH;
use super::settings::ClientSettings;
use wheelport_runtime::Priority;

/// Whether a request is for the body of a file, which may take minutes, or for something short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Short,
    File,
}

/// A place among the requests in flight; dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    _file: Option<Held>,
    _any: Held,
}

/// One of the places of a line.
#[derive(Debug)]
struct Held(Arc<Line<Places>>);

impl Held {
    async fn take(places: &Arc<Line<Places>>, deadline: Instant) -> Result<Self, UpstreamError> {
        places.take(Priority::current(), deadline).await.map_err(busy)?;
        Ok(Self(Arc::clone(places)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.put_back();
    }
}

/// What the requests to one endpoint share.
#[derive(Debug)]
pub(super) struct Gate {
    any: Arc<Line<Places>>,
    files: Arc<Line<Places>>,
    quota: Arc<Quota>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pause: Pause,
    budget: Budget,
    reach: Reach,
}

impl Gate {
    pub fn new(settings: &ClientSettings, quota: Arc<Quota>) -> Self {
        let places = settings.max_in_flight.max(2);
        let line = |places| Arc::new(Line::new(Places::new(places), settings.max_queue));
        Self {
            any: line(places),
            // A quarter is kept for pages: files can hold their places for minutes.
            files: line((places * 3 / 4).max(1)),
            quota,
            state: Mutex::new(State {
                pause: Pause::default(),
                budget: Budget::new(settings.retry_ratio, settings.retry_floor),
                reach: Reach::new(settings.failures_to_open),
            }),
        }
    }

    /// Waits for a place until the deadline, fairly between clients.
    pub async fn place(&self, lane: Lane, deadline: Instant) -> Result<Place, UpstreamError> {
        let file = match lane {
            Lane::File => Some(Held::take(&self.files, deadline).await?),
            Lane::Short => None,
        };
        Ok(Place { _file: file, _any: Held::take(&self.any, deadline).await? })
    }

    /// Waits until the endpoint may be asked and it is this caller's turn, or says at once that this is not before the
    /// deadline.
    pub async fn admit(&self, deadline: Instant) -> Result<(), UpstreamError> {
        loop {
            while let Some(until) = self.obstacle(deadline, Reach::left_alone)? {
                // Spread, so that those who waited do not arrive as one.
                sleep_until(until + Duration::from_millis(fastrand::u64(0..150))).await;
            }
            self.quota.turn(Priority::current(), deadline).await.map_err(busy)?;
            // Much may have happened while others had their turns. A turn is not kept over a pause, or all that were
            // had meanwhile would be used at its end.
            if self.obstacle(deadline, Reach::refuses)?.is_none() {
                self.lock().budget.earn();
                return Ok(());
            }
        }
    }

    /// The end of the pause there is, if any; an error if the endpoint cannot be asked before the deadline.
    fn obstacle(
        &self,
        deadline: Instant,
        refuses: impl Fn(&mut Reach, Instant) -> Option<Duration>,
    ) -> Result<Option<Instant>, UpstreamError> {
        let (mut state, now) = (self.lock(), Instant::now());
        let unavailable = |reason, wait| UpstreamError::Unavailable { reason, retry_after: Some(wait) };
        match state.pause.until(now) {
            Some(until) if until >= deadline => Err(unavailable(Unavailability::Throttled, until - now)),
            Some(until) => Ok(Some(until)),
            None => match refuses(&mut state.reach, now) {
                Some(wait) => Err(unavailable(Unavailability::Connect, wait)),
                None => Ok(None),
            },
        }
    }

    /// Whether the endpoint can be asked for what nobody waits for without anybody waiting for that.
    pub fn has_room(&self) -> bool {
        let is_at_ease = {
            let state = self.lock();
            state.pause.until(Instant::now()).is_none() && !state.reach.is_in_doubt()
        };
        is_at_ease && self.any.is_empty() && self.any.supply(|places| places.are_half_free()) && self.quota.has_room()
    }

    /// Takes one repetition out of the shared budget.
    pub fn may_repeat(&self) -> bool {
        self.lock().budget.spend(Instant::now())
    }

    /// The upstream answered 429 to a request sent at `sent`.
    pub fn throttled(&self, sent: Instant, wish: Option<Duration>) {
        let until = {
            let (mut state, now) = (self.lock(), Instant::now());
            state.pause.throttled(sent, now, wish, fastrand::f64());
            state.pause.until(now)
        };
        self.quota.throttled(sent, until);
    }

    /// The upstream answered 5xx to a request sent at `sent`. One that wishes to be left alone is short of something.
    pub fn failed(&self, sent: Instant, wish: Option<Duration>) {
        match wish {
            Some(_) => self.quota.throttled(sent, None),
            None => self.quota.failed(sent),
        }
    }

    /// The requests per second that the endpoint's quota allows now.
    pub fn rate(&self) -> f64 {
        self.quota.rate()
    }

    /// An answer came, whatever it says.
    pub fn answered(&self, throttled: bool) {
        let mut state = self.lock();
        state.reach.answered();
        if !throttled {
            state.pause.answered();
        }
    }

    /// No connection, or no answer in time.
    pub fn unreachable(&self) {
        self.lock().reach.failed(Instant::now(), fastrand::f64());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn busy(Crowded: Crowded) -> UpstreamError {
    UpstreamError::Unavailable { reason: Unavailability::Busy, retry_after: Some(Duration::from_secs(1)) }
}

/// The pause after 429s: it grows while they go on and shrinks with every other answer.
#[derive(Debug, Default)]
struct Pause {
    level: u32,
    began: Option<Instant>,
    until: Option<Instant>,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(500);
    /// A wish of nothing must not become a loop.
    const SHORTEST: Duration = Duration::from_millis(250);

    fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    fn throttled(&mut self, sent: Instant, now: Instant, wish: Option<Duration>, chance: f64) {
        // The requests that were already on their way when the pause began say nothing new.
        let known = self.began.is_some_and(|began| sent <= began);
        if !known {
            self.level = (self.level + 1).min(6);
            self.began = Some(now);
        }
        let pause = match wish {
            Some(wish) => wish.clamp(Self::SHORTEST, LONGEST_WISH),
            None if known => return,
            None => (Self::FIRST * 2_u32.pow(self.level - 1)).mul_f64(0.75 + chance / 2.0).min(LONGEST_WISH),
        };
        self.until = self.until.max(Some(now + pause));
    }

    fn answered(&mut self) {
        self.level = self.level.saturating_sub(1);
    }
}

/// Repetitions as a part of the traffic, with a floor so that a quiet endpoint may repeat at all.
#[derive(Debug)]
struct Budget {
    ratio: f64,
    floor: f64,
    balance: f64,
    seen: Option<Instant>,
}

impl Budget {
    /// What can be saved up for a bad moment.
    const SAVINGS: f64 = 20.0;

    fn new(ratio: f64, floor: f64) -> Self {
        let sane = |value: f64, max: f64| if value.is_finite() { value.clamp(0.0, max) } else { 0.0 };
        Self { ratio: sane(ratio, 1.0), floor: sane(floor, 1000.0), balance: Self::SAVINGS, seen: None }
    }

    fn earn(&mut self) {
        self.balance = (self.balance + self.ratio).min(Self::SAVINGS);
    }

    fn spend(&mut self, now: Instant) -> bool {
        let idle = self.seen.replace(now).map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        self.balance = (self.balance + idle.as_secs_f64() * self.floor).min(Self::SAVINGS);
        let affordable = self.balance >= 1.0;
        if affordable {
            self.balance -= 1.0;
        }
        affordable
    }
}

/// Whether the endpoint can be reached: after some failures in a row it is left alone, and one request at a time
/// finds out whether it is back.
#[derive(Debug)]
struct Reach {
    to_open: u32,
    failures: u32,
    closed_until: Option<Instant>,
}

impl Reach {
    /// How long one request may find out before the next may.
    const PROBE: Duration = Duration::from_secs(5);

    fn new(to_open: u32) -> Self {
        Self { to_open: to_open.max(1), failures: 0, closed_until: None }
    }

    /// How long the endpoint is still left alone.
    fn left_alone(&mut self, now: Instant) -> Option<Duration> {
        self.closed_until.filter(|until| now < *until).map(|until| until - now)
    }

    /// The same for the one who is about to ask. Once that time is over, the caller who hears `None` is the one who
    /// finds out.
    fn refuses(&mut self, now: Instant) -> Option<Duration> {
        let until = self.closed_until?;
        if now < until {
            return Some(until - now);
        }
        self.closed_until = Some(now + Self::PROBE);
        None
    }

    /// Whether the endpoint is left alone, or has not answered since.
    fn is_in_doubt(&self) -> bool {
        self.closed_until.is_some()
    }

    fn answered(&mut self) {
        self.failures = 0;
        self.closed_until = None;
    }

    fn failed(&mut self, now: Instant, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.to_open {
            let step = (self.failures - self.to_open).min(2);
            let pause = Duration::from_secs(1 << step).mul_f64(0.75 + chance / 2.0);
            self.closed_until = Some(now + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_wave_of_429_counts_once_and_later_ones_make_the_pause_longer() {
        let start = Instant::now();
        let mut pause = Pause::default();
        let now = start + SECOND;
        for _ in 0..64 {
            pause.throttled(start, now, None, 0.5);
        }
        assert_eq!(pause.until(now), Some(now + Duration::from_millis(500)));
        let later = now + SECOND;
        assert_eq!(pause.until(later), None);
        pause.throttled(later, later + SECOND, None, 0.5);
        assert_eq!(pause.until(later + SECOND), Some(later + SECOND * 2));
        pause.answered();
        pause.answered();
        assert_eq!(pause.level, 0);
    }

    #[test]
    fn a_wish_is_honoured_up_to_the_cap_and_never_shortened() {
        let now = Instant::now();
        let mut pause = Pause::default();
        pause.throttled(now, now, Some(SECOND * 3), 0.5);
        pause.throttled(now, now, Some(SECOND), 0.5);
        assert_eq!(pause.until(now), Some(now + SECOND * 3));
        pause.throttled(now, now, Some(SECOND * 3600), 0.5);
        assert_eq!(pause.until(now), Some(now + LONGEST_WISH));
    }

    #[test]
    fn repetitions_are_a_part_of_the_traffic() {
        let now = Instant::now();
        let mut budget = Budget::new(0.1, 0.0);
        let burst = (0..100).filter(|_| budget.spend(now)).count();
        assert_eq!(burst, 20, "the savings");
        for _ in 0..1001 {
            budget.earn();
            budget.spend(now);
        }
        let mut spent = 0;
        for _ in 0..1000 {
            budget.earn();
            spent += usize::from(budget.spend(now));
        }
        assert!((90..=110).contains(&spent), "{spent}");
    }

    #[test]
    fn a_quiet_endpoint_earns_by_time() {
        let now = Instant::now();
        let mut budget = Budget::new(0.0, 2.0);
        while budget.spend(now) {}
        assert!(budget.spend(now + SECOND));
        assert!(budget.spend(now + SECOND));
        assert!(!budget.spend(now + SECOND));
    }

    #[test]
    fn an_unreachable_endpoint_is_left_alone_and_probed_by_one() {
        let now = Instant::now();
        let mut reach = Reach::new(5);
        for _ in 0..4 {
            reach.failed(now, 0.5);
            assert_eq!(reach.refuses(now), None);
        }
        reach.failed(now, 0.5);
        assert_eq!(reach.refuses(now), Some(SECOND));
        let later = now + SECOND;
        assert_eq!(reach.refuses(later), None, "the one who finds out");
        assert!(reach.refuses(later).is_some(), "the others");
        reach.failed(later, 0.5);
        assert_eq!(reach.refuses(later), Some(SECOND * 2));
        reach.answered();
        assert_eq!(reach.refuses(later), None);
    }

    fn gate(settings: &ClientSettings) -> Gate {
        Gate::new(settings, Arc::new(Quota::new(settings)))
    }

    #[tokio::test(start_paused = true)]
    async fn files_leave_room_for_pages() {
        let gate = gate(&ClientSettings { max_in_flight: 4, ..ClientSettings::default() });
        let deadline = Instant::now() + SECOND;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(gate.place(Lane::File, deadline).await.expect("a place"));
        }
        let busy = gate.place(Lane::File, deadline).await.expect_err("files have their share");
        assert_eq!(busy.as_str(), "busy");
        let page = gate.place(Lane::Short, Instant::now() + SECOND).await;
        assert!(page.is_ok(), "a page still gets through");
        held.pop();
        drop(page);
        assert!(gate.place(Lane::File, Instant::now() + SECOND).await.is_ok(), "a dropped place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_the_background_only_while_nobody_could_miss_it() {
        let settings = ClientSettings {
            max_in_flight: 4,
            request_rate: std::num::NonZeroU32::new(10).expect("not zero"),
            request_burst: std::num::NonZeroU32::new(4).expect("not zero"),
            ..ClientSettings::default()
        };
        let gate = gate(&settings);
        let deadline = || Instant::now() + SECOND;
        assert!(gate.has_room());
        let two = [gate.place(Lane::Short, deadline()).await, gate.place(Lane::File, deadline()).await];
        assert!(gate.has_room());
        let third = gate.place(Lane::Short, deadline()).await;
        assert!(!gate.has_room(), "more than half of the places are taken");
        drop((two, third));
        for _ in 0..3 {
            assert!(gate.has_room());
            gate.admit(deadline()).await.expect("a turn");
        }
        assert!(!gate.has_room(), "more than half of the turns are used");
        tokio::time::advance(SECOND).await;
        assert!(gate.has_room());
        gate.throttled(Instant::now(), None);
        assert!(!gate.has_room());
        tokio::time::advance(SECOND * 10).await;
        assert!(!gate.has_room(), "the rate has not grown back");
        tokio::time::advance(SECOND * 30).await;
        assert!(gate.has_room());
        for _ in 0..settings.failures_to_open {
            gate.unreachable();
        }
        tokio::time::advance(SECOND * 30).await;
        assert!(!gate.has_room(), "nobody has found out yet whether it is back");
        gate.answered(false);
        assert!(gate.has_room());
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_waits_for_the_end_of_a_pause_or_hears_at_once_that_it_is_too_long() {
        let gate = gate(&ClientSettings::default());
        let start = Instant::now();
        gate.throttled(start, Some(SECOND * 2));
        gate.admit(start + SECOND * 10).await.expect("admitted after the pause");
        assert!(start.elapsed() >= SECOND * 2);
        gate.throttled(Instant::now(), Some(SECOND * 8));
        let before = Instant::now();
        let refused = gate.admit(before + SECOND).await.expect_err("too long");
        assert_eq!(
            refused,
            UpstreamError::Unavailable { reason: Unavailability::Throttled, retry_after: Some(SECOND * 8) }
        );
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}

//! How many requests per second go to a service: the budget that all endpoints of one quota share.
//!
//! The budget is a bucket of turns that fills with time. Its rate is halved when the service throttles, lowered a little
//! when it fails, and grows back steadily, so that it settles below what the service takes at the moment.

use std::time::Duration;

use tokio::time::Instant;

use super::line::{Crowded, Line, Supply};
use super::settings::ClientSettings;
use wheelport_runtime::Priority;

/// Turns to ask, shared by all endpoints whose requests count against the same quota.
#[derive(Debug)]
pub(super) struct Quota {
    turns: Line<Rate>,
}

impl Quota {
    pub fn new(settings: &ClientSettings) -> Self {
        let rate = Rate::new(settings.request_rate.get(), settings.request_burst.get(), Instant::now());
        Self { turns: Line::new(rate, settings.max_queue) }
    }

    /// Waits for a turn until the deadline.
    pub async fn turn(&self, caller: Priority, deadline: Instant) -> Result<(), Crowded> {
        self.turns.take(caller, deadline).await
    }

    /// The service throttled a request that was sent at `sent`, and is left alone until then.
    pub fn throttled(&self, sent: Instant, until: Option<Instant>) {
        self.turns.supply(|rate| {
            rate.lower(Rate::THROTTLED, sent, Instant::now());
            rate.rest(until);
        });
    }

    /// The service failed at a request that was sent at `sent`.
    pub fn failed(&self, sent: Instant) {
        self.turns.supply(|rate| rate.lower(Rate::FAILED, sent, Instant::now()));
    }

    /// Whether turns are left over for what nobody waits for: nobody waits, at least half of what can be saved up is
    /// there, and the service has not shown lately that it is asked too often.
    pub fn has_room(&self) -> bool {
        let is_at_ease = self.turns.supply(|rate| {
            rate.pass(Instant::now());
            rate.current >= rate.highest && rate.turns * 2.0 >= rate.room()
        });
        is_at_ease && self.turns.is_empty()
    }

    /// The turns per second that there are now.
    pub fn rate(&self) -> f64 {
        self.turns.supply(|rate| {
            rate.pass(Instant::now());
            rate.current
        })
    }
}

/// A bucket of turns, filled at a rate that adapts.
#[derive(Debug)]
struct Rate {
    /// The rate that was configured, in turns per second.
    highest: f64,
    current: f64,
    burst: f64,
    turns: f64,
    seen: Instant,
    /// When it was lowered last, and by which factor.
    lowered: Option<(Instant, f64)>,
}

impl Rate {
    const THROTTLED: f64 = 0.5;
    const FAILED: f64 = 0.9;
    /// The lowest rate, as a part of the highest.
    const LOWEST: f64 = 0.02;
    /// What the rate grows by in a second, as a part of the highest.
    const GROWTH: f64 = 1.0 / 60.0;
    /// Failures are judged at most so often: many at a time are one event.
    const EVENT: Duration = Duration::from_secs(1);
    /// No timer is finer, and what is missing may be less than can be told apart.
    const TICK: Duration = Duration::from_millis(1);

    fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let (highest, burst) = (f64::from(per_second), f64::from(burst));
        Self { highest, current: highest, burst, turns: burst, seen: now, lowered: None }
    }

    /// Time passes: the rate grows and the bucket fills.
    fn pass(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.seen).as_secs_f64();
        self.seen = self.seen.max(now);
        self.turns = (self.turns + seconds * self.current).min(self.room());
        self.current = (self.current + seconds * self.highest * Self::GROWTH).min(self.highest);
    }

    /// No turns come before then, and none are saved up: a pause must not end in a burst.
    fn rest(&mut self, until: Option<Instant>) {
        if let Some(until) = until.filter(|until| *until > self.seen) {
            self.seen = until;
            self.turns = 0.0;
        }
    }

    /// A lower rate allows a smaller burst.
    fn room(&self) -> f64 {
        (self.burst * self.current / self.highest).max(1.0)
    }

    fn lower(&mut self, factor: f64, sent: Instant, now: Instant) {
        self.pass(now);
        // What was on its way already when the rate was lowered says nothing new.
        let is_known = self
            .lowered
            .is_some_and(|(at, by)| by <= factor && (sent <= at || now.saturating_duration_since(at) < Self::EVENT));
        if is_known {
            return;
        }
        self.lowered = Some((now, factor));
        self.current = (self.current * factor).max(self.highest * Self::LOWEST);
        self.turns = 0.0;
    }
}

impl Supply for Rate {
    fn take(&mut self, now: Instant) -> Result<(), Option<Instant>> {
        self.pass(now);
        if self.turns >= 1.0 {
            self.turns -= 1.0;
            return Ok(());
        }
        let missing = Duration::from_secs_f64((1.0 - self.turns) / self.current);
        Err(Some(self.seen + missing.max(Self::TICK)))
    }

    fn put_back(&mut self) {
        self.turns += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The turns that can be had in this time, by somebody who always wants more.
    fn taken(rate: &mut Rate, from: Instant, time: Duration) -> u32 {
        let (mut now, mut turns) = (from, 0);
        loop {
            match rate.take(now) {
                Ok(()) => turns += 1,
                Err(Some(next)) if next < from + time => now = next,
                Err(_) => return turns,
            }
        }
    }

    #[test]
    fn no_second_sees_more_than_the_rate_and_the_burst() {
        let start = Instant::now();
        let mut rate = Rate::new(100, 20, start);
        assert!((115..=120).contains(&taken(&mut rate, start, SECOND)));
        let second = taken(&mut rate, start + SECOND, SECOND);
        assert!((95..=101).contains(&second), "{second}");
        let after_idling = taken(&mut rate, start + SECOND * 60, SECOND);
        assert!((115..=120).contains(&after_idling), "{after_idling}");
    }

    #[test]
    fn throttling_halves_the_rate_once_per_event_and_it_grows_back() {
        let start = Instant::now();
        let mut rate = Rate::new(600, 60, start);
        rate.lower(Rate::THROTTLED, start, start + SECOND);
        assert!((rate.current - 300.0).abs() < 0.01, "{rate:?}");
        assert!(rate.take(start + SECOND).is_err(), "what was saved up is gone");
        let late = start + SECOND + SECOND / 10;
        rate.lower(Rate::THROTTLED, start + SECOND / 2, late);
        assert!(rate.current > 300.0, "it was on its way already");
        rate.lower(Rate::THROTTLED, start + SECOND * 3, start + SECOND * 4);
        assert!((rate.current - 165.0).abs() < 0.01, "{rate:?}");
        rate.pass(start + SECOND * 14);
        assert!((rate.current - 265.0).abs() < 0.01, "ten a second: {rate:?}");
        rate.pass(start + SECOND * 600);
        assert!((rate.current - 600.0).abs() < 0.01, "never above what was configured: {rate:?}");
    }

    #[test]
    fn a_pause_ends_without_a_burst() {
        let start = Instant::now();
        let mut rate = Rate::new(100, 50, start);
        rate.rest(Some(start + SECOND * 5));
        let Err(Some(next)) = rate.take(start + SECOND) else { panic!("a turn in the pause") };
        assert!(next >= start + SECOND * 5, "{:?}", next - start);
        assert_eq!(taken(&mut rate, start + SECOND * 5, SECOND / 10), 9);
    }

    #[test]
    fn failures_lower_it_a_little_and_do_not_hide_throttling() {
        let start = Instant::now();
        let mut rate = Rate::new(600, 60, start);
        for _ in 0..50 {
            rate.lower(Rate::FAILED, start, start);
        }
        assert!((rate.current - 540.0).abs() < 0.01, "{rate:?}");
        rate.lower(Rate::THROTTLED, start, start);
        assert!((rate.current - 270.0).abs() < 0.01, "{rate:?}");
        for second in 1..60 {
            rate.lower(Rate::THROTTLED, start + SECOND * 2 * second, start + SECOND * 2 * second);
        }
        assert!(rate.current >= 12.0, "it never comes to a stop: {rate:?}");
        let turns = taken(&mut rate, start + SECOND * 120, SECOND);
        assert!((10..=60).contains(&turns), "{turns}");
    }
}

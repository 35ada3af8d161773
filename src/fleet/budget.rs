//! The request budget that replicas share: a token bucket in Redis, of which each replica draws permits for a moment.
//!
//! ```text
//! try_take ─► drawn permits left? ─yes─► Taken
//!                │ no: wake the task that draws ─► Later, or Away while Redis is
//! ```
//!
//! Nothing waits for Redis here: a request that wants a permit is told when to ask again, and that it is alone as soon
//! as a draw has failed. Permits that were not used in time are given back.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::redis::Script;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::hint_channel::{Heard, HintListener, Hints};
use super::hints::{Hint, QuotaName};
use super::redis::{RedisFailure, RedisLink};
use wheelport_runtime::{Tasks, sabotaged};

/// Permits that are drawn at once at most.
const DRAW: u32 = 50;
/// How long they may be used.
const DRAW_LIFE: Duration = Duration::from_millis(250);
/// When a request asks again that found no permit while one is being drawn.
const SOON: Duration = Duration::from_millis(2);
/// The pause after a draw that failed.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an unused bucket is remembered, in milliseconds: longer than it takes to grow back to its full rate.
const BUCKET_LIFE: u32 = 120_000;

/// The bucket. The arithmetic is that of the local one: half of the rate for throttling, a sixtieth more each second.
///
/// `KEYS[1]`: the bucket. `ARGV`: rate, burst, permits wanted, permits given back, whether the service throttled, life.
/// Returns the permits granted and, where there is none, the milliseconds until there is one.
static DRAWING: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
         local max, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
         local held = redis.call('HMGET', KEYS[1], 'permits', 'at', 'rate', 'lowered')
         local at, rate = tonumber(held[2] or now), math.min(tonumber(held[3] or max), max)
         local permits, lowered = tonumber(held[1] or burst), tonumber(held[4] or 0)
         local passed = math.max(0, now - at)
         rate = math.min(max, rate + passed * max / 60)
         permits = permits + passed * rate + tonumber(ARGV[4])
         if ARGV[5] == '1' and now - lowered >= 1 then
             rate, permits, lowered = math.max(rate / 2, max / 50), 0, now
         end
         permits = math.min(permits, math.max(1, burst * rate / max))
         local granted = math.min(tonumber(ARGV[3]), math.floor(permits))
         permits = permits - granted
         redis.call('HSET', KEYS[1], 'permits', string.format('%.6f', permits), 'at', string.format('%.6f', now),
             'rate', string.format('%.6f', rate), 'lowered', string.format('%.6f', lowered))
         redis.call('PEXPIRE', KEYS[1], ARGV[6])
         if granted > 0 then return {granted, 0} end
         return {0, math.ceil(math.max(0, 1 - permits) / rate * 1000)}",
    )
});

/// Runs the script on a bucket that nothing else uses.
pub(super) async fn prove_budget(link: &RedisLink, quota: &QuotaName) -> Result<(), RedisFailure> {
    let mut drawing = DRAWING.key(bucket(quota));
    drawing.arg(1).arg(1).arg(0).arg(0).arg(0).arg(1);
    link.run::<(u32, u64)>(&drawing).await.map(drop)
}

fn bucket(quota: &QuotaName) -> String {
    format!("wheelport:v1:budget:{}", quota.as_str())
}

/// What a request gets that wants a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetPermit {
    Taken,
    /// There may be one then.
    Later(Instant),
    /// Redis is away: this replica is on its own.
    Away,
}

/// The budget of one quota. Cheap to clone.
#[derive(Clone)]
pub struct QuotaBudget {
    inner: Arc<BudgetInner>,
}

struct BudgetInner {
    quota: QuotaName,
    state: Mutex<BudgetState>,
    /// A permit is wanted, or the service throttled.
    wake: Notify,
}

#[derive(Debug)]
struct BudgetState {
    permits: u32,
    /// Until when they may be used.
    until: Instant,
    /// When there may be more.
    next: Instant,
    is_away: bool,
    is_wanted: bool,
    is_throttled: bool,
}

impl BudgetState {
    fn try_take(&mut self, now: Instant) -> BudgetPermit {
        if self.permits > 0 && now < self.until {
            self.permits -= 1;
            return BudgetPermit::Taken;
        }
        self.is_wanted = true;
        if self.is_away { BudgetPermit::Away } else { BudgetPermit::Later(self.next.max(now + SOON)) }
    }

    /// What is asked of the bucket: permits wanted, permits given back, whether the service throttled.
    fn draw(&mut self) -> (u32, u32, bool) {
        let wanted = if std::mem::take(&mut self.is_wanted) { DRAW } else { 0 };
        let unused = std::mem::take(&mut self.permits);
        (wanted, unused, std::mem::take(&mut self.is_throttled))
    }

    fn drawn(&mut self, granted: u32, wait: Duration, now: Instant) {
        self.is_away = false;
        (self.permits, self.until, self.next) = (granted, now + DRAW_LIFE, now + wait);
    }
}

impl QuotaBudget {
    pub(super) fn start(
        link: RedisLink,
        hints: &Hints,
        quota: QuotaName,
        (rate, burst): (u32, u32),
        metrics: BudgetMetrics,
        tasks: &Tasks,
    ) -> Self {
        let now = Instant::now();
        let (is_away, is_wanted, is_throttled) = (false, false, false);
        let state = BudgetState { permits: 0, until: now, next: now, is_away, is_wanted, is_throttled };
        let inner = BudgetInner { quota, state: Mutex::new(state), wake: Notify::new() };
        let budget = Self { inner: Arc::new(inner) };
        let (drawing, hearing) = (budget.clone(), budget.clone());
        let (hints, listener) = (hints.clone(), hints.listen());
        tasks.spawn_loop("draw on the request budget", async move {
            drawing.draw(&link, &hints, (rate, burst), &metrics).await;
        });
        tasks.spawn_loop("hear of throttling", hearing.hear(listener));
        budget
    }

    /// Takes a permit, or says when to ask again.
    pub fn try_take(&self, now: Instant) -> BudgetPermit {
        let permit = self.inner.state.lock().try_take(now);
        if permit != BudgetPermit::Taken {
            self.inner.wake.notify_one();
        }
        permit
    }

    /// The service throttled a request of this replica: all are to slow down.
    pub fn throttled(&self) {
        if !sabotaged("shared-throttle") {
            self.inner.state.lock().is_throttled = true;
            self.inner.wake.notify_one();
        }
    }

    async fn draw(&self, link: &RedisLink, hints: &Hints, (rate, burst): (u32, u32), metrics: &BudgetMetrics) {
        let key = bucket(&self.inner.quota);
        loop {
            self.wanted().await;
            let (wanted, unused, is_throttled) = self.inner.state.lock().draw();
            let mut drawing = DRAWING.key(&key);
            drawing.arg(rate).arg(burst).arg(wanted).arg(unused).arg(u8::from(is_throttled)).arg(BUCKET_LIFE);
            let drawn: Result<(u32, u64), RedisFailure> = link.run(&drawing).await;
            match drawn {
                Ok((granted, millis)) => {
                    let wait = Duration::from_millis(millis);
                    self.inner.state.lock().drawn(granted, wait, Instant::now());
                    metrics.drawn(if granted > 0 || wanted == 0 { "granted" } else { "empty" });
                    if granted == 0 {
                        sleep(wait).await;
                    }
                }
                Err(error) => {
                    self.inner.state.lock().is_away = true;
                    metrics.drawn("away");
                    tracing::debug!(%error, "the request budget cannot be drawn on");
                    sleep(PAUSE).await;
                }
            }
            if is_throttled {
                hints.send(Hint::SlowDown { quota: self.inner.quota.clone() }).await;
            }
        }
    }

    /// Resolves when permits are wanted, the service throttled, or permits are left at the end of their time.
    async fn wanted(&self) {
        loop {
            let until = {
                let state = self.inner.state.lock();
                if state.is_wanted || state.is_throttled {
                    return;
                }
                (state.permits > 0).then_some(state.until)
            };
            match until {
                None => self.inner.wake.notified().await,
                Some(until) => tokio::select! {
                    () = self.inner.wake.notified() => {}
                    () = sleep_until(until) => return,
                },
            }
        }
    }

    /// What was drawn at the old rate is not used when another replica was throttled.
    async fn hear(self, mut listener: HintListener) {
        while let Some(heard) = listener.next().await {
            if matches!(heard, Heard::Hint(Hint::SlowDown { quota }) if quota == self.inner.quota) {
                self.inner.state.lock().permits = 0;
            }
        }
    }
}

impl fmt::Debug for QuotaBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuotaBudget({})", self.inner.quota.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Default)]
pub(super) struct BudgetMetrics {
    draws: Family<BudgetLabels, Counter>,
}

impl BudgetMetrics {
    fn drawn(&self, result: &'static str) {
        self.draws.get_or_create(&BudgetLabels { result }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Draws on the request budget that replicas share, by what came of them";
        registry.register("budget_draws", help, self.draws.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn permits_are_used_for_a_moment_and_given_back_after_it() {
        let start = Instant::now();
        let mut state = BudgetState {
            permits: 0,
            until: start,
            next: start,
            is_away: false,
            is_wanted: false,
            is_throttled: false,
        };
        assert_eq!(state.try_take(start), BudgetPermit::Later(start + SOON));
        assert_eq!(state.draw(), (DRAW, 0, false));
        state.drawn(2, Duration::ZERO, start);
        assert_eq!(state.try_take(start), BudgetPermit::Taken);
        assert_eq!(state.try_take(start + DRAW_LIFE), BudgetPermit::Later(start + DRAW_LIFE + SOON), "too late");
        assert_eq!(state.draw(), (DRAW, 1, false));
        state.drawn(0, DRAW_LIFE, start);
        assert_eq!(state.try_take(start), BudgetPermit::Later(start + DRAW_LIFE));
        state.is_away = true;
        assert_eq!(state.try_take(start), BudgetPermit::Away, "nothing waits for Redis");
    }
}

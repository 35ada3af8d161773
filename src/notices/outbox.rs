//! Where notices wait for their delivery: bounded, in the order in which they were told, each only once in a while.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use wheelport_runtime::{Clock, sabotaged};

use super::metrics::{NoticeMetrics, NoticeOutcome};
use super::notice::Notice;

/// Subjects that are remembered; of more, the one that was told first is forgotten.
const REMEMBERED: usize = 2048;

/// The bounds of an outbox.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// Notices that wait at the same time.
    pub waiting: usize,
    /// How long the same notice is not told again.
    pub repeat_after: Duration,
}

/// Tells notices. Cheap to clone; by default no one hears them.
#[derive(Clone, Default)]
pub struct Notices(Option<Arc<Outbox>>);

/// A notice that waits for its delivery.
#[derive(Debug, Clone)]
pub struct WaitingNotice {
    pub notice: Notice,
    /// When it was told, by the calendar and by the clock that only goes forward.
    pub time: SystemTime,
    pub told: Instant,
}

pub struct Outbox {
    limits: OutboxLimits,
    clock: Clock,
    state: Mutex<OutboxState>,
    arrived: Notify,
    metrics: NoticeMetrics,
}

#[derive(Default)]
struct OutboxState {
    waiting: VecDeque<WaitingNotice>,
    /// By subject: the type that was told last, and when.
    told: HashMap<String, (&'static str, Instant)>,
}

impl Notices {
    /// Tells a notice. It waits for nothing. The same notice again, soon after, is left out; so is one for which there
    /// is no room.
    pub fn tell(&self, notice: Notice) {
        let Some(outbox) = &self.0 else { return };
        match outbox.put(notice) {
            Ok(()) => outbox.arrived.notify_one(),
            Err(outcome) => outbox.metrics.count(outcome),
        }
    }

    /// Whether anyone hears them.
    pub fn are_heard(&self) -> bool {
        self.0.is_some()
    }
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Notices(heard)" } else { "Notices(unheard)" })
    }
}

impl Outbox {
    pub fn new(limits: OutboxLimits, clock: Clock) -> Arc<Self> {
        let (state, arrived, metrics) = (Mutex::default(), Notify::new(), NoticeMetrics::default());
        Arc::new(Self { limits, clock, state, arrived, metrics })
    }

    /// What tells notices to this outbox.
    pub fn notices(self: &Arc<Self>) -> Notices {
        Notices(Some(Arc::clone(self)))
    }

    pub fn metrics(&self) -> &NoticeMetrics {
        &self.metrics
    }

    /// The notice that has waited longest. It stays here until [`Outbox::settle`] takes it out.
    pub async fn next(&self) -> WaitingNotice {
        loop {
            let arrived = self.arrived.notified();
            if let Some(first) = self.first() {
                return first;
            }
            arrived.await;
        }
    }

    /// The same, if there is one now.
    pub fn first(&self) -> Option<WaitingNotice> {
        self.state.lock().waiting.front().cloned()
    }

    /// Takes out the notice that has waited longest, and counts what became of it.
    pub fn settle(&self, outcome: NoticeOutcome) {
        let mut state = self.state.lock();
        if state.waiting.pop_front().is_some() {
            self.metrics.count(outcome);
        }
        self.note_waiting(&state);
    }

    fn put(&self, notice: Notice) -> Result<(), NoticeOutcome> {
        let (now, kind, subject) = (Instant::now(), notice.kind(), notice.subject());
        let mut state = self.state.lock();
        let is_repeated = |(told, when): &(&str, Instant)| {
            *told == kind && now.duration_since(*when) < self.limits.repeat_after && !sabotaged("notice-repeat")
        };
        if state.told.get(&subject).is_some_and(is_repeated) {
            return Err(NoticeOutcome::Repeated);
        }
        // The first notices tell the cause, later ones mostly what follows from it; so these are left out.
        if state.waiting.len() >= self.limits.waiting && !sabotaged("notice-room") {
            return Err(NoticeOutcome::Dropped);
        }
        state.remember(subject, kind, now);
        state.waiting.push_back(WaitingNotice { notice, time: self.clock.now(), told: now });
        self.note_waiting(&state);
        Ok(())
    }

    fn note_waiting(&self, state: &OutboxState) {
        self.metrics.waiting.set(i64::try_from(state.waiting.len()).unwrap_or(i64::MAX));
    }
}

impl OutboxState {
    fn remember(&mut self, subject: String, kind: &'static str, now: Instant) {
        if self.told.len() >= REMEMBERED
            && !self.told.contains_key(&subject)
            && let Some(oldest) = self.told.iter().min_by_key(|(_, (_, when))| *when).map(|(key, _)| key.clone())
        {
            self.told.remove(&oldest);
        }
        self.told.insert(subject, (kind, now));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn outbox(waiting: usize) -> Arc<Outbox> {
        Outbox::new(OutboxLimits { waiting, repeat_after: HOUR }, Clock::system())
    }

    fn closed(route: &str) -> Notice {
        Notice::RouteClosed { route: route.into() }
    }

    fn kinds(outbox: &Outbox) -> Vec<&'static str> {
        std::iter::from_fn(|| {
            let first = outbox.first()?;
            outbox.settle(NoticeOutcome::Delivered);
            Some(first.notice.kind())
        })
        .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_told_once_in_a_while_and_a_change_of_it_at_once() {
        let outbox = outbox(100);
        let notices = outbox.notices();
        for _ in 0..3 {
            notices.tell(closed("pypi"));
        }
        notices.tell(closed("team"));
        assert_eq!(kinds(&outbox), ["route-closed", "route-closed"]);
        notices.tell(Notice::RouteReopened { route: "pypi".into() });
        notices.tell(closed("pypi"));
        assert_eq!(kinds(&outbox), ["route-reopened", "route-closed"], "neither repeats the one before");
        tokio::time::advance(Duration::from_mins(59)).await;
        notices.tell(closed("team"));
        assert!(kinds(&outbox).is_empty());
        tokio::time::advance(Duration::from_mins(1)).await;
        notices.tell(closed("team"));
        assert_eq!(kinds(&outbox), ["route-closed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_outbox_keeps_the_first_and_lets_the_others_be_told_later() {
        let outbox = outbox(2);
        let notices = outbox.notices();
        for route in ["a", "b", "c"] {
            notices.tell(closed(route));
        }
        assert_eq!(outbox.metrics().waiting.get(), 2);
        assert_eq!(kinds(&outbox).len(), 2);
        notices.tell(closed("c"));
        assert_eq!(outbox.first().map(|first| first.notice), Some(closed("c")), "it counts as not told");
        assert_eq!(outbox.metrics().waiting.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_is_remembered_within_a_bound() {
        let outbox = outbox(usize::MAX);
        let notices = outbox.notices();
        for number in 0..=REMEMBERED {
            notices.tell(closed(&number.to_string()));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(outbox.state.lock().told.len(), REMEMBERED);
        notices.tell(closed("0"));
        notices.tell(closed(&REMEMBERED.to_string()));
        assert_eq!(outbox.state.lock().waiting.len(), REMEMBERED + 2, "only the first was forgotten");
    }

    #[tokio::test]
    async fn a_notice_stays_until_it_is_settled_and_one_that_comes_wakes_the_courier() {
        let outbox = outbox(2);
        assert!(outbox.next().now_or_never().is_none());
        let notices = outbox.notices();
        notices.tell(closed("a"));
        assert_eq!(outbox.next().await.notice, closed("a"));
        assert_eq!(outbox.next().await.notice, closed("a"));
        outbox.settle(NoticeOutcome::Delivered);
        assert!(outbox.first().is_none());
        Notices::default().tell(closed("a"));
    }
}

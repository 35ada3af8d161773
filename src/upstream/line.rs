//! Waiting for something scarce, fairly between clients: a [`FairQueue`] of waiters before a [`Supply`].
//!
//! Nothing runs behind it. Who gives something back serves the line; where supply comes with time, the waiter whose
//! turn is next watches the clock and serves the line, then whoever is next does. The lock is never held across an await.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::fair::FairQueue;
use wheelport_runtime::Priority;

/// What is waited for.
pub(super) trait Supply {
    /// Takes one. Where there is none, `Some` is when there may be one; `None` is when one is given back.
    fn take(&mut self, now: Instant) -> Result<(), Option<Instant>>;

    /// One that was taken and is not used.
    fn put_back(&mut self);
}

/// There is none before the deadline, or no room to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded;

/// Waiters before a supply.
#[derive(Debug)]
pub(super) struct Line<S> {
    state: Mutex<State<S>>,
}

#[derive(Debug)]
struct State<S> {
    supply: S,
    waiters: FairQueue<Arc<Waiter>>,
}

/// One who waits. Its fate is decided under the lock of the line.
#[derive(Debug, Default)]
struct Waiter {
    fate: AtomicU8,
    wake: Notify,
}

const WAITING: u8 = 0;
const SERVED: u8 = 1;
const TURNED_AWAY: u8 = 2;

impl Waiter {
    fn decide(&self, fate: u8) {
        self.fate.store(fate, Ordering::Release);
        self.wake.notify_one();
    }

    fn fate(&self) -> u8 {
        self.fate.load(Ordering::Acquire)
    }
}

impl<S: Supply> State<S> {
    /// Hands out what there is. Says when there may be more, if it is time that brings it.
    fn serve(&mut self, now: Instant) -> Option<Instant> {
        let mut handed_out = false;
        while !self.waiters.is_empty() {
            if let Err(when) = self.supply.take(now) {
                if handed_out && let Some(next) = self.waiters.peek() {
                    next.wake.notify_one();
                }
                return when;
            }
            handed_out = true;
            match self.waiters.pop() {
                Some(waiter) => waiter.decide(SERVED),
                None => self.supply.put_back(),
            }
        }
        None
    }
}

impl<S: Supply> Line<S> {
    /// A line in which at most so many wait.
    pub fn new(supply: S, limit: usize) -> Self {
        Self { state: Mutex::new(State { supply, waiters: FairQueue::new(limit) }) }
    }

    /// Takes one, in turn, before the deadline. Who stops waiting loses nothing for the others.
    pub async fn take(&self, caller: Priority, deadline: Instant) -> Result<(), Crowded> {
        let Some(mut waiting) = self.enter(caller)? else { return Ok(()) };
        loop {
            let next = {
                let mut state = self.lock();
                let when = state.serve(Instant::now());
                let is_first = state.waiters.peek().is_some_and(|first| Arc::ptr_eq(first, &waiting.waiter));
                when.filter(|_| is_first)
            };
            match waiting.waiter.fate() {
                SERVED => {
                    waiting.has_left = true;
                    return Ok(());
                }
                TURNED_AWAY => {
                    waiting.has_left = true;
                    return Err(Crowded);
                }
                _ if Instant::now() >= deadline || next.is_some_and(|next| next > deadline) => {
                    return Err(Crowded);
                }
                _ => {}
            }
            let limit = next.map_or(deadline, |next| next.min(deadline));
            let _ = timeout_at(limit, waiting.waiter.wake.notified()).await;
        }
    }

    /// Gives one back that was taken.
    pub fn put_back(&self) {
        let mut state = self.lock();
        state.supply.put_back();
        state.serve(Instant::now());
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.lock().waiters.is_empty()
    }

    /// Looks at the supply, or changes it.
    pub fn supply<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        look(&mut self.lock().supply)
    }

    /// Takes one at once if nobody waits, else a place in the line.
    fn enter(&self, caller: Priority) -> Result<Option<Waiting<'_, S>>, Crowded> {
        let mut state = self.lock();
        if state.waiters.is_empty() && state.supply.take(Instant::now()).is_ok() {
            return Ok(None);
        }
        let waiter = Arc::new(Waiter::default());
        match state.waiters.push(caller, Arc::clone(&waiter)) {
            Err(_) => return Err(Crowded),
            Ok(Some(displaced)) => displaced.decide(TURNED_AWAY),
            Ok(None) => {}
        }
        Ok(Some(Waiting { line: self, caller, waiter, has_left: false }))
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a line; dropping it leaves the line.
struct Waiting<'a, S: Supply> {
    line: &'a Line<S>,
    caller: Priority,
    waiter: Arc<Waiter>,
    has_left: bool,
}

impl<S: Supply> Drop for Waiting<'_, S> {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let mut state = self.line.lock();
        match self.waiter.fate() {
            WAITING => {
                state.waiters.remove(self.caller, |waiter| Arc::ptr_eq(waiter, &self.waiter));
                // It may have been the one that watched the clock.
                if let Some(next) = state.waiters.peek() {
                    next.wake.notify_one();
                }
            }
            SERVED => {
                state.supply.put_back();
                state.serve(Instant::now());
            }
            _ => {}
        }
    }
}

/// A number of places that are given back.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    free: usize,
}

impl Places {
    pub fn new(number: usize) -> Self {
        Self { all: number, free: number }
    }

    /// Whether no more than half of them are taken.
    pub fn are_half_free(&self) -> bool {
        self.free * 2 >= self.all
    }
}

impl Supply for Places {
    fn take(&mut self, _now: Instant) -> Result<(), Option<Instant>> {
        self.free = self.free.checked_sub(1).ok_or(None)?;
        Ok(())
    }

    fn put_back(&mut self) {
        self.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use futures_util::stream::{FuturesUnordered, StreamExt as _};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(number: u8) -> Priority {
        Priority::client(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
    }

    /// One every tenth of a second.
    struct Ticks(Instant);

    impl Supply for Ticks {
        fn take(&mut self, now: Instant) -> Result<(), Option<Instant>> {
            if now < self.0 {
                return Err(Some(self.0));
            }
            self.0 = now + SECOND / 10;
            Ok(())
        }

        fn put_back(&mut self) {
            self.0 = Instant::now();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_modest_client_waits_for_one_turn_of_a_greedy_one() {
        let line = Line::new(Ticks(Instant::now()), 1000);
        let start = Instant::now();
        let deadline = start + SECOND * 60;
        let mut waiting = FuturesUnordered::new();
        for _ in 0..200 {
            waiting.push(async { (1, line.take(client(1), deadline).await) }.boxed_local());
        }
        // All of them are in the line before the other client comes.
        assert_eq!(waiting.next().await, Some((1, Ok(()))));
        waiting.push(async { (2, line.take(client(2), deadline).await) }.boxed_local());
        let mut order = Vec::new();
        let mut seconds = Duration::ZERO;
        while let Some((who, taken)) = waiting.next().await {
            assert_eq!(taken, Ok(()));
            order.push(who);
            if who == 2 {
                seconds = start.elapsed();
            }
        }
        assert!(order.iter().position(|who| *who == 2).is_some_and(|at| at <= 1), "{order:?}");
        assert!(seconds <= SECOND / 4, "{seconds:?}");
        assert!(start.elapsed() >= SECOND * 20, "the others had their turns in time: {:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_takes_nothing_along() {
        let line = Line::new(Places::new(1), 10);
        let deadline = Instant::now() + SECOND;
        line.take(client(1), deadline).await.expect("it is free");
        let mut served = Box::pin(line.take(client(1), deadline));
        let mut next = Box::pin(line.take(client(2), deadline));
        assert!(served.as_mut().now_or_never().is_none() && next.as_mut().now_or_never().is_none());
        line.put_back();
        // It is the first one's by now, which leaves before it hears of it.
        drop(served);
        assert_eq!(next.now_or_never(), Some(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_first_leaves_the_next_watches_the_clock() {
        let line = Line::new(Ticks(Instant::now()), 10);
        let start = Instant::now();
        line.take(client(1), start).await.expect("it is free");
        let mut first = Box::pin(line.take(client(1), start + SECOND * 9));
        let mut next = Box::pin(line.take(client(2), start + SECOND * 9));
        assert!(first.as_mut().now_or_never().is_none() && next.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(next.await, Ok(()));
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_deadline_or_without_room() {
        let line = Line::new(Places::new(1), 1);
        let start = Instant::now();
        line.take(client(1), start).await.expect("it is free");
        let mut waiting = Box::pin(line.take(client(1), start + SECOND));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(line.take(client(2), start + SECOND * 5).await, Err(Crowded), "no room in the line");
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(waiting.await, Err(Crowded));
        assert_eq!(start.elapsed(), SECOND);
        line.put_back();
        assert_eq!(line.take(client(2), start).await, Ok(()), "who left is not served");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_the_deadline_is_not_begun() {
        let line = Line::new(Ticks(Instant::now() + SECOND * 9), 10);
        let start = Instant::now();
        assert_eq!(line.take(client(1), start + SECOND).await, Err(Crowded));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

//! Waiting for something scarce, fairly between clients: a [`FairQueue`] of waiters in front of a [`Resource`].
//!
//! The limiter has no task of its own. Releasing a unit wakes the next waiter. Where units come with time, the waiter
//! at the head of the queue owns the timer, hands out what there is, and passes the timer on. The lock is never held
//! across an await.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::fair_queue::FairQueue;
use super::priority::Priority;
use crate::sabotage::sabotaged;

/// A number of units that requests take, such as permits.
pub trait Resource {
    /// Takes one unit for a client. `Err(Some(when))` says when the next one may be there; `Err(None)` says that one
    /// must be released first.
    fn try_acquire(&mut self, client: Priority, now: Instant) -> Result<(), Option<Instant>>;

    /// Gives back a unit that was taken for a client.
    fn release(&mut self, client: Priority);

    /// Whether a client may have a unit before one is released. Others go first while it may not.
    fn allows(&self, _client: Priority) -> bool {
        true
    }
}

/// No unit before the deadline, or no room in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

/// Hands out the units of a resource, in rotation between clients.
#[derive(Debug)]
pub struct FairLimiter<R> {
    state: Mutex<LimiterState<R>>,
}

#[derive(Debug)]
struct LimiterState<R> {
    resource: R,
    waiters: FairQueue<Arc<QueuedWaiter>>,
}

/// One waiting request. Its outcome is decided under the lock of the limiter.
#[derive(Debug, Default)]
struct QueuedWaiter {
    outcome: AtomicU8,
    wake: Notify,
}

const WAITING: u8 = 0;
const GRANTED: u8 = 1;
const DISPLACED: u8 = 2;

impl QueuedWaiter {
    fn decide(&self, outcome: u8) {
        self.outcome.store(outcome, Ordering::Release);
        self.wake.notify_one();
    }

    fn outcome(&self) -> u8 {
        self.outcome.load(Ordering::Acquire)
    }
}

impl<R: Resource> LimiterState<R> {
    /// Hands out what there is. Returns when there may be more, if more comes with time.
    fn grant(&mut self, now: Instant) -> Option<Instant> {
        let mut granted = false;
        while let Some(client) = self.next() {
            if let Err(when) = self.resource.try_acquire(client, now) {
                if granted {
                    self.wake_next();
                }
                return when;
            }
            granted = true;
            match self.waiters.pop(client) {
                Some(waiter) => waiter.decide(GRANTED),
                None => self.resource.release(client),
            }
        }
        None
    }

    fn next(&self) -> Option<Priority> {
        self.waiters.next(|client| self.resource.allows(client))
    }

    fn first(&self) -> Option<&Arc<QueuedWaiter>> {
        self.waiters.peek(self.next()?)
    }

    fn wake_next(&self) {
        if let Some(next) = self.first() {
            next.wake.notify_one();
        }
    }
}

impl<R: Resource> FairLimiter<R> {
    /// A limiter whose queue holds at most `max_queue` waiters.
    pub fn new(resource: R, max_queue: usize) -> Self {
        Self { state: Mutex::new(LimiterState { resource, waiters: FairQueue::new(max_queue) }) }
    }

    /// Takes one unit before the deadline. Dropping the future loses no unit.
    pub async fn acquire(&self, priority: Priority, deadline: Instant) -> Result<(), Overloaded> {
        let Some(mut position) = self.enter(priority)? else { return Ok(()) };
        loop {
            let next = {
                let mut state = self.state.lock();
                let when = state.grant(Instant::now());
                let is_first = state.first().is_some_and(|first| Arc::ptr_eq(first, &position.waiter));
                when.filter(|_| is_first)
            };
            match position.waiter.outcome() {
                GRANTED => {
                    position.has_left = true;
                    return Ok(());
                }
                DISPLACED => {
                    position.has_left = true;
                    return Err(Overloaded);
                }
                _ if Instant::now() >= deadline || next.is_some_and(|next| next > deadline) => {
                    return Err(Overloaded);
                }
                _ => {}
            }
            let limit = next.map_or(deadline, |next| next.min(deadline));
            let _ = timeout_at(limit, position.waiter.wake.notified()).await;
        }
    }

    /// Gives back a unit that was acquired for a client, and wakes the next waiter.
    pub fn release(&self, client: Priority) {
        let mut state = self.state.lock();
        state.resource.release(client);
        state.grant(Instant::now());
    }

    /// Whether anything waits.
    pub fn has_waiters(&self) -> bool {
        !self.state.lock().waiters.is_empty()
    }

    /// Reads or changes the resource under the lock.
    pub fn with_resource<T>(&self, action: impl FnOnce(&mut R) -> T) -> T {
        action(&mut self.state.lock().resource)
    }

    /// Takes one unit at once if the queue is empty, otherwise a position in the queue.
    fn enter(&self, priority: Priority) -> Result<Option<QueuePosition<'_, R>>, Overloaded> {
        let mut state = self.state.lock();
        if state.waiters.is_empty() && state.resource.try_acquire(priority, Instant::now()).is_ok() {
            return Ok(None);
        }
        let waiter = Arc::new(QueuedWaiter::default());
        match state.waiters.push(priority, Arc::clone(&waiter)) {
            Err(_) => return Err(Overloaded),
            Ok(Some(displaced)) => displaced.decide(DISPLACED),
            Ok(None) => {}
        }
        Ok(Some(QueuePosition { limiter: self, priority, waiter, has_left: false }))
    }
}

/// A position in the queue of a limiter; dropping it leaves the queue.
struct QueuePosition<'a, R: Resource> {
    limiter: &'a FairLimiter<R>,
    priority: Priority,
    waiter: Arc<QueuedWaiter>,
    has_left: bool,
}

impl<R: Resource> Drop for QueuePosition<'_, R> {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let mut state = self.limiter.state.lock();
        match self.waiter.outcome() {
            WAITING => {
                state.waiters.remove(self.priority, |waiter| Arc::ptr_eq(waiter, &self.waiter));
                // It may have owned the timer.
                state.wake_next();
            }
            GRANTED => {
                state.resource.release(self.priority);
                state.grant(Instant::now());
            }
            _ => {}
        }
    }
}

/// A fixed number of permits, each of which is released after use.
#[derive(Debug)]
pub struct Permits {
    all: usize,
    free: usize,
    /// The permits that each client holds, where no client may hold all of them.
    shares: Option<HashMap<Priority, usize>>,
}

impl Permits {
    /// Permits that one client may hold all of.
    pub fn new(number: usize) -> Self {
        Self { all: number, free: number, shares: None }
    }

    /// Permits of which a client may hold less than twice as many as are free then. So one client has two thirds of
    /// them at most, and another one need not wait for it: there is something left for each that comes.
    pub fn shared(number: usize) -> Self {
        Self { shares: Some(HashMap::new()), ..Self::new(number) }
    }

    /// Whether at least half of the permits are free.
    pub fn are_half_free(&self) -> bool {
        self.free * 2 >= self.all
    }
}

impl Resource for Permits {
    fn try_acquire(&mut self, client: Priority, _now: Instant) -> Result<(), Option<Instant>> {
        if !self.allows(client) {
            return Err(None);
        }
        self.free -= 1;
        if let Some(shares) = &mut self.shares {
            *shares.entry(client).or_default() += 1;
        }
        Ok(())
    }

    fn release(&mut self, client: Priority) {
        self.free += 1;
        if let Some(Entry::Occupied(mut held)) = self.shares.as_mut().map(|shares| shares.entry(client)) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }

    fn allows(&self, client: Priority) -> bool {
        let held = self.shares.as_ref().map_or(0, |shares| shares.get(&client).copied().unwrap_or_default());
        self.free > 0 && (held + 1 < 2 * self.free || sabotaged("client-share"))
    }
}

/// One permit; dropping it releases it.
#[derive(Debug)]
pub struct FairPermit {
    limiter: Arc<FairLimiter<Permits>>,
    client: Priority,
}

impl FairPermit {
    /// Takes a permit for the running task before the deadline.
    pub async fn acquire(limiter: &Arc<FairLimiter<Permits>>, deadline: Instant) -> Result<Self, Overloaded> {
        let client = Priority::current();
        limiter.acquire(client, deadline).await?;
        Ok(Self { limiter: Arc::clone(limiter), client })
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        self.limiter.release(self.client);
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

    impl Resource for Ticks {
        fn try_acquire(&mut self, _client: Priority, now: Instant) -> Result<(), Option<Instant>> {
            if now < self.0 {
                return Err(Some(self.0));
            }
            self.0 = now + SECOND / 10;
            Ok(())
        }

        fn release(&mut self, _client: Priority) {
            self.0 = Instant::now();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_modest_client_waits_for_one_unit_of_a_greedy_one() {
        let limiter = FairLimiter::new(Ticks(Instant::now()), 1000);
        let start = Instant::now();
        let deadline = start + SECOND * 60;
        let mut waiting = FuturesUnordered::new();
        for _ in 0..200 {
            waiting.push(async { (1, limiter.acquire(client(1), deadline).await) }.boxed_local());
        }
        // All of them are queued before the other client comes.
        assert_eq!(waiting.next().await, Some((1, Ok(()))));
        waiting.push(async { (2, limiter.acquire(client(2), deadline).await) }.boxed_local());
        let mut order = Vec::new();
        let mut seconds = Duration::ZERO;
        while let Some((client, taken)) = waiting.next().await {
            assert_eq!(taken, Ok(()));
            order.push(client);
            if client == 2 {
                seconds = start.elapsed();
            }
        }
        assert!(order.iter().position(|client| *client == 2).is_some_and(|index| index <= 1), "{order:?}");
        assert!(seconds <= SECOND / 4, "{seconds:?}");
        assert!(start.elapsed() >= SECOND * 20, "the others were served at the rate: {:?}", start.elapsed());
    }

    #[test]
    fn there_is_a_permit_for_everyone_who_comes() {
        let (mut permits, now) = (Permits::shared(48), Instant::now());
        let mut takes_all =
            |client| std::iter::repeat_with(|| permits.try_acquire(client, now)).take_while(Result::is_ok).count();
        let taken: Vec<usize> = (1..=5).map(|number| takes_all(client(number))).collect();
        assert_eq!(taken, [32, 11, 3, 1, 1]);
        for _ in 0..32 {
            permits.release(client(1));
        }
        assert!(permits.allows(client(5)) && permits.are_half_free());
        for number in 1..=3 {
            assert_eq!(Permits::shared(number).try_acquire(client(1), now), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_its_share_waits_and_others_go_first() {
        let limiter = Arc::new(FairLimiter::new(Permits::shared(3), 10));
        let deadline = Instant::now() + SECOND;
        let acquire = |number| Box::pin(client(number).serve(FairPermit::acquire(&limiter, deadline)));
        let mut held = vec![acquire(1).await.expect("free"), acquire(1).await.expect("free")];
        let mut third = acquire(1);
        assert!(third.as_mut().now_or_never().is_none(), "one is left for others");
        let other = acquire(2).await.expect("it is not behind the one that waits");
        drop(other);
        assert!(third.as_mut().now_or_never().is_none());
        held.pop();
        assert!(third.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_leaves_takes_no_unit_along() {
        let limiter = FairLimiter::new(Permits::new(1), 10);
        let deadline = Instant::now() + SECOND;
        limiter.acquire(client(1), deadline).await.expect("it is free");
        let mut served = Box::pin(limiter.acquire(client(1), deadline));
        let mut next = Box::pin(limiter.acquire(client(2), deadline));
        assert!(served.as_mut().now_or_never().is_none() && next.as_mut().now_or_never().is_none());
        limiter.release(client(1));
        // The permit belongs to the first waiter by now, which leaves before it notices.
        drop(served);
        assert_eq!(next.now_or_never(), Some(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_first_waiter_leaves_the_next_owns_the_timer() {
        let limiter = FairLimiter::new(Ticks(Instant::now()), 10);
        let start = Instant::now();
        limiter.acquire(client(1), start).await.expect("it is free");
        let mut first = Box::pin(limiter.acquire(client(1), start + SECOND * 9));
        let mut next = Box::pin(limiter.acquire(client(2), start + SECOND * 9));
        assert!(first.as_mut().now_or_never().is_none() && next.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(next.await, Ok(()));
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_waits_past_its_deadline_or_in_a_full_queue() {
        let limiter = FairLimiter::new(Permits::new(1), 1);
        let start = Instant::now();
        limiter.acquire(client(1), start).await.expect("it is free");
        let mut waiting = Box::pin(limiter.acquire(client(1), start + SECOND));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(limiter.acquire(client(2), start + SECOND * 5).await, Err(Overloaded), "the queue is full");
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(waiting.await, Err(Overloaded));
        assert_eq!(start.elapsed(), SECOND);
        limiter.release(client(1));
        assert_eq!(limiter.acquire(client(2), start).await, Ok(()), "a waiter that left is not served");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_the_deadline_is_not_begun() {
        let limiter = FairLimiter::new(Ticks(Instant::now() + SECOND * 9), 10);
        let start = Instant::now();
        assert_eq!(limiter.acquire(client(1), start + SECOND).await, Err(Overloaded));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

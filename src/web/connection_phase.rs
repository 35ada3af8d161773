//! Where a connection is between two requests.
//!
//! ```text
//! Idle ──first byte──► Receiving ──headers complete──► Responding ──body done──► Idle
//! ```
//!
//! A TLS handshake is `Receiving` too, before all of this.
//!
//! Shared by everything that has a part in a connection: the stream under it, the body of a response, and the table of
//! connections, which asks one to give way where there are too many.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

use wheelport_runtime::sabotaged;

/// How long after it was opened a connection may be about to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// The state of one connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct ConnectionPhase(Arc<PhaseState>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No byte of a request has come.
    Idle,
    /// The headers of a request are not complete.
    Receiving,
    /// From complete headers to the end of the response's body.
    Responding,
}

/// How a connection gives way to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveWay {
    /// After the response in flight, if there is one.
    Politely,
    /// At once.
    AtOnce,
}

#[derive(Debug)]
struct PhaseState {
    phase: AtomicU8,
    opened: Instant,
    /// When the connection became idle, or began to wait for the rest of headers, in milliseconds since it was opened.
    since: AtomicU64,
    /// Bytes of headers that are not complete.
    headers: AtomicUsize,
    /// How many of them count in `memory`: none, until the rest has to be waited for.
    counted: AtomicUsize,
    memory: Arc<HeaderMemory>,
    /// Whether the headers of a request were ever complete.
    used: AtomicBool,
    /// Whether bytes of a response wait for the client to take them.
    unsent: AtomicBool,
    sent: AtomicWaker,
    give_way: AtomicU8,
    told: Notify,
}

const IDLE: u8 = 0;
const RECEIVING: u8 = 1;
const RESPONDING: u8 = 2;

const STAY: u8 = 0;
const POLITELY: u8 = 1;
const AT_ONCE: u8 = 2;

/// The memory that unfinished headers take, over all connections.
#[derive(Debug)]
pub(super) struct HeaderMemory {
    used: AtomicUsize,
    limit: usize,
    exceeded: Notify,
}

impl HeaderMemory {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit, exceeded: Notify::new() })
    }

    /// How much there is too much of.
    pub(super) fn excess(&self) -> usize {
        self.used.load(Ordering::Relaxed).saturating_sub(self.limit)
    }

    /// Resolves when there is too much.
    pub(super) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }

    fn add(&self, bytes: usize) {
        if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limit {
            self.exceeded.notify_one();
        }
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The time from complete headers to the end of the response; dropped with the response's body.
#[derive(Debug)]
pub(super) struct Responding(ConnectionPhase);

impl ConnectionPhase {
    /// A connection that was opened now.
    pub(super) fn new(memory: Arc<HeaderMemory>) -> Self {
        Self(Arc::new(PhaseState {
            phase: AtomicU8::new(IDLE),
            opened: Instant::now(),
            since: AtomicU64::new(0),
            headers: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
            memory,
            used: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            sent: AtomicWaker::new(),
            give_way: AtomicU8::new(STAY),
            told: Notify::new(),
        }))
    }

    pub(super) fn get(&self) -> Phase {
        match self.0.phase.load(Ordering::Relaxed) {
            IDLE => Phase::Idle,
            RECEIVING => Phase::Receiving,
            _ => Phase::Responding,
        }
    }

    /// When the connection became idle, or began to wait for the rest of headers.
    pub(super) fn since(&self) -> Instant {
        self.0.opened + Duration::from_millis(self.0.since.load(Ordering::Relaxed))
    }

    /// Bytes have come. Most headers come complete, so they neither count nor have a time yet.
    pub(super) fn received(&self, bytes: usize) {
        let state = &self.0;
        match self.get() {
            Phase::Idle => {
                state.headers.store(bytes, Ordering::Relaxed);
                state.phase.store(RECEIVING, Ordering::Relaxed);
            }
            Phase::Receiving => state.headers.store(self.header_bytes() + bytes, Ordering::Relaxed),
            Phase::Responding => {}
        }
    }

    /// The rest of the headers has to be waited for.
    pub(super) fn await_headers(&self) {
        let (state, headers) = (&self.0, self.header_bytes());
        let counted = state.counted.load(Ordering::Relaxed);
        if counted == 0 {
            state.set_since_now();
        }
        state.counted.store(headers, Ordering::Relaxed);
        state.memory.add(headers - counted);
    }

    /// A TLS handshake begins. It counts like headers that are not complete, so the same bound holds for both.
    pub(super) fn begin_handshake(&self, bytes: usize) {
        if sabotaged("handshake-memory") {
            return;
        }
        self.received(bytes);
        self.await_headers();
    }

    /// The handshake is done, and a request may come.
    pub(super) fn end_handshake(&self) {
        self.0.release_headers();
        self.0.headers.store(0, Ordering::Relaxed);
        self.0.set_since_now();
        self.0.phase.store(IDLE, Ordering::Relaxed);
    }

    /// Bytes of headers that are not complete.
    pub(super) fn header_bytes(&self) -> usize {
        self.0.headers.load(Ordering::Relaxed)
    }

    /// The headers of a request are complete.
    pub(super) fn respond(&self) -> Responding {
        self.0.phase.store(RESPONDING, Ordering::Relaxed);
        self.0.used.store(true, Ordering::Relaxed);
        self.0.release_headers();
        Responding(self.clone())
    }

    /// The client has not taken everything yet.
    pub(super) fn stall(&self) {
        self.0.unsent.store(true, Ordering::Release);
    }

    /// The client has taken everything, as far as the system's buffer goes.
    pub(super) fn sent(&self) {
        if self.is_stalled() {
            if self.get() == Phase::Idle {
                self.0.set_since_now();
            }
            self.0.unsent.store(false, Ordering::Release);
            self.0.sent.wake();
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.0.unsent.load(Ordering::Acquire)
    }

    /// Whether nothing is under way, and no first request is about to come.
    pub(super) fn is_idle(&self) -> bool {
        let was_used = self.0.used.load(Ordering::Relaxed) || sabotaged("first-request");
        self.get() == Phase::Idle
            && !self.is_stalled()
            && self.0.give_way.load(Ordering::Relaxed) == STAY
            && (was_used || self.since().elapsed() >= FIRST_REQUEST)
    }

    /// Whether the rest of its headers is waited for, and may come.
    pub(super) fn is_receiving(&self) -> bool {
        let is_awaited = self.0.counted.load(Ordering::Relaxed) > 0;
        is_awaited && self.get() == Phase::Receiving && self.0.give_way.load(Ordering::Relaxed) != AT_ONCE
    }

    /// Tells the connection to end.
    pub(super) fn tell(&self, how: GiveWay) {
        let how = match how {
            GiveWay::Politely => POLITELY,
            GiveWay::AtOnce => AT_ONCE,
        };
        self.0.give_way.fetch_max(how, Ordering::Relaxed);
        self.0.told.notify_one();
    }

    /// Resolves when the connection is to end.
    pub(super) async fn told(&self) -> GiveWay {
        loop {
            match self.0.give_way.load(Ordering::Relaxed) {
                STAY => self.0.told.notified().await,
                POLITELY => return GiveWay::Politely,
                _ => return GiveWay::AtOnce,
            }
        }
    }
}

impl PhaseState {
    fn set_since_now(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(now, Ordering::Relaxed);
    }

    fn release_headers(&self) {
        let counted = self.counted.load(Ordering::Relaxed);
        if counted > 0 {
            self.counted.store(0, Ordering::Relaxed);
            self.memory.release(counted);
        }
    }
}

impl Drop for PhaseState {
    fn drop(&mut self) {
        self.release_headers();
    }
}

impl Responding {
    /// A chunk of the body is on its way.
    pub(super) fn hand_over(&self) {
        self.0.stall();
    }

    /// Whether the client has taken the last chunk. A response holds one chunk, however slow its client is.
    pub(super) fn poll_taken(&self, context: &mut Context<'_>) -> Poll<()> {
        let state = &self.0.0;
        if !self.0.is_stalled() {
            return Poll::Ready(());
        }
        state.sent.register(context.waker());
        if self.0.is_stalled() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        let state = &self.0.0;
        // Otherwise the idle time begins when the client has taken everything.
        if !self.0.is_stalled() {
            state.set_since_now();
        }
        state.phase.store(IDLE, Ordering::Relaxed);
    }
}

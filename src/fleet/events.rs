//! Receives CodeArtifact's events from a queue, hands each to a function that knows what it means, and deletes it.
//!
//! Events are hints: one that is lost, late or repeated changes nothing but when a page is fetched again. So nothing
//! here is tried twice, and a queue that is away only makes the loop slower.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::package_event::{InvalidEvent, PackageEvent, QueueMessage, read_event};
use super::queue::{EventQueue, QueueError};
use wheelport_runtime::sabotaged;

/// A queue that was not read for longer than this counts as away. A long poll takes a third of it.
pub const QUEUE_READ_WITHIN: Duration = Duration::from_mins(1);

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// It is about a repository that a route serves.
    Relevant,
    /// It is about another repository, or another format.
    Irrelevant,
    /// It is no event of a package.
    Unknown,
}

impl EventOutcome {
    const ALL: [Self; 3] = [Self::Relevant, Self::Irrelevant, Self::Unknown];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relevant => "relevant",
            Self::Irrelevant => "irrelevant",
            Self::Unknown => "unknown",
        }
    }
}

/// How receiving goes.
#[derive(Debug, Clone, Default)]
pub struct EventsState {
    /// When the queue was last read; a read without messages counts.
    pub received: Option<Instant>,
    /// Since when it has been read without a pause that counts as away.
    pub since: Option<Instant>,
    /// Failed calls since the last that succeeded.
    pub failures_in_a_row: u32,
    pub last_error: Option<String>,
    /// What became of messages, in the order of `EventOutcome`.
    pub counts: [u64; EventOutcome::ALL.len()],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    result: &'static str,
}

/// The receiver of events. Clones share its state.
#[derive(Clone)]
pub struct Events {
    queue: EventQueue,
    state: Arc<Mutex<EventsState>>,
    messages: Family<EventLabels, Counter>,
    failures: Counter,
}

impl Events {
    pub fn new(queue: EventQueue) -> Self {
        let messages = Family::<EventLabels, Counter>::default();
        for outcome in EventOutcome::ALL {
            drop(messages.get_or_create(&EventLabels { result: outcome.as_str() }));
        }
        Self { queue, state: Arc::default(), messages, failures: Counter::default() }
    }

    /// Makes the counters part of a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("events", "Messages of the queue of CodeArtifact's events", self.messages.clone());
        registry.register("event_failures", "Calls to the queue of events that failed", self.failures.clone());
    }

    /// How receiving goes.
    pub fn state(&self) -> EventsState {
        self.state.lock().clone()
    }

    /// Since when the queue has been read without a pause that counts as away, and when it was read last.
    pub fn reading(&self) -> Option<(Instant, Instant)> {
        let state = self.state.lock();
        state.since.zip(state.received)
    }

    /// Receives for ever. `handle` gets each event, and says whether it means anything to this process.
    pub async fn run<F>(self, handle: impl Fn(PackageEvent) -> F)
    where
        F: Future<Output = bool> + Send,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.round(&handle).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    self.note_failure(&error);
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn round<F>(&self, handle: &impl Fn(PackageEvent) -> F) -> Result<(), QueueError>
    where
        F: Future<Output = bool> + Send,
    {
        let received = self.queue.receive().await?;
        self.note_success();
        for message in &received {
            let outcome = match read_event(&message.body) {
                Ok(QueueMessage::Python(event)) => {
                    if handle(event).await {
                        EventOutcome::Relevant
                    } else {
                        EventOutcome::Irrelevant
                    }
                }
                Ok(QueueMessage::OtherFormat) => EventOutcome::Irrelevant,
                Err(reason) => {
                    self.note_unknown(reason);
                    if sabotaged("junk-event") {
                        return Ok(());
                    }
                    EventOutcome::Unknown
                }
            };
            self.state.lock().counts[outcome as usize] += 1;
            self.messages.get_or_create(&EventLabels { result: outcome.as_str() }).inc();
        }
        self.queue.delete(received).await
    }

    fn note_success(&self) {
        let mut state = self.state.lock();
        if state.failures_in_a_row > 0 {
            tracing::info!(failures = state.failures_in_a_row, "the queue of events can be read again");
        }
        let now = Instant::now();
        if state.received.is_none_or(|before| now.duration_since(before) >= QUEUE_READ_WITHIN) {
            state.since = Some(now);
        }
        state.received = Some(now);
        state.failures_in_a_row = 0;
        state.last_error = None;
    }

    fn note_failure(&self, error: &QueueError) {
        self.failures.inc();
        let mut state = self.state.lock();
        if state.failures_in_a_row == 0 {
            tracing::warn!(%error, "the queue of events cannot be used; pages are refreshed by their age meanwhile");
        }
        state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
        state.last_error = Some(error.to_string());
    }

    /// Logged once: whatever puts such messages there will put more.
    fn note_unknown(&self, reason: InvalidEvent) {
        if self.state.lock().counts[EventOutcome::Unknown as usize] == 0 {
            tracing::warn!(%reason, "a message of the queue is no event of CodeArtifact; such messages are deleted");
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({:?})", self.queue)
    }
}

//! Sending hints to the other replicas, and hearing theirs. Without Redis, and while it is away, only this process
//! hears what it says itself.
//!
//! ```text
//! send ─► Redis ─► subscriber of each replica ─► bounded broadcast in its process ─► flows
//! ```
//!
//! A listener that was not told everything hears [`Heard::Gap`]: the subscription was lost, or the listener was slower
//! than the broadcast is long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::hints::{Hint, Message, ReplicaId};
use super::redis::{RedisFailure, RedisLink};
use super::unsent_hints::UnsentHints;
use wheelport_runtime::sabotaged;

/// Hints that wait for a listener of this process at most; a slower one has a gap.
const WAITING_HINTS: usize = 4096;
/// How often hints are tried again that Redis did not take.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// Where hints are published. The version of the objects is in it, so that old and new processes do not mix.
pub(super) const CHANNEL: &str = "wheelport:v1:hints";

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Another replica said so, or this one to itself.
    Hint(Hint),
    /// Hints may have been missed until now: what was learned before has to be asked again.
    Gap,
}

/// What came of sending a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HintSent {
    /// Redis has it.
    Sent,
    /// There is no Redis.
    Alone,
    /// Redis did not take it in time, or is not asked at the moment.
    Failed,
}

impl HintSent {
    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Alone => "alone",
            Self::Failed => "failed",
        }
    }
}

/// The hints of this process. Cheap to clone.
#[derive(Clone)]
pub struct Hints {
    inner: Arc<HintsInner>,
}

struct HintsInner {
    sender: ReplicaId,
    redis: Option<RedisLink>,
    heard: broadcast::Sender<Heard>,
    /// Whether the subscription lives.
    is_hearing: AtomicBool,
    /// What Redis did not take.
    unsent: UnsentHints,
    metrics: HintMetrics,
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hints({})", self.inner.sender)
    }
}

/// Hears hints, in the order in which they come.
#[derive(Debug)]
pub struct HintListener {
    heard: broadcast::Receiver<Heard>,
}

impl Default for Hints {
    fn default() -> Self {
        Self::over(None)
    }
}

impl Hints {
    pub(super) fn over(redis: Option<RedisLink>) -> Self {
        let (heard, _) = broadcast::channel(WAITING_HINTS);
        let (is_hearing, metrics) = (AtomicBool::new(false), HintMetrics::default());
        let (sender, unsent) = (ReplicaId::new(fastrand::u64(..)), UnsentHints::default());
        let inner = HintsInner { sender, redis, heard, is_hearing, unsent, metrics };
        Self { inner: Arc::new(inner) }
    }

    /// Tells the other replicas. Waits for Redis, at most for the time that a command may take; what it does not take
    /// is told when it is back.
    pub async fn send(&self, hint: Hint) -> HintSent {
        let kind = hint.as_str();
        if !self.are_shared() {
            return HintSent::Alone;
        }
        let outcome = match self.publish(hint.clone()).await {
            Ok(()) => HintSent::Sent,
            Err(error) => {
                tracing::debug!(kind, %error, "a hint could not be sent");
                self.inner.unsent.keep(hint);
                HintSent::Failed
            }
        };
        self.inner.metrics.sent.get_or_create(&HintSentLabels { kind, result: outcome.as_str() }).inc();
        outcome
    }

    /// Tells what Redis did not take, until the process ends.
    pub(super) async fn tell_again(self) {
        loop {
            self.inner.unsent.filled().await;
            tokio::time::sleep(TELL_AGAIN).await;
            while let Some(hint) = self.inner.unsent.take() {
                if self.send(hint).await != HintSent::Sent {
                    break;
                }
            }
        }
    }

    /// Gives a hint to Redis.
    pub(super) async fn publish(&self, hint: Hint) -> Result<(), RedisFailure> {
        let redis = self.inner.redis.as_ref().ok_or(RedisFailure::Away)?;
        let text = Message { sender: self.inner.sender, hint }.to_string();
        redis.ask::<i64>(::redis::cmd("PUBLISH").arg(CHANNEL).arg(text)).await.map(drop)
    }

    /// Tells all replicas, and this one too.
    pub async fn spread(&self, hint: Hint) -> HintSent {
        self.tell(Heard::Hint(hint.clone()));
        self.send(hint).await
    }

    /// Hears what is said from now on.
    pub fn listen(&self) -> HintListener {
        HintListener { heard: self.inner.heard.subscribe() }
    }

    /// Whether other replicas hear what this one says, as far as it is configured.
    pub fn are_shared(&self) -> bool {
        self.inner.redis.is_some()
    }

    /// Whether what other replicas say is heard now.
    pub fn is_hearing(&self) -> bool {
        self.inner.is_hearing.load(Ordering::Acquire)
    }

    /// Makes the counters part of a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        self.inner.metrics.register(registry);
    }

    /// A message came from Redis.
    pub(super) fn take_in(&self, bytes: &[u8]) {
        match Message::parse(bytes) {
            Ok(Message { sender, .. }) if sender == self.inner.sender && !sabotaged("own-hints") => {}
            Ok(Message { hint, .. }) => {
                self.inner.metrics.received.get_or_create(&HintLabels { kind: hint.as_str() }).inc();
                self.tell(Heard::Hint(hint));
            }
            Err(error) => {
                self.inner.metrics.received.get_or_create(&HintLabels { kind: "unreadable" }).inc();
                tracing::debug!(%error, "a message that is no hint of this version");
            }
        }
    }

    /// The subscription exists again, or for the first time: before now, hints may have been missed.
    pub(super) fn missed(&self, is_first: bool) {
        if !is_first {
            self.inner.metrics.gaps.inc();
        }
        if !sabotaged("hint-gap") {
            self.tell(Heard::Gap);
        }
        self.inner.is_hearing.store(true, Ordering::Release);
        self.inner.metrics.hearing.set(1);
    }

    /// The subscription ended.
    pub(super) fn deaf(&self) {
        self.inner.is_hearing.store(false, Ordering::Release);
        self.inner.metrics.hearing.set(0);
    }

    fn tell(&self, heard: Heard) {
        // Without a listener nothing is missed.
        let _ = self.inner.heard.send(heard);
    }
}

impl HintListener {
    /// The next that is heard; `None` when the process ends.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.heard.recv().await {
            Ok(heard) => Some(heard),
            Err(RecvError::Lagged(_)) => Some(Heard::Gap),
            Err(RecvError::Closed) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HintLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HintSentLabels {
    kind: &'static str,
    result: &'static str,
}

/// What was said and heard.
#[derive(Clone, Debug, Default)]
struct HintMetrics {
    sent: Family<HintSentLabels, Counter>,
    received: Family<HintLabels, Counter>,
    gaps: Counter,
    hearing: Gauge,
}

impl HintMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("hints_sent", "Hints told to other replicas, by what came of it", self.sent.clone());
        registry.register("hints_received", "Hints heard from other replicas", self.received.clone());
        registry.register("hearing", "Whether hints of other replicas are heard now", self.hearing.clone());
        registry.register("hint_gaps", "Times that hints of other replicas may have been missed", self.gaps.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{QuotaName, SharedRepository};
    use wheelport_index::ProjectName;

    fn purge() -> Hint {
        let repository: SharedRepository = "acme/python".parse().expect("a repository");
        Hint::Purge { repository, project: ProjectName::parse("hello").expect("a name") }
    }

    #[tokio::test]
    async fn a_replica_does_not_hear_its_own_hints_from_redis_and_hears_those_of_others() {
        let hints = Hints::default();
        let mut listener = hints.listen();
        let own = Message { sender: hints.inner.sender, hint: purge() };
        let other = Message { sender: ReplicaId::new(1), hint: purge() };
        hints.take_in(own.to_string().as_bytes());
        hints.take_in(b"1 0000000000000000 from-a-newer-version x");
        hints.missed(false);
        hints.take_in(other.to_string().as_bytes());
        assert_eq!(listener.next().await, Some(Heard::Gap));
        assert_eq!(listener.next().await, Some(Heard::Hint(purge())));
    }

    #[tokio::test]
    async fn a_listener_that_is_too_slow_hears_of_a_gap() {
        let hints = Hints::default();
        let mut listener = hints.listen();
        let quota = QuotaName::parse("eu-central-1").expect("a quota");
        for _ in 0..=WAITING_HINTS {
            assert_eq!(hints.spread(Hint::SlowDown { quota: quota.clone() }).await, HintSent::Alone);
        }
        assert_eq!(listener.next().await, Some(Heard::Gap));
        assert_eq!(listener.next().await, Some(Heard::Hint(Hint::SlowDown { quota })), "and the rest");
    }
}

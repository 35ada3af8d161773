//! What is counted about requests to upstreams. Labels are routes and fixed words, never names, paths or hosts.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepeatLabels {
    route: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    route: Arc<str>,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    route: Arc<str>,
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
}

/// Bucket bounds for the time until an answer, in seconds.
#[derive(Clone, Debug)]
struct AnswerBuckets;

impl MetricConstructor<Histogram> for AnswerBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
    }
}

/// Counters of one client. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    sent: Family<RouteLabels, Counter>,
    repeats: Family<RepeatLabels, Counter>,
    bytes: Family<KindLabels, Counter>,
    in_flight: Family<RouteLabels, Gauge>,
    seconds: Family<KindLabels, Histogram, AnswerBuckets>,
    throttles: Family<RouteLabels, Counter>,
    queued: Family<QueueLabels, Gauge>,
    queue_seconds: Family<QueueLabels, Histogram, AnswerBuckets>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            sent: Family::default(),
            repeats: Family::default(),
            bytes: Family::default(),
            in_flight: Family::default(),
            seconds: Family::new_with_constructor(AnswerBuckets),
            throttles: Family::default(),
            queued: Family::default(),
            queue_seconds: Family::new_with_constructor(AnswerBuckets),
        }
    }
}

impl Metrics {
    /// Makes the counters part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("upstream");
        registry.register("requests", "Pages and files asked of upstream, by what came of it", self.requests.clone());
        registry.register("attempts", "HTTP requests sent to upstream", self.sent.clone());
        registry.register("retries", "Requests sent again, by cause", self.repeats.clone());
        registry.register("bytes", "Body bytes received from upstream", self.bytes.clone());
        registry.register("in_flight", "Requests to upstream on their way, bodies included", self.in_flight.clone());
        registry.register("answer_seconds", "Time to a page or to the head of a file", self.seconds.clone());
        registry.register("throttles", "Answers of upstream that say it is asked too often", self.throttles.clone());
        registry.register(
            "queued",
            "Requests that wait for a place in flight, or for their turn at the endpoint",
            self.queued.clone(),
        );
        registry.register(
            "queue_seconds",
            "Time waited for a place in flight, or for a turn at the endpoint",
            self.queue_seconds.clone(),
        );
    }

    pub(super) fn finished(&self, route: &Arc<str>, kind: &'static str, result: &'static str, took: Duration) {
        self.requests.get_or_create(&RequestLabels { route: route.clone(), kind, result }).inc();
        self.seconds.get_or_create(&KindLabels { route: route.clone(), kind }).observe(took.as_secs_f64());
    }

    pub(super) fn sent(&self, route: &Arc<str>) {
        self.sent.get_or_create(&RouteLabels { route: route.clone() }).inc();
    }

    pub(super) fn repeated(&self, route: &Arc<str>, reason: &'static str) {
        self.repeats.get_or_create(&RepeatLabels { route: route.clone(), reason }).inc();
    }

    pub(super) fn throttled(&self, route: &Arc<str>) {
        self.throttles.get_or_create(&RouteLabels { route: route.clone() }).inc();
    }

    /// Counts a request as waiting, and how long it waited, until it is dropped.
    pub(super) fn queued(&self, route: &Arc<str>, queue: &'static str) -> Queued {
        let labels = QueueLabels { route: route.clone(), queue };
        let waiting = self.queued.get_or_create_owned(&labels);
        let seconds = self.queue_seconds.get_or_create_owned(&labels);
        waiting.inc();
        Queued { waiting, seconds, since: Instant::now() }
    }

    pub(super) fn bytes(&self, route: &Arc<str>, kind: &'static str) -> Counter {
        self.bytes.get_or_create_owned(&KindLabels { route: route.clone(), kind })
    }

    pub(super) fn in_flight(&self, route: &Arc<str>) -> InFlight {
        let gauge = self.in_flight.get_or_create_owned(&RouteLabels { route: route.clone() });
        gauge.inc();
        InFlight(gauge)
    }
}

/// Counts one request in flight until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts one request in a queue until it is dropped.
#[derive(Debug)]
pub(super) struct Queued {
    waiting: Gauge,
    seconds: Histogram,
    since: Instant,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.waiting.dec();
        self.seconds.observe(self.since.elapsed().as_secs_f64());
    }
}

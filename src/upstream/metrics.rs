//! The metrics of requests to upstreams. Labels are routes and fixed words, never names, paths or hosts.

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
struct CallLabels {
    route: Arc<str>,
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    route: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallKindLabels {
    route: Arc<str>,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamQueueLabels {
    route: Arc<str>,
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamRouteLabels {
    route: Arc<str>,
}

/// Bucket bounds for the time until a response, in seconds.
#[derive(Clone, Debug)]
struct ResponseBuckets;

impl MetricConstructor<Histogram> for ResponseBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
    }
}

/// An error with a text for the label `result`.
pub(super) trait ResultLabel {
    fn result_label(&self) -> &'static str;
}

/// Counters of one client. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    requests: Family<CallLabels, Counter>,
    sent: Family<UpstreamRouteLabels, Counter>,
    retries: Family<RetryLabels, Counter>,
    bytes: Family<CallKindLabels, Counter>,
    in_flight: Family<UpstreamRouteLabels, Gauge>,
    seconds: Family<CallKindLabels, Histogram, ResponseBuckets>,
    throttles: Family<UpstreamRouteLabels, Counter>,
    queued: Family<UpstreamQueueLabels, Gauge>,
    queue_seconds: Family<UpstreamQueueLabels, Histogram, ResponseBuckets>,
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            sent: Family::default(),
            retries: Family::default(),
            bytes: Family::default(),
            in_flight: Family::default(),
            seconds: Family::new_with_constructor(ResponseBuckets),
            throttles: Family::default(),
            queued: Family::default(),
            queue_seconds: Family::new_with_constructor(ResponseBuckets),
        }
    }
}

impl UpstreamMetrics {
    /// Makes the counters part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("upstream");
        registry.register(
            "requests",
            "Pages, files and uploads requested of upstream, by result",
            self.requests.clone(),
        );
        registry.register("attempts", "HTTP requests sent to upstream", self.sent.clone());
        registry.register("retries", "Retries, by cause", self.retries.clone());
        registry.register("bytes", "Body bytes received from upstream", self.bytes.clone());
        registry.register("in_flight", "Requests to upstream in flight, bodies included", self.in_flight.clone());
        registry.register("response_seconds", "Time to a page or to the headers of a file", self.seconds.clone());
        registry.register("throttles", "Responses 429 of upstream", self.throttles.clone());
        registry.register(
            "queued",
            "Requests that wait for a permit to be in flight, or for a permit of the rate limit",
            self.queued.clone(),
        );
        registry.register(
            "queue_seconds",
            "Time waited for a permit to be in flight, or for a permit of the rate limit",
            self.queue_seconds.clone(),
        );
    }

    pub(super) fn finished(&self, route: &Arc<str>, kind: &'static str, result: &'static str, took: Duration) {
        self.requests.get_or_create(&CallLabels { route: route.clone(), kind, result }).inc();
        self.seconds.get_or_create(&CallKindLabels { route: route.clone(), kind }).observe(took.as_secs_f64());
    }

    pub(super) fn sent(&self, route: &Arc<str>) {
        self.sent.get_or_create(&UpstreamRouteLabels { route: route.clone() }).inc();
    }

    pub(super) fn retried(&self, route: &Arc<str>, reason: &'static str) {
        self.retries.get_or_create(&RetryLabels { route: route.clone(), reason }).inc();
    }

    pub(super) fn throttled(&self, route: &Arc<str>) {
        self.throttles.get_or_create(&UpstreamRouteLabels { route: route.clone() }).inc();
    }

    /// Counts a request as waiting until the timer is dropped, and measures for how long.
    pub(super) fn queued(&self, route: &Arc<str>, queue: &'static str) -> QueueTimer {
        let labels = UpstreamQueueLabels { route: route.clone(), queue };
        let waiting = self.queued.get_or_create_owned(&labels);
        let seconds = self.queue_seconds.get_or_create_owned(&labels);
        waiting.inc();
        QueueTimer { waiting, seconds, since: Instant::now() }
    }

    pub(super) fn bytes(&self, route: &Arc<str>, kind: &'static str) -> Counter {
        self.bytes.get_or_create_owned(&CallKindLabels { route: route.clone(), kind })
    }

    pub(super) fn in_flight(&self, route: &Arc<str>) -> InFlightGauge {
        let gauge = self.in_flight.get_or_create_owned(&UpstreamRouteLabels { route: route.clone() });
        gauge.inc();
        InFlightGauge(gauge)
    }
}

/// Counts one request in flight until it is dropped.
#[derive(Debug)]
pub(super) struct InFlightGauge(Gauge);

impl Drop for InFlightGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts one request in a queue until it is dropped.
#[derive(Debug)]
pub(super) struct QueueTimer {
    waiting: Gauge,
    seconds: Histogram,
    since: Instant,
}

impl Drop for QueueTimer {
    fn drop(&mut self) {
        self.waiting.dec();
        self.seconds.observe(self.since.elapsed().as_secs_f64());
    }
}

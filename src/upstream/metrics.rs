//! What is counted about requests to upstreams. Labels are routes and fixed words, never names, paths or hosts.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

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
        }
    }
}

impl Metrics {
    /// Makes the counters part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("upstream");
        registry.register(
            "requests",
            "Pages and files asked of upstream, by what came of it",
            self.requests.clone(),
        );
        registry.register("attempts", "HTTP requests sent to upstream", self.sent.clone());
        registry.register("retries", "Requests sent again, by cause", self.repeats.clone());
        registry.register("bytes", "Body bytes received from upstream", self.bytes.clone());
        registry.register(
            "in_flight",
            "Requests to upstream on their way, bodies included",
            self.in_flight.clone(),
        );
        registry.register("answer_seconds", "Time to a page or to the head of a file", self.seconds.clone());
    }

    pub(super) fn finished(
        &self,
        route: &Arc<str>,
        kind: &'static str,
        result: &'static str,
        took: Duration,
    ) {
        self.requests.get_or_create(&RequestLabels { route: route.clone(), kind, result }).inc();
        self.seconds.get_or_create(&KindLabels { route: route.clone(), kind }).observe(took.as_secs_f64());
    }

    pub(super) fn sent(&self, route: &Arc<str>) {
        self.sent.get_or_create(&RouteLabels { route: route.clone() }).inc();
    }

    pub(super) fn repeated(&self, route: &Arc<str>, reason: &'static str) {
        self.repeats.get_or_create(&RepeatLabels { route: route.clone(), reason }).inc();
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

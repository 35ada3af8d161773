//! Metrics in the text format of Prometheus. Labels are routes, kinds and fixed words; never names, paths or clients.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// What was asked for: `page`, `file`, `metadata`, …
    pub kind: &'static str,
    /// The status.
    pub status: u16,
    /// How the answer came about, or `none`.
    pub served: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// Bucket bounds for the time to the head of an answer, in seconds.
#[derive(Clone, Debug)]
struct HeadBuckets;

impl MetricConstructor<Histogram> for HeadBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
    }
}

/// The metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<KindLabels, Histogram, HeadBuckets>,
    sent: Family<KindLabels, Counter>,
    /// Connections open now.
    pub connections: Gauge,
    /// Requests under way now, their bodies included.
    pub in_flight: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("wheelport");
        let metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(HeadBuckets),
            sent: Family::default(),
            connections: Gauge::default(),
            in_flight: Gauge::default(),
        };
        registry.register(
            "requests",
            "Requests by what they asked for and what they got",
            metrics.requests.clone(),
        );
        registry.register("request_seconds", "Time until the head of the answer", metrics.seconds.clone());
        registry.register("sent_bytes", "Body bytes sent to clients", metrics.sent.clone());
        registry.register("connections", "Open client connections", metrics.connections.clone());
        registry.register(
            "requests_in_flight",
            "Requests under way, bodies included",
            metrics.in_flight.clone(),
        );
        Self { registry: Arc::new(Mutex::new(registry)), ..metrics }
    }
}

impl Metrics {
    /// Adds the metrics of another part.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts an answered request.
    pub fn answered(&self, labels: &RequestLabels, seconds: f64) {
        self.requests.get_or_create(labels).inc();
        self.seconds.get_or_create(&KindLabels { kind: labels.kind }).observe(seconds);
    }

    /// The counter of body bytes sent for one kind of request.
    pub fn sent(&self, kind: &'static str) -> Counter {
        self.sent.get_or_create_owned(&KindLabels { kind })
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if encode(&mut text, &registry).is_err() {
            tracing::error!("metrics could not be written");
        }
        text
    }
}

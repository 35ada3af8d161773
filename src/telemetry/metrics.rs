//! Metrics in the text format of OpenMetrics. Labels are routes, kinds and fixed words; never names, paths or clients.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The labels of a response.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResponseLabels {
    /// What the request asked for: `page`, `file`, `metadata`, …
    pub kind: &'static str,
    pub status: u16,
    /// How the response came about, or `none`.
    pub served: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestKindLabels {
    kind: &'static str,
}

/// Bucket bounds for the time to the headers of a response, in seconds.
#[derive(Clone, Debug)]
struct HeaderTimeBuckets;

impl MetricConstructor<Histogram> for HeaderTimeBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
    }
}

/// Counts something that is under way, until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<ResponseLabels, Counter>,
    seconds: Family<RequestKindLabels, Histogram, HeaderTimeBuckets>,
    sent: Family<RequestKindLabels, Counter>,
    /// Connections open now.
    pub connections: Gauge,
    /// Requests under way now, their bodies included.
    pub in_flight: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("wheelport");
        let requests = Family::default();
        registry.register("requests", "Requests by what they asked for and what they got", requests.clone());
        let seconds = Family::new_with_constructor(HeaderTimeBuckets);
        registry.register("request_seconds", "Time until the headers of the response", seconds.clone());
        let sent = Family::default();
        registry.register("sent_bytes", "Body bytes sent to clients", sent.clone());
        let connections = Gauge::default();
        registry.register("connections", "Open client connections", connections.clone());
        let in_flight = Gauge::default();
        registry.register("requests_in_flight", "Requests under way, bodies included", in_flight.clone());
        Self { registry: Arc::new(Mutex::new(registry)), requests, seconds, sent, connections, in_flight }
    }
}

impl Metrics {
    /// Adds the metrics of another part.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// Counts a response whose headers were ready after this time. Returns the counter for the bytes of its body.
    pub fn responded(&self, labels: &ResponseLabels, elapsed: Duration) -> Counter {
        let kind = RequestKindLabels { kind: labels.kind };
        self.requests.get_or_create(labels).inc();
        self.seconds.get_or_create(&kind).observe(elapsed.as_secs_f64());
        self.sent.get_or_create_owned(&kind)
    }

    /// Everything in OpenMetrics' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry.lock()).is_err() {
            tracing::error!("cannot write the metrics");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_response_is_counted_under_its_own_labels() {
        let metrics = Metrics::default();
        for (status, bytes) in [(200, 10), (200, 20), (304, 0)] {
            let labels = ResponseLabels { kind: "page", status, served: "hit" };
            metrics.responded(&labels, Duration::from_millis(2)).inc_by(bytes);
        }
        let text = metrics.text();
        for line in [
            "wheelport_requests_total{kind=\"page\",status=\"200\",served=\"hit\"} 2\n",
            "wheelport_requests_total{kind=\"page\",status=\"304\",served=\"hit\"} 1\n",
            "wheelport_request_seconds_count{kind=\"page\"} 3\n",
            "wheelport_sent_bytes_total{kind=\"page\"} 30\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn a_guard_counts_until_it_is_dropped() {
        let metrics = Metrics::default();
        let guards = [GaugeGuard::new(&metrics.in_flight), GaugeGuard::new(&metrics.in_flight)];
        assert!(metrics.text().contains("wheelport_requests_in_flight 2\n"));
        drop(guards);
        assert!(metrics.text().contains("wheelport_requests_in_flight 0\n"));
    }
}

//! Metrics in the text format of Prometheus. Labels are routes, kinds and fixed words; never names, paths or clients.

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

/// What was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseKind {
    Page,
    File,
    Metadata,
    List,
    Legacy,
    Home,
    /// Pages of projects for people.
    Browse,
    Upload,
    /// Trusted publishing.
    Exchange,
    Osv,
    Health,
    /// The address is not known, or has no meaning.
    Other,
}

impl ResponseKind {
    const ALL: [Self; 12] = [
        Self::Page,
        Self::File,
        Self::Metadata,
        Self::List,
        Self::Legacy,
        Self::Home,
        Self::Browse,
        Self::Upload,
        Self::Exchange,
        Self::Osv,
        Self::Health,
        Self::Other,
    ];

    /// The log and metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::File => "file",
            Self::Metadata => "metadata",
            Self::List => "list",
            Self::Legacy => "legacy",
            Self::Home => "home",
            Self::Browse => "browse",
            Self::Upload => "upload",
            Self::Exchange => "exchange",
            Self::Osv => "osv",
            Self::Health => "health",
            Self::Other => "other",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    kind: &'static str,
    status: u16,
    served: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitLabel {
    waited_for: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Bucket bounds for the time to the headers of a response, in seconds.
#[derive(Clone, Debug)]
struct HeaderTimeBuckets;

impl MetricConstructor<Histogram> for HeaderTimeBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0,
        ])
    }
}

struct KindMetrics {
    seconds: Histogram,
    sent: Counter,
}

/// The metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<ResponseLabels, Counter>,
    /// By kind, in the order of [`ResponseKind::ALL`].
    kinds: Arc<[KindMetrics]>,
    /// Connections open now.
    pub connections: Gauge,
    refused_connections: Family<ReasonLabel, Counter>,
    closed_connections: Family<ReasonLabel, Counter>,
    tls_handshakes: Family<OutcomeLabel, Counter>,
    slow_responses: Family<WaitLabel, Counter>,
    /// Requests in flight now, their bodies included.
    pub in_flight: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("wheelport");
        let requests = Family::default();
        let seconds = Family::<KindLabel, Histogram, HeaderTimeBuckets>::new_with_constructor(HeaderTimeBuckets);
        let sent = Family::<KindLabel, Counter>::default();
        let (connections, in_flight) = (Gauge::default(), Gauge::default());
        let kinds = ResponseKind::ALL.map(|kind| {
            let label = KindLabel { kind: kind.as_str() };
            KindMetrics { seconds: seconds.get_or_create_owned(&label), sent: sent.get_or_create_owned(&label) }
        });
        registry.register("requests", "Requests by kind, status and how they were served", requests.clone());
        registry.register("request_seconds", "Time until the headers of the response", seconds);
        registry.register("sent_bytes", "Body bytes sent to clients", sent);
        registry.register("connections", "Open client connections", connections.clone());
        registry.register("requests_in_flight", "Requests in flight, bodies included", in_flight.clone());
        let (refused_connections, closed_connections) = (Family::default(), Family::default());
        let help = "Connections that were refused because there were too many";
        registry.register("connections_refused", help, refused_connections.clone());
        let help = "Connections that were closed to make room";
        registry.register("connections_closed_early", help, closed_connections.clone());
        let tls_handshakes = Family::default();
        registry.register("tls_handshakes", "TLS handshakes of clients, by outcome", tls_handshakes.clone());
        let slow_responses = Family::default();
        let help = "Responses that took longer than 15 s, by what they waited for longest";
        registry.register("slow_responses", help, slow_responses.clone());
        Self {
            registry: Arc::new(Mutex::new(registry)),
            requests,
            kinds: Arc::new(kinds),
            connections,
            refused_connections,
            closed_connections,
            tls_handshakes,
            slow_responses,
            in_flight,
        }
    }
}

impl Metrics {
    /// Adds the metrics of another part.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// Counts a response, and gives the counter for the bytes of its body. `served` says how it came about.
    pub fn responded(&self, kind: ResponseKind, status: u16, served: &'static str, elapsed: Duration) -> Counter {
        self.requests.get_or_create(&ResponseLabels { kind: kind.as_str(), status, served }).inc();
        let KindMetrics { seconds, sent } = &self.kinds[kind as usize];
        seconds.observe(elapsed.as_secs_f64());
        sent.clone()
    }

    /// Counts a connection that was refused.
    pub fn connection_refused(&self, reason: &'static str) {
        self.refused_connections.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a connection that gave way to others.
    pub fn connection_closed_early(&self, reason: &'static str) {
        self.closed_connections.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a response that took long.
    pub fn slow_response(&self, waited_for: &'static str) {
        self.slow_responses.get_or_create(&WaitLabel { waited_for }).inc();
    }

    /// Counts a TLS handshake.
    pub fn tls_handshake(&self, outcome: &'static str) {
        self.tls_handshakes.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry.lock()).is_err() {
            tracing::error!("metrics could not be written");
        }
        text
    }
}

/// Counts something in a gauge until it is dropped.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_is_counted_under_its_own_labels() {
        let metrics = Metrics::default();
        for status in [200, 200, 404] {
            metrics.responded(ResponseKind::Page, status, "hit", Duration::from_millis(2)).inc_by(10);
        }
        let text = metrics.text();
        for line in [
            "wheelport_requests_total{kind=\"page\",status=\"200\",served=\"hit\"} 2\n",
            "wheelport_requests_total{kind=\"page\",status=\"404\",served=\"hit\"} 1\n",
            "wheelport_request_seconds_count{kind=\"page\"} 3\n",
            "wheelport_sent_bytes_total{kind=\"page\"} 30\n",
            "wheelport_sent_bytes_total{kind=\"other\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn a_guard_counts_until_it_is_dropped() {
        let gauge = Gauge::default();
        let guard = GaugeGuard::new(&gauge);
        assert_eq!(gauge.get(), 1);
        drop(guard);
        assert_eq!(gauge.get(), 0);
    }
}

//! Metrics in the text format of Prometheus. Labels are routes, kinds and fixed words; never names, paths or clients.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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

/// More kinds of answers than there usually are; the others are looked up every time.
const KNOWN: usize = 64;

/// What is counted for answers with the same labels.
#[derive(Clone)]
struct Known {
    labels: RequestLabels,
    requests: Counter,
    seconds: Histogram,
    sent: Counter,
}

/// The metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<KindLabels, Histogram, HeadBuckets>,
    sent: Family<KindLabels, Counter>,
    /// The metrics of the answers there have been, in the order of their first time. Looking through them takes a
    /// fraction of what hashing the labels three times would.
    known: Arc<[OnceLock<Known>; KNOWN]>,
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
            known: Arc::new(std::array::from_fn(|_| OnceLock::new())),
            connections: Gauge::default(),
            in_flight: Gauge::default(),
        };
        registry.register("requests", "Requests by what they asked for and what they got", metrics.requests.clone());
        registry.register("request_seconds", "Time until the head of the answer", metrics.seconds.clone());
        registry.register("sent_bytes", "Body bytes sent to clients", metrics.sent.clone());
        registry.register("connections", "Open client connections", metrics.connections.clone());
        registry.register("requests_in_flight", "Requests under way, bodies included", metrics.in_flight.clone());
        Self { registry: Arc::new(Mutex::new(registry)), ..metrics }
    }
}

impl Metrics {
    /// Adds the metrics of another part.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts an answered request with a body of `length` bytes; if that is not known yet, gives the counter for them.
    pub fn answered(&self, labels: &RequestLabels, seconds: f64, length: Option<u64>) -> Option<Counter> {
        let known = self.known.iter().find_map(|place| {
            let known = place.get_or_init(|| self.look_up(labels));
            (known.labels == *labels).then_some(known)
        });
        let looked_up = known.is_none().then(|| self.look_up(labels));
        let known = known.or(looked_up.as_ref())?;
        known.requests.inc();
        known.seconds.observe(seconds);
        match length {
            Some(length) => {
                known.sent.inc_by(length);
                None
            }
            None => Some(known.sent.clone()),
        }
    }

    fn look_up(&self, labels: &RequestLabels) -> Known {
        let kind = KindLabels { kind: labels.kind };
        Known {
            labels: labels.clone(),
            requests: self.requests.get_or_create_owned(labels),
            seconds: self.seconds.get_or_create_owned(&kind),
            sent: self.sent.get_or_create_owned(&kind),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_counted_under_its_own_labels_however_many_there_are() {
        let metrics = Metrics::default();
        let many = u16::try_from(KNOWN + 5).unwrap_or(u16::MAX);
        for length in [Some(10), None] {
            for status in 0..many {
                let labels = RequestLabels { kind: "page", status, served: "hit" };
                if let Some(sent) = metrics.answered(&labels, 0.002, length) {
                    assert_eq!(length, None, "it is counted already");
                    sent.inc_by(10);
                }
            }
        }
        let text = metrics.text();
        for status in 0..many {
            let line = format!("wheelport_requests_total{{kind=\"page\",status=\"{status}\",served=\"hit\"}} 2\n");
            assert!(text.contains(&line), "{line}");
        }
        let answers = 2 * u64::from(many);
        assert!(text.contains(&format!("wheelport_request_seconds_count{{kind=\"page\"}} {answers}\n")));
        assert!(text.contains(&format!("wheelport_sent_bytes_total{{kind=\"page\"}} {}\n", 10 * answers)));
    }
}

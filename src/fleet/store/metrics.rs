//! The metrics of requests to the object store. Labels are fixed words.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StoreOperation {
    Get,
    Head,
    Put,
    Delete,
    Multipart,
}

impl StoreOperation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Multipart => "multipart",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreRequestLabels {
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreOperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// Bucket bounds for the time until a response of the store, in seconds.
#[derive(Clone, Debug)]
struct StoreBuckets;

impl MetricConstructor<Histogram> for StoreBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 1.0, 3.0, 10.0])
    }
}

/// Counters of the store. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub(super) struct StoreMetrics {
    requests: Family<StoreRequestLabels, Counter>,
    seconds: Family<StoreOperationLabel, Histogram, StoreBuckets>,
    bytes: Family<DirectionLabel, Counter>,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let seconds = Family::new_with_constructor(StoreBuckets);
        Self { requests: Family::default(), seconds, bytes: Family::default() }
    }
}

impl StoreMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let requests = "Requests to the object store that replicas share, by operation and result";
        registry.register("store_requests", requests, self.requests.clone());
        let seconds = "Time until the response headers of the object store";
        registry.register("store_response_seconds", seconds, self.seconds.clone());
        let bytes = "Bytes read from and written to the object store";
        registry.register("store_bytes", bytes, self.bytes.clone());
    }

    pub(super) fn responded(&self, operation: StoreOperation, result: &'static str, after: Duration) {
        let operation = operation.as_str();
        self.requests.get_or_create(&StoreRequestLabels { operation, result }).inc();
        self.seconds.get_or_create(&StoreOperationLabel { operation }).observe(after.as_secs_f64());
    }

    /// Counts the bytes that are read.
    pub(super) fn read(&self) -> Counter {
        self.bytes.get_or_create(&DirectionLabel { direction: "read" }).clone()
    }

    /// Counts the bytes that are written.
    pub(super) fn written(&self, bytes: u64) {
        self.bytes.get_or_create(&DirectionLabel { direction: "written" }).inc_by(bytes);
    }
}

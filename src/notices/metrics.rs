//! What becomes of notices. Labels are kinds and fixed words, never names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoticeOutcome {
    /// The receiver has it.
    Delivered,
    /// The same was told a short time before.
    Repeated,
    /// Too many were waiting.
    Dropped,
    /// The receiver did not take it for as long as it was tried.
    Expired,
    /// The receiver does not want it.
    Refused,
    /// The process ended first.
    Lost,
}

impl NoticeOutcome {
    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Repeated => "repeated",
            Self::Dropped => "dropped",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoticeLabels {
    r#type: &'static str,
    outcome: &'static str,
}

/// Counters of notices. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct NoticeMetrics {
    notices: Family<NoticeLabels, Counter>,
    pub(super) waiting: Gauge,
    /// Attempts to deliver that failed.
    pub failures: Counter,
}

impl NoticeMetrics {
    /// Counts a notice of this type.
    pub fn count(&self, kind: &'static str, outcome: NoticeOutcome) {
        self.notices.get_or_create(&NoticeLabels { r#type: kind, outcome: outcome.as_str() }).inc();
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("notices", "Notices for the webhook, by type and what became of them", self.notices.clone());
        registry.register("notices_waiting", "Notices that wait for their delivery", self.waiting.clone());
        let help = "Attempts to deliver a notice that failed";
        registry.register("notice_failures", help, self.failures.clone());
    }
}

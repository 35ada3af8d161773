//! What becomes of notices.

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
    const ALL: [Self; 6] = [Self::Delivered, Self::Repeated, Self::Dropped, Self::Expired, Self::Refused, Self::Lost];

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
    outcome: &'static str,
}

/// Counters of notices. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct NoticeMetrics {
    notices: Family<NoticeLabels, Counter>,
    pub(super) waiting: Gauge,
    /// Attempts to deliver that failed.
    pub failures: Counter,
}

impl Default for NoticeMetrics {
    fn default() -> Self {
        let notices = Family::<NoticeLabels, Counter>::default();
        // All are there from the start: the first count of one that appears with it is no increase to Prometheus.
        for outcome in NoticeOutcome::ALL {
            drop(notices.get_or_create(&NoticeLabels { outcome: outcome.as_str() }));
        }
        Self { notices, waiting: Gauge::default(), failures: Counter::default() }
    }
}

impl NoticeMetrics {
    pub fn count(&self, outcome: NoticeOutcome) {
        self.notices.get_or_create(&NoticeLabels { outcome: outcome.as_str() }).inc();
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("notices", "Notices for the webhook, by what became of them", self.notices.clone());
        registry.register("notices_waiting", "Notices that wait for their delivery", self.waiting.clone());
        let help = "Attempts to deliver a notice that failed";
        registry.register("notice_failures", help, self.failures.clone());
    }
}

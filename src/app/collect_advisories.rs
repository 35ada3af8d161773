//! Metrics of advisories, read when they are scraped. Nothing where no source is configured.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::flow::{Advisories, AdvisoryState};

/// Reads how advisories are.
pub(super) struct CollectedAdvisories(pub(super) Advisories);

impl Collector for CollectedAdvisories {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(state) = self.0.state() else { return Ok(()) };
        let AdvisoryState { advisories, malware, memory, age, error, outcomes, unreadable, .. } = state;
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let gauge = ConstGauge::new(0_i64);
        let help = "Advisories that are in force, by what they report";
        let mut family = encoder.encode_descriptor("advisories", help, None, gauge.metric_type())?;
        for (kind, count) in [("malware", malware), ("other", advisories - malware)] {
            ConstGauge::new(number(count)).encode(family.encode_family(&[("kind", kind)])?)?;
        }
        let unreadable = usize::try_from(unreadable).unwrap_or(usize::MAX);
        for (name, help, value) in [
            ("advisories_stale", "Whether the last look at the source failed: 1, or 0", usize::from(error.is_some())),
            ("advisories_unreadable", "Documents of the last export that could not be read", unreadable),
            ("advisories_memory_bytes", "Memory that advisories take", memory),
        ] {
            let gauge = ConstGauge::new(number(value));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        if let Some(age) = age {
            let gauge = ConstGauge::new(i64::try_from(age).unwrap_or(i64::MAX));
            let help = "Time since the source last confirmed the advisories that are in force";
            let metric = encoder.encode_descriptor("advisories_age_seconds", help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let counter = ConstCounter::new(0_u64);
        let help = "Looks at the source of advisories, by outcome";
        let mut family = encoder.encode_descriptor("advisory_refreshes", help, None, counter.metric_type())?;
        for (outcome, count) in outcomes {
            ConstCounter::new(count).encode(family.encode_family(&[("outcome", outcome.as_str())])?)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for CollectedAdvisories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectedAdvisories").finish_non_exhaustive()
    }
}

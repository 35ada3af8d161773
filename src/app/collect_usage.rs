//! Metrics of what is counted of downloads, read when they are scraped. Names of projects and identities are no labels.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::flow::UsageService;

/// Reads how full the counters are, and what became of their records.
pub(super) struct CollectedUsage(pub(super) UsageService);

impl Collector for CollectedUsage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let figures = self.0.figures();
        let entries = ConstGauge::new(i64::try_from(figures.entries).unwrap_or(i64::MAX));
        let help = "Counters of downloads in memory, by route, project, version, identity and day";
        let metric = encoder.encode_descriptor("usage_entries", help, None, entries.metric_type())?;
        entries.encode(metric)?;
        let folded = ConstCounter::new(figures.folded);
        let help = "Downloads without a counter of their own, because there were too many";
        let metric = encoder.encode_descriptor("usage_folded", help, None, folded.metric_type())?;
        folded.encode(metric)?;
        let help = "Records of downloads that could not be written, by where";
        let mut family = encoder.encode_descriptor("usage_write_failures", help, None, folded.metric_type())?;
        for (tier, count) in figures.failures {
            ConstCounter::new(count).encode(family.encode_family(&[("tier", tier)])?)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for CollectedUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectedUsage").finish_non_exhaustive()
    }
}

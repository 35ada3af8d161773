//! Metrics of the rules, read when they are scraped. Labels are names of rules and routes.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::flow::{Flow, Route};

/// Reads the rules and what came of them.
pub(super) struct CollectedPolicy {
    flow: Flow,
    routes: Vec<Arc<Route>>,
}

impl CollectedPolicy {
    pub(super) fn new(flow: Flow, routes: Vec<Arc<Route>>) -> Self {
        Self { flow, routes }
    }
}

impl Collector for CollectedPolicy {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let policy = self.flow.policy();
        let (rules, state) = (policy.rules(), policy.state());
        let gauges = [
            ("policy_rules", "Rules in force", rules.len()),
            ("policy_exceptions", "Exceptions that hold", rules.exceptions_at(policy.now())),
            ("policy_stale", "Whether the rules that are there could not be used", usize::from(state.error.is_some())),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let failures = ConstCounter::new(state.failures);
        let help = "Rules that were read and could not be used";
        let metric = encoder.encode_descriptor("policy_failures", help, None, failures.metric_type())?;
        failures.encode(metric)?;
        let counts = policy.counts();
        for (name, help, values) in [
            ("policy_refusals", "Requests refused by a rule", counts.refusals()),
            ("policy_findings", "Files served that a rule looks at", counts.findings()),
        ] {
            let counter = ConstCounter::new(0_u64);
            let mut family = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            for (rule, count) in values {
                ConstCounter::new(count).encode(family.encode_family(&[("rule", rule.as_ref())])?)?;
            }
        }
        let help = "Names that may have versions from outside beside those of the domain";
        let gauge = ConstGauge::new(0_i64);
        let mut family = encoder.encode_descriptor("names_on_both_sides", help, None, gauge.metric_type())?;
        for route in &self.routes {
            let names = i64::try_from(self.flow.names_on_both_sides(route)).unwrap_or(i64::MAX);
            ConstGauge::new(names).encode(family.encode_family(&[("route", route.name.as_ref())])?)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for CollectedPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectedPolicy").finish_non_exhaustive()
    }
}

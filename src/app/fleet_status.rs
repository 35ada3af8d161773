//! What `/status` says of what replicas share, and the metrics of it that are read when they are scraped.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use serde::Serialize;
use serde_json::Value;

use crate::fleet::{BreakerState, Events, EventsState, Fleet, QUEUE_READ_WITHIN};
use crate::flow::{Flow, Route};
use crate::web::StatusSection;

/// How receiving events goes.
#[derive(Serialize)]
struct EventsStatus {
    /// Whether the queue was read within the last minute.
    working: bool,
    /// Seconds since it was last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
    failures_in_a_row: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Messages, by what they were.
    relevant: u64,
    irrelevant: u64,
    unknown: u64,
    /// Whether the events of each route would tell of every change.
    trust: BTreeMap<String, &'static str>,
}

impl From<EventsState> for EventsStatus {
    fn from(state: EventsState) -> Self {
        let age = state.received.map(|at| at.elapsed());
        let [relevant, irrelevant, unknown] = state.counts;
        Self {
            working: age.is_some_and(|age| age < QUEUE_READ_WITHIN),
            age_seconds: age.map(|age| age.as_secs()),
            failures_in_a_row: state.failures_in_a_row,
            last_error: state.last_error,
            relevant,
            irrelevant,
            unknown,
            trust: BTreeMap::new(),
        }
    }
}

/// How the store and Redis are.
#[derive(Serialize)]
struct PartStatus {
    /// Whether it is asked, probed, or left alone for a while.
    breaker: &'static str,
    /// Whether replicas hold leases in it; unknown until that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<bool>,
}

/// The section of `/status`; none where nothing is shared.
pub(super) fn section(fleet: &Fleet, flow: &Flow, routes: &[Arc<Route>]) -> Option<StatusSection> {
    if fleet.breakers().is_empty() && fleet.events().is_none() {
        return None;
    }
    let (fleet, flow, routes) = (fleet.clone(), flow.clone(), routes.to_vec());
    Some(Arc::new(move || {
        let mut section = serde_json::Map::new();
        for (part, breaker) in fleet.breakers() {
            let traits = fleet.store_traits().filter(|_| part == "store");
            let leases = traits.map(|traits| traits.can_lease());
            let status = PartStatus { breaker: breaker.state().as_str(), leases };
            section.insert(part.to_owned(), serde_json::to_value(status).unwrap_or(Value::Null));
        }
        if let Some(events) = fleet.events() {
            let trust = |route: &Arc<Route>| (route.name.to_string(), flow.event_trust(route).as_str());
            let status = EventsStatus { trust: routes.iter().map(trust).collect(), ..events.state().into() };
            let status = serde_json::to_value(status).unwrap_or(Value::Null);
            section.insert("events".to_owned(), status);
        }
        Value::Object(section)
    }))
}

/// Whether the store and Redis are asked.
pub(super) struct Breakers(pub(super) Fleet);

impl std::fmt::Debug for Breakers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Breakers").finish_non_exhaustive()
    }
}

impl Collector for Breakers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let breakers = self.0.breakers();
        if breakers.is_empty() {
            return Ok(());
        }
        let gauge = ConstGauge::new(0_i64);
        let help = "Whether a part that replicas share is not asked because it kept silent: 1, or 0";
        let mut family = encoder.encode_descriptor("fleet_breaker_open", help, None, gauge.metric_type())?;
        for (part, breaker) in breakers {
            let is_open = breaker.state() != BreakerState::Closed;
            ConstGauge::new(i64::from(is_open)).encode(family.encode_family(&[("part", part)])?)?;
        }
        Ok(())
    }
}

/// The age of the last read of the queue.
#[derive(Debug)]
pub(super) struct EventsAge(pub(super) Events);

impl Collector for EventsAge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // A queue that was never read has no age; what is wrong with it shows in the failures.
        let Some(received) = self.0.state().received else { return Ok(()) };
        let gauge = ConstGauge::new(received.elapsed().as_secs_f64());
        let help = "Time since the queue of CodeArtifact's events was last read";
        let metric = encoder.encode_descriptor("fleet_events_age_seconds", help, None, gauge.metric_type())?;
        gauge.encode(metric)
    }
}

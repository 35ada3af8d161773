//! What the handlers of the control plane work with.

use std::sync::Arc;

use super::faults::FaultQueue;
use super::identity::Identities;
use crate::shared::EmulatorState;
use crate::store::{Store, Timestamp};

pub(super) struct ControlState {
    pub(super) shared: Arc<EmulatorState>,
    /// Whether a signature for another region is refused.
    pub(super) only_this_region: bool,
    pub(super) identities: Identities,
    pub(super) faults: FaultQueue,
}

impl ControlState {
    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(super) fn region(&self) -> &str {
        &self.shared.region
    }

    /// The newest publication time that listings show already.
    pub(super) fn listed_until(&self) -> Timestamp {
        let lag = u64::try_from(self.shared.oddities.get().list_lag.0.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.store().now().0.saturating_sub(lag))
    }

    pub(super) fn now(&self) -> u64 {
        self.shared.clock.unix_seconds()
    }
}

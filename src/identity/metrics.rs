//! The metrics of identities. Labels are kinds and fixed words, never names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    identity: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MintLabels {
    outcome: &'static str,
}

/// Counters of what came of tokens. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {
    decisions: Family<DecisionLabels, Counter>,
    verified: Counter,
    mints: Family<MintLabels, Counter>,
}

impl IdentityMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let help = "Decisions about requests that need an identity, by kind of identity and outcome";
        registry.register("identity_decisions", help, self.decisions.clone());
        registry.register("id_tokens_verified", "ID tokens whose signature was verified", self.verified.clone());
        registry.register("minted_tokens", "Requests to exchange a token, by outcome", self.mints.clone());
    }

    /// Counts a decision about a request.
    pub fn decided(&self, identity: &'static str, outcome: &'static str) {
        self.decisions.get_or_create(&DecisionLabels { identity, outcome }).inc();
    }

    pub(super) fn verified(&self) {
        self.verified.inc();
    }

    pub(super) fn minted(&self, outcome: &'static str) {
        self.mints.get_or_create(&MintLabels { outcome }).inc();
    }
}

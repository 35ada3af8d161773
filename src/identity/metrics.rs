//! The metrics of identities. Labels are kinds and fixed words, never names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::IdentityKind;

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
#[derive(Clone, Debug)]
pub struct IdentityMetrics {
    decisions: Family<DecisionLabels, Counter>,
    /// Those that let a client in, which is what happens all day: by kind, in the order of [`IdentityKind`].
    accepted: [Counter; IdentityKind::ALL.len()],
    verified: Counter,
    mints: Family<MintLabels, Counter>,
}

impl Default for IdentityMetrics {
    fn default() -> Self {
        let decisions = Family::<DecisionLabels, Counter>::default();
        let accepted = IdentityKind::ALL.map(|kind| {
            decisions.get_or_create_owned(&DecisionLabels { identity: kind.as_str(), outcome: "accepted" })
        });
        Self { decisions, accepted, verified: Counter::default(), mints: Family::default() }
    }
}

impl IdentityMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let help = "Decisions about requests that need an identity, by kind of identity and outcome";
        registry.register("identity_decisions", help, self.decisions.clone());
        registry.register("id_tokens_verified", "ID tokens whose signature was verified", self.verified.clone());
        registry.register("minted_tokens", "Requests to exchange a token, by outcome", self.mints.clone());
    }

    /// Counts a request that is let in.
    pub fn accepted(&self, kind: IdentityKind) {
        self.accepted[kind as usize].inc();
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

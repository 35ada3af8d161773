//! Whether a role may still read its repository: pure state over explicit instants.
//!
//! ```text
//! Open ─► first denial: Suspected ─► a second one, half a minute later, under a newer token: Closed
//!   ▲            │ success                                                        │ success of a probe
//!   └────────────┴────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A single 403 may come from a policy that is being changed, or from something between here and upstream. So until it
//! is confirmed it counts as an outage, and cached content is served. Once it is confirmed, nothing is.

use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::Witness;
use wheelport_runtime::sabotaged;

/// Two denials count when they are this far apart.
const CONFIRMED_AFTER: Duration = Duration::from_secs(30);
/// How often a closed route asks upstream.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Access {
    #[default]
    Open,
    /// Denied once.
    Suspected { first: Instant },
    /// Denied for good.
    Closed { since: Instant, probed: Instant },
}

/// What a denial leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// It counts as an outage, and a newer token is needed to know more.
    NeedsNewToken,
    /// It counts as an outage.
    Unconfirmed,
    /// It has just closed the route.
    Closes,
    /// The route was closed before.
    Known,
}

impl Access {
    /// Upstream denied a page.
    pub(super) fn denied(&mut self, witness: &Witness) -> Denial {
        match *self {
            Self::Open => {
                *self = Self::Suspected { first: witness.arrived };
                Denial::NeedsNewToken
            }
            Self::Suspected { first } if witness.minted <= first && !sabotaged("denial-token") => Denial::NeedsNewToken,
            Self::Suspected { first } if witness.arrived < first + CONFIRMED_AFTER && !sabotaged("denial-apart") => {
                Denial::Unconfirmed
            }
            Self::Suspected { .. } => {
                *self = Self::Closed { since: witness.arrived, probed: witness.arrived };
                Denial::Closes
            }
            Self::Closed { .. } => Denial::Known,
        }
    }

    /// Upstream sent a page. Returns whether that opens a closed route. What was requested before the denial proves
    /// nothing.
    pub(super) fn succeeded(&mut self, witness: &Witness) -> bool {
        let (since, was_closed) = match *self {
            Self::Open => return false,
            Self::Suspected { first } => (first, false),
            Self::Closed { since, .. } => (since, true),
        };
        if witness.sent < since && !sabotaged("success-since-denial") {
            return false;
        }
        *self = Self::Open;
        was_closed
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. }) && !sabotaged("closed-route")
    }

    /// Claims the probe of a closed route, if one is due.
    pub(super) fn try_probe(&mut self, now: Instant) -> bool {
        match self {
            Self::Closed { probed, .. } if now >= *probed + PROBE_INTERVAL || sabotaged("probe-interval") => {
                *probed = now;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A request that was sent and answered at the same moment, under a token that was minted at another, in seconds.
    fn witness(start: Instant, minted: u32, at: u32) -> Witness {
        let (minted, at) = (start + SECOND * minted, start + SECOND * at);
        Witness { generation: 1, minted, sent: at, arrived: at }
    }

    #[test]
    fn two_denials_half_a_minute_apart_under_two_tokens_close_a_route() {
        let start = Instant::now();
        for (what, minted, at, denial) in [
            ("at once", 0, 10, Denial::NeedsNewToken),
            ("the same token much later", 0, 100, Denial::NeedsNewToken),
            ("minted at the moment of the denial", 10, 100, Denial::NeedsNewToken),
            ("a new token too soon", 11, 39, Denial::Unconfirmed),
            ("a new token in time", 11, 40, Denial::Closes),
        ] {
            let mut access = Access::default();
            assert_eq!(access.denied(&witness(start, 0, 10)), Denial::NeedsNewToken);
            assert_eq!(access.denied(&witness(start, minted, at)), denial, "{what}");
            assert_eq!(access.is_closed(), denial == Denial::Closes, "{what}");
        }
    }

    #[test]
    fn a_success_between_the_denials_starts_over() {
        let start = Instant::now();
        let mut access = Access::default();
        access.denied(&witness(start, 0, 10));
        assert!(!access.succeeded(&witness(start, 0, 9)), "requested before the denial");
        assert_ne!(access, Access::Open);
        access.succeeded(&witness(start, 0, 20));
        assert_eq!(access.denied(&witness(start, 30, 60)), Denial::NeedsNewToken);
        assert!(!access.is_closed());
    }

    #[test]
    fn a_closed_route_probes_every_15_s_until_a_success_opens_it() {
        let start = Instant::now();
        let mut access = Access::default();
        assert!(!access.try_probe(start), "an open one needs none");
        access.denied(&witness(start, 0, 0));
        access.denied(&witness(start, 1, 30));
        assert!(access.is_closed());
        for (at, probes) in [(31, false), (44, false), (45, true), (46, false), (59, false), (60, true)] {
            assert_eq!(access.try_probe(start + SECOND * at), probes, "{at} s");
        }
        assert_eq!(access.denied(&witness(start, 1, 61)), Denial::Known);
        assert!(!access.succeeded(&witness(start, 1, 29)) && access.is_closed(), "requested before it was closed");
        assert!(access.succeeded(&witness(start, 1, 62)));
        assert_eq!(access, Access::Open);
    }
}

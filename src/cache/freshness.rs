//! The freshness decision, as a pure function.
//!
//! The life of a cached page, by its age (RFC 9111 section 4.2, RFC 5861):
//!
//! ```text
//! 0 ── fresh_for ── + stale_while_revalidate ───────────── + stale_if_error ──►
//! │ Fresh │ Revalidate: serve, refresh behind │ Refetch: fall back on error │ Expired
//! ```
//!
//! Both stale windows count from the end of freshness. Upstream sends no validators and no lifetimes, so the policy is
//! the operator's alone; request directives do not reach this decision.

use std::time::Duration;

/// The operator's policy for pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a page is served without asking upstream.
    pub fresh_for: Duration,
    /// How long after that it is served at once while it is refreshed in the background.
    pub stale_while_revalidate: Duration,
    /// How long after the end of freshness it may be served when upstream fails.
    pub stale_if_error: Duration,
}

/// What to do with a page of some age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Serve it.
    Fresh,
    /// Serve it and refresh it in the background.
    Revalidate,
    /// Refresh it first; serve it only if that fails or takes long.
    Refetch,
    /// Too old to be served.
    Expired,
}

impl Policy {
    /// The decision for a page of this age.
    pub fn decide(&self, age: Duration) -> Decision {
        let Some(stale_for) = age.checked_sub(self.fresh_for) else { return Decision::Fresh };
        if stale_for < self.stale_while_revalidate {
            Decision::Revalidate
        } else if stale_for < self.stale_if_error {
            Decision::Refetch
        } else {
            Decision::Expired
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_page_goes_through_its_life_in_order() {
        let policy =
            Policy { fresh_for: 60 * SECOND, stale_while_revalidate: 600 * SECOND, stale_if_error: 86_400 * SECOND };
        for (age, decision) in [
            (0, Decision::Fresh),
            (59, Decision::Fresh),
            (60, Decision::Revalidate),
            (659, Decision::Revalidate),
            (660, Decision::Refetch),
            (86_459, Decision::Refetch),
            (86_460, Decision::Expired),
        ] {
            assert_eq!(policy.decide(age * SECOND), decision, "at {age} s");
        }
    }

    #[test]
    fn windows_of_zero_are_skipped() {
        let policy =
            Policy { fresh_for: Duration::ZERO, stale_while_revalidate: Duration::ZERO, stale_if_error: 10 * SECOND };
        assert_eq!(policy.decide(Duration::ZERO), Decision::Refetch);
        assert_eq!(policy.decide(10 * SECOND), Decision::Expired);
    }
}

//! Whether this process is useful to clients: one decision over what it has and what it can reach.
//!
//! What it says is also for those who may know nothing of accounts, roles and routes.

use serde::Serialize;

use super::Site;
use wheelport_runtime::sabotaged;

/// How useful this process is to clients. An outage that the cache bridges is no reason to send clients elsewhere: the
/// other replicas have the same outage, and perhaps less in their caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// Useful, though not in every respect.
    Degraded(&'static str),
    /// Of no use to clients.
    Unready(&'static str),
}

/// What readiness depends on.
#[derive(Debug, Clone, Copy)]
struct Ability {
    draining: bool,
    /// Routes with a usable token and a known endpoint.
    able: usize,
    routes: usize,
    /// Routes of which upstream lets nothing be read.
    closed: usize,
    /// Whether anything is cached.
    cached: bool,
    /// Whether the cache directory can be written.
    storage: bool,
}

impl Readiness {
    pub(super) fn of(site: &Site) -> Self {
        let able = site.routes.iter().filter(|route| route.route.is_resolved() && route.route.token.state().usable);
        Self::decide(Ability {
            draining: site.draining.load(std::sync::atomic::Ordering::Relaxed),
            able: able.count(),
            routes: site.routes.len(),
            closed: site.routes.iter().filter(|of| of.route.is_denied() || of.route.is_missing_everything()).count(),
            cached: site.flow.holds_anything(),
            storage: site.flow.storage_works(),
        })
    }

    fn decide(ability: Ability) -> Self {
        match ability {
            Ability { draining: true, .. } => Self::Unready("the server is stopping"),
            Ability { able: 0, cached: false, .. } if !sabotaged("useless") => {
                Self::Unready("upstream cannot be used, and nothing is cached")
            }
            Ability { able: 0, .. } if sabotaged("useful") => Self::Unready("upstream cannot be used"),
            Ability { able: 0, .. } => Self::Degraded("upstream cannot be used; what is cached is served"),
            Ability { able, routes, .. } if able < routes => Self::Degraded("some routes cannot use upstream"),
            Ability { closed: 1.., .. } => Self::Degraded("upstream lets some routes read nothing"),
            Ability { storage: false, .. } => Self::Degraded("the cache directory cannot be written"),
            _ => Self::Ready,
        }
    }

    pub(super) fn is_ready(self) -> bool {
        !matches!(self, Self::Unready(_))
    }
}

/// What `readyz` says, and `status` too.
#[derive(Serialize)]
pub(super) struct ReadinessReport {
    pub(super) ready: bool,
    pub(super) degraded: bool,
    /// Why not, or why only in part, in general terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
}

impl From<Readiness> for ReadinessReport {
    fn from(readiness: Readiness) -> Self {
        let reason = match readiness {
            Readiness::Ready => None,
            Readiness::Degraded(reason) | Readiness::Unready(reason) => Some(reason),
        };
        Self { ready: readiness.is_ready(), degraded: matches!(readiness, Readiness::Degraded(_)), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_of_no_use_is_not_ready() {
        let healthy = Ability { draining: false, able: 2, routes: 2, closed: 0, cached: true, storage: true };
        for (ability, ready, degraded) in [
            (healthy, true, false),
            (Ability { cached: false, ..healthy }, true, false),
            (Ability { able: 1, ..healthy }, true, true),
            (Ability { able: 0, ..healthy }, true, true),
            (Ability { closed: 2, cached: false, ..healthy }, true, true),
            (Ability { storage: false, ..healthy }, true, true),
            (Ability { able: 0, storage: false, ..healthy }, true, true),
            (Ability { able: 0, cached: false, ..healthy }, false, false),
            (Ability { draining: true, ..healthy }, false, false),
        ] {
            let report = ReadinessReport::from(Readiness::decide(ability));
            assert_eq!((report.ready, report.degraded), (ready, degraded), "{ability:?}");
            assert_eq!(report.reason.is_some(), !ready || degraded, "{ability:?}");
        }
    }
}

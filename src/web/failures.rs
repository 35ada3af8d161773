//! The last failures, for operators: a bounded ring of what clients were told, with the ids of their requests.
//!
//! Only what this server or something behind it did wrong, never what a client did: no request for nonsense pushes a
//! failure out. No query, header or credential is taken in.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::Site;
use super::address::{self, Address};
use super::context::RequestContext;
use crate::telemetry::ResponseKind;
use wheelport_index::shortened;
use wheelport_runtime::sabotaged;

/// The failures that are remembered.
const MOST: usize = 50;
/// The longest path in a failure, in characters.
const LONGEST_PATH: usize = 200;

/// Refusals that say that something is wrong behind this server, although their status blames the client.
const TELLING: [&str; 3] = ["denied", "changed-file", "integrity"];

/// The last failures.
#[derive(Debug, Default)]
pub(super) struct FailureLog(Mutex<VecDeque<Failure>>);

/// One request that was not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    /// Seconds since the Unix epoch.
    pub(super) at: u64,
    /// The request's id, which is in its response and in the log.
    pub(super) request: String,
    /// The route, if the address names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<Arc<str>>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) kind: &'static str,
    pub(super) status: u16,
    /// The code of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'static str>,
}

/// Refusals that a client causes by itself, and that have a metric of their own.
const CAUSED: [&str; 2] = ["too-many-connections", "too-many-connections-of-client"];

/// Whether a response is a failure that operators should see.
fn is_failure(kind: ResponseKind, status: u16, error: Option<&str>) -> bool {
    let is_one_of = |codes: &[&str]| error.is_some_and(|error| codes.contains(&error));
    let is_caused = is_one_of(&CAUSED) && !sabotaged("failures-of-clients");
    kind != ResponseKind::Health && !is_caused && (status >= 500 || is_one_of(&TELLING))
}

impl FailureLog {
    /// Takes in a response, if it is a failure.
    pub(super) fn note(&self, site: &Site, context: &RequestContext, status: u16, error: Option<&'static str>) {
        if !is_failure(context.kind, status, error) {
            return;
        }
        let route = match address::parse(context.path(), &site.names).map(|parsed| parsed.address) {
            Ok(Address::Upload { route }) => Some(route),
            Ok(address) => address.reads(),
            Err(_) => None,
        };
        let route = route.map(|route| Arc::clone(&site.route(route).name));
        self.push(Failure {
            at: site.flow.policy().now().0,
            request: context.id.as_str().to_owned(),
            route,
            method: shortened(context.method.as_str(), 16).into_owned(),
            path: shortened(context.path(), LONGEST_PATH).into_owned(),
            kind: context.kind.as_str(),
            status,
            error,
        });
    }

    fn push(&self, failure: Failure) {
        let mut failures = self.0.lock();
        while failures.len() >= MOST && !sabotaged("failure-ring") {
            failures.pop_front();
        }
        failures.push_back(failure);
    }

    /// The newest first.
    pub(super) fn newest(&self) -> Vec<Failure> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_the_clients_fault_is_a_failure() {
        use ResponseKind::{File, Health, Page};
        for (kind, status, error, expected) in [
            (Page, 503, Some("unavailable-token"), true),
            (Page, 500, Some("internal"), true),
            (Page, 403, Some("denied"), true),
            (File, 403, Some("changed-file"), true),
            (File, 403, Some("blocked"), false),
            (Page, 404, Some("no-such-project"), false),
            (Page, 401, Some("read-unauthorized"), false),
            (Page, 200, None, false),
            (Page, 503, Some("too-many-connections"), false),
            (Health, 503, None, false),
        ] {
            assert_eq!(is_failure(kind, status, error), expected, "{kind:?} {status} {error:?}");
        }
    }

    #[test]
    fn the_ring_keeps_the_newest() {
        let log = FailureLog::default();
        let failure = |at| Failure {
            at,
            request: "0".to_owned(),
            route: None,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            kind: "page",
            status: 503,
            error: None,
        };
        (0..200).for_each(|at| log.push(failure(at)));
        let kept: Vec<u64> = log.newest().iter().map(|failure| failure.at).collect();
        assert_eq!(kept, (150..200).rev().collect::<Vec<_>>());
    }
}

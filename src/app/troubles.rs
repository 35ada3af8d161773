//! What gets into trouble without a request that notices it: tokens, keys of issuers, certificates, advisories. Looked at every
//! second; where something gets into trouble or out of it, operators hear of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::flow::{Advisories, AdvisoryState, Route};
use crate::identity::{Identities, KeyState};
use crate::notices::{Notice, Notices};
use crate::token::{KeeperState, TokenHandle};
use crate::web::{CertificateReport, ServerCertificates};
use wheelport_runtime::{Tasks, sabotaged};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Failed mints in a row. One or two are a hiccup of the network.
const FAILED_MINTS: u32 = 3;
/// Keys of issuers are fetched every ten minutes.
const OLD_KEYS: Duration = Duration::from_hours(1);
/// The age from which the alert speaks of old advisories as well.
const OLD_ADVISORIES: Duration = Duration::from_hours(24);
/// What is left of a certificate that should have been renewed long ago.
const SHORT_CERTIFICATE: Duration = Duration::from_hours(72);

/// What is looked at.
pub(super) struct Troubles {
    tokens: Vec<SharedToken>,
    identities: Arc<Identities>,
    certificates: Option<ServerCertificates>,
    advisories: Advisories,
    notices: Notices,
    /// What is in trouble, as far as operators have heard.
    known: HashSet<String>,
}

/// A token, and the routes that use it.
struct SharedToken {
    token: TokenHandle,
    routes: Vec<Arc<str>>,
}

/// Whether something is in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    /// Neither has it been in trouble for long enough, nor is it known to be out of it.
    Open,
    Troubled,
}

impl Troubles {
    pub(super) fn new(
        routes: &[Arc<Route>],
        identities: Arc<Identities>,
        certificates: Option<ServerCertificates>,
        advisories: Advisories,
        notices: Notices,
    ) -> Self {
        let mut tokens: Vec<SharedToken> = Vec::new();
        for (route, token) in routes.iter().flat_map(|route| route.tokens().map(move |token| (route, token))) {
            match tokens.iter_mut().find(|shared| shared.token.is_same(token)) {
                Some(shared) if shared.routes.contains(&route.name) => {}
                Some(shared) => shared.routes.push(Arc::clone(&route.name)),
                None => tokens.push(SharedToken { token: token.clone(), routes: vec![Arc::clone(&route.name)] }),
            }
        }
        Self { tokens, identities, certificates, advisories, notices, known: HashSet::new() }
    }

    /// Looks until the process stops. Where no one hears notices, there is nothing to look for.
    pub(super) fn watch(mut self, tasks: &Tasks) {
        if !self.notices.are_heard() {
            return;
        }
        tasks.spawn_loop("watch for trouble", async move {
            loop {
                self.look();
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }

    fn look(&mut self) {
        let mut found = Vec::new();
        for (number, SharedToken { token, routes }) in self.tokens.iter().enumerate() {
            found.push((format!("token {number}"), of_token(&token.state(), routes)));
        }
        for state in self.identities.key_states() {
            found.push((format!("issuer {}", state.issuer), of_keys(&state)));
        }
        for report in self.certificates.iter().flat_map(|held| held.report().certificates) {
            found.push((format!("certificate {}", report.certificate.display()), of_certificate(&report)));
        }
        if let Some(state) = self.advisories.state() {
            found.push(("advisories".to_owned(), of_advisories(&state)));
        }
        for (what, (health, notice)) in found {
            if self.is_news(what, health) {
                self.notices.tell(notice);
            }
        }
    }

    /// Whether something got into trouble or out of it.
    fn is_news(&mut self, what: String, health: Health) -> bool {
        match health {
            Health::Troubled => self.known.insert(what),
            Health::Open => false,
            Health::Well => self.known.remove(&what),
        }
    }
}

fn of_token(state: &KeeperState, routes: &[Arc<str>]) -> (Health, Notice) {
    let routes = routes.to_vec();
    match &state.last_error {
        Some(error) if state.failures_in_a_row >= FAILED_MINTS && !sabotaged("notice-token") => {
            let (cause, failures, left) = (error.kind.as_str(), state.failures_in_a_row, state.remaining);
            let left = left.filter(|left| !left.is_zero());
            (Health::Troubled, Notice::TokenFailing { routes, cause, failures, left })
        }
        Some(_) => (Health::Open, Notice::TokenRecovered { routes }),
        None => (Health::Well, Notice::TokenRecovered { routes }),
    }
}

fn of_keys(state: &KeyState) -> (Health, Notice) {
    let issuer = Arc::clone(&state.issuer);
    match (state.has_failed, state.age) {
        (true, age) if age.is_none_or(|age| age >= OLD_KEYS) => {
            (Health::Troubled, Notice::IssuerKeysStale { issuer, age })
        }
        (true, _) | (false, None) => (Health::Open, Notice::IssuerKeysRecovered { issuer }),
        (false, Some(_)) => (Health::Well, Notice::IssuerKeysRecovered { issuer }),
    }
}

fn of_certificate(report: &CertificateReport) -> (Health, Notice) {
    let names = report.names.join(", ");
    match u64::try_from(report.ends_in_seconds).map(Duration::from_secs) {
        Ok(left) if left >= SHORT_CERTIFICATE => (Health::Well, Notice::CertificateRenewed { names }),
        left => (Health::Troubled, Notice::CertificateEnds { names, left: left.ok() }),
    }
}

fn of_advisories(state: &AdvisoryState) -> (Health, Notice) {
    let age = state.age.map(Duration::from_secs);
    match (age.is_none_or(|age| age >= OLD_ADVISORIES), state.error.is_some()) {
        (true, true) if !sabotaged("notice-feed") => (Health::Troubled, Notice::FeedStale { age }),
        (false, false) => (Health::Well, Notice::FeedRecovered),
        _ => (Health::Open, Notice::FeedRecovered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::RefreshOutcome;
    use crate::token::{MintError, MintErrorKind};

    fn keeper(failures_in_a_row: u32) -> KeeperState {
        let error = MintError::new(MintErrorKind::Denied, "not allowed");
        KeeperState {
            generation: 1,
            usable: true,
            remaining: Some(Duration::from_hours(3)),
            age: None,
            renewals: 1,
            failures: 0,
            failures_in_a_row,
            last_error: (failures_in_a_row > 0).then_some(error),
        }
    }

    #[test]
    fn a_token_is_in_trouble_after_three_failures_and_out_of_it_with_the_next_success() {
        let routes = ["pypi".into()];
        let health: Vec<_> = [0, 1, 2, 3, 9].map(|failures| of_token(&keeper(failures), &routes).0).into();
        assert_eq!(health, [Health::Well, Health::Open, Health::Open, Health::Troubled, Health::Troubled]);
        let left = Some(Duration::from_hours(3));
        let expected = Notice::TokenFailing { routes: routes.to_vec(), cause: "denied", failures: 3, left };
        assert_eq!(of_token(&keeper(3), &routes).1, expected);
    }

    #[test]
    fn advisories_are_in_trouble_when_they_are_old_and_cannot_be_renewed() {
        let feed = |hours: Option<u64>, error: Option<&str>| {
            let outcomes = RefreshOutcome::ALL.map(|outcome| (outcome, 0));
            let (age, error) = (hours.map(|hours| hours * 3600), error.map(str::to_owned));
            let source = "all.zip".to_owned();
            of_advisories(&AdvisoryState {
                source,
                advisories: 1,
                malware: 1,
                unreadable: 0,
                memory: 100,
                age,
                error,
                outcomes,
            })
        };
        let stale = |age| (Health::Troubled, Notice::FeedStale { age });
        assert_eq!(feed(None, Some("no such file")), stale(None));
        assert_eq!(feed(Some(24), Some("timed out")), stale(Some(Duration::from_hours(24))));
        assert_eq!(feed(Some(23), Some("timed out")).0, Health::Open);
        assert_eq!(feed(None, None).0, Health::Open, "the first look is under way");
        assert_eq!(feed(Some(0), None), (Health::Well, Notice::FeedRecovered));
    }

    #[test]
    fn keys_are_in_trouble_when_they_are_old_and_certificates_when_they_end() {
        let keys = |has_failed, minutes: Option<u64>| {
            of_keys(&KeyState { issuer: "ci".into(), number: 1, age: minutes.map(Duration::from_mins), has_failed }).0
        };
        assert_eq!(keys(true, None), Health::Troubled);
        assert_eq!(keys(true, Some(60)), Health::Troubled);
        assert_eq!(keys(true, Some(59)), Health::Open);
        assert_eq!(keys(false, None), Health::Open, "they were never needed");
        assert_eq!(keys(false, Some(600)), Health::Well);
        let certificate = |ends_in_seconds| {
            let (certificate, names) = ("/tls/tls.crt".into(), vec!["pypi.acme.internal".to_owned()]);
            of_certificate(&CertificateReport { certificate, names, ends_in_seconds, error: None })
        };
        assert_eq!(certificate(73 * 3600).0, Health::Well);
        assert_eq!(certificate(71 * 3600).0, Health::Troubled);
        let ended = Notice::CertificateEnds { names: "pypi.acme.internal".to_owned(), left: None };
        assert_eq!(certificate(-1), (Health::Troubled, ended));
    }
}

//! Which repositories a route shows: its own, and those that it has upstream, directly or not. Pure but for the calls
//! that are passed in.
//!
//! Where that cannot be found out, it is the whole domain: an event that concerns a route for nothing costs a request.

use std::collections::{BTreeSet, VecDeque};

use crate::control::{ControlError, DescribedRepository, DomainId, RepositoryName};
use crate::fleet::PackageEvent;
use wheelport_runtime::sabotaged;

/// CodeArtifact searches 25 repositories for a package; a graph beyond that is not followed further.
const MAX_REPOSITORIES: usize = 50;

/// The repositories that a route shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Not found out: any of the domain.
    Domain,
    Repositories {
        owner: Option<String>,
        names: BTreeSet<String>,
    },
}

impl Reach {
    /// Whether an event is about something that a route of this domain may show.
    pub(super) fn covers(&self, domain: &DomainId, event: &PackageEvent) -> bool {
        if event.domain != domain.name.as_str() || event.region != domain.region.as_str() {
            return false;
        }
        let is_owner = |owner: &str| owner == event.owner;
        if domain.owner.as_ref().is_some_and(|owner| !is_owner(owner.as_str())) {
            return false;
        }
        match self {
            Self::Domain => true,
            Self::Repositories { owner, names } => {
                owner.as_deref().is_none_or(is_owner) && names.contains(&event.repository)
            }
        }
    }
}

/// Follows upstreams, each repository once.
pub(crate) async fn reach<F>(
    start: &RepositoryName,
    describe: impl Fn(RepositoryName) -> F,
) -> Result<Reach, ControlError>
where
    F: Future<Output = Result<DescribedRepository, ControlError>> + Send,
{
    let mut names = BTreeSet::from([start.as_str().to_owned()]);
    let mut waiting = VecDeque::from([start.clone()]);
    let mut domain_owner = None;
    while let Some(next) = waiting.pop_front() {
        let DescribedRepository { owner, upstreams } = describe(next).await?;
        domain_owner = domain_owner.or(owner);
        for upstream in upstreams {
            if sabotaged("upstream-graph") || !names.insert(upstream.as_str().to_owned()) {
                continue;
            }
            if names.len() > MAX_REPOSITORIES {
                return Ok(Reach::Domain);
            }
            waiting.push_back(upstream);
        }
    }
    Ok(Reach::Repositories { owner: domain_owner, names })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::control::{DomainName, RegionName};
    use crate::fleet::PackageOperation;
    use crate::token::MintErrorKind;
    use wheelport_index::ProjectName;

    fn name(text: &str) -> RepositoryName {
        RepositoryName::parse(text).expect("a name")
    }

    fn event(region: &str, owner: &str, repository: &str) -> PackageEvent {
        PackageEvent {
            region: region.to_owned(),
            domain: "acme".to_owned(),
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            project: ProjectName::parse("hello").expect("a name"),
            version: "1.0".to_owned(),
            operation: PackageOperation::Created,
        }
    }

    async fn of(edges: &[(&str, &[&str])], calls: &AtomicUsize) -> Result<Reach, ControlError> {
        let edges: HashMap<&str, &[&str]> = edges.iter().copied().collect();
        let describe = |repository: RepositoryName| {
            calls.fetch_add(1, Ordering::Relaxed);
            let upstreams = edges.get(repository.as_str()).map(|names| names.iter().map(|text| name(text)).collect());
            let described = upstreams
                .map(|upstreams| DescribedRepository { owner: Some("111122223333".to_owned()), upstreams })
                .ok_or_else(|| ControlError {
                    kind: MintErrorKind::Denied,
                    message: "denied".to_owned(),
                    retry_after: None,
                });
            std::future::ready(described)
        };
        reach(&name("python"), describe).await
    }

    #[tokio::test]
    async fn an_event_of_an_upstream_concerns_a_route_and_a_circle_ends() {
        let calls = AtomicUsize::new(0);
        let edges: [(&str, &[&str]); 3] =
            [("python", &["shared"]), ("shared", &["pypi-store"]), ("pypi-store", &["python"])];
        let found = of(&edges, &calls).await.expect("all may be described");
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        let domain = DomainId {
            name: DomainName::parse("acme").expect("a name"),
            owner: None,
            region: RegionName::parse("eu-central-1").expect("a region"),
        };
        for (region, owner, repository, concerns) in [
            ("eu-central-1", "111122223333", "python", true),
            ("eu-central-1", "111122223333", "pypi-store", true),
            ("eu-central-1", "111122223333", "other", false),
            ("eu-central-1", "444455556666", "python", false),
            ("eu-west-1", "111122223333", "python", false),
        ] {
            let event = event(region, owner, repository);
            assert_eq!(found.covers(&domain, &event), concerns, "{event:?}");
            let anything = region == "eu-central-1";
            assert_eq!(Reach::Domain.covers(&domain, &event), anything, "{event:?}");
        }
    }

    #[tokio::test]
    async fn what_may_not_be_described_is_an_error_and_a_graph_without_end_the_whole_domain() {
        let calls = AtomicUsize::new(0);
        assert!(of(&[("python", &["secret"])], &calls).await.is_err());
        let many: Vec<String> = (0..60).map(|number| format!("r{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(of(&[("python", &many)], &calls).await.ok(), Some(Reach::Domain));
    }
}

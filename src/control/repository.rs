//! What the control plane tells of a repository: its owner and its upstreams.

use super::connect::ControlPlane;
use super::error::{Call, ControlError};
use super::settings::{DomainId, RepositoryName};

/// A repository as `DescribeRepository` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DescribedRepository {
    /// The account that owns the domain.
    pub(crate) owner: Option<String>,
    /// The repositories it has directly upstream, by name; all are of the same domain.
    pub(crate) upstreams: Vec<RepositoryName>,
}

impl ControlPlane {
    /// Calls `DescribeRepository`.
    pub(crate) async fn describe_repository(
        &self,
        domain: &DomainId,
        repository: &RepositoryName,
    ) -> Result<DescribedRepository, ControlError> {
        let call = self.client(&domain.region).await.describe_repository().domain(domain.name.as_str());
        let call = call.set_domain_owner(domain.owner.as_ref().map(ToString::to_string));
        let response = call.repository(repository.as_str()).send().await.map_err(|error| {
            self.failed(&error, Call::DescribeRepository, &format!("repository {repository} in {domain}"))
        })?;
        let described = response.repository();
        let upstreams = described.iter().flat_map(|described| described.upstreams());
        let names = upstreams.filter_map(|upstream| RepositoryName::parse(upstream.repository_name()?).ok());
        Ok(DescribedRepository {
            owner: described.and_then(|described| described.domain_owner()).map(str::to_owned),
            upstreams: names.collect(),
        })
    }
}

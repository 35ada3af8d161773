//! The names of all packages in a repository.

use aws_sdk_codeartifact::types::PackageFormat;

use super::connect::ControlPlane;
use super::error::{Call, ControlError};
use super::settings::{DomainId, RepositoryName};
use crate::token::MintErrorKind;

/// A longer list is an error, because half a list would look like a complete one.
const MAX_PACKAGES: usize = 1_000_000;
const PAGE: i32 = 1_000;
/// Empty pages with a next page are legal; an endless sequence of them is not.
const MAX_PAGES: usize = 5_000;

impl ControlPlane {
    /// All pages of `ListPackages` for Python: what this repository retains, not what its upstreams offer.
    pub(crate) async fn list_packages(
        &self,
        domain: &DomainId,
        repository: &RepositoryName,
    ) -> Result<Vec<String>, ControlError> {
        let client = self.client(&domain.region).await;
        let mut names = Vec::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let (page, following) = self.packages_page(&client, domain, repository, next).await?;
            names.extend(page);
            if names.len() > MAX_PACKAGES {
                break;
            }
            match following {
                Some(following) => next = Some(following),
                None => return Ok(names),
            }
        }
        Err(ControlError::new(
            MintErrorKind::Other,
            format!("repository {repository} has more than {MAX_PACKAGES} packages, or its list has no end"),
        ))
    }

    /// The first page of the list, to find out whether it may be read.
    pub(crate) async fn some_packages(
        &self,
        domain: &DomainId,
        repository: &RepositoryName,
    ) -> Result<Vec<String>, ControlError> {
        let client = self.client(&domain.region).await;
        self.packages_page(&client, domain, repository, None).await.map(|(names, _)| names)
    }

    async fn packages_page(
        &self,
        client: &aws_sdk_codeartifact::Client,
        domain: &DomainId,
        repository: &RepositoryName,
        next: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), ControlError> {
        let response = client
            .list_packages()
            .domain(domain.name.as_str())
            .set_domain_owner(domain.owner.as_ref().map(ToString::to_string))
            .repository(repository.as_str())
            .format(PackageFormat::Pypi)
            .max_results(PAGE)
            .set_next_token(next.clone())
            .send()
            .await
            .map_err(|error| {
                self.failed(&error, Call::ListPackages, &format!("repository {repository} in {domain}"))
            })?;
        let following = response.next_token.filter(|following| Some(following) != next.as_ref());
        let names = response.packages.unwrap_or_default().into_iter().filter_map(|package| package.package);
        Ok((names.collect(), following))
    }
}

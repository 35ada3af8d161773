//! The packages of a repository: their names, and where their versions come from.

use aws_sdk_codeartifact::operation::describe_package::DescribePackageError;
use aws_sdk_codeartifact::operation::describe_package_version::DescribePackageVersionError;
use aws_sdk_codeartifact::operation::list_package_versions::ListPackageVersionsError;
use aws_sdk_codeartifact::types::{
    AllowPublish, AllowUpstream, PackageFormat, PackageVersionOriginType, PackageVersionSummary,
};

use super::connect::ControlPlane;
use super::error::{Call, ControlError};
use super::settings::{DomainId, RepositoryName};
use crate::token::MintErrorKind;

/// A longer list is an error, because half a list would look like a complete one.
const MAX_PACKAGES: usize = 1_000_000;
const PAGE: i32 = 1_000;
/// Empty pages with a next page are legal; an endless sequence of them is not.
const MAX_PAGES: usize = 5_000;
/// Versions of one package at most.
const MAX_VERSIONS: usize = 50_000;

/// Where the versions of a package come from.
#[derive(Debug, Default)]
pub(crate) struct PackageOrigins {
    /// Whether versions may be published.
    pub publish: bool,
    /// Whether versions may come from upstream repositories and from outside.
    pub upstream: bool,
    /// Of single versions whether each came from outside, where that was asked for and is known.
    pub versions: Option<Vec<(String, bool)>>,
}

impl PackageOrigins {
    /// Whether there may be versions from outside beside those of the domain.
    pub(crate) fn is_on_both_sides(&self) -> bool {
        let has = |wanted| self.versions.iter().flatten().any(|(_, is_external)| *is_external == wanted);
        has(false) && (has(true) || self.upstream)
    }
}

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

    /// The origin controls of a package, and where its versions came from: `with_versions`, or where the controls let
    /// them come from both sides. A package that is not there has no controls.
    pub(crate) async fn package_origins(
        &self,
        domain: &DomainId,
        repository: &RepositoryName,
        package: &str,
        with_versions: bool,
    ) -> Result<PackageOrigins, ControlError> {
        let client = self.client(&domain.region).await;
        let described = client
            .describe_package()
            .domain(domain.name.as_str())
            .set_domain_owner(domain.owner.as_ref().map(ToString::to_string))
            .repository(repository.as_str())
            .format(PackageFormat::Pypi)
            .package(package)
            .send()
            .await;
        let subject = format!("package {package} of repository {repository} in {domain}");
        let described = match described {
            Ok(described) => described,
            Err(error)
                if error.as_service_error().is_some_and(DescribePackageError::is_resource_not_found_exception) =>
            {
                return Ok(PackageOrigins { publish: true, upstream: true, versions: Some(Vec::new()) });
            }
            Err(error) => return Err(self.failed(&error, Call::DescribePackage, &subject)),
        };
        let controls = described.package.and_then(|package| package.origin_configuration?.restrictions);
        let publish = controls.as_ref().is_none_or(|controls| controls.publish != AllowPublish::Block);
        let upstream = controls.as_ref().is_none_or(|controls| controls.upstream != AllowUpstream::Block);
        let versions = if with_versions || (publish && upstream) {
            Some(self.version_origins(&client, domain, repository, package).await?.unwrap_or_default())
        } else {
            None
        };
        Ok(PackageOrigins { publish, upstream, versions })
    }

    /// The versions that a repository has of a package, and of each whether it came from outside; `None` where there
    /// is no such package.
    async fn version_origins(
        &self,
        client: &aws_sdk_codeartifact::Client,
        domain: &DomainId,
        repository: &RepositoryName,
        package: &str,
    ) -> Result<Option<Vec<(String, bool)>>, ControlError> {
        let retained = self.retained_versions(client, domain, repository, package).await?;
        let origin = |version: PackageVersionSummary| match version.origin.and_then(|origin| origin.origin_type) {
            Some(PackageVersionOriginType::External) => Some((version.version, true)),
            Some(PackageVersionOriginType::Internal) => Some((version.version, false)),
            _ => None,
        };
        Ok(retained.map(|retained| retained.into_iter().filter_map(origin).collect()))
    }

    /// All pages of `ListPackageVersions`.
    async fn retained_versions(
        &self,
        client: &aws_sdk_codeartifact::Client,
        domain: &DomainId,
        repository: &RepositoryName,
        package: &str,
    ) -> Result<Option<Vec<PackageVersionSummary>>, ControlError> {
        let pages = client
            .list_package_versions()
            .domain(domain.name.as_str())
            .set_domain_owner(domain.owner.as_ref().map(ToString::to_string))
            .repository(repository.as_str())
            .format(PackageFormat::Pypi)
            .package(package)
            .into_paginator()
            .page_size(PAGE);
        let mut pages = pages.send();
        let (mut versions, mut count) = (Vec::new(), 0);
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(ListPackageVersionsError::is_resource_not_found_exception) =>
                {
                    return Ok(None);
                }
                Err(error) => {
                    let subject = format!("package {package} of repository {repository} in {domain}");
                    return Err(self.failed(&error, Call::ListPackageVersions, &subject));
                }
            };
            count += 1;
            versions.extend(page.versions.unwrap_or_default());
            if versions.len() > MAX_VERSIONS || count > MAX_PAGES {
                break;
            }
        }
        Ok(Some(versions))
    }

    /// The names of the versions that a repository has of a package.
    pub(crate) async fn version_names(
        &self,
        domain: &DomainId,
        repository: &RepositoryName,
        package: &str,
    ) -> Result<Vec<String>, ControlError> {
        let client = self.client(&domain.region).await;
        let retained = self.retained_versions(&client, domain, repository, package).await?;
        Ok(retained.unwrap_or_default().into_iter().map(|version| version.version).collect())
    }

    /// When a version was published to the repository, or came into it from outside, in seconds since the Unix epoch;
    /// `None` where it is not there, or has no such time.
    pub(crate) async fn published_time(
        &self,
        domain: &DomainId,
        repository: &RepositoryName,
        package: &str,
        version: &str,
    ) -> Result<Option<u64>, ControlError> {
        let client = self.client(&domain.region).await;
        let described = client
            .describe_package_version()
            .domain(domain.name.as_str())
            .set_domain_owner(domain.owner.as_ref().map(ToString::to_string))
            .repository(repository.as_str())
            .format(PackageFormat::Pypi)
            .package(package)
            .package_version(version)
            .send()
            .await;
        let is_missing = DescribePackageVersionError::is_resource_not_found_exception;
        match described {
            Ok(described) => {
                let published = described.package_version.and_then(|version| version.published_time);
                Ok(published.and_then(|published| u64::try_from(published.secs()).ok()))
            }
            Err(error) if error.as_service_error().is_some_and(is_missing) => Ok(None),
            Err(error) => {
                let subject = format!("version {version} of package {package} of repository {repository} in {domain}");
                Err(self.failed(&error, Call::DescribePackageVersion, &subject))
            }
        }
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

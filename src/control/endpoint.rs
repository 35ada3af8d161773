//! The address of a repository's Python endpoint.

use aws_config::SdkConfig;
use aws_sdk_codeartifact::types::{EndpointType, PackageFormat};
use aws_types::service_config::ServiceConfigKey;
use url::Url;

use super::connect::ControlPlane;
use super::error::{Call, ControlError};
use super::settings::{DomainId, RepositoryName};
use crate::token::MintErrorKind;

impl ControlPlane {
    /// `https://DOMAIN-OWNER.d.codeartifact.REGION.amazonaws.com/pypi/REPOSITORY/`.
    ///
    /// Derived without a call, and so without the permission for it, if the owner is known and nothing unusual is
    /// configured; otherwise `GetRepositoryEndpoint` tells.
    pub(crate) async fn repository_endpoint(
        &self,
        domain: &DomainId,
        repository: &RepositoryName,
    ) -> Result<Url, ControlError> {
        let session = self.session().await;
        let dual_stack = session.use_dual_stack() == Some(true);
        if !dual_stack
            && !has_custom_endpoint(&session)
            && let Some(url) = derive(domain, repository)
        {
            return Ok(url);
        }
        let response = self
            .client(&domain.region)
            .await
            .get_repository_endpoint()
            .domain(domain.name.as_str())
            .set_domain_owner(domain.owner.as_ref().map(ToString::to_string))
            .repository(repository.as_str())
            .format(PackageFormat::Pypi)
            .set_endpoint_type(dual_stack.then_some(EndpointType::Dualstack))
            .send()
            .await
            .map_err(|error| {
                self.failed(&error, Call::GetRepositoryEndpoint, &format!("repository {repository} in {domain}"))
            })?;
        parse(response.repository_endpoint().unwrap_or_default())
    }
}

/// The address that AWS documents. Only for the commercial partition: elsewhere the host ends differently.
fn derive(domain: &DomainId, repository: &RepositoryName) -> Option<Url> {
    let (name, owner, region) = (&domain.name, domain.owner.as_ref()?, &domain.region);
    if ["cn-", "us-iso", "us-gov", "eu-isoe", "eusc-"].iter().any(|prefix| region.as_str().starts_with(prefix)) {
        return None;
    }
    Url::parse(&format!("https://{name}-{owner}.d.codeartifact.{region}.amazonaws.com/pypi/{repository}/")).ok()
}

fn parse(endpoint: &str) -> Result<Url, ControlError> {
    let with_slash = if endpoint.ends_with('/') { endpoint.to_owned() } else { format!("{endpoint}/") };
    match Url::parse(&with_slash) {
        Ok(url) if matches!(url.scheme(), "https" | "http") && url.query().is_none() => Ok(url),
        _ => Err(ControlError::new(
            MintErrorKind::Other,
            "CodeArtifact responded to GetRepositoryEndpoint without a usable address",
        )),
    }
}

/// Whether a setting points the SDK somewhere else, for CodeArtifact or for everything.
fn has_custom_endpoint(session: &SdkConfig) -> bool {
    let key =
        ServiceConfigKey::builder().service_id("codeartifact").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_service = || session.service_config()?.load_config(key.ok()?);
    session.endpoint_url().is_some() || of_service().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{AccountId, DomainName, RegionName};

    fn domain(owner: Option<&str>, region: &str) -> DomainId {
        DomainId {
            name: DomainName::parse("my-domain").expect("valid"),
            owner: owner.map(|owner| AccountId::parse(owner).expect("valid")),
            region: RegionName::parse(region).expect("valid"),
        }
    }

    #[test]
    fn the_address_is_derived_where_it_is_known() {
        let repository = RepositoryName::parse("Team_1.x").expect("valid");
        assert_eq!(
            derive(&domain(Some("111122223333"), "eu-central-1"), &repository).map(String::from).as_deref(),
            Some("https://my-domain-111122223333.d.codeartifact.eu-central-1.amazonaws.com/pypi/Team_1.x/")
        );
        assert_eq!(derive(&domain(None, "eu-central-1"), &repository), None);
        assert_eq!(derive(&domain(Some("111122223333"), "cn-north-1"), &repository), None);
    }

    #[test]
    fn an_endpoint_always_ends_with_a_slash() {
        for raw in ["https://x.invalid/pypi/r", "https://x.invalid/pypi/r/"] {
            assert_eq!(parse(raw).map(String::from).as_deref(), Ok("https://x.invalid/pypi/r/"));
        }
        for bad in ["", "pypi/r", "file:///etc", "https://x.invalid/?a=b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

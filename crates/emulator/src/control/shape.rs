//! The store's records in the service model's JSON shapes.
//!
//! Pure. Times are seconds since the epoch with a fraction; absent members are left out, never null.

use serde_json::{Value, json};

use crate::store::{
    Asset, Domain, DomainKey, OriginRestrictions, Package, PackageVersion, Repository, ResourcePolicy, VersionOrigin,
};
use wheelport_index::ProjectName;

/// The shape without the members that are null.
fn present(mut shape: Value) -> Value {
    if let Some(members) = shape.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    shape
}

/// One page of a listing.
pub(super) fn listing(name: &str, entries: Vec<Value>, next: Option<String>) -> Value {
    let members = [(name, Value::Array(entries))].into_iter();
    members.chain(next.map(|next| ("nextToken", next.into()))).collect()
}

/// `DomainSummary`
pub(super) fn domain_summary(domain: &Domain, region: &str, status: &str) -> Value {
    json!({
        "name": domain.key.name,
        "owner": domain.key.owner,
        "arn": domain.key.arn(region),
        "status": status,
        "createdTime": domain.created.seconds(),
        "encryptionKey": domain.encryption_key,
    })
}

/// `DomainDescription`: the summary, and how much the domain holds.
pub(super) fn domain(domain: &Domain, region: &str, status: &str, repositories: usize, bytes: u64) -> Value {
    let mut shape = domain_summary(domain, region, status);
    shape["repositoryCount"] = repositories.into();
    shape["assetSizeBytes"] = bytes.into();
    shape["s3BucketArn"] = format!("arn:aws:s3:::assets-{}-{region}", domain.key.owner).into();
    shape
}

/// `RepositorySummary`
pub(super) fn repository_summary(domain: &DomainKey, repository: &Repository, region: &str) -> Value {
    present(json!({
        "name": repository.name,
        "administratorAccount": repository.administrator_account,
        "domainName": domain.name,
        "domainOwner": domain.owner,
        "arn": domain.repository(&repository.name).arn(region),
        "description": repository.description,
        "createdTime": repository.created.seconds(),
    }))
}

/// `RepositoryDescription`: the summary, and where packages come from.
pub(super) fn repository(domain: &DomainKey, repository: &Repository, region: &str) -> Value {
    let mut shape = repository_summary(domain, repository, region);
    let upstreams = repository.upstreams.iter().map(|name| json!({"repositoryName": name}));
    shape["upstreams"] = upstreams.collect();
    let connections = repository
        .external_connection
        .iter()
        .map(|name| json!({"externalConnectionName": name, "packageFormat": "pypi", "status": "Available"}));
    shape["externalConnections"] = connections.collect();
    shape
}

/// `ResourcePolicy`
pub(super) fn policy(resource_arn: &str, policy: &ResourcePolicy) -> Value {
    json!({"resourceArn": resource_arn, "revision": policy.revision, "document": policy.document})
}

/// `PackageOriginConfiguration`
pub(super) fn origin_configuration(restrictions: OriginRestrictions) -> Value {
    json!({"restrictions": {
        "publish": restrictions.publish.as_str(),
        "upstream": restrictions.upstream.as_str(),
    }})
}

/// `PackageSummary`
pub(super) fn package_summary(package: &Package) -> Value {
    json!({
        "format": "pypi",
        "package": package.name.as_str(),
        "originConfiguration": origin_configuration(package.restrictions),
    })
}

/// `PackageDescription`
pub(super) fn package(package: &Package) -> Value {
    json!({
        "format": "pypi",
        "name": package.name.as_str(),
        "originConfiguration": origin_configuration(package.restrictions),
    })
}

fn origin(origin: &VersionOrigin) -> Value {
    let entry = match origin {
        VersionOrigin::Internal { repository } => json!({"repositoryName": repository}),
        VersionOrigin::External { connection } => json!({"externalConnectionName": connection}),
    };
    json!({"domainEntryPoint": entry, "originType": origin.kind()})
}

/// `PackageVersionSummary`
pub(super) fn version_summary(version: &PackageVersion) -> Value {
    json!({
        "version": version.version,
        "revision": version.revision,
        "status": version.status.as_str(),
        "origin": origin(&version.origin),
    })
}

/// `PackageVersionDescription`
pub(super) fn version(package: &ProjectName, version: &PackageVersion) -> Value {
    let metadata = &version.metadata;
    let licenses: Value = metadata.licenses.iter().map(|name| json!({"name": name})).collect();
    present(json!({
        "format": "pypi",
        "packageName": package.as_str(),
        "displayName": package.as_str(),
        "version": version.version,
        "summary": metadata.summary,
        "homePage": metadata.home_page,
        "sourceCodeRepository": metadata.source_repository,
        "publishedTime": version.published.seconds(),
        "licenses": licenses,
        "revision": version.revision,
        "status": version.status.as_str(),
        "origin": origin(&version.origin),
    }))
}

/// The first members of every response about one version.
pub(super) fn about_version(package: &ProjectName, version: &PackageVersion) -> Value {
    json!({
        "format": "pypi",
        "package": package.as_str(),
        "version": version.version,
        "versionRevision": version.revision,
    })
}

/// `AssetSummary`
pub(super) fn asset(asset: &Asset) -> Value {
    let hashes = present(json!({
        "MD5": asset.hashes.md5,
        "SHA-1": asset.hashes.sha1,
        "SHA-256": asset.hashes.sha256,
        "SHA-512": asset.hashes.sha512,
    }));
    present(json!({
        "name": asset.name.as_str(),
        "size": asset.size,
        "hashes": hashes,
    }))
}

/// `PackageDependency` of one `Requires-Dist` entry; `None` if it does not begin with a name.
pub(super) fn dependency(requirement: &str) -> Option<Value> {
    let end = requirement
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')))
        .unwrap_or(requirement.len());
    let name = ProjectName::parse(&requirement[..end]).ok()?;
    let rest = requirement[end..].trim();
    Some(present(json!({
        "package": name.as_str(),
        "versionRequirement": (!rest.is_empty()).then_some(rest),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_split_into_name_and_rest() {
        assert_eq!(
            dependency("Zope.Interface[test] (>=5.0) ; extra == 'x'"),
            Some(json!({"package": "zope-interface", "versionRequirement": "[test] (>=5.0) ; extra == 'x'"}))
        );
        assert_eq!(dependency("idna"), Some(json!({"package": "idna"})));
        assert_eq!(dependency("; broken"), None);
    }
}

//! Changes of many versions at once, with one result for each: states, dispose, delete, copy.

use std::collections::BTreeMap;

use super::base::Store;
use super::error::{ResourceKind, StoreError};
use super::keys::RepositoryKey;
use super::model::{OriginRestrictions, Package, PackageVersion, VersionStatus};
use wheelport_index::ProjectName;

/// Why one of several versions was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionErrorCode {
    /// The destination has the version already.
    AlreadyExists,
    /// The revision is not the one that the caller expects.
    MismatchedRevision,
    /// The status is not the one that the caller expects.
    MismatchedStatus,
    /// The state does not allow this change.
    NotAllowed,
    NotFound,
}

impl VersionErrorCode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::MismatchedRevision => "MISMATCHED_REVISION",
            Self::MismatchedStatus => "MISMATCHED_STATUS",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotFound => "NOT_FOUND",
        }
    }
}

/// What to do with each of the versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionsAction {
    /// Set a new state: Published, Unlisted or Archived.
    SetStatus(VersionStatus),
    /// Remove the bytes, keep the record.
    Dispose,
    /// Remove the record; the version may be published again.
    Delete,
}

/// A change of many versions of one package.
#[derive(Debug, Clone)]
pub(crate) struct VersionsRequest {
    pub versions: Vec<String>,
    /// The revisions that the caller expects, by version.
    pub revisions: BTreeMap<String, String>,
    /// The status that the caller expects of all of them.
    pub expected: Option<VersionStatus>,
    pub action: VersionsAction,
}

/// A copy of versions between two repositories of one domain.
#[derive(Debug, Clone)]
pub(crate) struct CopyRequest {
    pub source: RepositoryKey,
    /// The repository to copy to, in the same domain.
    pub destination: RepositoryKey,
    /// The versions to copy, with the revision that the caller expects.
    pub versions: BTreeMap<String, Option<String>>,
    /// Replace what the destination has.
    pub allow_overwrite: bool,
}

/// The result for each version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VersionsOutcome {
    /// Revision and status afterwards, by version.
    pub successful: BTreeMap<String, (String, VersionStatus)>,
    /// Code and sentence, by version.
    pub failed: BTreeMap<String, (VersionErrorCode, String)>,
}

impl VersionsOutcome {
    fn record(&mut self, version: String, result: Result<(String, VersionStatus), (VersionErrorCode, String)>) {
        match result {
            Ok(state) => drop(self.successful.insert(version, state)),
            Err(failure) => drop(self.failed.insert(version, failure)),
        }
    }
}

impl Store {
    /// Changes many versions, each by itself.
    pub(crate) async fn change_versions(
        &self,
        key: RepositoryKey,
        name: ProjectName,
        request: VersionsRequest,
    ) -> Result<VersionsOutcome, StoreError> {
        let id = name.clone();
        self.change_package(key, name, move |package, _| {
            let package = package.as_mut().ok_or_else(|| StoreError::not_found(ResourceKind::Package, id))?;
            let mut outcome = VersionsOutcome::default();
            for version in &request.versions {
                let result = change_one(package, version, &request);
                outcome.record(version.clone(), result);
            }
            Ok(outcome)
        })
        .await
    }

    /// Copies versions, each by itself; the bytes are shared.
    pub(crate) async fn copy_versions(
        &self,
        name: ProjectName,
        request: CopyRequest,
    ) -> Result<VersionsOutcome, StoreError> {
        let source = self.package(&request.source, &name)?;
        let fresh = name.clone();
        self.change_package(request.destination.clone(), name, move |package, _| {
            let target = package.get_or_insert_with(|| Package {
                name: fresh,
                restrictions: OriginRestrictions::PUBLISHED,
                versions: BTreeMap::new(),
            });
            let mut outcome = VersionsOutcome::default();
            for (version, revision) in &request.versions {
                let result = copy_one(&source, target, version, revision.as_deref(), request.allow_overwrite);
                outcome.record(version.clone(), result);
            }
            if target.versions.is_empty() {
                *package = None;
            }
            Ok(outcome)
        })
        .await
    }
}

type VersionResult = Result<(String, VersionStatus), (VersionErrorCode, String)>;

fn change_one(package: &mut Package, name: &str, request: &VersionsRequest) -> VersionResult {
    let Some(version) = package.versions.get_mut(name) else {
        return Err((VersionErrorCode::NotFound, format!("Package version {name} not found")));
    };
    check_expectations(version, request.revisions.get(name).map(String::as_str), request.expected)?;
    match request.action {
        VersionsAction::SetStatus(target) => set_status(version, target),
        VersionsAction::Dispose => {
            version.status = VersionStatus::Disposed;
            version.assets.clear();
            Ok((version.revision.clone(), version.status))
        }
        VersionsAction::Delete => {
            let revision = version.revision.clone();
            package.versions.remove(name);
            Ok((revision, VersionStatus::Deleted))
        }
    }
}

fn check_expectations(
    version: &PackageVersion,
    revision: Option<&str>,
    status: Option<VersionStatus>,
) -> Result<(), (VersionErrorCode, String)> {
    if revision.is_some_and(|expected| expected != version.revision) {
        return Err((
            VersionErrorCode::MismatchedRevision,
            format!("The revision of version {} is {}", version.version, version.revision),
        ));
    }
    if status.is_some_and(|expected| expected != version.status) {
        return Err((
            VersionErrorCode::MismatchedStatus,
            format!("The status of version {} is {}", version.version, version.status.as_str()),
        ));
    }
    Ok(())
}

fn set_status(version: &mut PackageVersion, target: VersionStatus) -> VersionResult {
    let reachable = matches!(target, VersionStatus::Published | VersionStatus::Unlisted | VersionStatus::Archived);
    if !reachable || version.status == VersionStatus::Disposed {
        let (from, to) = (version.status.as_str(), target.as_str());
        return Err((VersionErrorCode::NotAllowed, format!("A version cannot go from {from} to {to}")));
    }
    version.status = target;
    Ok((version.revision.clone(), target))
}

fn copy_one(
    source: &Package,
    target: &mut Package,
    name: &str,
    revision: Option<&str>,
    overwrite: bool,
) -> VersionResult {
    let Some(version) = source.versions.get(name) else {
        return Err((VersionErrorCode::NotFound, format!("Package version {name} not found")));
    };
    check_expectations(version, revision, None)?;
    if version.status == VersionStatus::Disposed {
        return Err((VersionErrorCode::NotAllowed, format!("Version {name} is disposed")));
    }
    if let Some(present) = target.versions.get(name)
        && present.revision != version.revision
        && !overwrite
    {
        return Err((VersionErrorCode::AlreadyExists, format!("Version {name} is in the destination already")));
    }
    target.versions.insert(name.to_owned(), version.clone());
    Ok((version.revision.clone(), version.status))
}

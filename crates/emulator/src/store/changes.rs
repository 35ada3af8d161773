//! What a change did to the versions of a package, as the service's events tell it.

use std::collections::BTreeSet;

use super::keys::RepositoryKey;
use super::model::{Package, PackageVersion, VersionStatus};
use wheelport_index::ProjectName;

/// One version that was created, updated or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionChange {
    pub repository: RepositoryKey,
    pub package: ProjectName,
    pub version: String,
    /// After the change; the last one where the version is gone.
    pub revision: String,
    pub status: VersionStatus,
    pub operation: VersionOperation,
    pub assets_added: usize,
    pub assets_removed: usize,
    /// Assets with other bytes than before.
    pub assets_updated: usize,
    pub metadata_updated: bool,
    pub status_changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionOperation {
    Created,
    Updated,
    Deleted,
}

impl VersionOperation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Updated => "Updated",
            Self::Deleted => "Deleted",
        }
    }
}

/// The versions in which two states of a package differ. A new yank mark is no change, as in the service.
pub(super) fn compare(
    repository: &RepositoryKey,
    package: &ProjectName,
    before: Option<&Package>,
    after: Option<&Package>,
) -> Vec<VersionChange> {
    let versions = |state: Option<&Package>| -> BTreeSet<String> {
        state.into_iter().flat_map(|package| package.versions.keys().cloned()).collect()
    };
    let names = &versions(before) | &versions(after);
    let change = |name: &String| {
        let find = |state: Option<&'_ Package>| state.and_then(|package| package.versions.get(name)).cloned();
        change_of(repository, package, find(before).as_ref(), find(after).as_ref())
    };
    names.iter().filter_map(change).collect()
}

fn change_of(
    repository: &RepositoryKey,
    package: &ProjectName,
    before: Option<&PackageVersion>,
    after: Option<&PackageVersion>,
) -> Option<VersionChange> {
    let (operation, shown) = match (before, after) {
        (None, Some(after)) => (VersionOperation::Created, after),
        (Some(_), Some(after)) => (VersionOperation::Updated, after),
        (Some(before), None) => (VersionOperation::Deleted, before),
        (None, None) => return None,
    };
    let assets = |version: Option<&PackageVersion>| version.map(|version| version.assets.clone()).unwrap_or_default();
    let (old, new) = (assets(before), assets(after));
    let is_updated = |(name, asset): &(_, &super::model::Asset)| {
        old.get(*name).is_some_and(|known| known.hashes.sha256.is_some() && known.hashes.sha256 != asset.hashes.sha256)
    };
    let change = VersionChange {
        repository: repository.clone(),
        package: package.clone(),
        version: shown.version.clone(),
        revision: shown.revision.clone(),
        status: if operation == VersionOperation::Deleted { VersionStatus::Deleted } else { shown.status },
        operation,
        assets_added: new.keys().filter(|name| !old.contains_key(*name)).count(),
        assets_removed: old.keys().filter(|name| !new.contains_key(*name)).count(),
        assets_updated: new.iter().filter(is_updated).count(),
        metadata_updated: before.map(|version| &version.metadata) != after.map(|version| &version.metadata),
        status_changed: before.map(|version| version.status) != after.map(|version| version.status),
    };
    let is_nothing = operation == VersionOperation::Updated
        && (change.assets_added + change.assets_removed + change.assets_updated) == 0
        && !change.metadata_updated
        && !change.status_changed;
    (!is_nothing).then_some(change)
}

//! Everything the store holds in memory, as one tree: domains, their repositories, their packages.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ResourceKind, StoreError};
use super::keys::{DomainKey, RepositoryKey};
use super::model::{Asset, Domain, Package, PackageVersion, Repository};
use wheelport_index::{ProjectName, Sha256};

#[derive(Default)]
pub(super) struct StoreRecords {
    pub(super) domains: BTreeMap<DomainKey, DomainState>,
}

pub(super) struct DomainState {
    pub(super) domain: Domain,
    pub(super) repositories: BTreeMap<String, RepositoryState>,
}

pub(super) struct RepositoryState {
    pub(super) repository: Repository,
    pub(super) packages: BTreeMap<ProjectName, Package>,
}

/// A record that a change leaves to be written to disk, or removed from it.
pub(super) enum DirtyRecord {
    Domain(DomainKey),
    Repository(RepositoryKey),
    Package(RepositoryKey, ProjectName),
}

impl StoreRecords {
    pub(super) fn domain(&self, key: &DomainKey) -> Result<&DomainState, StoreError> {
        self.domains.get(key).ok_or_else(|| StoreError::not_found(ResourceKind::Domain, &key.name))
    }

    pub(super) fn domain_mut(&mut self, key: &DomainKey) -> Result<&mut DomainState, StoreError> {
        self.domains.get_mut(key).ok_or_else(|| StoreError::not_found(ResourceKind::Domain, &key.name))
    }

    pub(super) fn repository(&self, key: &RepositoryKey) -> Result<&RepositoryState, StoreError> {
        let found = self.domain(&key.domain)?.repositories.get(&key.name);
        found.ok_or_else(|| StoreError::not_found(ResourceKind::Repository, &key.name))
    }

    pub(super) fn repository_mut(&mut self, key: &RepositoryKey) -> Result<&mut RepositoryState, StoreError> {
        let found = self.domain_mut(&key.domain)?.repositories.get_mut(&key.name);
        found.ok_or_else(|| StoreError::not_found(ResourceKind::Repository, &key.name))
    }

    pub(super) fn blobs(&self) -> impl Iterator<Item = Sha256> {
        self.domains
            .values()
            .flat_map(|domain| domain.repositories.values())
            .flat_map(|repository| repository.packages.values())
            .flat_map(|package| package.versions.values())
            .flat_map(|version| version.assets.values())
            .filter_map(Asset::blob)
    }
}

/// The digests of the bytes that these versions refer to.
pub(super) fn blobs_of<'a>(versions: impl Iterator<Item = &'a PackageVersion>) -> BTreeSet<Sha256> {
    versions.flat_map(|version| version.assets.values()).filter_map(Asset::blob).collect()
}

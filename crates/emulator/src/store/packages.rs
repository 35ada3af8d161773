//! Packages: read, list, change, delete, origin controls.

use super::base::Store;
use super::changes;
use super::error::{ResourceKind, StoreError};
use super::keys::RepositoryKey;
use super::model::{OriginRestrictions, Package, PackageVersion, Timestamp};
use super::records::{DirtyRecord, blobs_of};
use wheelport_index::{ProjectName, Sha256};

impl Store {
    /// One package with its retained versions.
    pub(crate) fn package(&self, key: &RepositoryKey, name: &ProjectName) -> Result<Package, StoreError> {
        let records = self.records();
        let package = records.repository(key)?.packages.get(name).cloned();
        package.ok_or_else(|| StoreError::not_found(ResourceKind::Package, name))
    }

    pub(crate) fn version(
        &self,
        key: &RepositoryKey,
        name: &ProjectName,
        version: &str,
    ) -> Result<PackageVersion, StoreError> {
        let records = self.records();
        let package = records.repository(key)?.packages.get(name);
        let package = package.ok_or_else(|| StoreError::not_found(ResourceKind::Package, name))?;
        let found = package.versions.get(version).cloned();
        found.ok_or_else(|| StoreError::not_found(ResourceKind::PackageVersion, version))
    }

    /// Changes one package: `apply` gets the package, or `None` if there is none, and leaves what replaces it. If it
    /// returns an error, nothing changes. Bytes that no asset refers to afterwards are removed.
    pub(crate) async fn change_package<T, F>(
        &self,
        key: RepositoryKey,
        name: ProjectName,
        apply: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Option<Package>, Timestamp) -> Result<T, StoreError> + Send + 'static,
    {
        let (result, gone, changes) = self
            .change(move |records, now| {
                let packages = &mut records.repository_mut(&key)?.packages;
                let before = packages.get(&name).map(referenced).unwrap_or_default();
                let mut package = packages.get(&name).cloned();
                let result = apply(&mut package, now)?;
                let after = package.as_ref().map(referenced).unwrap_or_default();
                let changes = changes::compare(&key, &name, packages.get(&name), package.as_ref());
                match package {
                    Some(package) => packages.insert(name.clone(), package),
                    None => packages.remove(&name),
                };
                let gone = before.difference(&after).copied().collect();
                Ok(((result, gone, changes), vec![DirtyRecord::Package(key, name)]))
            })
            .await?;
        self.announce(changes);
        self.forget_blobs(gone).await?;
        Ok(result)
    }

    /// Sets the origin controls, creating the package's record where there is none.
    pub(crate) async fn set_restrictions(
        &self,
        key: RepositoryKey,
        name: ProjectName,
        restrictions: OriginRestrictions,
    ) -> Result<OriginRestrictions, StoreError> {
        let fresh = name.clone();
        self.change_package(key, name, move |package, _| {
            let empty = Package { name: fresh, restrictions, versions: std::collections::BTreeMap::new() };
            package.get_or_insert(empty).restrictions = restrictions;
            Ok(restrictions)
        })
        .await
    }

    /// Removes a package with all its versions.
    pub(crate) async fn delete_package(&self, key: RepositoryKey, name: ProjectName) -> Result<Package, StoreError> {
        let id = name.clone();
        self.change_package(key, name, move |package, _| {
            package.take().ok_or_else(|| StoreError::not_found(ResourceKind::Package, id))
        })
        .await
    }
}

fn referenced(package: &Package) -> std::collections::BTreeSet<Sha256> {
    blobs_of(package.versions.values())
}

//! Packages: read, list, change, delete, origin controls.

use super::error::{Noun, StoreError};
use super::keys::RepositoryKey;
use super::model::{Package, Restrictions, Timestamp, Version};
use super::{Store, Touched, blobs_of};
use wheelport_index::{FileName, ProjectName, Sha256};

impl Store {
    /// One package with its retained versions.
    pub fn package(&self, key: &RepositoryKey, name: &ProjectName) -> Result<Package, StoreError> {
        let world = self.world();
        let package = world.repository(key)?.packages.get(name).cloned();
        package.ok_or_else(|| StoreError::not_found(Noun::Package, name))
    }

    /// One retained version.
    pub fn version(&self, key: &RepositoryKey, name: &ProjectName, version: &str) -> Result<Version, StoreError> {
        let world = self.world();
        let package = world.repository(key)?.packages.get(name);
        let package = package.ok_or_else(|| StoreError::not_found(Noun::Package, name))?;
        let found = package.versions.get(version).cloned();
        found.ok_or_else(|| StoreError::not_found(Noun::PackageVersion, version))
    }

    /// Changes one package as a whole: `apply` gets the package, or `None` where there is none, and leaves what shall
    /// be there afterwards. When it returns an error nothing changes. Bytes that nothing refers to afterwards go.
    pub async fn change_package<T, F>(&self, key: RepositoryKey, name: ProjectName, apply: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Option<Package>, Timestamp) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, gone) = self
            .change(move |world, now| {
                let packages = &mut world.repository_mut(&key)?.packages;
                let before = packages.get(&name).map(referenced).unwrap_or_default();
                let mut package = packages.get(&name).cloned();
                let answer = apply(&mut package, now)?;
                let after = package.as_ref().map(referenced).unwrap_or_default();
                match package {
                    Some(package) => packages.insert(name.clone(), package),
                    None => packages.remove(&name),
                };
                let gone = before.difference(&after).copied().collect();
                Ok(((answer, gone), vec![Touched::Package(key, name)]))
            })
            .await?;
        self.forget_blobs(gone).await?;
        Ok(answer)
    }

    /// Sets the origin controls, creating the package's record where there is none.
    pub async fn set_restrictions(
        &self,
        key: RepositoryKey,
        name: ProjectName,
        restrictions: Restrictions,
    ) -> Result<Restrictions, StoreError> {
        let fresh = name.clone();
        self.change_package(key, name, move |package, _| {
            let empty = Package { name: fresh, restrictions, versions: std::collections::BTreeMap::new() };
            package.get_or_insert(empty).restrictions = restrictions;
            Ok(restrictions)
        })
        .await
    }

    /// Removes a package with all its versions.
    pub async fn delete_package(&self, key: RepositoryKey, name: ProjectName) -> Result<Package, StoreError> {
        let id = name.clone();
        self.change_package(key, name, move |package, _| {
            package.take().ok_or_else(|| StoreError::not_found(Noun::Package, id))
        })
        .await
    }

    /// Where the bytes of a retained, downloadable asset lie, with its record's size.
    pub fn asset_blob(
        &self,
        key: &RepositoryKey,
        name: &ProjectName,
        version: &str,
        asset: &FileName,
    ) -> Result<Option<Sha256>, StoreError> {
        let found = self.version(key, name, version)?.assets.remove(asset);
        Ok(found.ok_or_else(|| StoreError::not_found(Noun::Asset, asset))?.blob())
    }
}

fn referenced(package: &Package) -> std::collections::BTreeSet<Sha256> {
    blobs_of(package.versions.values())
}

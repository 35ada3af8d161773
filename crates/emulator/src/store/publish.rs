//! What the data plane writes: a published file, an imported version, bytes that have come.

use std::collections::BTreeMap;

use super::Store;
use super::blobs::Spooled;
use super::error::StoreError;
use super::keys::RepositoryKey;
use super::model::{
    Asset, AssetHashes, Origin, Package, Restriction, Restrictions, Version, VersionMetadata, VersionStatus,
};
use wheelport_index::{FileName, ProjectName, Sha256, Yanked};

/// Files one version may have.
pub const ASSETS_PER_VERSION: usize = 350;

/// A file to publish.
#[derive(Debug, Clone)]
pub struct NewAsset {
    /// The project.
    pub project: ProjectName,
    /// The version as the publisher spells it.
    pub version: String,
    /// The file name.
    pub name: FileName,
    /// `requires-python`
    pub requires_python: Option<String>,
    /// What the core metadata says.
    pub metadata: VersionMetadata,
}

/// The bytes of an imported file, now that they are here.
#[derive(Debug, Clone)]
pub struct Came {
    /// The version.
    pub version: String,
    /// The file.
    pub file: FileName,
    /// All digests.
    pub hashes: AssetHashes,
    /// The length in bytes.
    pub size: u64,
    /// What the file says about its version, where it was readable.
    pub metadata: Option<VersionMetadata>,
}

/// How a publish ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The file is new.
    Created,
    /// The same bytes were there already.
    Unchanged,
}

/// Why a publish was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file is there with other bytes.
    #[error("{0} already exists with different content")]
    OtherBytes(FileName),
    /// The origin controls say `publish=BLOCK`.
    #[error("publishing new versions of {0} is blocked by its origin controls")]
    Blocked(ProjectName),
    /// The version is there in a state that takes no files.
    #[error("version {version} is {}, still present in the repository", status.as_str())]
    State {
        /// The version.
        version: String,
        /// Its state.
        status: VersionStatus,
    },
    /// One more file would be too many.
    #[error("a version has at most {ASSETS_PER_VERSION} assets")]
    TooManyAssets,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Publishes one file into a repository. Whether an upstream has the version already is asked before.
    pub async fn publish(&self, key: RepositoryKey, new: NewAsset, bytes: Spooled) -> Result<Published, Refused> {
        let (size, hashes, sha256) = (bytes.size, bytes.hashes.clone(), bytes.sha256);
        // A first look refuses without keeping the bytes; the decision under the lock below is the one that counts.
        let seen = self.package(&key, &new.project).ok();
        decide(seen.as_ref(), &new, &sha256)?;
        bytes.keep().await?;
        let repository = key.name.clone();
        let outcome = self
            .change_package(key, new.project.clone(), move |package, now| {
                match decide(package.as_ref(), &new, &sha256) {
                    Ok(Published::Created) => {}
                    other => return Ok(other),
                }
                let package = package.get_or_insert_with(|| Package {
                    name: new.project.clone(),
                    restrictions: Restrictions::PUBLISHED,
                    versions: BTreeMap::new(),
                });
                let version = package.versions.entry(new.version.clone()).or_insert_with(|| Version {
                    version: new.version.clone(),
                    revision: String::new(),
                    status: VersionStatus::Published,
                    published: now,
                    origin: Origin::Internal { repository },
                    metadata: new.metadata,
                    assets: BTreeMap::new(),
                });
                let asset = Asset {
                    name: new.name.clone(),
                    size: Some(size),
                    hashes,
                    recorded: now,
                    upload_time: Some(now.rfc3339()),
                    requires_python: new.requires_python,
                    yanked: Yanked::No,
                    source: None,
                    stored: true,
                };
                version.assets.insert(new.name, asset);
                version.renew_revision();
                Ok(Ok(Published::Created))
            })
            .await?;
        if outcome.is_err() {
            self.forget_blobs([sha256].into()).await?;
        }
        outcome
    }

    /// Retains an imported version by reference: records it in a repository, or brings its assets and yank marks up to
    /// date where it is recorded. Bytes that are on disk stay known.
    pub async fn retain(&self, key: RepositoryKey, project: ProjectName, imported: Version) -> Result<(), StoreError> {
        let fresh = project.clone();
        self.change_package(key, project, move |package, _| {
            let package = package.get_or_insert_with(|| Package {
                name: fresh,
                restrictions: Restrictions::IMPORTED,
                versions: BTreeMap::new(),
            });
            match package.versions.get_mut(&imported.version) {
                None => drop(package.versions.insert(imported.version.clone(), imported)),
                Some(present) => refresh(present, imported),
            }
            Ok(())
        })
        .await
    }

    /// Notes that an imported asset's bytes are at their address now. Does nothing where the asset is not recorded.
    pub async fn asset_came(&self, key: RepositoryKey, project: ProjectName, came: Came) -> Result<(), StoreError> {
        self.change_package(key, project, move |package, _| {
            let version = package.as_mut().and_then(|package| package.versions.get_mut(&came.version));
            let Some(version) = version else { return Ok(()) };
            if let Some(asset) = version.assets.get_mut(&came.file) {
                asset.hashes = came.hashes;
                asset.size = Some(came.size);
                asset.stored = true;
            }
            if version.metadata == VersionMetadata::default() {
                version.metadata = came.metadata.unwrap_or_default();
            }
            Ok(())
        })
        .await
    }
}

/// May this file be published beside what is there?
fn decide(package: Option<&Package>, new: &NewAsset, sha256: &Sha256) -> Result<Published, Refused> {
    let Some(package) = package else { return Ok(Published::Created) };
    let version = package.versions.get(&new.version);
    if let Some(version) = version {
        if !version.status.is_downloadable() {
            let (version, status) = (version.version.clone(), version.status);
            return Err(Refused::State { version, status });
        }
        if let Some(asset) = version.assets.get(&new.name) {
            let same = asset.hashes.sha256.as_deref() == Some(&sha256.to_string());
            return if same { Ok(Published::Unchanged) } else { Err(Refused::OtherBytes(new.name.clone())) };
        }
        if version.assets.len() >= ASSETS_PER_VERSION {
            return Err(Refused::TooManyAssets);
        }
    }
    if package.restrictions.publish == Restriction::Block {
        return Err(Refused::Blocked(new.project.clone()));
    }
    Ok(Published::Created)
}

/// Takes over a newer list of assets; what is known of bytes that came stays.
fn refresh(present: &mut Version, imported: Version) {
    for (name, mut asset) in imported.assets {
        if let Some(known) = present.assets.get(&name)
            && known.stored
        {
            asset.stored = true;
            asset.hashes = known.hashes.clone();
            asset.size = known.size;
        }
        asset.recorded = present.assets.get(&name).map_or(asset.recorded, |known| known.recorded);
        present.assets.insert(name, asset);
    }
    present.renew_revision();
}

//! What the data plane writes: a published file, an imported version, the bytes of an imported file.

use std::collections::BTreeMap;

use super::base::Store;
use super::blobs::SpooledBlob;
use super::error::StoreError;
use super::keys::RepositoryKey;
use super::model::{
    Asset, AssetHashes, OriginRestriction, OriginRestrictions, Package, PackageVersion, Timestamp, VersionMetadata,
    VersionOrigin, VersionStatus,
};
use wheelport_index::{FileName, ProjectName, Sha256, Yanked};

/// Files one version may have.
pub(super) const ASSETS_PER_VERSION: usize = 350;

/// A file to publish.
#[derive(Debug, Clone)]
pub(crate) struct NewAsset {
    pub project: ProjectName,
    /// The version as the publisher spells it.
    pub version: String,
    pub name: FileName,
    pub requires_python: Option<String>,
    /// What the core metadata says.
    pub metadata: VersionMetadata,
}

/// An imported file whose bytes have been fetched.
#[derive(Debug, Clone)]
pub(crate) struct FetchedAsset {
    pub version: String,
    pub file: FileName,
    pub hashes: AssetHashes,
    /// The length in bytes.
    pub size: u64,
    /// The core metadata in the file, if it is readable.
    pub metadata: Option<VersionMetadata>,
}

/// What a successful publish did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishOutcome {
    /// The file is new.
    Created,
    /// The file exists with the same bytes.
    Unchanged,
}

/// Why a publish was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishRefusal {
    /// The file exists with other bytes.
    #[error("{0} already exists with different content")]
    OtherBytes(FileName),
    /// The origin controls say `publish=BLOCK`.
    #[error("publishing new versions of {0} is blocked by its origin controls")]
    Blocked(ProjectName),
    /// The version is in a state that accepts no files.
    #[error("version {version} is {}, still present in the repository", status.as_str())]
    State { version: String, status: VersionStatus },
    /// The version has the maximum number of files.
    #[error("a version has at most {ASSETS_PER_VERSION} assets")]
    TooManyAssets,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Publishes one file into a repository. The caller checks before that no upstream has the version.
    pub(crate) async fn publish(
        &self,
        key: RepositoryKey,
        new: NewAsset,
        bytes: SpooledBlob,
    ) -> Result<PublishOutcome, PublishRefusal> {
        let (size, hashes, sha256) = (bytes.size, bytes.hashes.clone(), bytes.sha256);
        // Refuse early, before the bytes are committed; the decision under the lock below is the one that counts.
        let seen = self.package(&key, &new.project).ok();
        decide(seen.as_ref(), &new, &sha256)?;
        bytes.commit().await?;
        let repository = key.name.clone();
        let outcome = self
            .change_package(key, new.project.clone(), move |package, now| {
                match decide(package.as_ref(), &new, &sha256) {
                    Ok(PublishOutcome::Created) => {}
                    other => return Ok(other),
                }
                add(package, new, StoredBytes { size, hashes }, &repository, now);
                Ok(Ok(PublishOutcome::Created))
            })
            .await?;
        if outcome.is_err() {
            self.forget_blobs([sha256].into()).await?;
        }
        outcome
    }

    /// Retains an imported version by reference: records it in a repository, or brings its assets and yank marks up to
    /// date where it is recorded. Assets whose bytes are on disk stay so.
    pub(crate) async fn retain(
        &self,
        key: RepositoryKey,
        project: ProjectName,
        imported: PackageVersion,
    ) -> Result<(), StoreError> {
        let fresh = project.clone();
        self.change_package(key, project, move |package, _| {
            let package = package.get_or_insert_with(|| Package {
                name: fresh,
                restrictions: OriginRestrictions::IMPORTED,
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

    /// Records that the bytes of an imported asset are at their address. Does nothing if the asset is not recorded.
    pub(crate) async fn record_fetched(
        &self,
        key: RepositoryKey,
        project: ProjectName,
        came: FetchedAsset,
    ) -> Result<(), StoreError> {
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

/// The size and the digests of bytes that are at their address.
struct StoredBytes {
    size: u64,
    hashes: AssetHashes,
}

/// Adds a published file to its package and version, and creates these where they are missing.
fn add(package: &mut Option<Package>, new: NewAsset, bytes: StoredBytes, repository: &str, now: Timestamp) {
    let package = package.get_or_insert_with(|| Package {
        name: new.project.clone(),
        restrictions: OriginRestrictions::PUBLISHED,
        versions: BTreeMap::new(),
    });
    let version = package.versions.entry(new.version.clone()).or_insert_with(|| PackageVersion {
        version: new.version.clone(),
        revision: String::new(),
        status: VersionStatus::Published,
        published: now,
        origin: VersionOrigin::Internal { repository: repository.to_owned() },
        metadata: new.metadata,
        assets: BTreeMap::new(),
    });
    let asset = Asset {
        name: new.name.clone(),
        size: Some(bytes.size),
        hashes: bytes.hashes,
        recorded: now,
        upload_time: Some(now.rfc3339()),
        requires_python: new.requires_python,
        yanked: Yanked::No,
        source: None,
        stored: true,
    };
    version.assets.insert(new.name, asset);
    version.renew_revision();
}

/// May this file be added to the package?
fn decide(package: Option<&Package>, new: &NewAsset, sha256: &Sha256) -> Result<PublishOutcome, PublishRefusal> {
    let Some(package) = package else { return Ok(PublishOutcome::Created) };
    let version = package.versions.get(&new.version);
    if let Some(version) = version {
        if !version.status.is_downloadable() {
            let (version, status) = (version.version.clone(), version.status);
            return Err(PublishRefusal::State { version, status });
        }
        if let Some(asset) = version.assets.get(&new.name) {
            let same = asset.hashes.sha256.as_deref() == Some(&sha256.to_string());
            return if same {
                Ok(PublishOutcome::Unchanged)
            } else {
                Err(PublishRefusal::OtherBytes(new.name.clone()))
            };
        }
        if version.assets.len() >= ASSETS_PER_VERSION {
            return Err(PublishRefusal::TooManyAssets);
        }
    }
    if package.restrictions.publish == OriginRestriction::Block {
        return Err(PublishRefusal::Blocked(new.project.clone()));
    }
    Ok(PublishOutcome::Created)
}

/// Takes over a newer list of assets; size and digests of stored bytes stay.
fn refresh(present: &mut PackageVersion, imported: PackageVersion) {
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

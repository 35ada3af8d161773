//! The files of the store: where each document is, how it is read at the start, how it is replaced.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::keys::DomainKey;
use super::model::{Domain, Package, Repository};
use super::records::{DirtyRecord, DomainState, RepositoryState, StoreRecords};

/// The paths below the store's directory.
#[derive(Clone)]
pub(super) struct StoreLayout {
    root: PathBuf,
}

/// The contents of `domain.json`.
#[derive(Serialize, Deserialize)]
struct DomainDocument {
    domain: Domain,
    repositories: Vec<Repository>,
}

/// One pending change of the file system.
pub(super) enum FileChange {
    Write { path: PathBuf, temporary: PathBuf, bytes: Vec<u8> },
    RemoveFile(PathBuf),
    RemoveDirectory(PathBuf),
}

impl StoreLayout {
    /// Creates the directories and empties the temporary one.
    pub(super) fn prepare(root: PathBuf) -> Result<Self, StoreError> {
        let layout = Self { root };
        let temporary = layout.temporary();
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(StoreError::disk(&temporary))?;
        }
        for directory in [layout.domains(), layout.assets(), temporary] {
            fs::create_dir_all(&directory).map_err(StoreError::disk(&directory))?;
        }
        Ok(layout)
    }

    pub(super) fn assets(&self) -> PathBuf {
        self.root.join("assets")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.root.join("temporary")
    }

    fn domains(&self) -> PathBuf {
        self.root.join("domains")
    }

    fn domain(&self, key: &DomainKey) -> PathBuf {
        self.domains().join(&key.owner).join(&key.name)
    }

    fn packages(&self, key: &DomainKey, repository: &str) -> PathBuf {
        self.domain(key).join("packages").join(repository)
    }

    /// A document directly below the root.
    pub(super) fn top(&self, name: &str, value: &impl Serialize) -> FileChange {
        self.write(self.root.join(name), value)
    }

    /// Reads a document directly below the root.
    pub(super) fn read_top<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        read(&self.root.join(name))
    }

    fn write(&self, path: PathBuf, value: &impl Serialize) -> FileChange {
        let bytes = serde_json::to_vec_pretty(value).expect("the records have only text keys");
        let name = format!("{:016x}.json", fastrand::u64(..));
        FileChange::Write { temporary: self.temporary().join(name), path, bytes }
    }
}

impl FileChange {
    /// Applies the change to the disk.
    pub(super) fn apply(self) -> Result<(), StoreError> {
        match self {
            Self::Write { path, temporary, bytes } => {
                replace(&path, &temporary, &bytes).map_err(StoreError::disk(path))
            }
            Self::RemoveFile(path) => gone_is_fine(fs::remove_file(&path)).map_err(StoreError::disk(path)),
            Self::RemoveDirectory(path) => gone_is_fine(fs::remove_dir_all(&path)).map_err(StoreError::disk(path)),
        }
    }
}

fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = fs::File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(temporary, path)
}

pub(super) fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The change of the file system for a dirty record: its new text, or its removal where the record is gone.
pub(super) fn file_change(layout: &StoreLayout, records: &StoreRecords, dirty: &DirtyRecord) -> FileChange {
    match dirty {
        DirtyRecord::Domain(key) => match records.domains.get(key) {
            Some(state) => {
                let repositories = state.repositories.values().map(|state| state.repository.clone()).collect();
                let document = DomainDocument { domain: state.domain.clone(), repositories };
                layout.write(layout.domain(key).join("domain.json"), &document)
            }
            None => FileChange::RemoveDirectory(layout.domain(key)),
        },
        DirtyRecord::Repository(key) => FileChange::RemoveDirectory(layout.packages(&key.domain, &key.name)),
        DirtyRecord::Package(key, name) => {
            let path = layout.packages(&key.domain, &key.name).join(format!("{name}.json"));
            let package = records.repository(key).ok().and_then(|state| state.packages.get(name));
            package.map_or(FileChange::RemoveFile(path.clone()), |package| layout.write(path, package))
        }
    }
}

/// Reads everything; a domain directory without its document is left from an interrupted removal and is skipped.
pub(super) fn load(layout: &StoreLayout) -> Result<StoreRecords, StoreError> {
    let mut records = StoreRecords::default();
    for owner in entries(&layout.domains())? {
        for directory in entries(&owner)? {
            let Some(document) = read::<DomainDocument>(&directory.join("domain.json"))? else { continue };
            let key = document.domain.key.clone();
            let mut repositories = BTreeMap::new();
            for repository in document.repositories {
                let packages = load_packages(&layout.packages(&key, &repository.name))?;
                repositories.insert(repository.name.clone(), RepositoryState { repository, packages });
            }
            records.domains.insert(key, DomainState { domain: document.domain, repositories });
        }
    }
    Ok(records)
}

fn load_packages(directory: &Path) -> Result<BTreeMap<wheelport_index::ProjectName, Package>, StoreError> {
    let mut packages = BTreeMap::new();
    for path in entries(directory)? {
        if let Some(package) = read::<Package>(&path)? {
            packages.insert(package.name.clone(), package);
        }
    }
    Ok(packages)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::disk(directory)(error)),
    };
    let paths: io::Result<Vec<PathBuf>> = listing.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(StoreError::disk(directory))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| StoreError::disk(path)(io::Error::new(io::ErrorKind::InvalidData, error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::disk(path)(error)),
    }
}

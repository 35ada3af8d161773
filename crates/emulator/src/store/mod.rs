//! The emulated service's memory: domains, repositories, packages, versions and assets, kept under one directory.
//!
//! Everything but the bytes of assets is held in memory behind one lock and written through to small JSON files; every
//! file is written beside its place and renamed into it, so a crash leaves the old or the new state, never half of one.
//! Bytes are content-addressed files ([`Blobs`]) and are never whole in memory.
//!
//! ```text
//! DIR/domains/OWNER/NAME/domain.json                 the domain and its repositories
//! DIR/domains/OWNER/NAME/packages/REPO/PACKAGE.json  one package with its versions and assets
//! DIR/assets/ab/abcdef…                              bytes by SHA-256
//! DIR/tokens.json  DIR/principals.json               who may come in
//! DIR/temporary/                                     emptied at every start
//! ```
//!
//! Reads are synchronous and brief; changes are `async` and run on a blocking thread, one at a time. No lock is held
//! across an await. This module knows neither HTTP nor SigV4; pagination is the control plane's.

mod blobs;
mod disk;
mod domains;
mod error;
mod keys;
mod model;
mod packages;
mod principals;
mod publish;
mod repositories;
mod tokens;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use wheelport_index::{ProjectName, Sha256};
use wheelport_runtime::Clock;

pub use blobs::{BlobWriter, Blobs, Digests, Spooled};
pub use domains::{DomainTotals, NewDomain};
pub use error::{Noun, StoreError};
pub use keys::{DomainKey, RepositoryKey, is_account, is_domain_name, is_repository_name};
pub use model::*;
pub use principals::{NewPrincipal, Principal};
pub use publish::{Came, NewAsset, Published, Refused};
pub use repositories::{Layer, NewRepository, RepositoryChange};
pub use tokens::{Grant, Issued, Verdict, base64url};
pub use versions::{CopyRequest, VersionErrorCode, VersionsAction, VersionsOutcome, VersionsRequest};

/// The one external connection there is for this format.
pub const PUBLIC_CONNECTION: &str = "public:pypi";

/// The store. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    layout: disk::Layout,
    clock: Clock,
    world: RwLock<World>,
    /// Held by the one change that is being applied and written.
    writer: Mutex<()>,
    blobs: Blobs,
    tokens: tokens::Tokens,
    principals: principals::Principals,
}

#[derive(Default)]
struct World {
    domains: BTreeMap<DomainKey, DomainState>,
}

struct DomainState {
    domain: Domain,
    repositories: BTreeMap<String, RepositoryState>,
}

struct RepositoryState {
    repository: Repository,
    packages: BTreeMap<ProjectName, Package>,
}

/// A file that a change leaves to be written or removed.
enum Touched {
    Domain(DomainKey),
    Repository(RepositoryKey),
    Package(RepositoryKey, ProjectName),
}

impl Store {
    /// Opens the directory, creates what is missing in it, reads the state and empties `temporary/`.
    pub async fn open(dir: PathBuf, clock: Clock) -> Result<Self, StoreError> {
        let inner = blocking(move || {
            let layout = disk::Layout::prepare(dir)?;
            Ok(Inner {
                world: RwLock::new(disk::load(&layout)?),
                writer: Mutex::new(()),
                blobs: Blobs::new(layout.assets(), layout.temporary()),
                tokens: tokens::Tokens::load(&layout)?,
                principals: principals::Principals::load(&layout)?,
                layout,
                clock,
            })
        })
        .await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directory everything is in.
    pub fn directory(&self) -> &Path {
        self.inner.layout.root()
    }

    /// The bytes of assets.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// The clock that stamps records and lets tokens expire.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// This moment by the store's clock.
    pub fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.inner.clock.since_epoch().as_millis()).unwrap_or(u64::MAX))
    }

    fn world(&self) -> RwLockReadGuard<'_, World> {
        self.inner.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change and writes what it touched. `apply` must not alter anything when it returns an error.
    async fn change<T, F>(&self, apply: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut World, Timestamp) -> Result<(T, Vec<Touched>), StoreError> + Send + 'static,
    {
        let store = self.clone();
        blocking(move || {
            let _writer = lock(&store.inner.writer);
            let (answer, documents) = {
                let mut world = store.inner.world.write().unwrap_or_else(PoisonError::into_inner);
                let (answer, touched) = apply(&mut world, store.now())?;
                let documents: Vec<_> =
                    touched.iter().map(|one| disk::document(&store.inner.layout, &world, one)).collect();
                (answer, documents)
            };
            documents.into_iter().try_for_each(disk::Document::store)?;
            Ok(answer)
        })
        .await
    }

    /// Removes the bytes that no asset refers to any more.
    async fn forget_blobs(&self, candidates: BTreeSet<Sha256>) -> Result<(), StoreError> {
        if candidates.is_empty() {
            return Ok(());
        }
        let store = self.clone();
        blocking(move || {
            let _writer = lock(&store.inner.writer);
            let used: BTreeSet<Sha256> = store.world().blobs().collect();
            candidates.difference(&used).try_for_each(|digest| store.inner.blobs.remove(digest))
        })
        .await
    }
}

impl World {
    fn domain(&self, key: &DomainKey) -> Result<&DomainState, StoreError> {
        self.domains.get(key).ok_or_else(|| StoreError::not_found(Noun::Domain, &key.name))
    }

    fn domain_mut(&mut self, key: &DomainKey) -> Result<&mut DomainState, StoreError> {
        self.domains.get_mut(key).ok_or_else(|| StoreError::not_found(Noun::Domain, &key.name))
    }

    fn repository(&self, key: &RepositoryKey) -> Result<&RepositoryState, StoreError> {
        let found = self.domain(&key.domain)?.repositories.get(&key.name);
        found.ok_or_else(|| StoreError::not_found(Noun::Repository, &key.name))
    }

    fn repository_mut(&mut self, key: &RepositoryKey) -> Result<&mut RepositoryState, StoreError> {
        let found = self.domain_mut(&key.domain)?.repositories.get_mut(&key.name);
        found.ok_or_else(|| StoreError::not_found(Noun::Repository, &key.name))
    }

    fn blobs(&self) -> impl Iterator<Item = Sha256> {
        self.domains
            .values()
            .flat_map(|domain| domain.repositories.values())
            .flat_map(|repository| repository.packages.values())
            .flat_map(|package| package.versions.values())
            .flat_map(|version| version.assets.values())
            .filter_map(Asset::blob)
    }
}

/// The bytes an owner of versions refers to.
fn blobs_of<'a>(versions: impl Iterator<Item = &'a Version>) -> BTreeSet<Sha256> {
    versions.flat_map(|version| version.assets.values()).filter_map(Asset::blob).collect()
}

/// A lock whose holder panicked guards plain data that is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Disk {
                path: PathBuf::new(),
                source: std::io::Error::other("the runtime is shutting down"),
            }),
        },
    }
}

#[cfg(test)]
mod tests;

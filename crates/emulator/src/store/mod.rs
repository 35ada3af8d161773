//! The emulated service's memory: domains, repositories, packages, versions and assets, kept under one directory.
//!
//! Everything but the bytes of assets is held in memory behind one lock and written through to small JSON files; every
//! file is written beside its place and renamed into it, so a crash leaves the old or the new state, never half of one.
//! Bytes are content-addressed files ([`BlobFiles`](blobs::BlobFiles)) and are never completely in memory.
//!
//! ```text
//! DIR/domains/OWNER/NAME/domain.json                 the domain and its repositories
//! DIR/domains/OWNER/NAME/packages/REPO/PACKAGE.json  one package with its versions and assets
//! DIR/assets/ab/abcdef…                              bytes by SHA-256
//! DIR/tokens.json  DIR/principals.json               tokens issued, and principals with temporary keys
//! DIR/temporary/                                     emptied at every start
//! ```
//!
//! Reads are synchronous and brief; changes are `async` and run on a blocking thread, one at a time. No lock is held
//! across an await. This module knows neither HTTP nor SigV4; pagination is the control plane's.

mod base;
mod blobs;
mod changes;
mod credentials;
mod disk;
mod domains;
mod error;
mod keys;
mod model;
mod packages;
mod principals;
mod publish;
mod records;
mod repositories;
#[cfg(test)]
mod tests;
mod tokens;
mod versions;

pub(crate) use self::base::Store;
pub(crate) use self::blobs::SpooledBlob;
pub(crate) use self::changes::VersionChange;
#[cfg(test)]
pub(crate) use self::changes::VersionOperation;
pub(crate) use self::domains::NewDomain;
pub(crate) use self::keys::{is_account, is_domain_name, is_repository_name};
pub(crate) use self::model::{
    Asset, AssetHashes, Domain, OriginRestriction, OriginRestrictions, PUBLIC_CONNECTION, Package, PackageVersion,
    Repository, ResourcePolicy, Timestamp, VersionMetadata, VersionOrigin, VersionStatus,
};
pub(crate) use self::principals::Principal;
pub(crate) use self::publish::{FetchedAsset, NewAsset, PublishOutcome, PublishRefusal};
pub(crate) use self::repositories::{ConnectionChange, NewRepository, RepositoryChange, RepositoryLayer};
pub(crate) use self::tokens::{TokenGrant, TokenVerdict};
pub(crate) use self::versions::{CopyRequest, VersionErrorCode, VersionsAction, VersionsOutcome, VersionsRequest};

pub use self::error::{ResourceKind, StoreError};
pub use self::keys::{DomainKey, RepositoryKey};
pub use self::model::AllowedActions;
pub use self::tokens::IssuedToken;

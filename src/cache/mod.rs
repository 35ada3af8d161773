//! What Wheelport remembers: pages in memory over a persisted copy, files and core metadata on disk.
//!
//! This module decides nothing about upstream and knows no request; `flow` joins it with `upstream`.
//! The disk holds no index: a file's path is its key, its modification time says when it was last used, and a sweep
//! evicts the least recently used. So there is nothing to rebuild at start and nothing that a crash could tear.

pub mod blobs;
pub mod disk;
pub mod fill;
pub mod flight;
pub mod freshness;
pub mod inspect;
pub mod open_files;
pub mod pages;
pub mod pieces;
pub mod pipeline;
pub mod published;
pub mod read;
mod recent;
pub mod settings;
pub mod sidecars;
pub mod spool;
mod sweep;

pub use blobs::{Blob, Blobs, Expected, Mismatch, Partial, Verified};
pub use disk::{Disk, StorageError};
pub use fill::{Fill, FillFailure, FillWriter, Head, Whole};
pub use flight::Flights;
pub use freshness::{Decision, Policy};
pub use pages::{Coding, PageContent, PageKey, PageRecord, Pages, Rendering, RepositoryId, Stamp, Trouble, Written};
pub use pieces::Pieces;
pub use pipeline::{Pipeline, WriteError};
pub use published::Published;
pub use read::{ReadError, Reader};
pub use settings::CacheSettings;
pub use sidecars::{AtHand, Sidecar, Sidecars};
pub use spool::{Spool, Spooled};

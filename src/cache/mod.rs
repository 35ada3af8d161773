//! What Wheelport remembers: pages in memory over a persisted copy, files and core metadata on disk.
//!
//! This module decides nothing about upstream and knows no request; `flow` joins it with `upstream`.
//! The disk holds no index: a file's path is its key, its modification time says when it was last used, and a sweep
//! evicts the least recently used. So a start has nothing to rebuild, and a crash has nothing to tear.

mod blob;
mod blob_reader;
mod blobs;
mod buffer_pool;
mod disk;
mod download;
pub mod flight;
pub mod freshness;
mod inspect;
mod open_files;
pub mod pages;
mod published;
mod recent;
pub mod settings;
pub mod sidecars;
mod space;
mod spool;
mod write_pipeline;

pub use blob::{Blob, Complete, Expected, Mismatch};
pub use blob_reader::{BlobReader, ReadError};
pub use blobs::{Blobs, PartialBlob, VerifiedBlob};
pub use buffer_pool::BufferPool;
pub use disk::Disk;
pub use download::{Download, DownloadFailure, DownloadWriter, Started};
pub use flight::Flights;
pub use freshness::{Decision, Policy};
pub use inspect::{KindStats, VerifyReport, clear, stats, verify};
pub use open_files::OPEN_FILE_IDLE_TIMEOUT;
pub use pages::{Coding, PageContent, PageKey, PageRecord, Pages, Rendering, RepositoryId, Stamp, Trouble, Written};
pub use published::Published;
pub use settings::CacheSettings;
pub use sidecars::{AtHand, Sidecar, Sidecars};
pub use space::{EVICTABLE, StorageError};
pub use spool::{Spool, Spooled};
pub use write_pipeline::{WriteError, WritePipeline};

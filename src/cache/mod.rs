//! What Wheelport remembers: pages in memory over a persisted copy, files and core metadata on disk.
//!
//! This module decides nothing about upstream and knows no request; `flow` joins it with `upstream`.
//! The disk holds no index: a file's path is its key, its modification time says when it was last used, and a sweep
//! evicts the least recently used. So a start has nothing to rebuild, and a crash has nothing to tear.

mod advisories;
mod blob;
mod blob_check;
mod blob_reader;
mod blobs;
mod buffer_pool;
mod checks;
mod content;
mod damage;
mod disk;
mod download;
mod envelope;
mod first_seen;
mod freshness;
mod granted;
mod inspect;
mod key;
mod layout;
mod ledger;
mod metadata_store;
mod open_files;
mod persisted;
mod published;
mod records;
mod savings;
mod scrub;
mod settings;
mod shared;
mod space;
mod spool;
mod usage_records;
mod write_pipeline;

pub use advisories::{AdvisoryRecord, NewAdvisories, StoredAdvisories};
pub use blob::{Blob, Complete, Expected, Mismatch};
pub use blob_check::{BlobCheck, HashedPrefix};
pub use blob_reader::{BlobReader, ReadError};
pub use blobs::{Blobs, PartialBlob, VerifiedBlob};
pub use buffer_pool::BufferPool;
pub use content::{ListContent, PageContent, RefusedFiles};
pub use damage::DamageCounts;
pub use disk::Disk;
pub use download::{Download, DownloadFailure, DownloadWriter, JoinableDownload, Started};
pub use first_seen::{ChangedFiles, FirstSeen, Met, Observed, RecordVersion};
pub use freshness::{Decision, Policy};
pub use granted::GrantRecord;
pub use inspect::{KindStats, VerifyReport, clear, is_outdated, stats, verify};
pub use key::{PageKey, RepositoryId};
pub use layout::EVICTABLE;
pub use ledger::{Acceptance, ChangedFile, KnownSince, SeenBytes, UndatedFiles};
pub use metadata_store::{CachedMetadata, CoreMetadataRecord, MetadataStore};
pub use open_files::OPEN_FILE_IDLE_TIMEOUT;
pub use persisted::{PersistedIndex, delisted_path, intake_path, list_path, origin_path, page_path, reader_path};
pub use published::{Published, PublishedFile};
pub use records::{FetchedAt, Record, Records, Weighted};
pub use savings::SavingsRecord;
pub use scrub::Scrub;
pub use settings::{CacheSettings, Prefetch};
pub use shared::{LARGEST_SHARED, SharedDocument};
pub use space::StorageError;
pub use spool::{Spool, SpoolError, SpoolSpace, Spooled};
pub use usage_records::{UsageRecords, WrittenUsage};
pub use write_pipeline::{WriteError, WritePipeline};

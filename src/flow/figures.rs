//! Figures of the services, for metrics and for pages of operators.

use super::{ByRangeOutcome, Guess, PrefetchOutcome};
use crate::cache::DamageCounts;

/// What the cache holds, in bytes, and what is under way.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Records of the index in memory.
    pub records: u64,
    /// Projects and lists of which is remembered that they are missing or failing, as a number.
    pub negative: u64,
    /// Files on disk.
    pub disk: u64,
    /// The limit of the files on disk.
    pub disk_limit: u64,
    /// Buffers that files pass through on their way to clients.
    pub buffers: u64,
    /// Uploads on disk that are not published yet.
    pub spooled: u64,
    /// Downloads under way, as a number.
    pub downloads: u64,
    /// Fetched files that were served and could not be stored, as a number.
    pub commit_failures: u64,
    /// Damaged files that were found and removed, by kind, as numbers.
    pub damaged: DamageCounts,
    /// What the scrub has read.
    pub scrubbed: u64,
    /// Prefetches by outcome, as numbers.
    pub prefetches: [(PrefetchOutcome, u64); PrefetchOutcome::ALL.len()],
    /// Attempts to read core metadata by range, by outcome, as numbers.
    pub by_range: [(ByRangeOutcome, u64); ByRangeOutcome::ALL.len()],
    /// Guesses which metadata a client will ask for, as numbers.
    pub guesses: [(Guess, u64); Guess::ALL.len()],
    /// Metadata that was read by range and is not that of its wheel, as a number.
    pub metadata_mismatches: u64,
}

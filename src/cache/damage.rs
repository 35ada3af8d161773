//! Counts of what was found damaged, by kind. Whatever is damaged is removed and counts as missing.

use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::{ADVISORIES, BLOBS, FIRST_SEEN, GRANTED, PUBLISHED, SAVINGS, USAGE};

/// The kinds that are told apart: the directories that hold them.
const KINDS: [&str; 10] =
    [BLOBS, "pages", "metadata", "links", PUBLISHED, FIRST_SEEN, GRANTED, SAVINGS, USAGE, ADVISORIES];

/// How many damaged files were found, by kind.
pub type DamageCounts = [(&'static str, u64); KINDS.len()];

/// The counters. One set per cache directory.
#[derive(Default)]
pub(super) struct DamageCounters([AtomicU64; KINDS.len()]);

impl DamageCounters {
    pub(super) fn add(&self, kind: &str) {
        if let Some(index) = KINDS.iter().position(|known| *known == kind) {
            self.0[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> DamageCounts {
        std::array::from_fn(|index| (KINDS[index], self.0[index].load(Ordering::Relaxed)))
    }
}

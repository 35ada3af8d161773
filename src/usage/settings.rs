//! The `[usage]` table. Every bound of this room has its name here.

use serde::Deserialize;

use super::day::DAY;
use wheelport_runtime::HumanDuration;

/// The most counters of a day that a record has room for.
const MOST_ENTRIES: usize = 200_000;

/// Whether and how downloads are counted.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsageSettings {
    /// Whether anything is counted and written.
    pub enabled: bool,
    /// Whether downloads are counted by identity; else all are counted as those of no one in particular.
    pub identities: bool,
    /// How long records are kept.
    pub keep: HumanDuration,
    /// How often they are written. A crash loses as much.
    pub write_every: HumanDuration,
    /// How many counters there are for a day.
    pub max_entries: usize,
    /// How many identities are told apart for one version on a day.
    pub max_identities: usize,
}

/// How much is held of a day.
#[derive(Debug, Clone, Copy)]
pub struct UsageLimits {
    /// Counters.
    pub entries: usize,
    /// Identities of one version.
    pub identities: usize,
}

impl Default for UsageSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            identities: true,
            keep: HumanDuration::secs(365 * DAY),
            write_every: HumanDuration::secs(60),
            max_entries: 50_000,
            max_identities: 1_000,
        }
    }
}

impl UsageSettings {
    /// For how many days records are kept, today included.
    pub fn days(&self) -> u64 {
        self.keep.get().as_secs().div_ceil(DAY).max(1)
    }

    pub fn limits(&self) -> UsageLimits {
        UsageLimits { entries: self.max_entries, identities: self.max_identities }
    }

    /// What is wrong with them, as a sentence.
    pub fn fault(&self) -> Option<&'static str> {
        if self.keep.get().as_secs() < DAY {
            return Some("[usage] keep has to be a day at least; `enabled = false` counts nothing");
        }
        if self.write_every.get().as_millis() < 100 {
            return Some("[usage] write_every has to be 100ms at least");
        }
        if self.max_entries == 0 || self.max_identities == 0 || self.max_entries > MOST_ENTRIES {
            return Some("[usage] max_entries has to be between 1 and 200000, and max_identities 1 at least");
        }
        None
    }
}

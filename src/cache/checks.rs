//! Which stored files this process has checked against their digests, so that each is hashed once and then once a day.
//!
//! A check holds for a file as it was: a stamp of its identity, its length and its last change goes with it. Whatever
//! writes to the file changes the stamp.

use std::collections::HashMap;
use std::fs::Metadata;
use std::hash::BuildHasher as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use foldhash::quality::{FixedState, RandomState};
use parking_lot::Mutex;
use tokio::time::Instant;

use wheelport_index::Sha256;
use wheelport_runtime::sabotaged;

/// A check holds this long.
pub(super) const CHECK_HOLDS_FOR: Duration = Duration::from_hours(24);
/// The largest number of checks that are remembered: about 4 MiB. Beyond it all are forgotten, and made again.
const MAX_REMEMBERED: usize = 50_000;

/// A file as it was: which one it is, its length, and its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(u64);

/// When a file was found to have the bytes of its name, and as which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    stamp: Stamp,
    at: Instant,
}

/// The checks of a cache directory.
#[derive(Default)]
pub(super) struct Checks(Mutex<HashMap<Sha256, Check, RandomState>>);

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let identity = (metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec());
        Self(FixedState::default().hash_one(identity))
    }
}

impl Check {
    /// A check that ended a moment ago.
    pub(super) fn now(stamp: Stamp) -> Self {
        Self { stamp, at: Instant::now() }
    }

    /// Whether the file is still the one that was checked, not too long ago.
    pub(super) fn holds(&self, stamp: Stamp) -> bool {
        (self.stamp == stamp || sabotaged("changed-file")) && self.is_recent()
    }

    pub(super) fn is_recent(&self) -> bool {
        self.at.elapsed() < CHECK_HOLDS_FOR || sabotaged("daily-check")
    }

    /// The same check, after this process changed the time of the file's last use.
    pub(super) fn restamped(self, stamp: Stamp) -> Self {
        Self { stamp, ..self }
    }
}

impl Checks {
    pub(super) fn get(&self, sha256: &Sha256) -> Option<Check> {
        self.0.lock().get(sha256).copied()
    }

    pub(super) fn put(&self, sha256: Sha256, check: Check) {
        let mut checks = self.0.lock();
        if checks.len() >= MAX_REMEMBERED {
            checks.clear();
        }
        checks.insert(sha256, check);
    }

    pub(super) fn remove(&self, sha256: &Sha256) {
        self.0.lock().remove(sha256);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_check_holds_for_a_day_and_for_the_file_as_it_was() -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(b"wheel")?;
        let stamp = Stamp::of(&file.as_file().metadata()?);
        let check = Check::now(stamp);
        tokio::time::advance(CHECK_HOLDS_FOR.saturating_sub(Duration::from_secs(1))).await;
        assert!(check.holds(stamp) && !check.holds(Stamp(0)));
        let restamped = check.restamped(Stamp(0));
        assert!(restamped.holds(Stamp(0)) && !restamped.holds(stamp));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!check.holds(stamp) && !restamped.holds(Stamp(0)), "a day later");
        Ok(())
    }

    #[test]
    fn the_number_of_checks_is_bounded() {
        let checks = Checks::default();
        for number in 0..=MAX_REMEMBERED {
            checks.put(Sha256::of(&number.to_le_bytes()), Check::now(Stamp(0)));
        }
        assert_eq!(checks.0.lock().len(), 1);
    }
}

//! Records of downloads: one for each day and each process that has counted any. What is in them, others know.
//!
//! Processes that share the directory, and those that ran one after the other, write no record of each other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::layout::USAGE;

/// A record that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WrittenUsage {
    /// As it stands in its path.
    pub day: String,
    pub writer: String,
}

/// The records of a cache directory.
pub struct UsageRecords {
    disk: Arc<Disk>,
}

impl UsageRecords {
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }

    /// Blocking. It outlives a crash when this returns.
    pub fn write(&self, record: &WrittenUsage, payload: &[u8]) -> io::Result<()> {
        self.disk.write_lasting(&path(record), payload)
    }

    /// Blocking. A damaged record is removed, and is an error.
    pub fn read(&self, record: &WrittenUsage) -> io::Result<Vec<u8>> {
        let path = path(record);
        self.disk.read_opened(self.disk.open_file(&path)?, &path)
    }

    /// The names of all records, in order. Blocking.
    pub fn list(&self) -> Vec<WrittenUsage> {
        let root = self.disk.root().join(USAGE);
        let names = |directory: &Path| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
        };
        let of_day = |day: String| {
            let writers = names(&root.join(&day));
            writers.into_iter().map(move |writer| WrittenUsage { day: day.clone(), writer })
        };
        let mut found: Vec<_> = names(&root).into_iter().flat_map(of_day).collect();
        found.sort_unstable();
        found
    }

    /// Removes a record, and the directory of its day when it was the last one. Blocking.
    pub fn remove(&self, record: &WrittenUsage) -> io::Result<()> {
        self.disk.remove(&path(record))?;
        // It is not empty while there are others.
        let _ = fs::remove_dir(self.disk.root().join(USAGE).join(&record.day));
        Ok(())
    }
}

fn path(record: &WrittenUsage) -> PathBuf {
    [USAGE, &record.day, &record.writer].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_runtime::Clock;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn records_come_back_until_they_are_removed_and_count_as_no_cache() -> Outcome {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1 << 20, Clock::system())?;
        let records = UsageRecords::new(Arc::clone(&disk));
        let named = |day: &str, writer: &str| WrittenUsage { day: day.to_owned(), writer: writer.to_owned() };
        let all = [named("2026-11-27", "b"), named("2026-11-28", "a"), named("2026-11-28", "b")];
        for record in all.iter().rev() {
            records.write(record, record.writer.as_bytes())?;
        }
        assert_eq!((records.list(), disk.measure()), (all.to_vec(), 0));
        assert_eq!(records.read(&all[1])?, b"a");
        let file = root.path().join("usage/2026-11-28/b");
        let mut bytes = fs::read(&file)?;
        bytes[90] ^= 1;
        fs::write(&file, bytes)?;
        assert!(records.read(&all[2]).is_err() && !file.exists());
        assert!(disk.damaged().contains(&("usage", 1)));
        records.remove(&all[0])?;
        assert!(!root.path().join("usage/2026-11-27").exists());
        assert_eq!(records.list(), all[1..2]);
        Ok(())
    }
}

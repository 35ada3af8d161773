//! The record of what CodeArtifact was spared. What is in it, others know.
//!
//! Processes that share the directory add to one record, each under a lock that all of them respect.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk::{Disk, is_damage};
use wheelport_runtime::sabotaged;

/// Where it is kept. Never evicted, and cleared with nothing else.
const PATH: &str = "savings/months";

/// The record of a cache directory.
#[derive(Clone)]
pub struct SavingsRecord {
    disk: Arc<Disk>,
}

impl SavingsRecord {
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }

    /// What was written last; nothing where there is no record, or where it is damaged. Blocking.
    pub fn read<T: DeserializeOwned + Default>(&self) -> io::Result<T> {
        let path = Path::new(PATH);
        match self.disk.read_record(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_damage(&error) => Ok(T::default()),
            read => serde_json::from_slice(&read?).or_else(|error| {
                self.disk.discard(path, &error);
                Ok(T::default())
            }),
        }
    }

    /// Replaces what it holds by what `change` makes of that, which is returned. It outlives a crash then. Blocking.
    pub fn update<T: DeserializeOwned + Serialize + Default>(&self, change: impl FnOnce(T) -> T) -> io::Result<T> {
        let path = Path::new(PATH);
        let _shared = (!sabotaged("savings-lock")).then(|| self.disk.lock_shared(path));
        let changed = change(self.read()?);
        self.disk.write_lasting(path, &serde_json::to_vec(&changed).map_err(io::Error::other)?)?;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use wheelport_runtime::Clock;

    use super::*;

    fn record(root: &Path) -> io::Result<SavingsRecord> {
        Ok(SavingsRecord::new(Disk::open(root, 1 << 20, Clock::system())?))
    }

    #[test]
    fn processes_that_share_a_directory_add_to_one_record() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let (one, other) = (record(root.path())?, record(root.path())?);
        let add = |record: &SavingsRecord| {
            for _ in 0..20 {
                record.update(|count: u64| count + 1)?;
            }
            io::Result::Ok(())
        };
        std::thread::scope(|scope| {
            let threads = [scope.spawn(|| add(&one)), scope.spawn(|| add(&other))];
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| io::Error::other("it panicked"))?)
        })?;
        assert_eq!(record(root.path())?.read::<u64>()?, 40);
        Ok(())
    }

    #[test]
    fn a_damaged_record_begins_again() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let record = record(root.path())?;
        record.update(|count: u64| count + 1)?;
        let path = root.path().join(PATH);
        let mut bytes = std::fs::read(&path)?;
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes)?;
        assert_eq!(record.read::<u64>()?, 0);
        assert_eq!(record.update(|count: u64| count + 7)?, 7);
        Ok(())
    }
}

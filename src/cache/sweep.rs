//! Measuring the cache directory and evicting what was used longest ago.
//!
//! A sweep walks the whole directory, so it frees more than was asked for: down to [`LOW_WATER`] of the limit.
//! An evicted file that somebody is reading stays readable: it only loses its name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::disk::{Disk, KEPT, StorageError};

/// A sweep frees space until so many hundredths of the limit are used.
const LOW_WATER: u64 = 90;
/// What was written or used so recently is not evicted while older files remain to be evicted.
const GRACE: Duration = Duration::from_secs(10);

struct Found {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

/// Counts the kept bytes anew. Blocking.
pub(super) fn measure(disk: &Disk) -> u64 {
    let _sweeping = disk.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
    // What is kept while the walk goes on may be counted twice; the next sweep counts again.
    let before = disk.used();
    let mut found = 0_u64;
    walk(disk.root(), |file| found += file.size);
    let meanwhile = disk.used().saturating_sub(before);
    disk.used.store(found.saturating_add(meanwhile), Ordering::Relaxed);
    found
}

/// Evicts until `more` bytes (already counted as reserved) fit. Blocking.
pub(super) fn make_room(disk: &Disk, more: u64) -> Result<(), StorageError> {
    let _sweeping = disk.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
    let reserved = disk.reserved.load(Ordering::Relaxed);
    if disk.used().saturating_add(reserved) <= disk.max_size() && disk.available() >= more {
        return Ok(()); // another sweep made the room while this one waited
    }
    disk.open_files.close_all();
    let mut files = Vec::new();
    walk(disk.root(), |file| files.push(file));
    let mut used: u64 = files.iter().map(|found| found.size).sum();
    let goal = (disk.max_size() / 100 * LOW_WATER).saturating_sub(reserved);
    files.sort_unstable_by_key(|found| found.used);
    let recent = disk.now().checked_sub(GRACE).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut evicted = (0_u64, 0_u64);
    for file in files {
        let tight = used.saturating_add(reserved) > disk.max_size() || disk.available() < more;
        if !tight && (used <= goal || file.used > recent) {
            break;
        }
        if fs::remove_file(&file.path).is_ok() {
            used = used.saturating_sub(file.size);
            evicted = (evicted.0 + 1, evicted.1 + file.size);
        }
    }
    disk.used.store(used, Ordering::Relaxed);
    tracing::info!(files = evicted.0, bytes = evicted.1, used, "evicted the least recently used files");
    if used.saturating_add(reserved) > disk.max_size() || disk.available() < more {
        return Err(StorageError::NoRoom { size: more });
    }
    Ok(())
}

/// Shows every kept file with its size and last use. Symbolic links and what cannot be read are passed over.
/// Nothing is gathered: who only counts needs no memory for a million names.
fn walk(root: &Path, mut visit: impl FnMut(Found)) {
    let mut directories: Vec<PathBuf> = KEPT.iter().map(|kind| root.join(kind)).collect();
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.is_file() {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                visit(Found { path: entry.path(), size: metadata.len(), used });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Read as _};

    use super::*;
    use wheelport_runtime::Clock;

    fn aged(disk: &Disk, name: &str, size: usize, age: u64) -> io::Result<PathBuf> {
        let relative = Path::new("blobs/aa").join(name);
        disk.write_record(&relative, &vec![b'x'; size])?;
        let path = disk.root().join(relative);
        File::options().write(true).open(&path)?.set_modified(disk.now() - Duration::from_secs(age))?;
        Ok(path)
    }

    #[test]
    fn the_least_recently_used_goes_first_and_open_readers_go_on() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1000, Clock::system())?;
        let oldest = aged(&disk, "oldest", 400, 3000)?;
        let older = aged(&disk, "older", 300, 2000)?;
        let newer = aged(&disk, "newer", 200, 1000)?;
        let mut reader = File::open(&oldest)?;

        let reservation = disk.reserve(300)?;
        assert_eq!((oldest.exists(), older.exists(), newer.exists()), (false, true, true));
        assert_eq!((disk.used(), reservation.size()), (500, 300));
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        assert_eq!(bytes.len(), 400);
        Ok(())
    }

    #[test]
    fn what_cannot_fit_is_refused_and_gives_its_reservation_back() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1000, Clock::system())?;
        assert!(matches!(disk.reserve(1001), Err(StorageError::TooLarge { size: 1001 })));
        let first = disk.reserve(800)?;
        assert!(matches!(disk.reserve(300), Err(StorageError::NoRoom { .. })));
        drop(first);
        assert!(disk.reserve(300).is_ok());
        Ok(())
    }

    #[test]
    fn measuring_counts_what_is_there() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1000, Clock::system())?;
        aged(&disk, "a", 10, 0)?;
        let second = Disk::open(root.path(), 1000, Clock::system())?;
        assert_eq!((measure(&second), second.used()), (10, 10));
        Ok(())
    }
}

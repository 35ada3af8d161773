//! The space of the cache directory: how much is used and reserved, and evicting what was used longest ago.
//!
//! A sweep walks the whole directory, so it frees more than was asked for: down to [`LOW_WATER`] of the limit.
//! An evicted file stays readable while it is open: it only loses its name.
//!
//! A file's modification time is the time of its last use; nothing else remembers use.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::open_files::OpenFiles;
use wheelport_runtime::Clock;

/// The directories whose files count as cache, and may be evicted.
pub const EVICTABLE: [&str; 4] = ["blobs", "pages", "metadata", "links"];
/// A sweep frees space until so many hundredths of the limit are used.
const LOW_WATER: u64 = 90;
/// Files that were written or used this recently are not evicted while older files remain to be evicted.
const GRACE: Duration = Duration::from_secs(10);
/// A use is recorded only if the last recorded one is older than this.
const USE_GRANULARITY: Duration = Duration::from_mins(10);
/// Bytes on the file system that the cache leaves free.
const MARGIN: u64 = 16 << 20;

/// Why the cache directory cannot take something.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It is larger than the whole cache may be.
    #[error("{size} bytes are more than the cache may hold")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// There is no room for it, also after evicting.
    #[error("no room for {size} bytes in the cache directory")]
    NoRoom {
        /// Its size in bytes.
        size: u64,
    },
    /// The operating system refused.
    #[error("the cache directory cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// The space of one cache directory.
pub(super) struct Space {
    root: PathBuf,
    max_size: u64,
    used: AtomicU64,
    reserved: AtomicU64,
    /// Held by a sweep, so that only one runs at a time.
    sweeping: Mutex<()>,
    open_files: OpenFiles,
    clock: Clock,
}

/// Room for bytes that are about to be written; given back when dropped.
pub(super) struct Reservation {
    space: Arc<Space>,
    size: u64,
}

struct EvictableFile {
    path: PathBuf,
    size: u64,
    last_used: SystemTime,
}

impl Space {
    /// The space of the directory `root`, which is kept below `max_size` bytes. Nothing is counted yet.
    pub(super) fn new(root: &Path, max_size: u64, clock: Clock) -> Self {
        Self {
            root: root.to_owned(),
            max_size,
            used: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            sweeping: Mutex::new(()),
            open_files: OpenFiles::default(),
            clock,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn max_size(&self) -> u64 {
        self.max_size
    }

    /// Bytes in committed files, as far as they are counted.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes reserved for files that are being written.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// The open files. They belong here because an open file keeps its space after it was removed.
    pub(super) fn open_files(&self) -> &OpenFiles {
        &self.open_files
    }

    /// Reserves `size` bytes, evicting if needed. Blocking. The guard gives them back when dropped.
    pub(super) fn reserve(self: &Arc<Self>, size: u64) -> Result<Reservation, StorageError> {
        if size > self.max_size {
            return Err(StorageError::TooLarge { size });
        }
        let mut reservation = Reservation { space: Arc::clone(self), size: 0 };
        reservation.grow(size)?;
        Ok(reservation)
    }

    /// As [`Space::reserve`], but only if that needs no eviction.
    pub(super) fn try_reserve(self: &Arc<Self>, size: u64) -> Option<Reservation> {
        let mut reservation = Reservation { space: Arc::clone(self), size: 0 };
        (size <= self.max_size && reservation.try_grow(size)).then_some(reservation)
    }

    /// Makes sure that the file system has this many free bytes, evicting if it is full. Blocking.
    pub(super) fn ensure_free(&self, bytes: u64) -> Result<(), StorageError> {
        if self.free() >= bytes { Ok(()) } else { self.evict_for(bytes) }
    }

    /// Counts a committed file of `size` bytes.
    pub(super) fn add_used(&self, size: u64) {
        self.used.fetch_add(size, Ordering::Relaxed);
    }

    /// Discounts a removed file of `size` bytes.
    pub(super) fn subtract_used(&self, size: u64) {
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(size)));
    }

    /// Records a use of an open committed file, at most every few minutes.
    pub(super) fn mark_used(&self, file: &File) -> io::Result<Metadata> {
        let metadata = file.metadata()?;
        let now = self.clock.now();
        let since = metadata.modified().ok().and_then(|used| now.duration_since(used).ok());
        if since.is_none_or(|since| since > USE_GRANULARITY) {
            // A read-only or foreign directory still serves what it holds.
            let _ = file.set_modified(now);
        }
        Ok(metadata)
    }

    /// How long ago a file was written or last marked as used. Blocking.
    pub(super) fn unused_for(&self, relative: &Path) -> Option<Duration> {
        let modified = fs::metadata(self.root.join(relative)).and_then(|metadata| metadata.modified()).ok()?;
        self.clock.now().duration_since(modified).ok()
    }

    /// Counts the used bytes again. Blocking.
    pub(super) fn measure(&self) -> u64 {
        let _sweeping = self.sweeping.lock();
        // A file that is committed during the walk may be counted twice; the next sweep counts again.
        let before = self.used();
        let mut found = 0_u64;
        walk(&self.root, |file| found += file.size);
        let meanwhile = self.used().saturating_sub(before);
        self.used.store(found.saturating_add(meanwhile), Ordering::Relaxed);
        found
    }

    /// Evicts until `more` bytes (already counted as reserved) fit. Blocking.
    fn evict_for(&self, more: u64) -> Result<(), StorageError> {
        let _sweeping = self.sweeping.lock();
        let reserved = self.reserved();
        if self.has_room(self.used(), reserved, more) {
            return Ok(()); // another sweep made the room while this one waited
        }
        self.open_files.close_all();
        let mut files = Vec::new();
        walk(&self.root, |file| files.push(file));
        let mut used: u64 = files.iter().map(|file| file.size).sum();
        let goal = (self.max_size / 100 * LOW_WATER).saturating_sub(reserved);
        files.sort_unstable_by_key(|file| file.last_used);
        let recent = self.clock.now().checked_sub(GRACE).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut evicted = (0_u64, 0_u64);
        for file in files {
            let enough = used <= goal || file.last_used > recent;
            if enough && self.has_room(used, reserved, more) {
                break;
            }
            if fs::remove_file(&file.path).is_ok() {
                used = used.saturating_sub(file.size);
                evicted = (evicted.0 + 1, evicted.1 + file.size);
            }
        }
        self.used.store(used, Ordering::Relaxed);
        tracing::info!(files = evicted.0, bytes = evicted.1, used, "evicted the least recently used files");
        if self.has_room(used, reserved, more) { Ok(()) } else { Err(StorageError::NoRoom { size: more }) }
    }

    /// Whether used and reserved bytes are within the limit and the file system has `more` free bytes.
    fn has_room(&self, used: u64, reserved: u64, more: u64) -> bool {
        used.saturating_add(reserved) <= self.max_size && self.free() >= more
    }

    /// Bytes that the file system has left for the cache.
    fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.root).map_or(u64::MAX, |stat| (stat.f_bavail * stat.f_frsize).saturating_sub(MARGIN))
    }
}

impl Reservation {
    /// Reserves this many bytes more, evicting if needed. Blocking.
    pub(super) fn grow(&mut self, more: u64) -> Result<(), StorageError> {
        if self.try_grow(more) { Ok(()) } else { self.space.evict_for(more) }
    }

    /// Reserves this many bytes more; returns whether there is room for them without evicting.
    fn try_grow(&mut self, more: u64) -> bool {
        let reserved = self.space.reserved.fetch_add(more, Ordering::Relaxed) + more;
        self.size += more;
        self.space.has_room(self.space.used(), reserved, more)
    }

    /// The size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.reserved.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// Visits every evictable file. Skips symbolic links and what cannot be read.
/// Nothing is collected: counting needs no memory for a million names.
fn walk(root: &Path, mut visit: impl FnMut(EvictableFile)) {
    let mut directories: Vec<PathBuf> = EVICTABLE.iter().map(|kind| root.join(kind)).collect();
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.is_file() {
                let last_used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                visit(EvictableFile { path: entry.path(), size: metadata.len(), last_used });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn space(root: &Path, max_size: u64) -> Arc<Space> {
        Arc::new(Space::new(root, max_size, Clock::system()))
    }

    fn aged(space: &Space, name: &str, size: usize, age: u64) -> io::Result<PathBuf> {
        let directory = space.root().join("blobs/aa");
        fs::create_dir_all(&directory)?;
        let path = directory.join(name);
        fs::write(&path, vec![b'x'; size])?;
        space.add_used(size as u64);
        let modified = space.clock.now() - Duration::from_secs(age);
        File::options().write(true).open(&path)?.set_modified(modified)?;
        Ok(path)
    }

    #[test]
    fn the_least_recently_used_goes_first_and_open_readers_go_on() -> Outcome {
        let root = tempfile::tempdir()?;
        let space = space(root.path(), 1000);
        let oldest = aged(&space, "oldest", 400, 3000)?;
        let older = aged(&space, "older", 300, 2000)?;
        let newer = aged(&space, "newer", 200, 1000)?;
        let mut reader = File::open(&oldest)?;

        let reservation = space.reserve(300)?;
        assert_eq!((oldest.exists(), older.exists(), newer.exists()), (false, true, true));
        assert_eq!((space.used(), reservation.size()), (500, 300));
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        assert_eq!(bytes.len(), 400);
        Ok(())
    }

    #[test]
    fn what_cannot_fit_is_refused_and_gives_its_reservation_back() -> Outcome {
        let root = tempfile::tempdir()?;
        let space = space(root.path(), 1000);
        assert!(matches!(space.reserve(1001), Err(StorageError::TooLarge { size: 1001 })));
        let first = space.reserve(800)?;
        assert!(matches!(space.reserve(300), Err(StorageError::NoRoom { .. })));
        drop(first);
        assert!(space.reserve(300).is_ok());
        Ok(())
    }

    #[test]
    fn measuring_counts_the_files_of_the_directory() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        aged(&space(root.path(), 1000), "a", 10, 0)?;
        let second = space(root.path(), 1000);
        assert_eq!((second.measure(), second.used()), (10, 10));
        Ok(())
    }
}

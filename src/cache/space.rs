//! The space of the cache directory: how much is used and reserved, and evicting what was used longest ago.
//!
//! A sweep walks the whole directory, so it frees more than was asked for: down to [`LOW_WATER`] of the limit. Files go
//! first; pages and other records go only when no file is left, because they are small and keep clients going while
//! upstream is away. An evicted file stays readable while it is open: it only loses its name.
//!
//! Only growth of the cache itself evicts. Where other data fill the volume, nothing is evicted for them, and nothing
//! more is stored until there is space again.
//!
//! Where several processes share the directory, each counts it again after it has grown by a small part of the limit
//! itself, so together they stay below one limit, give or take that part for each further process.
//!
//! A file's modification time is the time of its last use; nothing else remembers use.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::layout::{self, BLOBS, EVICTABLE};
use super::open_files::OpenFiles;
use wheelport_runtime::{Clock, sabotaged};

/// A sweep frees space until so many hundredths of the limit are used.
const LOW_WATER: u64 = 90;
/// Files that were written or used this recently are not evicted while older files remain to be evicted.
const GRACE: Duration = Duration::from_secs(10);
/// A use is recorded only if the last recorded one is older than this.
const USE_GRANULARITY: Duration = Duration::from_mins(10);
/// Bytes on the file system that the cache leaves free.
const MARGIN: u64 = 16 << 20;
/// What is evicted at least for uploads where the volume is full, in bytes: a sweep costs the same for one byte.
const UPLOAD_STEP: u64 = 64 << 20;
/// A process that shares the directory counts it again after it has grown by this part of the limit itself.
const UNSHARED_GROWTH: u64 = 64;

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
    /// Other data fill the volume.
    #[error("no room for {size} bytes: the volume of the cache directory is full, and not of what is cached")]
    VolumeFull {
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
    /// What the volume has had for the cache at best since the start, if that is less than `max_size`.
    volume: AtomicU64,
    used: AtomicU64,
    reserved: AtomicU64,
    /// By how much this process has grown the cache since it was counted.
    grown: AtomicU64,
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

/// What the system says of a file that is used now.
pub(super) struct Used {
    pub(super) before: Metadata,
    /// Where the use was recorded in the file, which changes it.
    pub(super) after: Option<Metadata>,
}

/// Whether there is room for what is about to be written.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Enough,
    /// The cache itself has grown to its limit.
    Evict,
    VolumeFull,
}

struct EvictableFile {
    path: PathBuf,
    size: u64,
    last_used: SystemTime,
    is_record: bool,
}

impl Space {
    /// The space of the directory `root`, which is kept below `max_size` bytes. Nothing is counted yet.
    pub(super) fn new(root: &Path, max_size: u64, clock: Clock) -> Self {
        Self {
            root: root.to_owned(),
            max_size,
            volume: AtomicU64::new(0),
            used: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            grown: AtomicU64::new(0),
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

    /// The size that the cache stays below: less than `max_size` where the volume has less for it.
    pub(super) fn limit(&self) -> u64 {
        match self.volume.load(Ordering::Relaxed) {
            _ if sabotaged("volume-size") => self.max_size,
            0 => self.max_size,
            volume => volume.min(self.max_size),
        }
    }

    /// Whether something of this size can be stored at all.
    pub(super) fn fits(&self, size: u64) -> Result<(), StorageError> {
        if size > self.limit() { Err(StorageError::TooLarge { size }) } else { Ok(()) }
    }

    /// Reserves `size` bytes, evicting if needed. Blocking. The guard gives them back when dropped.
    pub(super) fn reserve(self: &Arc<Self>, size: u64) -> Result<Reservation, StorageError> {
        self.fits(size)?;
        let mut reservation = Reservation { space: Arc::clone(self), size: 0 };
        reservation.grow(size)?;
        Ok(reservation)
    }

    /// As [`Space::reserve`], but only if that needs no eviction.
    pub(super) fn try_reserve(self: &Arc<Self>, size: u64) -> Option<Reservation> {
        let mut reservation = Reservation { space: Arc::clone(self), size: 0 };
        (self.fits(size).is_ok() && reservation.try_grow(size)).then_some(reservation)
    }

    /// Makes sure that the volume has this many free bytes for an upload, evicting just that if it is full: an upload
    /// has to be on disk before it can be passed on. Blocking.
    pub(super) fn ensure_free(&self, bytes: u64) -> Result<(), StorageError> {
        if self.free() >= bytes {
            return Ok(());
        }
        let _sweeping = self.sweeping.lock();
        if self.free() < bytes {
            let wanted = bytes.max(UPLOAD_STEP.min(self.limit() / 16));
            self.evict(|_, evicted, _| evicted >= wanted);
        }
        if self.free() >= bytes { Ok(()) } else { Err(StorageError::VolumeFull { size: bytes }) }
    }

    /// Counts a committed file of `size` bytes.
    pub(super) fn add_used(&self, size: u64) {
        self.used.fetch_add(size, Ordering::Relaxed);
        self.grown.fetch_add(size, Ordering::Relaxed);
    }

    /// Discounts a removed file of `size` bytes.
    pub(super) fn subtract_used(&self, size: u64) {
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(size)));
    }

    /// Records a use of an open committed file, at most every few minutes.
    pub(super) fn mark_used(&self, file: &File) -> io::Result<Used> {
        let before = file.metadata()?;
        let now = self.clock.now();
        let since = before.modified().ok().and_then(|used| now.duration_since(used).ok());
        // A read-only or foreign directory still serves what it holds.
        let recorded = since.is_none_or(|since| since > USE_GRANULARITY) && file.set_modified(now).is_ok();
        let after = if recorded { Some(file.metadata()?) } else { None };
        Ok(Used { before, after })
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
        self.grown.store(0, Ordering::Relaxed);
        let mut found = 0_u64;
        walk(&self.root, |file| found += file.size);
        let meanwhile = self.used().saturating_sub(before);
        self.used.store(found.saturating_add(meanwhile), Ordering::Relaxed);
        // Other data may grow later; that is no reason to evict.
        self.volume.fetch_max(found.saturating_add(self.free()), Ordering::Relaxed);
        found
    }

    /// Counts the used bytes again where another process may have changed them.
    fn measure_if_shared(&self) {
        if self.grown.load(Ordering::Relaxed) > self.limit() / UNSHARED_GROWTH
            && layout::is_shared(&self.root)
            && !sabotaged("shared-size")
        {
            self.measure();
        }
    }

    /// Evicts until `more` bytes (already counted as reserved) fit. Blocking.
    fn evict_for(&self, more: u64) -> Result<(), StorageError> {
        let _sweeping = self.sweeping.lock();
        let (reserved, limit) = (self.reserved(), self.limit());
        let mut used = self.used();
        if room(used, reserved, limit, self.free(), more) == Room::Evict {
            let goal = (limit / 100 * LOW_WATER).saturating_sub(reserved);
            let recent = self.clock.now().checked_sub(GRACE).unwrap_or(SystemTime::UNIX_EPOCH);
            used = self.evict(|used, _, file| {
                used.saturating_add(reserved) <= limit && (used <= goal || file.last_used > recent)
            });
        }
        match room(used, reserved, limit, self.free(), more) {
            Room::Enough => Ok(()),
            Room::Evict => Err(StorageError::NoRoom { size: more }),
            Room::VolumeFull => Err(StorageError::VolumeFull { size: more }),
        }
    }

    /// Evicts files one by one until `enough` says so, of the bytes used, the bytes evicted and the next file. Returns
    /// how many bytes are used then. The caller holds `sweeping`.
    fn evict(&self, enough: impl Fn(u64, u64, &EvictableFile) -> bool) -> u64 {
        self.open_files.close_all();
        let mut files = Vec::new();
        walk(&self.root, |file| files.push(file));
        let mut used: u64 = files.iter().map(|file| file.size).sum();
        files.sort_unstable_by_key(|file| (file.is_record && !sabotaged("records-last"), file.last_used));
        let (mut count, mut bytes) = (0_u64, 0_u64);
        for file in files {
            if enough(used, bytes, &file) {
                break;
            }
            if fs::remove_file(&file.path).is_ok() {
                used = used.saturating_sub(file.size);
                (count, bytes) = (count + 1, bytes + file.size);
            }
        }
        self.used.store(used, Ordering::Relaxed);
        self.grown.store(0, Ordering::Relaxed);
        tracing::info!(files = count, bytes, used, "evicted the least recently used files");
        used
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
        self.space.measure_if_shared();
        let reserved = self.space.reserved.fetch_add(more, Ordering::Relaxed) + more;
        self.size += more;
        let space = &self.space;
        room(space.used(), reserved, space.limit(), space.free(), more) == Room::Enough
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

/// Whether `more` bytes, which `reserved` counts already, may be written.
fn room(used: u64, reserved: u64, limit: u64, free: u64, more: u64) -> Room {
    if used.saturating_add(reserved) > limit && !sabotaged("max-size") {
        Room::Evict
    } else if free < more {
        if sabotaged("own-growth") { Room::Evict } else { Room::VolumeFull }
    } else {
        Room::Enough
    }
}

/// Visits every evictable file.
fn walk(root: &Path, mut visit: impl FnMut(EvictableFile)) {
    for kind in EVICTABLE {
        layout::walk(&root.join(kind), &mut |path, metadata| {
            let last_used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            visit(EvictableFile { path, size: metadata.len(), last_used, is_record: kind != BLOBS });
        });
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
    fn pages_and_other_records_go_when_no_file_is_left() -> Outcome {
        let root = tempfile::tempdir()?;
        let space = space(root.path(), 1000);
        let newest = aged(&space, "newest", 500, 100)?;
        let page = root.path().join("pages/page");
        fs::create_dir_all(root.path().join("pages"))?;
        fs::write(&page, vec![b'x'; 400])?;
        File::options().write(true).open(&page)?.set_modified(space.clock.now() - Duration::from_mins(150))?;
        space.measure();
        let reservation = space.reserve(500)?;
        assert_eq!((newest.exists(), page.exists()), (false, true));
        drop(reservation);
        let _reservation = space.reserve(900)?;
        assert!(!page.exists());
        Ok(())
    }

    #[test]
    fn only_the_growth_of_the_cache_evicts() {
        // In order: used, reserved, limit, free, more.
        assert_eq!(room(500, 100, 1000, 100, 100), Room::Enough);
        assert_eq!(room(500, 100, 1000, 99, 100), Room::VolumeFull, "others have filled the volume");
        assert_eq!(room(950, 100, 1000, 1000, 100), Room::Evict);
        assert_eq!(room(950, 100, 1000, 0, 100), Room::Evict);
        assert_eq!(room(u64::MAX, 100, 1000, 0, 100), Room::Evict);
    }

    #[test]
    fn a_volume_smaller_than_the_limit_is_the_limit() -> Outcome {
        let root = tempfile::tempdir()?;
        let space = space(root.path(), u64::MAX);
        aged(&space, "a", 10, 0)?;
        assert_eq!(space.limit(), u64::MAX);
        space.measure();
        let total = rustix::fs::statvfs(root.path()).map(|stat| stat.f_blocks * stat.f_frsize)?;
        assert!(space.limit() <= total, "{}", space.limit());
        assert!(matches!(space.reserve(total + 1), Err(StorageError::TooLarge { .. })));
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

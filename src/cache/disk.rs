//! The cache directory: its layout, its lock, its temporary files and how much of it is used.
//!
//! ```text
//! DIR/format            the layout's version; another one is refused
//! DIR/tmp/RANDOM/       what this process is writing; locked while the process lives, swept by the next one
//! DIR/blobs/ab/cdef…    files by the SHA-256 of their bytes
//! DIR/pages/REPO/NAME   persisted pages
//! DIR/sidecars/ab/cdef… core metadata by the SHA-256 of its wheel
//! DIR/links/ab/cdef…    SHA-256 of files for which the index names another digest only
//! DIR/published/REPO~NAME files published a moment ago, until upstream lists them; never evicted
//! ```
//!
//! Everything appears by rename of a complete, synced file, so a crash at any moment leaves nothing half-visible.
//! A file's modification time is the time of its last use; nothing else remembers use.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use tempfile::{NamedTempFile, TempDir};

use super::open_files::OpenFiles;
use wheelport_runtime::Clock;

/// The layout's version, as `DIR/format` holds it.
const FORMAT: &str = "wheelport cache 1\n";
/// The file that says so.
pub(super) const FORMAT_FILE: &str = "format";
/// The directories that hold what is kept, and that the sweep looks through.
pub const KEPT: [&str; 4] = ["blobs", "pages", "sidecars", "links"];
/// The directory of the records of published files; not a part of [`KEPT`], because they must not be evicted.
pub(super) const PUBLISHED: &str = "published";
/// A use is recorded only if the last recorded one is older than this.
const USE_GRANULARITY: Duration = Duration::from_mins(10);
/// Space on the file system that is left to others.
const MARGIN: u64 = 16 << 20;

/// Why something could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It is larger than the whole cache may be.
    #[error("{size} bytes are more than the cache may hold")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// There is no room, also after evicting.
    #[error("no room for {size} bytes in the cache directory")]
    NoRoom {
        /// Its size in bytes.
        size: u64,
    },
    /// The operating system refused.
    #[error("the cache directory cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// The cache directory. One per process.
pub struct Disk {
    root: PathBuf,
    temporary: TempDir,
    _lock: File,
    max_size: u64,
    pub(super) used: AtomicU64,
    pub(super) reserved: AtomicU64,
    pub(super) sweeping: Mutex<()>,
    pub(super) open_files: OpenFiles,
    clock: Clock,
}

impl Disk {
    /// Opens or creates the directory, and sweeps what processes that are gone left behind. Blocking.
    pub fn open(root: &Path, max_size: u64, clock: Clock) -> io::Result<Arc<Self>> {
        for part in KEPT.iter().chain(&["tmp", PUBLISHED]) {
            fs::create_dir_all(root.join(part))?;
        }
        check_format(root)?;
        sweep_temporaries(&root.join("tmp"))?;
        let temporary = tempfile::Builder::new().prefix("w").tempdir_in(root.join("tmp"))?;
        let lock = File::create(temporary.path().join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Arc::new(Self {
            root: root.to_owned(),
            temporary,
            _lock: lock,
            max_size,
            used: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            sweeping: Mutex::new(()),
            open_files: OpenFiles::default(),
            clock,
        }))
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The size that the directory is kept below, in bytes.
    pub fn max_size(&self) -> u64 {
        self.max_size
    }

    /// Bytes in kept files, as far as they are counted.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Closes files that are kept open and were not used lately.
    pub fn close_idle(&self) {
        self.open_files.close_idle();
    }

    /// Counts the kept bytes anew. Blocking; meant to run behind the start, which need not wait for it.
    pub fn measure(&self) -> u64 {
        super::sweep::measure(self)
    }

    /// Makes room for `size` more bytes, evicting if needed. Blocking. The guard gives them back when dropped.
    pub fn reserve(self: &Arc<Self>, size: u64) -> Result<Reservation, StorageError> {
        if size > self.max_size {
            return Err(StorageError::TooLarge { size });
        }
        let mut reservation = Reservation { disk: Arc::clone(self), size: 0 };
        reservation.grow(size)?;
        Ok(reservation)
    }

    /// As [`Disk::reserve`], but only if there is room without evicting anything.
    pub fn reserve_at_hand(self: &Arc<Self>, size: u64) -> Option<Reservation> {
        let mut reservation = Reservation { disk: Arc::clone(self), size: 0 };
        (size <= self.max_size && reservation.take(size)).then_some(reservation)
    }

    /// Whether a file can be created in the directory. Quick.
    pub fn is_writable(&self) -> bool {
        self.temporary().is_ok()
    }

    /// A new temporary file of this process.
    pub fn temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix("f").tempfile_in(self.temporary.path())
    }

    /// Writes a small record so that it is there whole or not at all. Blocking.
    ///
    /// Not synced: every kind of record shows by itself whether it is whole, and a lost one is made again.
    pub fn write_record(&self, relative: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.temporary()?;
        file.write_all(bytes)?;
        self.keep(file, relative)
    }

    /// Reads a small record and marks it as used. Blocking.
    pub fn read_record(&self, relative: &Path) -> io::Result<Vec<u8>> {
        let path = self.root.join(relative);
        let file = File::open(&path)?;
        self.mark_used(&file)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut &file, &mut bytes)?;
        Ok(bytes)
    }

    /// Removes a kept file, if it is there. Blocking.
    pub fn remove(&self, relative: &Path) -> io::Result<()> {
        let path = self.root.join(relative);
        let size = size_of(&path);
        match fs::remove_file(&path) {
            Ok(()) => {
                self.forget(size);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes sure that the file system has so many bytes, evicting if it is full. Blocking.
    pub(super) fn make_way(&self, bytes: u64) -> Result<(), StorageError> {
        if self.available() >= bytes { Ok(()) } else { super::sweep::make_room(self, bytes) }
    }

    /// Every record of published files. Blocking; what cannot be read is passed over.
    pub(super) fn published_records(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.root.join(PUBLISHED)).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read(entry.path()).ok()).collect()
    }

    /// Writes a record of published files so that it outlives a crash. Blocking.
    pub(super) fn write_published(&self, relative: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.temporary()?;
        file.write_all(bytes)?;
        file.as_file().sync_data()?;
        file.persist(self.root.join(relative)).map(drop).map_err(|failed| failed.error)
    }

    /// Removes a record of published files, if it is there. Blocking.
    pub(super) fn remove_published(&self, relative: &Path) -> io::Result<()> {
        match fs::remove_file(self.root.join(relative)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves a complete temporary file to its place. Blocking.
    pub(super) fn keep(&self, file: NamedTempFile, relative: &Path) -> io::Result<()> {
        let size = file.as_file().metadata()?.len();
        let path = self.root.join(relative);
        let replaced = size_of(&path);
        let persist = |file: NamedTempFile| file.persist(&path);
        match persist(file) {
            Err(failed) if failed.error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                persist(failed.file)
            }
            outcome => outcome,
        }
        .map_err(|failed| failed.error)?;
        self.forget(replaced);
        self.used.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }

    /// Records a use of an open kept file, at most every few minutes.
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

    pub(super) fn forget(&self, size: u64) {
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(size)));
    }

    /// Bytes that the file system still has for us.
    pub(super) fn available(&self) -> u64 {
        rustix::fs::statvfs(&self.root).map_or(u64::MAX, |stat| (stat.f_bavail * stat.f_frsize).saturating_sub(MARGIN))
    }

    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

/// Room for bytes that are about to be written; given back when dropped.
pub struct Reservation {
    disk: Arc<Disk>,
    size: u64,
}

impl Reservation {
    /// Makes room for so many bytes more. Blocking.
    pub fn grow(&mut self, more: u64) -> Result<(), StorageError> {
        if self.take(more) { Ok(()) } else { super::sweep::make_room(&self.disk, more) }
    }

    /// Counts so many bytes more as reserved; says whether there is room for them as it is.
    fn take(&mut self, more: u64) -> bool {
        let disk = &self.disk;
        let wanted = disk.reserved.fetch_add(more, Ordering::Relaxed) + more;
        self.size += more;
        disk.used().saturating_add(wanted) <= disk.max_size && disk.available() >= more
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.disk.reserved.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// The path of a content-addressed file: a directory of two digits, then the rest.
pub(super) fn addressed(kind: &str, digest: &impl ToString) -> PathBuf {
    let hex = digest.to_string();
    let (shard, rest) = hex.split_at(2);
    [kind, shard, rest].iter().collect()
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn check_format(root: &Path) -> io::Result<()> {
    let path = root.join(FORMAT_FILE);
    match fs::read_to_string(&path) {
        Ok(found) if found == FORMAT => Ok(()),
        Ok(found) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} holds another cache format ({}); empty it with `wheelport cache clear` or choose another directory",
                root.display(),
                found.trim().escape_default()
            ),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::write(&path, FORMAT),
        Err(error) => Err(error),
    }
}

/// Removes the temporary directories of processes that are gone: those whose lock can be had.
fn sweep_temporaries(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let abandoned = match File::open(path.join("lock")) {
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
            // Its owner is between creating the directory and the lock, or died there.
            Err(_) => fs::metadata(&path)
                .and_then(|m| m.modified())
                .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > USE_GRANULARITY)),
        };
        if abandoned {
            let _ = fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_swept_and_what_a_live_one_writes_stays() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let alive = Disk::open(root.path(), 1 << 20, Clock::system())?;
        let writing = alive.temporary()?;
        let dead = root.path().join("tmp/wdead");
        fs::create_dir(&dead)?;
        fs::write(dead.join("lock"), "")?;
        fs::write(dead.join("f1"), "half a wheel")?;

        let _second = Disk::open(root.path(), 1 << 20, Clock::system())?;
        assert!(!dead.exists());
        assert!(writing.path().exists());
        Ok(())
    }

    #[test]
    fn another_format_is_refused_with_the_remedy() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        fs::write(root.path().join("format"), "something else\n")?;
        let refused = Disk::open(root.path(), 1 << 20, Clock::system()).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|text| text.contains("wheelport cache clear")));
        Ok(())
    }

    #[test]
    fn records_are_counted_once() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1 << 20, Clock::system())?;
        let path = Path::new("pages/repo/name");
        disk.write_record(path, b"12345")?;
        disk.write_record(path, b"123")?;
        assert_eq!(disk.read_record(path)?, b"123");
        assert_eq!(disk.used(), 3);
        disk.remove(path)?;
        disk.remove(path)?;
        assert_eq!(disk.used(), 0);
        Ok(())
    }
}

//! The cache directory: its layout, its format, its temporary files and its records.
//!
//! ```text
//! DIR/format            the layout's version; another one is refused
//! DIR/tmp/RANDOM/       what this process writes; locked while the process lives, removed by the next one
//! DIR/blobs/ab/cdef…    files by the SHA-256 of their bytes
//! DIR/pages/REPO/NAME   persisted pages
//! DIR/metadata/ab/cdef… core metadata by the SHA-256 of its wheel
//! DIR/links/ab/cdef…    SHA-256 of files for which the index names another digest only
//! DIR/published/REPO~NAME files published a moment ago, until upstream lists them; never evicted
//! ```
//!
//! Everything appears by rename of a complete temporary file, so readers never see a file half-written. Blobs,
//! published records and `format` are synced before the rename, so a crash does not tear them either. Pages, metadata
//! records and links are not synced: a crash may leave one empty or short; then its reader takes it for missing, and it
//! is made again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use tempfile::{NamedTempFile, TempDir};

use super::space::{EVICTABLE, Space};
use wheelport_runtime::Clock;

/// The layout's version, as `DIR/format` holds it.
const FORMAT: &str = "wheelport cache 2\n";
/// The file that holds the layout's version.
pub(super) const FORMAT_FILE: &str = "format";
/// The directory of the records of published files; not a part of [`EVICTABLE`].
pub(super) const PUBLISHED: &str = "published";
const TEMPORARY: &str = "tmp";
/// A temporary directory without a lock belongs to a process that is starting, unless it is older than this.
const STARTING: Duration = Duration::from_mins(10);

/// The cache directory. One per process.
pub struct Disk {
    space: Arc<Space>,
    temporary: TempDir,
    _lock: File,
}

impl Disk {
    /// Opens or creates the directory, and removes what processes that died left in it. Blocking.
    pub fn open(root: &Path, max_size: u64, clock: Clock) -> io::Result<Arc<Self>> {
        let is_new = check_format(root)?;
        for part in EVICTABLE.iter().chain(&[TEMPORARY, PUBLISHED]) {
            fs::create_dir_all(root.join(part))?;
        }
        remove_abandoned(&root.join(TEMPORARY), clock.now())?;
        let temporary = tempfile::Builder::new().prefix("w").tempdir_in(root.join(TEMPORARY))?;
        let lock = File::create(temporary.path().join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let disk = Self { space: Arc::new(Space::new(root, max_size, clock)), temporary, _lock: lock };
        if is_new {
            disk.write_synced(Path::new(FORMAT_FILE), FORMAT.as_bytes())?;
        }
        Ok(Arc::new(disk))
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.space.root()
    }

    /// The size that the directory is kept below, in bytes.
    pub fn max_size(&self) -> u64 {
        self.space.max_size()
    }

    /// Bytes in committed files, as far as they are counted.
    pub fn used(&self) -> u64 {
        self.space.used()
    }

    /// Counts the used bytes again. Blocking; meant to run after the start, which need not wait for it.
    pub fn measure(&self) -> u64 {
        self.space.measure()
    }

    /// Closes open files that were not used recently.
    pub fn close_idle(&self) {
        self.space.open_files().close_idle();
    }

    pub(super) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Whether a file can be created in the directory. Quick.
    pub fn is_writable(&self) -> bool {
        self.temporary().is_ok()
    }

    /// A new temporary file of this process.
    pub(super) fn temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix("f").tempfile_in(self.temporary.path())
    }

    /// Writes a small record. Blocking.
    ///
    /// Not synced: every kind of record shows by itself whether it is complete, and a lost one is made again.
    pub(super) fn write_record(&self, relative: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.temporary()?;
        file.write_all(bytes)?;
        self.commit(file, relative)
    }

    /// Reads a small record and marks it as used. Blocking.
    pub(super) fn read_record(&self, relative: &Path) -> io::Result<Vec<u8>> {
        let file = File::open(self.root().join(relative))?;
        self.space.mark_used(&file)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut &file, &mut bytes)?;
        Ok(bytes)
    }

    /// How long ago a file was written or last marked as used. Blocking.
    pub(super) fn unused_for(&self, relative: &Path) -> Option<Duration> {
        self.space.unused_for(relative)
    }

    /// Removes a committed file, if there is one. Blocking.
    pub(super) fn remove(&self, relative: &Path) -> io::Result<()> {
        let path = self.root().join(relative);
        let size = size_of(&path);
        match fs::remove_file(&path) {
            Ok(()) => {
                self.space.subtract_used(size);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Moves a complete temporary file to its place. Blocking.
    pub(super) fn commit(&self, file: NamedTempFile, relative: &Path) -> io::Result<()> {
        let size = file.as_file().metadata()?.len();
        let path = self.root().join(relative);
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
        self.space.subtract_used(replaced);
        self.space.add_used(size);
        Ok(())
    }

    /// Every record of published files. Blocking. Skips what cannot be read.
    pub(super) fn published_records(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.root().join(PUBLISHED)).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read(entry.path()).ok()).collect()
    }

    /// Writes a file that is not counted as cache and must survive a crash. Blocking.
    pub(super) fn write_synced(&self, relative: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.temporary()?;
        file.write_all(bytes)?;
        file.as_file().sync_data()?;
        file.persist(self.root().join(relative)).map(drop).map_err(|failed| failed.error)
    }

    /// Removes a record of published files, if there is one. Blocking.
    pub(super) fn remove_published(&self, relative: &Path) -> io::Result<()> {
        match fs::remove_file(self.root().join(relative)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
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

/// Whether the directory is a new cache. A directory of another format is an error.
fn check_format(root: &Path) -> io::Result<bool> {
    let found = match fs::read(root.join(FORMAT_FILE)) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if found == FORMAT.as_bytes() {
        return Ok(false);
    }
    // A crash while the directory was created may have left a part of the file.
    if FORMAT.as_bytes().starts_with(&found) && holds_only_format(root)? {
        return Ok(true);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{} holds another cache format ({}); empty it with `wheelport cache clear` or choose another directory",
            root.display(),
            String::from_utf8_lossy(&found).trim().escape_default()
        ),
    ))
}

/// Whether the directory holds no file besides its `format`, and no directory of another program.
fn holds_only_format(root: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == FORMAT_FILE || name == TEMPORARY {
            continue;
        }
        let is_ours = EVICTABLE.iter().chain(&[PUBLISHED]).any(|part| name == *part);
        if !is_ours || fs::read_dir(entry.path())?.next().is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the temporary directories of processes that died: their locks are free.
fn remove_abandoned(directory: &Path, now: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let abandoned = match File::open(path.join("lock")) {
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
            // Its owner is between creating the directory and the lock, or died there.
            Err(_) => fs::metadata(&path)
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > STARTING)),
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

    fn open(root: &Path) -> io::Result<Arc<Disk>> {
        Disk::open(root, 1 << 20, Clock::system())
    }

    #[test]
    fn files_of_a_dead_process_are_removed_and_those_of_a_live_one_stay() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let alive = open(root.path())?;
        let writing = alive.temporary()?;
        let dead = root.path().join("tmp/wdead");
        fs::create_dir(&dead)?;
        fs::write(dead.join("lock"), "")?;
        fs::write(dead.join("f1"), "half a wheel")?;

        let _second = open(root.path())?;
        assert!(!dead.exists());
        assert!(writing.path().exists());
        Ok(())
    }

    #[test]
    fn a_directory_without_a_lock_is_removed_once_it_is_old() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let unlocked = root.path().join("tmp/wstarting");
        fs::create_dir_all(&unlocked)?;
        let clock = Clock::system();
        let _first = Disk::open(root.path(), 1 << 20, clock.clone())?;
        assert!(unlocked.exists(), "its process may be starting");
        clock.shift(601);
        let _second = Disk::open(root.path(), 1 << 20, clock)?;
        assert!(!unlocked.exists());
        Ok(())
    }

    #[test]
    fn another_format_is_refused_with_the_remedy() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        fs::write(root.path().join("format"), "something else\n")?;
        let refused = open(root.path()).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|text| text.contains("wheelport cache clear")));
        assert_eq!(fs::read_dir(root.path())?.count(), 1, "nothing was created in it");
        Ok(())
    }

    #[test]
    fn a_part_of_the_format_is_a_new_cache_only_where_nothing_else_is() -> io::Result<()> {
        for part in ["", "wheelport ca"] {
            let root = tempfile::tempdir()?;
            drop(open(root.path())?);
            let format = root.path().join("format");
            fs::write(&format, part)?;
            drop(open(root.path())?);
            assert_eq!(fs::read_to_string(&format)?, FORMAT);

            fs::write(&format, part)?;
            fs::write(root.path().join("links/file"), "of a cache")?;
            assert!(open(root.path()).is_err());
            fs::remove_file(root.path().join("links/file"))?;
            fs::write(root.path().join("mine"), "of another program")?;
            assert!(open(root.path()).is_err());
        }
        Ok(())
    }

    #[test]
    fn records_are_counted_once() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let disk = open(root.path())?;
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

//! The cache directory as this process uses it: its temporary files, its records, and what is committed to it.
//!
//! ```text
//! DIR/format            the layout's version
//! DIR/tmp/RANDOM/       what this process writes; locked while the process lives, removed by the next one
//! DIR/blobs/ab/cdef…    files by the SHA-256 of their bytes
//! DIR/pages/REPO/NAME   persisted pages
//! DIR/metadata/ab/cdef… core metadata by the SHA-256 of its wheel
//! DIR/links/ab/cdef…    SHA-256 of files for which the index names another digest only
//! DIR/published/REPO~NAME files published a moment ago, until upstream lists them; never evicted
//! DIR/first-seen/REPO/NAME what files were when they were first seen; never evicted
//! DIR/granted/exceptions  exceptions from rules that operators granted; never evicted
//! DIR/advisories/osv      the last good copy of advisories; never evicted
//! DIR/savings/months    what CodeArtifact was spared; never evicted
//! DIR/usage/DAY/WRITER  what was downloaded, as one process has counted it; never evicted
//! ```
//!
//! Everything appears by rename of a complete temporary file, so readers never see a file half-written. Blobs,
//! `format`, published records and changes to records of first seen files are synced before the rename, so a crash
//! does not tear them either. Pages, metadata records, links and new records of first seen files are not synced: a
//! crash may leave one empty or short; then its envelope shows that, its reader takes it for missing, and it is made
//! again.
//!
//! A directory that was deleted is made again when something is to be written.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use super::checks::Checks;
use super::damage::{DamageCounters, DamageCounts};
use super::layout::{self, FoundLayout, LASTING, PUBLISHED, Workspace};
use super::space::Space;
use super::{envelope, layout::real_parents};
use wheelport_index::Sha256;
use wheelport_runtime::{Clock, sabotaged};

/// The cache directory. One per process.
pub struct Disk {
    space: Arc<Space>,
    /// `None` where the directory could not be written when the process started.
    workspace: Mutex<Option<Workspace>>,
    damaged: DamageCounters,
    checks: Checks,
    scrubbed: AtomicU64,
    clock: Clock,
}

impl Disk {
    /// Opens or creates the directory, and removes what processes that died left in it. Blocking.
    ///
    /// A cache that cannot be written serves what it holds.
    pub fn open(root: &Path, max_size: u64, clock: Clock) -> io::Result<Arc<Self>> {
        let workspace = match layout::prepare(root, clock.now()) {
            Ok(workspace) => Some(workspace),
            Err(error) if is_read_only(&error) && matches!(layout::examine(root), Ok(FoundLayout::Current)) => {
                tracing::warn!(dir = %root.display(), %error, "the cache directory cannot be written, only read");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Arc::new(Self {
            space: Arc::new(Space::new(root, max_size, clock.clone())),
            workspace: Mutex::new(workspace),
            damaged: DamageCounters::default(),
            checks: Checks::default(),
            scrubbed: AtomicU64::new(0),
            clock,
        }))
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

    /// How many damaged files were found, by kind.
    pub fn damaged(&self) -> DamageCounts {
        self.damaged.counts()
    }

    /// How many bytes the scrub has read.
    pub fn scrubbed(&self) -> u64 {
        self.scrubbed.load(Ordering::Relaxed)
    }

    pub(super) fn count_scrubbed(&self, bytes: u64) {
        self.scrubbed.fetch_add(bytes, Ordering::Relaxed);
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

    pub(super) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Whether a file can be created in the directory. Quick.
    pub fn is_writable(&self) -> bool {
        self.temporary().is_ok()
    }

    /// A new temporary file of this process.
    pub(super) fn temporary(&self) -> io::Result<NamedTempFile> {
        self.in_workspace(Workspace::file)
    }

    /// Does something in the workspace of this process. If it is not there, the directory was deleted, or could not be
    /// written so far: it is made again first.
    fn in_workspace<T>(&self, work: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        let workspace = self.workspace.lock().as_ref().map(|workspace| workspace.path().to_owned());
        if let Some(path) = &workspace {
            match work(path) {
                Err(error) if is_missing(&error) && !sabotaged("directory-again") => {}
                outcome => return outcome,
            }
        }
        work(&self.renew_workspace(workspace.as_deref())?)
    }

    /// Makes the directory again, unless another thread has done that since `former` was found missing.
    fn renew_workspace(&self, former: Option<&Path>) -> io::Result<PathBuf> {
        let mut workspace = self.workspace.lock();
        if let Some(renewed) = workspace.as_ref().map(Workspace::path).filter(|path| Some(*path) != former) {
            return Ok(renewed.to_owned());
        }
        let renewed = layout::prepare(self.root(), self.clock.now())?;
        let path = renewed.path().to_owned();
        tracing::warn!(dir = %self.root().display(), "the cache directory was made again");
        *workspace = Some(renewed);
        self.space.measure();
        Ok(path)
    }

    /// Opens a committed file. A symbolic link is never followed. Blocking.
    pub(super) fn open_file(&self, relative: &Path) -> io::Result<File> {
        layout::open_file(self.root(), relative)
    }

    /// Writes a small record. Blocking.
    ///
    /// Not synced: its envelope shows whether it is complete, and a lost record is made again.
    pub(super) fn write_record(&self, relative: &Path, payload: &[u8]) -> io::Result<()> {
        let mut file = self.temporary()?;
        file.write_all(&envelope::seal(relative, payload))?;
        self.commit(file, relative)
    }

    /// Reads a small record and marks it as used. Blocking. A damaged one is removed, and is an error.
    pub(super) fn read_record(&self, relative: &Path) -> io::Result<Vec<u8>> {
        let file = self.open_file(relative)?;
        self.space.mark_used(&file)?;
        self.read_opened(file, relative)
    }

    /// Reads a record that is open. A damaged one is removed, and is an error.
    pub(super) fn read_opened(&self, mut file: File, relative: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let payload = match file.read_to_end(&mut bytes) {
            Ok(_) => envelope::open(relative, bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)),
            Err(error) => Err(error),
        };
        payload.inspect_err(|error| {
            if is_damage(error) {
                self.discard(relative, error);
            }
        })
    }

    /// Compares an open record with its envelope without holding it: the digest and the length of its payload.
    /// Blocking. A damaged one is removed, and is an error.
    pub(super) fn check_record(&self, relative: &Path, file: &File) -> io::Result<(Sha256, u64)> {
        let checked = envelope::check(relative, io::BufReader::new(file));
        let checked = checked.and_then(|checked| checked.ok_or_else(|| io::ErrorKind::InvalidData.into()));
        checked.inspect_err(|error| {
            if is_damage(error) {
                self.discard(relative, error);
            }
        })
    }

    /// The digest of a record's payload, from the beginning of the record. Blocking.
    pub(super) fn record_digest(&self, relative: &Path) -> Option<Sha256> {
        let mut beginning = Vec::with_capacity(envelope::LONGEST_LINE);
        let file = self.open_file(relative).ok()?;
        file.take(envelope::LONGEST_LINE as u64).read_to_end(&mut beginning).ok()?;
        envelope::digest(relative, &beginning)
    }

    /// Removes a file that is damaged, so that it is made or fetched again. Blocking.
    pub(super) fn discard(&self, relative: &Path, reason: &dyn std::fmt::Display) {
        let kind = relative.iter().next().unwrap_or_default().to_string_lossy();
        self.damaged.add(&kind);
        let removed = self.remove(relative);
        let error = removed.err().map(tracing::field::display);
        tracing::warn!(path = %relative.display(), %reason, error, "a cached file is damaged; it was removed");
    }

    /// How long ago a file was written or last marked as used. Blocking.
    pub(super) fn unused_for(&self, relative: &Path) -> Option<Duration> {
        self.space.unused_for(relative)
    }

    /// Removes a committed file, if there is one. Blocking.
    pub(super) fn remove(&self, relative: &Path) -> io::Result<()> {
        real_parents(self.root(), relative)?;
        let path = self.root().join(relative);
        let size = self.counted_size(relative);
        match fs::remove_file(&path) {
            Ok(()) => {
                self.space.subtract_used(size);
                Ok(())
            }
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Moves a complete temporary file to its place. Blocking.
    pub(super) fn commit(&self, file: NamedTempFile, relative: &Path) -> io::Result<()> {
        real_parents(self.root(), relative)?;
        let size = file.as_file().metadata()?.len();
        let path = self.root().join(relative);
        let replaced = self.counted_size(relative);
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
        if !is_lasting(relative) {
            self.space.add_used(size);
        }
        Ok(())
    }

    /// The size of a committed file as far as it counts as cache.
    fn counted_size(&self, relative: &Path) -> u64 {
        if is_lasting(relative) {
            return 0;
        }
        fs::symlink_metadata(self.root().join(relative)).map_or(0, |metadata| metadata.len())
    }

    /// Every record of published files. Blocking. Removes damaged ones, and skips what cannot be read.
    pub(super) fn published_records(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.root().join(PUBLISHED)).into_iter().flatten().flatten();
        let read = |entry: fs::DirEntry| {
            let relative = Path::new(PUBLISHED).join(entry.file_name());
            self.read_opened(self.open_file(&relative).ok()?, &relative).ok()
        };
        entries.filter_map(read).collect()
    }

    /// Keeps other processes that share the directory from changing records beside this one. Where the file system has
    /// no such locks, this process is on its own. Blocking.
    pub(super) fn lock_shared(&self, relative: &Path) -> Option<File> {
        let directory = self.root().join(relative.parent()?);
        let opened = File::open(&directory).or_else(|_| {
            fs::create_dir(&directory)?;
            File::open(&directory)
        });
        opened.ok().filter(|directory| flock(directory, FlockOperation::LockExclusive).is_ok())
    }

    /// Writes a record that is not counted as cache and must survive a crash. Blocking.
    pub(super) fn write_lasting(&self, relative: &Path, payload: &[u8]) -> io::Result<()> {
        real_parents(self.root(), relative)?;
        let (path, sealed) = (self.root().join(relative), envelope::seal(relative, payload));
        self.in_workspace(|workspace| Workspace::write_synced(workspace, &path, &sealed))
    }
}

/// Whether a file does not count as cache.
fn is_lasting(relative: &Path) -> bool {
    LASTING.iter().any(|lasting| relative.starts_with(lasting))
}

/// Whether the error says that stored bytes are wrong or cannot be read, rather than that something else is amiss.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let unreadable = rustix::io::Errno::IO.raw_os_error();
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        || error.raw_os_error() == Some(unreadable)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn open(root: &Path) -> io::Result<Arc<Disk>> {
        Disk::open(root, 1 << 20, Clock::system())
    }

    #[test]
    fn records_are_counted_once() -> Outcome {
        let root = tempfile::tempdir()?;
        let disk = open(root.path())?;
        let path = Path::new("pages/repo/name");
        disk.write_record(path, b"12345")?;
        disk.write_record(path, b"123")?;
        assert_eq!(disk.read_record(path)?, b"123");
        assert_eq!(disk.used(), fs::metadata(root.path().join(path))?.len());
        disk.remove(path)?;
        disk.remove(path)?;
        assert_eq!(disk.used(), 0);
        Ok(())
    }

    #[test]
    fn a_damaged_record_is_counted_and_counts_as_missing() -> Outcome {
        let root = tempfile::tempdir()?;
        let disk = open(root.path())?;
        for relative in ["pages/repo/name", "links/ab/cdef", "published/repo~name"] {
            let (relative, path) = (Path::new(relative), root.path().join(relative));
            disk.write_record(relative, b"payload")?;
            let mut bytes = fs::read(&path)?;
            bytes[90] ^= 1;
            fs::write(&path, bytes)?;
            assert!(disk.read_record(relative).is_err());
            assert!(disk.record_digest(relative).is_none() && !path.exists());
        }
        let counts = disk.damaged();
        assert_eq!(
            counts,
            [
                ("blobs", 0),
                ("pages", 1),
                ("metadata", 0),
                ("links", 1),
                ("published", 1),
                ("first-seen", 0),
                ("granted", 0),
                ("savings", 0),
                ("usage", 0),
                ("advisories", 0)
            ]
        );
        Ok(())
    }

    #[test]
    fn a_directory_that_was_deleted_is_made_again() -> Outcome {
        let parent = tempfile::tempdir()?;
        let root = parent.path().join("cache");
        let disk = open(&root)?;
        let path = Path::new("pages/repo/name");
        disk.write_record(path, b"12345")?;
        for in_the_way in [false, true] {
            fs::remove_dir_all(&root)?;
            if in_the_way {
                fs::write(&root, "not a directory")?;
                assert!(!disk.is_writable());
                fs::remove_file(&root)?;
            }
            assert!(disk.read_record(path).is_err());
            disk.write_record(path, b"123")?;
            disk.write_lasting(Path::new("published/repo~name"), b"1")?;
            assert_eq!(disk.read_record(path)?, b"123");
            assert_eq!(layout::examine(&root)?, FoundLayout::Current);
            assert_eq!(disk.used(), fs::metadata(root.join(path))?.len());
        }
        let _second = open(&root)?;
        assert!(disk.is_writable(), "its part of the directory is locked");
        Ok(())
    }

    #[test]
    fn a_directory_that_became_something_else_is_left_alone() -> Outcome {
        let parent = tempfile::tempdir()?;
        let root = parent.path().join("cache");
        let disk = open(&root)?;
        fs::remove_dir_all(&root)?;
        fs::create_dir(&root)?;
        fs::write(root.join("thesis.txt"), "precious")?;
        assert!(disk.write_record(Path::new("pages/repo/name"), b"123").is_err());
        assert_eq!(fs::read_dir(&root)?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_not_written_through() -> Outcome {
        let (root, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let disk = open(root.path())?;
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("pages/repo"))?;
        assert!(disk.write_record(Path::new("pages/repo/name"), b"123").is_err());
        fs::write(elsewhere.path().join("name"), "precious")?;
        assert!(disk.remove(Path::new("pages/repo/name")).is_err());
        assert_eq!(fs::read(elsewhere.path().join("name"))?, b"precious");
        Ok(())
    }
}

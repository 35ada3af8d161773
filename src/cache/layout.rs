//! The layout of the cache directory: what it holds, which version of the layout it has, and making one of it.
//!
//! A directory is used only if it bears the mark of a cache (`format`), or is as good as empty. Whatever else is given
//! as a cache directory by mistake is refused, and nothing in it is touched. No symbolic link below the directory is
//! followed.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, OFlags, flock};
use tempfile::{NamedTempFile, TempDir};

use super::envelope;
use wheelport_runtime::sabotaged;

/// The directories whose files count as cache, and may be evicted.
pub const EVICTABLE: [&str; 4] = ["blobs", "pages", "metadata", "links"];
/// The directory of the files themselves, by the SHA-256 of their bytes.
pub(super) const BLOBS: &str = "blobs";
/// The directory of the records of published files.
pub(super) const PUBLISHED: &str = "published";
/// The directory of the records of what files were when they were first seen.
pub(super) const FIRST_SEEN: &str = "first-seen";
/// The directory of what operators granted.
pub(super) const GRANTED: &str = "granted";
/// The directory of what was counted of savings.
pub(super) const SAVINGS: &str = "savings";
/// The directory of the records of downloads.
pub(super) const USAGE: &str = "usage";
/// The directory of the copy of advisories.
pub(super) const ADVISORIES: &str = "advisories";
/// The directories of what has to stay: not counted as cache, and never evicted.
pub(super) const LASTING: [&str; 6] = [PUBLISHED, FIRST_SEEN, GRANTED, SAVINGS, USAGE, ADVISORIES];
/// A directory of the first layout: core metadata.
pub(super) const FORMER: &str = "sidecars";

/// The file that holds the layout's version.
const FORMAT_FILE: &str = "format";
/// What that file says, before the version.
const FORMAT_PREFIX: &str = "wheelport cache ";
/// The version of this layout. Version 2 had records without envelopes, version 1 also other names.
const VERSION: u32 = 3;
const TEMPORARY: &str = "tmp";
const LOCK: &str = "lock";
/// The names of the directories below `tmp` begin with this, and go on with letters and digits.
const WORKSPACE_PREFIX: &str = "w";
/// A temporary directory without a lock belongs to a process that is starting, unless it is older than this.
const STARTING: Duration = Duration::from_mins(10);

/// What a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundLayout {
    /// Empty, or as good as that.
    New,
    /// A cache of this layout.
    Current,
    /// A cache of an earlier layout.
    Older,
}

/// The directory of this process below `tmp`: removed when this is dropped, or by another process once this one died.
pub(super) struct Workspace {
    directory: TempDir,
    _lock: File,
}

impl Workspace {
    /// Makes one, and holds its lock. A sweep of another process may come between the two; then it is made again.
    fn create(root: &Path) -> io::Result<Self> {
        loop {
            let directory = tempfile::Builder::new().prefix(WORKSPACE_PREFIX).tempdir_in(root.join(TEMPORARY))?;
            let lock = match File::create_new(directory.path().join(LOCK)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && root.join(TEMPORARY).is_dir() => continue,
                outcome => outcome?,
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if lock.metadata()?.nlink() > 0 => return Ok(Self { directory, _lock: lock }),
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A new file.
    pub(super) fn file(directory: &Path) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix("f").tempfile_in(directory)
    }

    /// Writes a file that must survive a crash, under a name that shows it only when it is complete.
    pub(super) fn write_synced(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = Self::file(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_data()?;
        match file.persist(path) {
            Err(failed) if failed.error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                failed.file.persist(path)
            }
            outcome => outcome,
        }
        .map_err(|failed| failed.error)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }
}

/// What the directory is. One that is neither a cache of this or an earlier layout nor as good as empty is an error.
pub(super) fn examine(root: &Path) -> io::Result<FoundLayout> {
    let first = examine_once(root);
    // Another process may have made a cache of it between the look at `format` and the look at the rest.
    if first.is_err() { examine_once(root) } else { first }
}

fn examine_once(root: &Path) -> io::Result<FoundLayout> {
    let found = match open_file(root, Path::new(FORMAT_FILE)) {
        Ok(file) => io::read_to_string(io::Read::take(file, 1024)).unwrap_or_else(|_| "?".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let version = found.strip_prefix(FORMAT_PREFIX).and_then(|rest| rest.strip_suffix('\n')?.parse::<u32>().ok());
    let shown = root.display();
    match version {
        Some(VERSION) => Ok(FoundLayout::Current),
        Some(older) if older < VERSION => Ok(FoundLayout::Older),
        Some(_) if sabotaged("later-layout") => Ok(FoundLayout::Current),
        Some(newer) => Err(refusal(format!(
            "{shown} is the cache of a later version of Wheelport (layout {newer}; this version knows {VERSION}); only \
             that version can use it or clear it"
        ))),
        None if sabotaged("foreign-directory") => Ok(FoundLayout::New),
        None if is_unfinished(&found) && is_as_good_as_empty(root)? => Ok(FoundLayout::New),
        None => Err(refusal(format!(
            "{shown} is not empty and not a cache directory of Wheelport; nothing in it was touched"
        ))),
    }
}

/// Whether a crash of an earlier version may have left `format` like this: it wrote the file in place.
fn is_unfinished(format: &str) -> bool {
    let is_number = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    format.bytes().all(|byte| byte == 0)
        || FORMAT_PREFIX.starts_with(format)
        || format.strip_prefix(FORMAT_PREFIX).is_some_and(is_number)
}

/// Whether the directory holds nothing but empty directories of ours and what a new volume brings.
fn is_as_good_as_empty(root: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (name, path, kind) = (entry.file_name(), entry.path(), entry.file_type()?);
        let of_volume = name == "lost+found" || name.as_encoded_bytes().starts_with(b".");
        let is_empty_part = || kinds().any(|part| name == part) && holds_no_file(&path);
        let is_tmp = || name == TEMPORARY && holds_only_workspaces(&path);
        if !(of_volume || name == FORMAT_FILE || kind.is_dir() && (is_empty_part() || is_tmp())) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The directories that this layout and earlier ones have, without `tmp`.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    EVICTABLE.into_iter().chain(LASTING).chain([FORMER])
}

fn holds_no_file(directory: &Path) -> bool {
    entries(directory).all(|(path, kind)| kind.is_dir() && holds_no_file(&path))
}

fn holds_only_workspaces(directory: &Path) -> bool {
    let is_ours =
        |path: PathBuf| entries(&path).all(|(path, kind)| kind.is_file() && is_workspace_file(path.file_name()));
    entries(directory).all(|(path, kind)| kind.is_dir() && is_workspace(path.file_name()) && is_ours(path))
}

/// The entries of a directory and what they are; a symbolic link is itself. Skips what cannot be read.
fn entries(directory: &Path) -> impl Iterator<Item = (PathBuf, fs::FileType)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.file_type().ok()?)))
}

fn is_workspace(name: Option<&OsStr>) -> bool {
    let rest = name.and_then(OsStr::to_str).and_then(|name| name.strip_prefix(WORKSPACE_PREFIX));
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn is_workspace_file(name: Option<&OsStr>) -> bool {
    name.is_some_and(|name| name == LOCK || name.as_encoded_bytes().starts_with(b"f"))
}

/// Makes the directory a cache of this layout, removes what processes that died left in it, and gives this process its
/// own part of it. Doing that twice changes nothing, also when the first time ended in the middle.
pub(super) fn prepare(root: &Path, now: SystemTime) -> io::Result<Workspace> {
    let found = examine(root)?;
    for part in EVICTABLE.into_iter().chain(LASTING).chain([TEMPORARY]) {
        make_directory(&root.join(part))?;
    }
    remove_abandoned(&root.join(TEMPORARY), now)?;
    let workspace = Workspace::create(root)?;
    if found == FoundLayout::Older && !sabotaged("older-layout") {
        move_records(root, &workspace)?;
    }
    if found != FoundLayout::Current {
        let format = format!("{FORMAT_PREFIX}{VERSION}\n");
        Workspace::write_synced(workspace.path(), &root.join(FORMAT_FILE), format.as_bytes())?;
    }
    Ok(workspace)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() || sabotaged("linked-directory") => Ok(()),
        Ok(_) => Err(refusal(format!("{} is not a directory, or a symbolic link; remove it", path.display()))),
        Err(_) => fs::create_dir_all(path),
    }
}

/// Brings the records of an earlier layout into this one. Files stay as they are. Pages, core metadata and links had
/// no checksums; they are made again. What was published a moment ago cannot be made again and gets its envelope.
fn move_records(root: &Path, workspace: &Workspace) -> io::Result<()> {
    tracing::info!(dir = %root.display(), "moving the cache to a new layout: files stay, pages are fetched again");
    for part in EVICTABLE.into_iter().chain([FORMER]).filter(|part| *part != BLOBS) {
        let directory = root.join(part);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ if part == FORMER => {}
            _ => fs::create_dir_all(&directory)?,
        }
    }
    for (path, kind) in entries(&root.join(PUBLISHED)).collect::<Vec<_>>() {
        let Some(name) = path.file_name().filter(|_| kind.is_file()) else { continue };
        let (relative, bytes) = (Path::new(PUBLISHED).join(name), fs::read(&path)?);
        if envelope::open(&relative, bytes.clone()).is_none() {
            Workspace::write_synced(workspace.path(), &path, &envelope::seal(&relative, &bytes))?;
        }
    }
    Ok(())
}

/// Removes the temporary directories of processes that died: their locks are free.
fn remove_abandoned(directory: &Path, now: SystemTime) -> io::Result<()> {
    if sabotaged("sweep") {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let is_ours = is_workspace(path.file_name()) || sabotaged("sweep-names");
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || !is_ours {
            continue;
        }
        match open_below(&path.join(LOCK)) {
            Ok(lock) if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() || sabotaged("sweep-locks") => {
                let _ = fs::remove_dir_all(&path);
            }
            Ok(_) => {}
            // Its owner is between creating the directory and the lock, or died there.
            Err(_) => {
                let modified = entry.metadata().and_then(|metadata| metadata.modified());
                if modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > STARTING)) {
                    let _ = fs::remove_dir(&path);
                }
            }
        }
    }
    Ok(())
}

/// Whether other processes use the directory, or died in it.
pub(super) fn is_shared(root: &Path) -> bool {
    entries(&root.join(TEMPORARY)).filter(|(path, kind)| kind.is_dir() && is_workspace(path.file_name())).count() > 1
}

/// Visits every regular file below a directory. Skips symbolic links and what cannot be read, and collects nothing:
/// counting needs no memory for a million names.
pub(super) fn walk(directory: &Path, visit: &mut impl FnMut(PathBuf, fs::Metadata)) {
    if !fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir()) {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            walk(&entry.path(), visit);
        } else if metadata.is_file() {
            visit(entry.path(), metadata);
        }
    }
}

/// Opens a regular file of the cache for reading. A symbolic link on the way below `root`, or anything else in place of
/// the file, is an error.
pub(super) fn open_file(root: &Path, relative: &Path) -> io::Result<File> {
    let path = root.join(relative);
    // Of each wheel of a new page is asked what is known of it, which is nothing mostly: one call instead of one for
    // each directory above it.
    if let Err(error) = fs::symlink_metadata(&path)
        && error.kind() == io::ErrorKind::NotFound
    {
        return Err(error);
    }
    real_parents(root, relative)?;
    open_below(&path)
}

/// Makes sure that no directory between `root` and the file is a symbolic link.
pub(super) fn real_parents(root: &Path, relative: &Path) -> io::Result<()> {
    for parent in relative.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        let is_other = fs::symlink_metadata(root.join(parent)).is_ok_and(|found| !found.is_dir());
        if is_other && !sabotaged("linked-parent") {
            return Err(refusal(format!("{} is not a directory of the cache", root.join(parent).display())));
        }
    }
    Ok(())
}

fn open_below(path: &Path) -> io::Result<File> {
    // A named pipe must not keep its reader waiting.
    let links = if sabotaged("linked-file") { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = (links | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    if file.metadata()?.is_file() || sabotaged("regular-file") {
        Ok(file)
    } else {
        Err(refusal(format!("{} is not a regular file", path.display())))
    }
}

fn refusal(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The path of a content-addressed file: a directory of two digits, then the rest.
pub(super) fn addressed(kind: &str, digest: &impl ToString) -> PathBuf {
    let hex = digest.to_string();
    let (shard, rest) = hex.split_at(2);
    [kind, shard, rest].iter().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use wheelport_runtime::Clock;

    fn now() -> SystemTime {
        Clock::system().now()
    }

    fn prepare_now(root: &Path) -> io::Result<Workspace> {
        prepare(root, now())
    }

    fn refused(root: &Path) -> String {
        prepare_now(root).err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn write(path: &Path, bytes: &str) -> io::Result<()> {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, bytes)
    }

    /// Every file and link below a directory, with what it holds or leads to.
    fn contents(root: &Path) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        for (path, kind) in entries(root) {
            if kind.is_dir() {
                found.push((path.clone(), String::new()));
                found.extend(contents(&path));
            } else if kind.is_symlink() {
                found.push((path.clone(), fs::read_link(&path).unwrap_or_default().display().to_string()));
            } else {
                found.push((path.clone(), fs::read_to_string(&path).unwrap_or_default()));
            }
        }
        found.sort_unstable();
        found
    }

    #[test]
    fn workspaces_of_dead_processes_are_removed_and_those_of_live_ones_stay() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let alive = prepare_now(root.path())?;
        let dead = root.path().join("tmp/wdead01");
        write(&dead.join("lock"), "")?;
        write(&dead.join("f1"), "half a wheel")?;
        let _second = prepare_now(root.path())?;
        assert!(!dead.exists());
        assert!(alive.path().exists());
        Ok(())
    }

    #[test]
    fn a_workspace_without_a_lock_is_removed_once_it_is_old() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let unlocked = root.path().join("tmp/wstart1");
        fs::create_dir_all(&unlocked)?;
        let _first = prepare_now(root.path())?;
        assert!(unlocked.exists(), "its process may be starting");
        let _second = prepare(root.path(), now() + STARTING * 2)?;
        assert!(!unlocked.exists());
        Ok(())
    }

    #[test]
    fn the_sweep_leaves_what_does_not_bear_our_name() -> io::Result<()> {
        let (root, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
        drop(prepare_now(root.path())?);
        write(&elsewhere.path().join("lock"), "")?;
        for kept in ["mine/lock", "w-mine/lock", "w/lock", "wfile"] {
            write(&root.path().join("tmp").join(kept), "")?;
        }
        symlink(elsewhere.path(), root.path().join("tmp/wlinked"))?;
        let before = contents(&root.path().join("tmp"));
        drop(prepare(root.path(), now() + STARTING * 2)?);
        assert_eq!(contents(&root.path().join("tmp")), before);
        assert!(elsewhere.path().join("lock").exists());
        Ok(())
    }

    #[test]
    fn a_directory_that_is_no_cache_is_refused_and_not_touched() -> io::Result<()> {
        for foreign in ["thesis.txt", "tmp/lock", "tmp/build/lock", "tmp/wfolder/thesis.txt", "blobs/ab/cd", "pages/x"]
        {
            for format in [None, Some(""), Some("wheelport ca"), Some("something else\n")] {
                let root = tempfile::tempdir()?;
                write(&root.path().join(foreign), "precious")?;
                if let Some(format) = format {
                    write(&root.path().join("format"), format)?;
                }
                let before = contents(root.path());
                let text = refused(root.path());
                assert!(text.contains("not a cache directory"), "{foreign} {format:?}: {text}");
                assert_eq!(contents(root.path()), before, "{foreign} {format:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_a_crash_at_the_first_start_or_a_new_volume_leaves_is_a_new_cache() -> io::Result<()> {
        for format in ["", "\0\0\0", "wheelport ca", "wheelport cache ", "wheelport cache 3"] {
            let root = tempfile::tempdir()?;
            write(&root.path().join("format"), format)?;
            write(&root.path().join(".Trash-0/file"), "of the desktop")?;
            write(&root.path().join("lost+found/file"), "of the volume")?;
            write(&root.path().join("tmp/wabc123/lock"), "")?;
            write(&root.path().join("tmp/wabc123/fxyz"), "wheelport")?;
            fs::create_dir_all(root.path().join("blobs/ab"))?;
            drop(prepare_now(root.path())?);
            assert_eq!(fs::read_to_string(root.path().join("format"))?, "wheelport cache 3\n");
            assert!(root.path().join("lost+found/file").exists() && root.path().join(".Trash-0/file").exists());
        }
        let root = tempfile::tempdir()?;
        drop(prepare_now(&root.path().join("is/made"))?);
        assert_eq!(examine(&root.path().join("is/made"))?, FoundLayout::Current);
        Ok(())
    }

    #[test]
    fn the_cache_of_a_later_version_is_refused_and_not_touched() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        write(&root.path().join("format"), "wheelport cache 4\n")?;
        write(&root.path().join("tmp/wabc123/lock"), "")?;
        write(&root.path().join("shelves/ab/cd"), "of the future")?;
        let before = contents(root.path());
        assert!(refused(root.path()).contains("a later version of Wheelport"));
        assert_eq!(contents(root.path()), before);
        Ok(())
    }

    #[test]
    fn a_symbolic_link_in_place_of_a_directory_is_never_followed() -> io::Result<()> {
        for part in ["tmp", "blobs", "published"] {
            for is_cache in [true, false] {
                let (root, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
                write(&elsewhere.path().join("wabc123/lock"), "")?;
                if is_cache {
                    drop(prepare_now(root.path())?);
                    fs::remove_dir(root.path().join(part))?;
                }
                symlink(elsewhere.path(), root.path().join(part))?;
                assert!(!refused(root.path()).is_empty(), "{part} {is_cache}");
                assert!(elsewhere.path().join("wabc123/lock").exists());
            }
        }
        Ok(())
    }

    #[test]
    fn only_regular_files_in_real_directories_are_opened() -> io::Result<()> {
        let (root, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
        write(&elsewhere.path().join("cd"), "foreign")?;
        write(&root.path().join("blobs/ab/cd"), "ours")?;
        symlink(elsewhere.path().join("cd"), root.path().join("blobs/ab/link"))?;
        symlink(elsewhere.path(), root.path().join("blobs/aa"))?;
        let opens = |relative: &str| open_file(root.path(), Path::new(relative)).is_ok();
        assert!(opens("blobs/ab/cd"));
        assert!(!opens("blobs/ab/link") && !opens("blobs/aa/cd") && !opens("blobs/ab"));
        Ok(())
    }

    /// A directory as the versions of an earlier layout left it.
    fn earlier(root: &Path, version: u32) -> io::Result<()> {
        let metadata = if version == 1 { FORMER } else { "metadata" };
        write(&root.join("format"), &format!("wheelport cache {version}\n"))?;
        write(&root.join("blobs/ab/cdef"), "a wheel")?;
        write(&root.join("pages/acme-0123456789abcdef/hello"), "a page without a checksum")?;
        write(&root.join("pages/acme-0123456789abcdef/_list"), "a list")?;
        write(&root.join(metadata).join("ab/cdef"), "none\n")?;
        write(&root.join("links/ab/cdef"), &"ab".repeat(32))?;
        write(&root.join("tmp/wabc123/lock"), "")?;
        write(&root.join("tmp/wabc123/fxyz"), "half a wheel")?;
        if version == 2 {
            write(&root.join("published/acme~hello"), "{}")?;
        }
        Ok(())
    }

    #[test]
    fn the_caches_of_earlier_versions_are_moved() -> io::Result<()> {
        for version in [1, 2] {
            let root = tempfile::tempdir()?;
            earlier(root.path(), version)?;
            assert_eq!(examine(root.path())?, FoundLayout::Older);
            drop(prepare_now(root.path())?);
            assert_eq!(examine(root.path())?, FoundLayout::Current);
            let files: Vec<_> = contents(root.path()).into_iter().filter(|(path, _)| path.is_file()).collect();
            let published = Path::new("published/acme~hello");
            let mut expected = vec![
                (root.path().join("blobs/ab/cdef"), "a wheel".to_owned()),
                (root.path().join("format"), "wheelport cache 3\n".to_owned()),
            ];
            if version == 2 {
                let sealed = envelope::seal(published, b"{}");
                expected.push((root.path().join(published), String::from_utf8_lossy(&sealed).into_owned()));
            }
            assert_eq!(files, expected);
            assert!(!root.path().join(FORMER).exists());
        }
        Ok(())
    }

    #[test]
    fn a_move_that_ended_in_the_middle_goes_on_at_the_next_start() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        earlier(root.path(), 2)?;
        drop(prepare_now(root.path())?);
        let moved = contents(root.path());
        fs::write(root.path().join("format"), "wheelport cache 2\n")?;
        drop(prepare_now(root.path())?);
        assert_eq!(contents(root.path()), moved, "an envelope is not put into another one");
        Ok(())
    }
}

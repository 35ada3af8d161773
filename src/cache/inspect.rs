//! Looking at a cache directory from outside: count, verify, empty. Works beside a running proxy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blob::Blob;
use super::blob_check::BlobCheck;
use super::disk::is_damage;
use super::envelope;
use super::layout::{self, ADVISORIES, BLOBS, EVICTABLE, FIRST_SEEN, FoundLayout, GRANTED, LASTING, SAVINGS, USAGE};
use wheelport_index::Sha256;

/// The files of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindStats {
    /// `blobs`, `pages`, `metadata`, `links` or `first-seen`.
    pub kind: &'static str,
    /// The number of files.
    pub files: u64,
    /// The size of all of them.
    pub bytes: u64,
}

/// What [`verify`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The number of files whose bytes are what they should be.
    pub good: u64,
    /// Files whose bytes were not, or could not be read, and that were removed.
    pub damaged: Vec<PathBuf>,
}

/// What a file of the cache turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    Good,
    Damaged,
    /// It was removed meanwhile, or cannot be judged by this user.
    Unknown,
}

/// Counts the files of a cache directory. Blocking.
pub fn stats(root: &Path) -> io::Result<Vec<KindStats>> {
    examine(root)?;
    let count = |kind| {
        let (mut files, mut bytes) = (0, 0);
        layout::walk(&root.join(kind), &mut |_, metadata| {
            files += 1;
            bytes += metadata.len();
        });
        KindStats { kind, files, bytes }
    };
    Ok(EVICTABLE.into_iter().chain([FIRST_SEEN]).map(count).collect())
}

/// Reads every stored file and record, and removes those whose bytes are not what their name or envelope says, and
/// those that cannot be read. Blocking. Records of an earlier layout say nothing and are left alone.
pub fn verify(root: &Path) -> io::Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let kinds = match examine(root)? {
        FoundLayout::Older => vec![BLOBS],
        FoundLayout::New | FoundLayout::Current => EVICTABLE.into_iter().chain(LASTING).collect(),
    };
    for path in kinds.into_iter().flat_map(|kind| files(root, kind)) {
        match judge(root, &path) {
            FileState::Good => report.good += 1,
            FileState::Unknown => {}
            FileState::Damaged => {
                fs::remove_file(root.join(&path))?;
                report.damaged.push(root.join(path));
            }
        }
    }
    Ok(report)
}

/// Whether a process that serves would use the directory: the error says why not. `true` if it would have to move what
/// is there to this layout first. Blocking.
pub fn is_outdated(root: &Path) -> io::Result<bool> {
    Ok(layout::examine(root)? == FoundLayout::Older)
}

/// Removes all files of a cache directory. Blocking. Returns how many were removed. The directory stays a cache, so a
/// running proxy goes on. What files were when they were first seen is recorded nowhere else, and goes only
/// `with_first_seen`. What operators granted and what was downloaded is no cache, and stays.
pub fn clear(root: &Path, with_first_seen: bool) -> io::Result<u64> {
    examine(root)?;
    let mut removed = 0;
    let stays =
        |kind: &str| [GRANTED, SAVINGS, USAGE, ADVISORIES].contains(&kind) || (kind == FIRST_SEEN && !with_first_seen);
    let kinds = layout::kinds().filter(|kind| !stays(kind));
    for path in kinds.flat_map(|kind| files(root, kind)) {
        match fs::remove_file(root.join(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            outcome => removed += u64::from(outcome.is_ok()),
        }
    }
    Ok(removed)
}

fn examine(root: &Path) -> io::Result<FoundLayout> {
    match layout::examine(root)? {
        FoundLayout::New => {
            let text = format!("{} is not a cache directory of Wheelport", root.display());
            Err(io::Error::new(io::ErrorKind::NotFound, text))
        }
        found => Ok(found),
    }
}

/// The files of one kind, below the root, in order.
fn files(root: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    layout::walk(&root.join(kind), &mut |path, _| found.extend(path.strip_prefix(root).ok().map(Path::to_owned)));
    found.sort_unstable();
    found
}

fn judge(root: &Path, relative: &Path) -> FileState {
    let outcome = if relative.starts_with(BLOBS) { check_blob(root, relative) } else { check_record(root, relative) };
    match outcome {
        Ok(()) => FileState::Good,
        Err(error) if is_damage(&error) => FileState::Damaged,
        Err(_) => FileState::Unknown,
    }
}

fn check_record(root: &Path, relative: &Path) -> io::Result<()> {
    let record = io::BufReader::new(layout::open_file(root, relative)?);
    envelope::check(relative, record)?.map(drop).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn check_blob(root: &Path, relative: &Path) -> io::Result<()> {
    let blob = open_blob(root, relative)?;
    let mut check = BlobCheck::begin(&blob)?;
    while !check.is_complete() {
        check.advance()?;
    }
    check.conclude().map(drop)
}

/// Opens a stored file under the digest that its path says. A path that says none is an error, as damage is.
pub(super) fn open_blob(root: &Path, relative: &Path) -> io::Result<Blob> {
    let hex: String = relative.iter().skip(1).map(|part| part.to_string_lossy()).collect();
    let sha256: Sha256 = hex.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let file = layout::open_file(root, relative)?;
    let length = file.metadata()?.len();
    Ok(Blob::found(Arc::new(file), length, sha256, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Blobs, CoreMetadataRecord, Disk, Expected, MetadataStore, PersistedIndex};
    use bytes::Bytes;
    use wheelport_index::Hashes;
    use wheelport_runtime::Clock;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    /// One of each kind.
    fn fill(root: &Path) -> Outcome {
        let disk = Disk::open(root, 1 << 20, Clock::system())?;
        let blobs = Blobs::new(Arc::clone(&disk));
        for content in [b"good".as_slice(), b"soon bad"] {
            let mut hashes = Hashes::default();
            hashes.insert("sha256", &Sha256::of(content).to_string());
            let mut partial = blobs.begin(None, &hashes)?;
            partial.write(&[Bytes::from_static(content)], drop)?;
            partial.verify(&Expected { length: None, hashes })?.commit()?;
        }
        blobs.link(Sha256::of(b"name"), Sha256::of(b"good"))?;
        MetadataStore::new(Arc::clone(&disk)).put(Sha256::of(b"good"), &CoreMetadataRecord::Absent)?;
        PersistedIndex::new(Arc::clone(&disk), Clock::system()).persist(Path::new("pages/repo/hello"), &1)?;
        disk.write_lasting(Path::new("published/repo~hello"), b"{}")?;
        disk.write_lasting(Path::new("first-seen/repo/hello"), b"{}")?;
        disk.write_lasting(Path::new("usage/2026-11-28/00000000000000ab"), b"a record")?;
        Ok(())
    }

    #[test]
    fn damage_of_every_kind_is_found_and_healed_by_removal() -> Outcome {
        let root = tempfile::tempdir()?;
        fill(root.path())?;
        assert_eq!(verify(root.path())?, VerifyReport { good: 8, damaged: Vec::new() });
        let kinds = || EVICTABLE.into_iter().chain(LASTING);
        let mut damaged = Vec::new();
        for path in kinds().filter_map(|kind| files(root.path(), kind).pop()) {
            let path = root.path().join(path);
            let mut bytes = fs::read(&path)?;
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(&path, bytes)?;
            damaged.push(path);
        }
        assert_eq!(damaged.len(), 7);
        assert_eq!(verify(root.path())?, VerifyReport { good: 1, damaged });
        assert_eq!(verify(root.path())?, VerifyReport { good: 1, damaged: Vec::new() });
        Ok(())
    }

    #[test]
    fn a_cleared_directory_stays_a_cache_and_can_be_cleared_again_while_it_is_used() -> Outcome {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1 << 20, Clock::system())?;
        for _ in 0..2 {
            fill(root.path())?;
            assert_eq!(clear(root.path(), false)?, 6);
            assert_eq!(clear(root.path(), false)?, 0);
            assert_eq!(files(root.path(), FIRST_SEEN).len(), 1, "kept unless it is named");
            assert_eq!(files(root.path(), USAGE).len(), 1, "no cache");
            assert_eq!(clear(root.path(), true)?, 1);
            assert!(stats(root.path())?.iter().all(|kind| kind.files == 0));
            disk.write_record(Path::new("pages/repo/hello"), b"a page")?;
            assert_eq!(clear(root.path(), false)?, 1);
        }
        drop(disk);
        Disk::open(root.path(), 1 << 20, Clock::system())?;
        Ok(())
    }

    #[test]
    fn a_directory_that_is_no_cache_is_left_alone() -> io::Result<()> {
        for format in [None, Some("wheelport cache 4\n"), Some("mine\n")] {
            let root = tempfile::tempdir()?;
            fs::create_dir_all(root.path().join("blobs"))?;
            fs::write(root.path().join("blobs/mine"), "precious")?;
            format.map_or(Ok(()), |format| fs::write(root.path().join("format"), format))?;
            assert!(clear(root.path(), true).is_err() && verify(root.path()).is_err() && stats(root.path()).is_err());
            assert!(root.path().join("blobs/mine").exists());
        }
        let empty = tempfile::tempdir()?;
        assert!(clear(empty.path(), true).is_err());
        Ok(())
    }

    #[test]
    fn records_of_an_earlier_layout_are_not_taken_for_damaged() -> Outcome {
        let root = tempfile::tempdir()?;
        fill(root.path())?;
        fs::write(root.path().join("format"), "wheelport cache 2\n")?;
        fs::write(root.path().join("pages/repo/hello"), "without an envelope")?;
        assert_eq!(verify(root.path())?, VerifyReport { good: 2, damaged: Vec::new() });
        assert_eq!(clear(root.path(), false)?, 6);
        Ok(())
    }
}

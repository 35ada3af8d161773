//! Files on disk, by the SHA-256 of their bytes: look up, write, verify, commit.
//!
//! A blob exists only after its length and digest were verified. What this process has not written or read completely
//! yet, or not for a day, is checked again before all of it is served: a small file when it is opened, a larger one on
//! its way (`blob_check.rs`).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::blob::{Blob, Complete, Expected, Mismatch};
use super::blob_check::BlobCheck;
use super::buffer_pool::BufferPool;
use super::checks::{Check, Stamp};
use super::disk::{Disk, is_damage};
use super::layout::{BLOBS, addressed};
use super::space::{Reservation, StorageError};
use wheelport_index::{Hashed, Hasher};
use wheelport_index::{Hashes, Sha256};
use wheelport_runtime::sabotaged;

/// How far ahead of the bytes that have come space is reserved for a file, in bytes: at first, and at most.
const FIRST_RESERVE: u64 = 1 << 20;
const LARGEST_RESERVE: u64 = 64 << 20;
/// Files up to this size, in bytes, are checked when they are opened; larger ones while they are read.
const CHECK_AT_ONCE: u64 = 1 << 20;

/// The files of the cache. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    disk: Arc<Disk>,
    buffers: BufferPool,
}

impl Blobs {
    /// The files of a cache directory.
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk, buffers: BufferPool::default() }
    }

    /// The same files, read through this much memory.
    #[must_use]
    pub fn with_buffers(self, bytes: u64) -> Self {
        Self { buffers: BufferPool::new(bytes), ..self }
    }

    /// The memory that files are read through.
    pub fn buffers(&self) -> BufferPool {
        self.buffers.clone()
    }

    /// Opens a file if the cache has it, and marks it as used. Blocking: a small file that was not checked is read.
    ///
    /// A file of another length than `length` is damaged: it is removed and counts as missing.
    pub fn get(&self, sha256: Sha256, length: Option<u64>) -> Option<Blob> {
        let blob = self.find(sha256, length)?;
        if !blob.is_verified() && blob.length <= CHECK_AT_ONCE && !sabotaged("small-file-check") {
            self.check(&blob).ok()?;
        }
        if blob.is_verified() {
            self.disk.space().open_files().insert(blob.clone());
        }
        Some(blob)
    }

    /// As [`Blobs::get`], for readers that need the content to be right before they begin. Blocking, and may take as
    /// long as reading all of the file.
    pub fn get_verified(&self, sha256: Sha256, length: Option<u64>) -> Option<Blob> {
        let blob = self.get(sha256, length)?;
        if !blob.is_verified() && !sabotaged("metadata-check") {
            self.check(&blob).ok()?;
        }
        Some(blob)
    }

    /// Whether the cache has a file, which is neither opened nor marked as used. Blocking.
    pub fn has(&self, sha256: Sha256) -> bool {
        self.disk.unused_for(&addressed(BLOBS, &sha256)).is_some()
    }

    fn find(&self, sha256: Sha256, length: Option<u64>) -> Option<Blob> {
        let relative = addressed(BLOBS, &sha256);
        let file = self.disk.open_file(&relative).ok()?;
        let used = self.disk.space().mark_used(&file).ok()?;
        let found = used.before.len();
        if let Some(length) = length.filter(|length| *length != found && !sabotaged("stored-length")) {
            self.disk.discard(&relative, &Mismatch::Length { expected: length, found });
            return None;
        }
        let check = self.disk.checks().get(&sha256).filter(|check| check.holds(Stamp::of(&used.before)));
        let blob = Blob::found(Arc::new(file), found, sha256, check);
        if let (Some(check), Some(after)) = (check, used.after) {
            self.set_checked(&blob, check.restamped(Stamp::of(&after)));
        }
        Some(blob)
    }

    /// As [`Blobs::get`], for a file that is open already: one system call that never waits for a disk.
    ///
    /// `None` if the file is not open, has to be checked first, or was removed or changed since; then [`Blobs::get`]
    /// decides.
    pub fn get_open(&self, sha256: Sha256, length: Option<u64>) -> Option<Blob> {
        let open_files = self.disk.space().open_files();
        let blob = open_files.get(&sha256)?;
        let used = self.disk.space().mark_used(&blob.file).ok().filter(|used| used.before.nlink() > 0);
        let check = used.as_ref().and_then(|used| blob.check(Stamp::of(&used.before)));
        let (Some(used), Some(check)) = (used, check) else {
            open_files.close(&sha256);
            return None;
        };
        if let Some(after) = used.after {
            self.set_checked(&blob, check.restamped(Stamp::of(&after)));
        }
        length.is_none_or(|length| length == blob.length).then_some(blob)
    }

    /// Reads all of a file and checks it. Blocking. A damaged file is removed, and is an error.
    fn check(&self, blob: &Blob) -> io::Result<()> {
        let mut check = BlobCheck::begin(blob)?;
        while !check.is_complete() {
            check.advance().inspect_err(|error| self.discard(blob, error))?;
        }
        self.conclude(check)
    }

    /// Takes note of a check that came to the end of its file. Blocking. A damaged file is removed, and is an error.
    pub fn conclude(&self, check: BlobCheck) -> io::Result<()> {
        let blob = check.blob().clone();
        let stamp = check.conclude().inspect_err(|error| self.discard(&blob, error))?;
        self.set_checked(&blob, Check::now(stamp));
        Ok(())
    }

    fn set_checked(&self, blob: &Blob, check: Check) {
        blob.set_checked(check);
        self.disk.checks().put(blob.sha256, check);
    }

    /// Removes a damaged file, unless another one has taken its place since. Blocking. Errors that say nothing about
    /// its content remove nothing.
    pub fn discard(&self, blob: &Blob, error: &io::Error) {
        self.disk.space().open_files().close(&blob.sha256);
        self.disk.checks().remove(&blob.sha256);
        let relative = addressed(BLOBS, &blob.sha256);
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let stored = fs::symlink_metadata(self.disk.root().join(&relative)).map(identity).ok();
        let is_same = stored == blob.file.metadata().map(identity).ok() || sabotaged("discard-same");
        if (is_damage(error) || sabotaged("discard-damage")) && stored.is_some() && is_same && !sabotaged("discard") {
            self.disk.discard(&relative, error);
        }
    }

    /// Begins to write a file. Blocking. Space is reserved as its bytes come, whatever length it claims.
    pub fn begin(&self, length: Option<u64>, hashes: &Hashes) -> Result<PartialBlob, StorageError> {
        let space = self.disk.space();
        space.fits(length.unwrap_or(0))?;
        let reservation = space.reserve(first_reserve(length, space.limit()))?;
        Ok(self.begin_in(reservation, length, hashes)?)
    }

    /// As [`Blobs::begin`], but evicts nothing: for a file that upstream may not deliver after all.
    pub fn try_begin(&self, length: u64, hashes: &Hashes) -> Option<PartialBlob> {
        let space = self.disk.space();
        space.fits(length).ok()?;
        let reservation = space.try_reserve(first_reserve(Some(length), space.limit()))?;
        self.begin_in(reservation, Some(length), hashes).ok()
    }

    fn begin_in(&self, reservation: Reservation, length: Option<u64>, hashes: &Hashes) -> io::Result<PartialBlob> {
        let temporary = self.disk.temporary()?;
        let readers = Arc::new(temporary.reopen()?);
        let hasher = Hasher::new(hashes.besides_sha256());
        Ok(PartialBlob { blobs: self.clone(), temporary, readers, hasher, written: 0, length, reservation })
    }

    /// The SHA-256 recorded under `key` by [`Blobs::link`]. Blocking.
    pub fn linked(&self, key: Sha256) -> Option<Sha256> {
        let bytes = self.disk.read_record(&addressed("links", &key)).ok()?;
        std::str::from_utf8(&bytes).ok()?.parse().ok()
    }

    /// Records the SHA-256 of a file for which the index names another digest only. Blocking.
    pub fn link(&self, key: Sha256, sha256: Sha256) -> io::Result<()> {
        self.disk.write_record(&addressed("links", &key), sha256.to_string().as_bytes())
    }
}

/// What is reserved before a file's first byte has come.
fn first_reserve(length: Option<u64>, limit: u64) -> u64 {
    let claimed = length.unwrap_or(u64::MAX);
    if sabotaged("claimed-length") { claimed.min(limit) } else { FIRST_RESERVE.min(limit / 16).min(claimed) }
}

/// A file that is being written. Dropping it leaves nothing behind.
pub struct PartialBlob {
    blobs: Blobs,
    temporary: NamedTempFile,
    readers: Arc<File>,
    hasher: Hasher,
    written: u64,
    length: Option<u64>,
    reservation: Reservation,
}

/// A complete file that was verified, not yet committed.
pub struct VerifiedBlob {
    blobs: Blobs,
    temporary: NamedTempFile,
    readers: Arc<File>,
    length: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Sha256,
    /// Whether the index names a digest and the bytes have it. A file without one must not be committed.
    pub proven: bool,
    _reservation: Reservation,
}

impl PartialBlob {
    /// Appends chunks. Blocking. Calls `written` with the new length before it hashes the chunks, so that readers need
    /// not wait for the hash.
    pub fn write(&mut self, chunks: &[Bytes], written: impl FnOnce(u64)) -> Result<(), StorageError> {
        chunks.iter().try_for_each(|chunk| self.append(chunk))?;
        written(self.written);
        for chunk in chunks {
            self.hasher.update(chunk);
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let after = self.written + bytes.len() as u64;
        if after > self.reservation.size() {
            let reserved = self.reservation.size();
            // As much again as has come, but no more than the file is going to have.
            let largest = LARGEST_RESERVE.min(self.blobs.disk.space().limit() / 16);
            let ahead = self.written.clamp(FIRST_RESERVE.min(largest), largest);
            let until = self.length.map_or(u64::MAX, |length| length.max(after)).min(reserved + ahead).max(after);
            self.reservation.grow(until - reserved)?;
        }
        self.temporary.as_file_mut().write_all(bytes)?;
        self.written = after;
        Ok(())
    }

    /// The number of bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The file for readers while it grows. They must not read past what was written.
    pub fn readers(&self) -> Arc<File> {
        Arc::clone(&self.readers)
    }

    /// Checks length and digests.
    pub fn verify(self, expected: &Expected) -> Result<VerifiedBlob, Mismatch> {
        if let Some(length) = expected.length.filter(|length| *length != self.written) {
            return Err(Mismatch::Length { expected: length, found: self.written });
        }
        let hashed: Hashed = self.hasher.finish();
        let agrees = hashed.agrees_with(&expected.hashes);
        let proven = match agrees.filter(|agrees| *agrees || !sabotaged("digest-check")) {
            Some(false) => return Err(Mismatch::Digest { found: hashed.sha256 }),
            Some(true) => true,
            None => false,
        };
        Ok(VerifiedBlob {
            blobs: self.blobs,
            temporary: self.temporary,
            readers: self.readers,
            length: self.written,
            sha256: hashed.sha256,
            proven,
            _reservation: self.reservation,
        })
    }
}

impl VerifiedBlob {
    /// The file as its readers see it.
    pub fn complete(&self) -> Complete {
        Complete { length: self.length, sha256: self.sha256, proven: self.proven }
    }

    /// The open file, before or without committing it.
    pub fn blob(&self) -> Blob {
        Blob::new(Arc::clone(&self.readers), self.length, self.sha256)
    }

    /// Syncs the file and gives it its name. Blocking. A failed sync is not repeated: the file is dropped.
    ///
    /// The file stays open, so a request right after the download finds it without asking the disk.
    pub fn commit(self) -> io::Result<()> {
        self.temporary.as_file().sync_data()?;
        let blob = self.blob();
        self.blobs.disk.commit(self.temporary, &addressed(BLOBS, &self.sha256))?;
        self.blobs.set_checked(&blob, Check::now(Stamp::of(&blob.file.metadata()?)));
        self.blobs.disk.space().open_files().insert(blob);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use wheelport_runtime::Clock;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn store(root: &std::path::Path) -> io::Result<Blobs> {
        Ok(Blobs::new(Disk::open(root, 1 << 20, Clock::system())?))
    }

    fn write(partial: &mut PartialBlob, bytes: &'static [u8]) -> Result<(), StorageError> {
        partial.write(&[Bytes::from_static(bytes)], drop)
    }

    fn hashes(bytes: &[u8]) -> Hashes {
        let mut hashes = Hashes::default();
        hashes.insert("sha256", &Sha256::of(bytes).to_string());
        hashes
    }

    fn commit(blobs: &Blobs, bytes: &[u8]) -> Result<Sha256, Box<dyn std::error::Error>> {
        let mut partial = blobs.begin(Some(bytes.len() as u64), &hashes(bytes))?;
        partial.write(&[Bytes::copy_from_slice(bytes)], drop)?;
        partial.verify(&Expected { length: None, hashes: hashes(bytes) })?.commit()?;
        Ok(Sha256::of(bytes))
    }

    fn files_below(path: &std::path::Path) -> usize {
        fs::read_dir(path).map_or(0, |entries| {
            entries.flatten().map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
        })
    }

    #[test]
    fn verified_bytes_are_committed_and_found() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        let mut partial = blobs.begin(Some(9), &hashes(b"wheelport"))?;
        write(&mut partial, b"wheel")?;
        write(&mut partial, b"port")?;
        let expected = Expected { length: Some(9), hashes: hashes(b"wheelport") };
        partial.verify(&expected)?.commit()?;
        assert!(blobs.get_open(Sha256::of(b"wheelport"), Some(9)).is_some(), "it stays open");
        let blob = blobs.get(Sha256::of(b"wheelport"), Some(9)).ok_or("missing")?;
        assert_eq!((blob.length, blob.sha256), (9, Sha256::of(b"wheelport")));
        Ok(())
    }

    #[test]
    fn a_failed_commit_leaves_nothing() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        let mut partial = blobs.begin(Some(9), &hashes(b"wheelport"))?;
        write(&mut partial, b"wheelport")?;
        let verified = partial.verify(&Expected { length: Some(9), hashes: hashes(b"wheelport") })?;
        // A file stands where the directory belongs.
        let shard = root.path().join(addressed("blobs", &Sha256::of(b"wheelport")));
        fs::write(shard.parent().ok_or("no parent")?, b"in the way")?;
        let blob = verified.blob();
        assert!(verified.commit().is_err());
        assert!(blobs.get_open(blob.sha256, None).is_none() && blobs.get(blob.sha256, None).is_none());
        assert_eq!(files_below(&root.path().join("tmp")), 1, "only the lock is left");
        assert_eq!((blobs.disk.space().used(), blobs.disk.space().reserved()), (0, 0));
        assert_eq!(io::read_to_string(&*blob.file)?, "wheelport", "open readers go on");
        Ok(())
    }

    #[test]
    fn a_file_that_claims_the_whole_cache_evicts_nothing_before_its_bytes_come() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        let small = commit(&blobs, &vec![7; 600 << 10])?;
        let is_stored = || root.path().join(addressed(BLOBS, &small)).exists();
        let mut partial = blobs.begin(Some(1 << 20), &Hashes::default())?;
        assert!(blobs.try_begin(1 << 20, &Hashes::default()).is_some(), "there is room for the first bytes");
        let other = commit(&blobs, &vec![8; 100 << 10])?;
        assert!(is_stored() && blobs.get(other, None).is_some(), "a claim takes no space from others");
        for _ in 0..9 {
            partial.write(&[vec![9; 100 << 10].into()], drop)?;
            assert!(blobs.disk.space().reserved() <= partial.written() * 2 + (64 << 10));
        }
        assert!(!is_stored(), "now the space is needed");
        assert!(matches!(blobs.begin(Some((1 << 20) + 1), &Hashes::default()), Err(StorageError::TooLarge { .. })));
        Ok(())
    }

    #[test]
    fn trying_to_begin_evicts_nothing() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        let small = commit(&blobs, b"small")?;
        let others = blobs.disk.space().reserve((1 << 20) - 5)?;
        assert!(blobs.try_begin(1 << 10, &Hashes::default()).is_none(), "no room");
        assert!(blobs.try_begin(2 << 20, &Hashes::default()).is_none(), "too large");
        assert!(blobs.get(small, None).is_some());
        drop(others);
        assert!(blobs.try_begin(1 << 10, &Hashes::default()).is_some(), "a refused reservation is given back");
        Ok(())
    }

    #[test]
    fn readers_get_bytes_before_they_are_hashed() -> Outcome {
        let root = tempfile::tempdir()?;
        let mut partial = store(root.path())?.begin(None, &hashes(b"wheelport"))?;
        let mut seen = 0;
        let readers = partial.readers();
        partial.write(&[Bytes::from_static(b"wheel"), Bytes::from_static(b"port")], |written| seen = written)?;
        assert_eq!((seen, io::read_to_string(&*readers)?.as_str()), (9, "wheelport"));
        assert!(partial.verify(&Expected { length: None, hashes: hashes(b"wheelport") })?.proven);
        Ok(())
    }

    #[test]
    fn wrong_bytes_leave_nothing() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        for (expected, bytes) in [
            (Expected { length: Some(4), hashes: hashes(b"good") }, b"evil".as_slice()),
            (Expected { length: Some(4), hashes: hashes(b"good") }, b"goo".as_slice()),
        ] {
            let mut partial = blobs.begin(expected.length, &expected.hashes)?;
            write(&mut partial, bytes)?;
            assert!(partial.verify(&expected).is_err());
        }
        assert_eq!(files_below(&root.path().join("blobs")), 0);
        assert_eq!(files_below(&root.path().join("tmp")), 1, "only the lock is left");
        Ok(())
    }

    #[test]
    fn a_damaged_file_counts_as_missing_and_is_removed() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        let sha256 = Sha256::of(b"wheel");
        let path = root.path().join(addressed("blobs", &sha256));
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        fs::write(&path, b"whe")?;
        assert!(blobs.get(sha256, Some(5)).is_none());
        assert!(!path.exists());
        Ok(())
    }

    #[tokio::test]
    async fn an_open_file_is_used_again_until_it_is_removed_or_damaged() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        let sha256 = Sha256::of(b"wheel");
        let path = root.path().join(addressed("blobs", &sha256));
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        fs::write(&path, b"wheel")?;
        assert!(blobs.get_open(sha256, Some(5)).is_none(), "no request has opened it");
        assert!(blobs.get(sha256, Some(5)).is_some());
        assert!(blobs.get_open(sha256, Some(5)).is_some());
        fs::write(&path, b"whe")?;
        assert!(blobs.get_open(sha256, Some(5)).is_none(), "it is damaged");
        fs::write(&path, b"wheel")?;
        assert!(blobs.get(sha256, Some(5)).is_some());
        fs::remove_file(&path)?;
        assert!(blobs.get_open(sha256, Some(5)).is_none(), "it is removed");
        Ok(())
    }

    /// Changes one byte of a stored file, as a damaged disk would.
    fn flip(root: &std::path::Path, sha256: &Sha256) -> io::Result<()> {
        let path = root.join(addressed(BLOBS, sha256));
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes)
    }

    #[test]
    fn a_flipped_byte_is_noticed_before_a_small_file_is_served() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        for again in 1..=2 {
            let sha256 = commit(&blobs, b"wheelport")?;
            assert!(blobs.get_open(sha256, None).is_some());
            // Also by the process that wrote the file.
            flip(root.path(), &sha256)?;
            assert!(blobs.get_open(sha256, None).is_none());
            assert!(blobs.get(sha256, None).is_none());
            assert!(!root.path().join(addressed(BLOBS, &sha256)).exists());
            assert_eq!(blobs.disk.damaged()[0], (BLOBS, again));
        }
        Ok(())
    }

    #[test]
    fn a_large_file_is_checked_for_those_who_need_it_to_be_right() -> Outcome {
        let root = tempfile::tempdir()?;
        let content = vec![7; (CHECK_AT_ONCE + 1).try_into()?];
        let sha256 = commit(&Blobs::new(Disk::open(root.path(), 1 << 30, Clock::system())?), &content)?;
        let blobs = Blobs::new(Disk::open(root.path(), 1 << 30, Clock::system())?);
        assert!(blobs.get(sha256, None).is_some_and(|blob| !blob.is_verified()), "its reader follows the check");
        assert!(blobs.get_open(sha256, None).is_none());
        assert!(blobs.get_verified(sha256, None).is_some_and(|blob| blob.is_verified()));
        assert!(blobs.get(sha256, None).is_some_and(|blob| blob.is_verified()), "one check is enough");
        assert!(blobs.get_open(sha256, None).is_some());
        flip(root.path(), &sha256)?;
        assert!(blobs.get(sha256, None).is_some_and(|blob| !blob.is_verified()), "it was written to");
        assert!(blobs.get_verified(sha256, None).is_none() && blobs.get(sha256, None).is_none());
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_checked_again_a_day_later_and_recording_its_use_is_no_change() -> Outcome {
        let root = tempfile::tempdir()?;
        let clock = Clock::system();
        let blobs = Blobs::new(Disk::open(root.path(), 1 << 20, clock.clone())?);
        let sha256 = commit(&blobs, b"wheelport")?;
        for _ in 0..2 {
            clock.shift(3600);
            assert!(blobs.get_open(sha256, None).is_some());
            blobs.disk.space().open_files().close_all();
            clock.shift(3600);
            assert!(blobs.find(sha256, None).is_some_and(|blob| blob.is_verified()));
            assert!(blobs.get(sha256, None).is_some());
        }
        tokio::time::advance(std::time::Duration::from_hours(24)).await;
        assert!(blobs.get_open(sha256, None).is_none());
        assert!(blobs.find(sha256, None).is_some_and(|blob| !blob.is_verified()));
        assert!(blobs.get(sha256, None).is_some_and(|blob| blob.is_verified()));
        Ok(())
    }

    #[test]
    fn only_damage_removes_a_file_and_only_that_file() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        let sha256 = commit(&blobs, b"wheelport")?;
        let blob = blobs.get(sha256, None).ok_or("missing")?;
        blobs.discard(&blob, &io::ErrorKind::PermissionDenied.into());
        assert!(blobs.get(sha256, None).is_some());
        let again = commit(&blobs, b"wheelport")?;
        blobs.discard(&blob, &rustix::io::Errno::IO.into());
        assert!(blobs.get(again, None).is_some(), "it was fetched again meanwhile");
        let blob = blobs.get(sha256, None).ok_or("missing")?;
        blobs.discard(&blob, &rustix::io::Errno::IO.into());
        assert!(blobs.get(sha256, None).is_none());
        Ok(())
    }

    #[test]
    fn two_processes_keep_one_limit() -> Outcome {
        let (root, max) = (tempfile::tempdir()?, 1_u64 << 20);
        let open = || Ok::<_, io::Error>(Blobs::new(Disk::open(root.path(), max, Clock::system())?));
        let (first, second) = (open()?, open()?);
        for number in 0..40_u8 {
            let blobs = if number % 3 == 0 { &first } else { &second };
            commit(blobs, &vec![number; 60 << 10])?;
            let mut used = 0;
            crate::cache::layout::walk(&root.path().join(BLOBS), &mut |_, metadata| used += metadata.len());
            assert!(used <= max + max / 64, "{used} bytes after {number}");
        }
        Ok(())
    }

    #[test]
    fn unproven_bytes_say_so() -> Outcome {
        let root = tempfile::tempdir()?;
        let mut partial = store(root.path())?.begin(None, &Hashes::default())?;
        write(&mut partial, b"x")?;
        assert!(!partial.verify(&Expected::default())?.proven);
        Ok(())
    }
}

//! Files on disk, by the SHA-256 of their bytes: look up, write, verify, commit.
//!
//! A blob exists only after its length and digest were verified; nothing is served under a digest it does not have.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::blob::{Blob, Complete, Expected, Mismatch};
use super::buffer_pool::BufferPool;
use super::disk::{Disk, addressed};
use super::space::{Reservation, StorageError};
use wheelport_index::{Hashed, Hasher};
use wheelport_index::{Hashes, Sha256};

/// How far ahead space is reserved for a file of unknown length, in bytes.
const RESERVE_STEP: u64 = 64 << 20;

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

    /// Opens a file if the cache has it, and marks it as used. A few quick system calls.
    ///
    /// A file of another length than `length` is damaged: it is removed and counts as missing.
    pub fn get(&self, sha256: Sha256, length: Option<u64>) -> Option<Blob> {
        let relative = addressed("blobs", &sha256);
        let file = File::open(self.disk.root().join(&relative)).ok()?;
        let found = self.disk.space().mark_used(&file).ok()?.len();
        if length.is_some_and(|length| length != found) {
            tracing::warn!(%sha256, found, length, "a cached file has the wrong length and is fetched again");
            let _ = self.disk.remove(&relative);
            return None;
        }
        let blob = Blob::new(Arc::new(file), found, sha256);
        self.disk.space().open_files().insert(blob.clone());
        Some(blob)
    }

    /// As [`Blobs::get`], for a file that is open already: one system call that never waits for a disk.
    ///
    /// `None` if the file is not open, or was removed or changed since; then [`Blobs::get`] decides.
    pub fn get_open(&self, sha256: Sha256, length: Option<u64>) -> Option<Blob> {
        let open_files = self.disk.space().open_files();
        let blob = open_files.get(&sha256)?;
        let unchanged = |found: u64| found == blob.length && length.is_none_or(|length| length == found);
        match self.disk.space().mark_used(&blob.file) {
            Ok(metadata) if metadata.nlink() > 0 && unchanged(metadata.len()) => Some(blob),
            Ok(_) | Err(_) => {
                open_files.close(&sha256);
                None
            }
        }
    }

    /// Begins to write a file, with room reserved for `length` bytes. Blocking.
    pub fn begin(&self, length: Option<u64>, hashes: &Hashes) -> Result<PartialBlob, StorageError> {
        let reservation = self.disk.space().reserve(length.unwrap_or(0))?;
        Ok(self.begin_in(reservation, hashes)?)
    }

    /// As [`Blobs::begin`], but evicts nothing: for a file that upstream may not deliver after all.
    pub fn try_begin(&self, length: u64, hashes: &Hashes) -> Option<PartialBlob> {
        self.begin_in(self.disk.space().try_reserve(length)?, hashes).ok()
    }

    fn begin_in(&self, reservation: Reservation, hashes: &Hashes) -> io::Result<PartialBlob> {
        let temporary = self.disk.temporary()?;
        let readers = Arc::new(temporary.reopen()?);
        let hasher = Hasher::new(hashes.strongest().map(|(algorithm, _)| algorithm));
        Ok(PartialBlob { blobs: self.clone(), temporary, readers, hasher, written: 0, reservation })
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

/// A file that is being written. Dropping it leaves nothing behind.
pub struct PartialBlob {
    blobs: Blobs,
    temporary: NamedTempFile,
    readers: Arc<File>,
    hasher: Hasher,
    written: u64,
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
            let step = RESERVE_STEP.min(self.blobs.disk.space().max_size() / 16).max(bytes.len() as u64);
            self.reservation.grow(step)?;
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
        let proven = match hashed.agrees_with(&expected.hashes) {
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
        self.blobs.disk.commit(self.temporary, &addressed("blobs", &self.sha256))?;
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
    fn trying_to_begin_evicts_nothing() -> Outcome {
        let root = tempfile::tempdir()?;
        let blobs = store(root.path())?;
        let first = blobs.try_begin(600 << 10, &Hashes::default());
        assert!(first.is_some());
        assert!(blobs.try_begin(600 << 10, &Hashes::default()).is_none(), "no room");
        assert!(blobs.try_begin(2 << 20, &Hashes::default()).is_none(), "too large");
        drop(first);
        assert!(blobs.try_begin(600 << 10, &Hashes::default()).is_some(), "a refused reservation is given back");
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

    #[test]
    fn unproven_bytes_say_so() -> Outcome {
        let root = tempfile::tempdir()?;
        let mut partial = store(root.path())?.begin(None, &Hashes::default())?;
        write(&mut partial, b"x")?;
        assert!(!partial.verify(&Expected::default())?.proven);
        Ok(())
    }
}

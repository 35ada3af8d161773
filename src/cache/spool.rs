//! An upload on disk: the file that a form carries, hashed while it is written, and beside it the fields of the form
//! that are passed on as they are.
//!
//! Both are temporary files of this process. Dropping them leaves nothing behind; the next process removes those of a
//! process that died, together with its directory. All uploads together have a limit. They count as used space of the
//! directory, so cached files make room for them, but only up to half of what the cache may hold: no upload empties it.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blake2::Blake2b;
use blake2::digest::consts::U32;
use md5::Md5;
use sha2::{Digest as _, Sha256 as Sha256Hasher};
use tempfile::NamedTempFile;

use super::disk::Disk;
use super::layout::{BLOBS, addressed};
use super::space::{Reservation, StorageError};
use wheelport_index::ContentDigests;
use wheelport_index::Sha256;
use wheelport_index::hex;
use wheelport_runtime::sabotaged;

/// The space that all uploads take together.
#[derive(Debug)]
pub struct SpoolSpace {
    max: u64,
    used: AtomicU64,
}

impl SpoolSpace {
    /// Space for this many bytes.
    pub fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicU64::new(0) })
    }

    /// Bytes of uploads on disk.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Why bytes of an upload cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// All uploads together have reached their limit.
    #[error("uploads take all the space that they may have")]
    Full,
    /// The cache directory cannot take them.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// What one upload takes of the space; given back when dropped.
struct SpoolShare {
    space: Arc<SpoolSpace>,
    size: u64,
    /// The part that counts as used space of the directory.
    counted: Reservation,
}

impl SpoolShare {
    /// Makes room for this many bytes more. Blocking.
    fn grow(&mut self, disk: &Disk, bytes: u64) -> Result<(), SpoolError> {
        let used = self.space.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.size += bytes;
        if used > self.space.max && !sabotaged("spool-max") {
            return Err(SpoolError::Full);
        }
        if used <= disk.max_size() / 2 && !sabotaged("spool-counted") {
            self.counted.grow(bytes)?;
        } else {
            disk.space().ensure_free(bytes)?;
        }
        Ok(())
    }
}

impl Drop for SpoolShare {
    fn drop(&mut self) {
        self.space.used.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// An upload that is arriving.
pub struct Spool {
    disk: Arc<Disk>,
    share: SpoolShare,
    fields: NamedTempFile,
    fields_length: u64,
    content: NamedTempFile,
    content_length: u64,
    sha256: Sha256Hasher,
    md5: Md5,
    blake2b: Blake2b<U32>,
}

/// An upload that has arrived.
pub struct Spooled {
    disk: Arc<Disk>,
    share: SpoolShare,
    fields: NamedTempFile,
    content: NamedTempFile,
    /// The length of the fields in bytes.
    pub fields_length: u64,
    /// The length of the file in bytes.
    pub content_length: u64,
    /// The digests of the file.
    pub digests: ContentDigests,
}

impl Spool {
    /// Begins with two empty files. Blocking.
    pub fn begin(disk: &Arc<Disk>, space: &Arc<SpoolSpace>) -> Result<Self, StorageError> {
        Ok(Self {
            disk: Arc::clone(disk),
            share: SpoolShare { space: Arc::clone(space), size: 0, counted: disk.space().reserve(0)? },
            fields: disk.temporary()?,
            fields_length: 0,
            content: disk.temporary()?,
            content_length: 0,
            sha256: Sha256Hasher::new(),
            md5: Md5::new(),
            blake2b: Blake2b::default(),
        })
    }

    /// Appends to the fields. Blocking.
    pub fn write_fields(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.share.grow(&self.disk, bytes.len() as u64)?;
        self.fields.as_file_mut().write_all(bytes)?;
        self.fields_length += bytes.len() as u64;
        Ok(())
    }

    /// Appends to the file. Blocking.
    pub fn write_content(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.share.grow(&self.disk, bytes.len() as u64)?;
        self.content.as_file_mut().write_all(bytes)?;
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.blake2b.update(bytes);
        self.content_length += bytes.len() as u64;
        Ok(())
    }

    /// The length of the file so far.
    pub fn content_length(&self) -> u64 {
        self.content_length
    }

    /// Ends the upload, once all of it has arrived.
    pub fn finish(self) -> Spooled {
        let digests = ContentDigests {
            sha256: Sha256(self.sha256.finalize().into()),
            md5: hex(&self.md5.finalize()),
            blake2b_256: hex(&self.blake2b.finalize()),
        };
        Spooled {
            disk: self.disk,
            share: self.share,
            fields: self.fields,
            content: self.content,
            fields_length: self.fields_length,
            content_length: self.content_length,
            digests,
        }
    }
}

impl Spooled {
    /// The fields, to be read from their beginning; every call opens them again. Blocking.
    pub fn fields(&self) -> io::Result<File> {
        self.fields.reopen()
    }

    /// The file, to be read from its beginning; every call opens it again. Blocking.
    pub fn content(&self) -> io::Result<File> {
        self.content.reopen()
    }

    /// Makes the file a blob of the cache, if there is room. Blocking. Open readers are not disturbed.
    pub fn commit(self) -> Result<(), StorageError> {
        // What it took as an upload it takes as a cached file from here on.
        drop(self.share);
        let _room = self.disk.space().reserve(self.content_length)?;
        self.content.as_file().sync_data()?;
        Ok(self.disk.commit(self.content, &addressed(BLOBS, &self.digests.sha256))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Blobs;
    use wheelport_runtime::Clock;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn an_upload_is_spooled_once_and_its_file_becomes_a_blob() -> Outcome {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1 << 20, Clock::system())?;
        let mut spool = Spool::begin(&disk, &SpoolSpace::new(1 << 20))?;
        spool.write_fields(b"a=b")?;
        spool.write_content(b"fi")?;
        spool.write_content(b"le")?;
        let spooled = spool.finish();
        for _ in 0..2 {
            assert_eq!(io::read_to_string(spooled.fields()?)?, "a=b");
            assert_eq!(io::read_to_string(spooled.content()?)?, "file");
        }
        assert_eq!((spooled.fields_length, spooled.content_length), (3, 4));
        assert_eq!(spooled.digests.sha256, Sha256::of(b"file"));
        assert_eq!(spooled.digests.md5, "8c7dd922ad47494fc02c388e12c00eac");
        let sha256 = spooled.digests.sha256;
        spooled.commit()?;
        let blob = Blobs::new(Arc::clone(&disk)).get(sha256, Some(4)).ok_or("no blob")?;
        assert_eq!((blob.length, disk.used()), (4, 4));
        Ok(())
    }

    #[test]
    fn dropping_leaves_nothing_and_a_file_larger_than_the_cache_is_not_committed() -> Outcome {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 3, Clock::system())?;
        let files = || walk(root.path());
        let before = files()?;
        let mut spool = Spool::begin(&disk, &SpoolSpace::new(1 << 20))?;
        spool.write_content(b"file")?;
        spool.write_fields(b"file")?;
        assert_eq!(files()?, before + 2);
        assert!(matches!(spool.finish().commit(), Err(StorageError::TooLarge { size: 4 })));
        assert_eq!(files()?, before);
        Ok(())
    }

    #[test]
    fn all_uploads_together_have_a_limit_and_count_as_used_up_to_half_of_the_cache() -> Outcome {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 100, Clock::system())?;
        let uploads = SpoolSpace::new(80);
        let (mut one, mut two) = (Spool::begin(&disk, &uploads)?, Spool::begin(&disk, &uploads)?);
        one.write_content(&[0; 40])?;
        two.write_fields(&[0; 10])?;
        two.write_content(&[0; 20])?;
        assert_eq!((uploads.used(), disk.space().reserved()), (70, 50));
        assert!(matches!(two.write_content(&[0; 20]), Err(SpoolError::Full)));
        drop(two);
        assert_eq!((uploads.used(), disk.space().reserved()), (40, 40));
        one.write_content(&[0; 40])?;
        one.finish().commit()?;
        assert_eq!((uploads.used(), disk.space().reserved(), disk.used()), (0, 0, 80));
        Ok(())
    }

    fn walk(directory: &std::path::Path) -> io::Result<usize> {
        let mut count = 0;
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            count += if entry.file_type()?.is_dir() { walk(&entry.path())? } else { 1 };
        }
        Ok(count)
    }
}

//! The bytes of assets: files named by their SHA-256, written through a hasher, never whole in memory.

use std::fs as blocking_fs;
use std::io;
use std::path::PathBuf;

use sha1::Digest as _;
use sha2::Digest as _;
use tokio::fs;
use tokio::io::AsyncWriteExt as _;

use super::disk::gone_is_fine;
use super::error::StoreError;
use super::model::AssetHashes;
use wheelport_index::{Sha256, hex};

/// Content-addressed files. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    directory: PathBuf,
    temporary: PathBuf,
}

/// All digests an asset carries, fed at once.
#[derive(Default)]
pub struct Digests {
    md5: md5::Md5,
    sha1: sha1::Sha1,
    sha256: sha2::Sha256,
    sha512: sha2::Sha512,
    length: u64,
}

/// A file that is being written; dropping it removes what was written.
pub struct BlobWriter {
    blobs: Blobs,
    path: tempfile::TempPath,
    file: fs::File,
    digests: Digests,
}

/// Bytes that are complete on disk but not yet at their address; dropping it removes them.
pub struct Spooled {
    blobs: Blobs,
    path: tempfile::TempPath,
    /// The SHA-256.
    pub sha256: Sha256,
    /// All digests.
    pub hashes: AssetHashes,
    /// The length in bytes.
    pub size: u64,
}

impl Blobs {
    pub(super) fn new(directory: PathBuf, temporary: PathBuf) -> Self {
        Self { directory, temporary }
    }

    /// Begins a new file.
    pub async fn create(&self) -> Result<BlobWriter, StoreError> {
        let path = self.temporary.join(format!("{:016x}.part", fastrand::u64(..)));
        let file = fs::File::create(&path).await.map_err(StoreError::disk(&path))?;
        let path = tempfile::TempPath::try_from_path(&path).map_err(StoreError::disk(&path))?;
        Ok(BlobWriter { blobs: self.clone(), path, file, digests: Digests::default() })
    }

    /// Opens bytes for reading, with their length.
    pub async fn open(&self, digest: &Sha256) -> Result<(fs::File, u64), StoreError> {
        let path = self.path(digest);
        let file = fs::File::open(&path).await.map_err(StoreError::disk(&path))?;
        let length = file.metadata().await.map_err(StoreError::disk(&path))?.len();
        Ok((file, length))
    }

    /// Where bytes lie, for readers that need a path.
    pub fn path(&self, digest: &Sha256) -> PathBuf {
        let name = digest.to_string();
        self.directory.join(&name[..2]).join(name)
    }

    pub(super) fn remove(&self, digest: &Sha256) -> Result<(), StoreError> {
        let path = self.path(digest);
        gone_is_fine(blocking_fs::remove_file(&path)).map_err(StoreError::disk(path))
    }
}

impl Digests {
    /// Feeds more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sha1.update(bytes);
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        self.length += bytes.len() as u64;
    }

    fn finish(self) -> (Sha256, AssetHashes, u64) {
        let sha256 = Sha256(self.sha256.finalize().into());
        let hashes = AssetHashes {
            md5: Some(hex(&self.md5.finalize())),
            sha1: Some(hex(&self.sha1.finalize())),
            sha256: Some(sha256.to_string()),
            sha512: Some(hex(&self.sha512.finalize())),
        };
        (sha256, hashes, self.length)
    }
}

impl BlobWriter {
    /// Appends bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.digests.update(bytes);
        self.file.write_all(bytes).await.map_err(StoreError::disk(&*self.path))
    }

    /// How many bytes have been written.
    pub fn length(&self) -> u64 {
        self.digests.length
    }

    /// Ends the file and names its digests.
    pub async fn finish(mut self) -> Result<Spooled, StoreError> {
        let flushed: io::Result<()> = async {
            self.file.flush().await?;
            self.file.sync_data().await
        }
        .await;
        flushed.map_err(StoreError::disk(&*self.path))?;
        let (sha256, hashes, size) = self.digests.finish();
        Ok(Spooled { blobs: self.blobs, path: self.path, sha256, hashes, size })
    }
}

impl Spooled {
    /// Where the bytes lie until they are kept.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Moves the bytes to their address, where they stay.
    pub async fn keep(self) -> Result<(), StoreError> {
        let target = self.blobs.path(&self.sha256);
        super::blocking(move || {
            if let Some(directory) = target.parent() {
                blocking_fs::create_dir_all(directory).map_err(StoreError::disk(directory))?;
            }
            self.path.persist(&target).map_err(|error| StoreError::disk(target)(error.error))
        })
        .await
    }
}

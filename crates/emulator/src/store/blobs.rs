//! The bytes of assets: files named by their SHA-256, written through a hasher, never completely in memory.

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
pub(crate) struct BlobFiles {
    directory: PathBuf,
    temporary: PathBuf,
}

/// Computes all digests of an asset in one pass.
#[derive(Default)]
pub(super) struct AssetDigester {
    md5: md5::Md5,
    sha1: sha1::Sha1,
    sha256: sha2::Sha256,
    sha512: sha2::Sha512,
    length: u64,
}

/// A file that is being written; dropping it removes what was written.
pub(crate) struct BlobWriter {
    blobs: BlobFiles,
    path: tempfile::TempPath,
    file: fs::File,
    digests: AssetDigester,
}

/// Bytes that are complete on disk but not committed to their address; dropping it removes them.
pub(crate) struct SpooledBlob {
    blobs: BlobFiles,
    path: tempfile::TempPath,
    pub sha256: Sha256,
    pub hashes: AssetHashes,
    pub size: u64,
}

impl BlobFiles {
    pub(super) fn new(directory: PathBuf, temporary: PathBuf) -> Self {
        Self { directory, temporary }
    }

    /// Begins a new file.
    pub(crate) async fn create(&self) -> Result<BlobWriter, StoreError> {
        let path = self.temporary.join(format!("{:016x}.part", fastrand::u64(..)));
        let file = fs::File::create(&path).await.map_err(StoreError::disk(&path))?;
        let path = tempfile::TempPath::try_from_path(&path).map_err(StoreError::disk(&path))?;
        Ok(BlobWriter { blobs: self.clone(), path, file, digests: AssetDigester::default() })
    }

    /// Opens bytes for reading, with their length.
    pub(crate) async fn open(&self, digest: &Sha256) -> Result<(fs::File, u64), StoreError> {
        let path = self.path(digest);
        let file = fs::File::open(&path).await.map_err(StoreError::disk(&path))?;
        let length = file.metadata().await.map_err(StoreError::disk(&path))?.len();
        Ok((file, length))
    }

    /// The path of the bytes with this digest.
    pub(crate) fn path(&self, digest: &Sha256) -> PathBuf {
        let name = digest.to_string();
        self.directory.join(&name[..2]).join(name)
    }

    pub(super) fn remove(&self, digest: &Sha256) -> Result<(), StoreError> {
        let path = self.path(digest);
        gone_is_fine(blocking_fs::remove_file(&path)).map_err(StoreError::disk(path))
    }
}

impl AssetDigester {
    pub(super) fn update(&mut self, bytes: &[u8]) {
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
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.digests.update(bytes);
        self.file.write_all(bytes).await.map_err(StoreError::disk(&*self.path))
    }

    /// How many bytes have been written.
    pub(crate) fn length(&self) -> u64 {
        self.digests.length
    }

    /// Syncs the file and computes its digests.
    pub(crate) async fn finish(mut self) -> Result<SpooledBlob, StoreError> {
        let flushed: io::Result<()> = async {
            self.file.flush().await?;
            self.file.sync_data().await
        }
        .await;
        flushed.map_err(StoreError::disk(&*self.path))?;
        let (sha256, hashes, size) = self.digests.finish();
        Ok(SpooledBlob { blobs: self.blobs, path: self.path, sha256, hashes, size })
    }
}

impl SpooledBlob {
    /// Where the bytes are until they are committed.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Moves the bytes to their address.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let target = self.blobs.path(&self.sha256);
        wheelport_runtime::blocking(move || {
            if let Some(directory) = target.parent() {
                blocking_fs::create_dir_all(directory).map_err(StoreError::disk(directory))?;
            }
            self.path.persist(&target).map_err(|error| StoreError::disk(target)(error.error))
        })
        .await?
    }
}

//! Checking a stored file: read it from its beginning, hash it, compare with the digest in its name.
//!
//! The check goes step by step, so that readers may follow it, as they follow a download, and so that it can go slowly.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::blob::{Blob, Mismatch};
use super::checks::Stamp;
use wheelport_index::Hasher;
use wheelport_runtime::sabotaged;

/// How much one step reads, in bytes.
const STEP: usize = 1 << 20;

/// A check in progress.
pub struct BlobCheck {
    blob: Blob,
    stamp: Stamp,
    hasher: Hasher,
    position: u64,
    buffer: Vec<u8>,
}

/// The part of a stored file that could be read, and its hash so far: what comes from elsewhere is hashed on.
#[derive(Clone)]
pub struct HashedPrefix {
    /// The length in bytes.
    pub length: u64,
    hasher: Arc<Hasher>,
}

impl BlobCheck {
    /// Begins with a file as it is now.
    pub fn begin(blob: &Blob) -> io::Result<Self> {
        let stamp = Stamp::of(&blob.file.metadata()?);
        Ok(Self { blob: blob.clone(), stamp, hasher: Hasher::new(None), position: 0, buffer: Vec::new() })
    }

    /// The file.
    pub fn blob(&self) -> &Blob {
        &self.blob
    }

    /// How many bytes were hashed.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn is_complete(&self) -> bool {
        self.position == self.blob.length
    }

    /// Hashes the next bytes. Blocking. A file that ends too early, or cannot be read, is an error.
    pub fn advance(&mut self) -> io::Result<()> {
        let rest = usize::try_from(self.blob.length - self.position).unwrap_or(usize::MAX);
        self.buffer.resize(rest.min(STEP), 0);
        self.blob.file.read_exact_at(&mut self.buffer, self.position)?;
        self.hasher.update(&self.buffer);
        self.position += self.buffer.len() as u64;
        Ok(())
    }

    /// What was hashed so far.
    pub fn prefix(&self) -> HashedPrefix {
        HashedPrefix { length: self.position, hasher: Arc::new(self.hasher.clone()) }
    }

    /// Compares a complete check with the name of the file.
    pub(super) fn conclude(self) -> io::Result<Stamp> {
        let found = self.hasher.finish().sha256;
        if self.position == self.blob.length && (found == self.blob.sha256 || sabotaged("check-digest")) {
            Ok(self.stamp)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, Mismatch::Digest { found }))
        }
    }
}

impl HashedPrefix {
    /// The hash of the prefix, to be continued.
    pub fn hasher(&self) -> Hasher {
        Hasher::clone(&self.hasher)
    }
}

impl PartialEq for HashedPrefix {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.hasher, &other.hasher)
    }
}

impl Eq for HashedPrefix {}

impl std::fmt::Debug for HashedPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use wheelport_index::Sha256;

    #[test]
    fn the_hash_of_what_could_be_read_is_continued_with_the_rest() -> io::Result<()> {
        let content = vec![7; STEP * 2 + 9];
        let mut file = tempfile::tempfile()?;
        file.write_all(&content[..STEP + 9])?;
        let blob = Blob::found(Arc::new(file), content.len() as u64, Sha256::of(&content), None);
        let mut check = BlobCheck::begin(&blob)?;
        check.advance()?;
        assert!(check.advance().is_err(), "the rest is gone");
        assert!(!check.is_complete());
        let prefix = check.prefix();
        assert_eq!(prefix.length, STEP as u64);
        let mut hasher = prefix.hasher();
        hasher.update(&content[STEP..]);
        assert_eq!(hasher.finish().sha256, blob.sha256);
        assert!(check.conclude().is_err());
        Ok(())
    }
}

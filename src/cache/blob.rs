//! An open, verified file, and what the index says of a file before its bytes are known. Plain data, without I/O.

use std::fs::File;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use wheelport_index::{Hashes, Sha256};

/// Files up to this size, in bytes, keep their bytes in memory while they are open.
const SMALL: usize = 64 << 10;

/// An open file of known content. It stays readable when it is evicted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The open file.
    pub file: Arc<File>,
    /// Its length in bytes.
    pub length: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Sha256,
    /// All bytes of a small file, once they were read. Clones share them.
    small: Arc<OnceLock<Bytes>>,
}

/// A complete file, as its readers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    /// The length in bytes.
    pub length: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Sha256,
    /// Whether the index names a digest and the bytes have it.
    pub proven: bool,
}

/// What is known of a file before its bytes are.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The length in bytes.
    pub length: Option<u64>,
    /// The digests that the index names.
    pub hashes: Hashes,
}

/// Why written bytes are not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The length differs.
    #[error("{found} bytes instead of {expected}")]
    Length {
        /// The length that the index or upstream's header names.
        expected: u64,
        /// The number of bytes that arrived.
        found: u64,
    },
    /// A digest differs.
    #[error("the bytes have SHA-256 {found}, which is not what the index says")]
    Digest {
        /// The computed SHA-256.
        found: Sha256,
    },
}

impl Blob {
    /// An open file whose content was verified.
    pub fn new(file: Arc<File>, length: u64, sha256: Sha256) -> Self {
        Self { file, length, sha256, small: Arc::default() }
    }

    /// All bytes of a small file that was read before.
    pub fn small_bytes(&self) -> Option<Bytes> {
        self.small.get().cloned()
    }

    /// Remembers the bytes of the file from its beginning, if they are all of it and few.
    pub(super) fn remember_small(&self, bytes: &Bytes) {
        if bytes.len() <= SMALL && bytes.len() as u64 == self.length {
            let _ = self.small.set(bytes.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_bytes_of_a_small_file_are_remembered() -> std::io::Result<()> {
        let blob = |length: usize| -> std::io::Result<Blob> {
            Ok(Blob::new(Arc::new(tempfile::tempfile()?), length as u64, Sha256::of(b"")))
        };
        let small = blob(5)?;
        small.remember_small(&Bytes::from_static(b"whee"));
        assert!(small.small_bytes().is_none(), "a part of the file");
        small.remember_small(&Bytes::from_static(b"wheel"));
        assert_eq!(small.clone().small_bytes().as_deref(), Some(b"wheel".as_slice()), "clones share the bytes");
        let large = blob(SMALL + 1)?;
        large.remember_small(&vec![7; SMALL + 1].into());
        assert!(large.small_bytes().is_none());
        Ok(())
    }
}

//! An open file, and what the index says of a file before its bytes are known. Plain data, without I/O.

use std::fs::File;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use super::checks::{Check, Stamp};
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
    /// Clones share it.
    state: Arc<BlobState>,
}

#[derive(Debug)]
struct BlobState {
    verified: Mutex<Verified>,
    /// All bytes of a small file, once they were read.
    small: OnceLock<Bytes>,
}

/// Whether the bytes are known to be what the digest says.
#[derive(Debug, Clone, Copy)]
enum Verified {
    /// They were found in the cache, and nothing has read them yet.
    Unknown,
    /// This process has written and hashed them, and the file has no name yet.
    Written,
    Checked(Check),
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
    /// An open file whose content was verified a moment ago.
    pub fn new(file: Arc<File>, length: u64, sha256: Sha256) -> Self {
        Self::with(file, length, sha256, Verified::Written)
    }

    /// An open file of the cache, with what is known from the last time its content was checked.
    pub(super) fn found(file: Arc<File>, length: u64, sha256: Sha256, check: Option<Check>) -> Self {
        Self::with(file, length, sha256, check.map_or(Verified::Unknown, Verified::Checked))
    }

    fn with(file: Arc<File>, length: u64, sha256: Sha256, verified: Verified) -> Self {
        let state = BlobState { verified: Mutex::new(verified), small: OnceLock::new() };
        Self { file, length, sha256, state: Arc::new(state) }
    }

    /// Whether its content may be served without checking it on the way.
    pub fn is_verified(&self) -> bool {
        match *self.state.verified.lock() {
            Verified::Unknown => false,
            Verified::Written => true,
            Verified::Checked(check) => check.is_recent(),
        }
    }

    /// The check of this file, if it still holds for the file with this stamp.
    pub(super) fn check(&self, stamp: Stamp) -> Option<Check> {
        match *self.state.verified.lock() {
            Verified::Checked(check) => Some(check).filter(|check| check.holds(stamp)),
            Verified::Unknown | Verified::Written => None,
        }
    }

    pub(super) fn set_checked(&self, check: Check) {
        *self.state.verified.lock() = Verified::Checked(check);
    }

    /// All bytes of a small file that was read before.
    pub fn small_bytes(&self) -> Option<Bytes> {
        self.state.small.get().cloned()
    }

    /// Remembers the bytes of the file from its beginning, if they are all of it, few, and verified.
    pub(super) fn remember_small(&self, bytes: &Bytes) {
        if bytes.len() <= SMALL && bytes.len() as u64 == self.length && self.is_verified() {
            let _ = self.state.small.set(bytes.clone());
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
        let unknown = Blob::found(Arc::new(tempfile::tempfile()?), 5, Sha256::of(b""), None);
        unknown.remember_small(&Bytes::from_static(b"wheel"));
        assert!(unknown.small_bytes().is_none(), "they may be damaged");
        Ok(())
    }
}

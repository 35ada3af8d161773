//! Memory that files pass through, piece by piece, on their way to a socket.
//!
//! A piece is copied twice: out of the system's memory and into the socket. That is cheap as long as the memory in between
//! is in the processor's cache, so what was given back last is taken first, and nothing is cleared between two uses.
//! Nobody ever sees more of it than was read into it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The longest piece in bytes. Large enough that system calls do not count, small enough for the processor's cache.
pub const PIECE: usize = 64 << 10;
/// So many unused pieces are held for their next use; the memory of more is given back to the system.
const KEPT: usize = 16;

/// Pieces that are not in use. Clones share them.
#[derive(Clone, Default)]
pub struct Pieces {
    unused: Arc<Mutex<Vec<Box<[u8]>>>>,
}

impl Pieces {
    /// Room for one piece.
    pub fn take(&self) -> Piece {
        let unused = self.unused().pop();
        Piece { room: unused.unwrap_or_else(|| vec![0; PIECE].into()), filled: 0, home: self.clone() }
    }

    fn unused(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One piece. Dropping it, or the last of its bytes, gives its memory back.
pub struct Piece {
    room: Box<[u8]>,
    filled: usize,
    home: Pieces,
}

impl Piece {
    /// Has its first `length` bytes, at most [`PIECE`], filled by `read`, which says how many of them it filled.
    pub fn fill(&mut self, length: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        self.filled = 0;
        self.filled = read(&mut self.room[..length.min(PIECE)])?.min(length);
        Ok(())
    }

    /// Whether nothing was read into it.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

impl From<Piece> for Bytes {
    fn from(piece: Piece) -> Self {
        Self::from_owner(piece)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.room[..self.filled]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut unused = self.home.unused();
        if unused.len() < KEPT {
            unused.push(std::mem::take(&mut self.room));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(pieces: &Pieces, bytes: &[u8]) -> io::Result<Bytes> {
        let mut piece = pieces.take();
        piece.fill(bytes.len(), |room| {
            room.copy_from_slice(bytes);
            Ok(bytes.len())
        })?;
        Ok(piece.into())
    }

    #[test]
    fn memory_is_used_again_once_the_last_of_its_bytes_are_gone() -> io::Result<()> {
        let pieces = Pieces::default();
        let first = holding(&pieces, b"wheel")?;
        let part = first.slice(1..);
        let address = first.as_ptr();
        drop(first);
        assert_ne!(holding(&pieces, b"other")?.as_ptr(), address, "a part of it is still in use");
        drop(part);
        assert_eq!(holding(&pieces, b"port")?.as_ptr(), address);
        Ok(())
    }

    #[test]
    fn nothing_is_seen_of_what_was_there_before() -> io::Result<()> {
        let pieces = Pieces::default();
        drop(holding(&pieces, b"somebody else's bytes")?);
        assert_eq!(holding(&pieces, b"port")?, b"port".as_slice());
        let mut piece = pieces.take();
        assert!(piece.is_empty() && piece.as_ref().is_empty());
        piece.fill(9, |_| Ok(4))?;
        assert_eq!(piece.as_ref().len(), 4, "so much was read");
        assert!(piece.fill(9, |_| Err(io::ErrorKind::WouldBlock.into())).is_err());
        assert!(piece.is_empty(), "a read that fails reads nothing");
        Ok(())
    }

    #[test]
    fn not_all_of_a_crowd_is_kept() {
        let pieces = Pieces::default();
        let crowd: Vec<Piece> = (0..KEPT * 3).map(|_| pieces.take()).collect();
        drop(crowd);
        assert_eq!(pieces.unused().len(), KEPT);
    }
}

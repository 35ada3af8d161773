//! Memory that files pass through, one buffer at a time, on their way to a socket.
//!
//! The bytes of a buffer are copied twice: out of the system's memory and into the socket. That is cheap as long as the
//! buffer is in the processor's cache, so the pool hands out the buffer that came back last, and clears nothing between
//! two uses. A buffer never shows more than what was read into it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// The size of a buffer in bytes. Large enough that system calls do not count, small enough for the processor's cache.
pub(super) const BUFFER_SIZE: usize = 64 << 10;
/// The pool holds this many unused buffers at most; the memory of more goes back to the system.
const MAX_UNUSED: usize = 16;

/// Buffers that are not in use. Clones share them.
#[derive(Clone, Default)]
pub struct BufferPool {
    unused: Arc<Mutex<Vec<Box<[u8]>>>>,
}

impl BufferPool {
    /// An empty buffer.
    pub(super) fn take(&self) -> Buffer {
        let unused = self.unused.lock().pop();
        Buffer { memory: unused.unwrap_or_else(|| vec![0; BUFFER_SIZE].into()), filled: 0, pool: self.clone() }
    }
}

/// One buffer. Its memory goes back to the pool when it is dropped, or the last of its [`Bytes`] are.
pub(super) struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
    pool: BufferPool,
}

impl Buffer {
    /// Lets `read` fill the first `length` bytes, at most [`BUFFER_SIZE`]; `read` returns how many it filled.
    pub(super) fn fill(&mut self, length: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        self.filled = 0;
        self.filled = read(&mut self.memory[..length.min(BUFFER_SIZE)])?.min(length);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut unused = self.pool.unused.lock();
        if unused.len() < MAX_UNUSED {
            unused.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled_with(pool: &BufferPool, bytes: &[u8]) -> io::Result<Bytes> {
        let mut buffer = pool.take();
        buffer.fill(bytes.len(), |memory| {
            memory.copy_from_slice(bytes);
            Ok(bytes.len())
        })?;
        Ok(buffer.into())
    }

    #[test]
    fn memory_is_used_again_once_the_last_of_its_bytes_are_gone() -> io::Result<()> {
        let pool = BufferPool::default();
        let first = filled_with(&pool, b"wheel")?;
        let part = first.slice(1..);
        let address = first.as_ptr();
        drop(first);
        assert_ne!(filled_with(&pool, b"other")?.as_ptr(), address, "a part of it is still in use");
        drop(part);
        assert_eq!(filled_with(&pool, b"port")?.as_ptr(), address);
        Ok(())
    }

    #[test]
    fn a_buffer_never_shows_the_bytes_of_its_last_use() -> io::Result<()> {
        let pool = BufferPool::default();
        drop(filled_with(&pool, b"bytes of another file")?);
        assert_eq!(filled_with(&pool, b"port")?, b"port".as_slice());
        let mut buffer = pool.take();
        assert!(buffer.is_empty() && buffer.as_ref().is_empty());
        buffer.fill(9, |_| Ok(4))?;
        assert_eq!(buffer.as_ref().len(), 4, "only what was read");
        assert!(buffer.fill(9, |_| Err(io::ErrorKind::WouldBlock.into())).is_err());
        assert!(buffer.is_empty(), "a read that fails reads nothing");
        Ok(())
    }

    #[test]
    fn the_pool_holds_a_bounded_number_of_unused_buffers() {
        let pool = BufferPool::default();
        let crowd: Vec<Buffer> = (0..MAX_UNUSED * 3).map(|_| pool.take()).collect();
        drop(crowd);
        assert_eq!(pool.unused.lock().len(), MAX_UNUSED);
    }
}

//! Memory that files pass through, one buffer at a time, on their way to a socket.
//!
//! The bytes of a buffer are copied twice: out of the system's memory and into the socket. That is cheap as long as the
//! buffer is in the processor's cache, so the pool hands out the buffer that came back last, and clears nothing between
//! two uses. A buffer never shows more than what was read into it.
//!
//! A client that reads nothing holds a buffer for as long as it likes. So the memory for buffers of the usual size is
//! bounded; beyond it a buffer is as small as a page of memory, and what thousands of such clients hold stays small.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

/// The size of a buffer in bytes. Large enough that system calls do not count, small enough for the processor's cache.
pub(super) const BUFFER_SIZE: usize = 64 << 10;
/// The size of a buffer in bytes where many clients hold one.
const SMALL_SIZE: usize = 4 << 10;
/// The pool holds this many unused buffers at most; the memory of more goes back to the system.
const MAX_UNUSED: usize = 16;
/// The memory for buffers of the usual size, where nothing else is said.
const DEFAULT_LIMIT: u64 = 24 << 20;

/// Buffers that are not in use. Clones share them.
#[derive(Clone)]
pub struct BufferPool(Arc<PoolState>);

struct PoolState {
    unused: Mutex<Vec<Box<[u8]>>>,
    /// Bytes reserved of `limit`.
    reserved: AtomicU64,
    limit: u64,
    /// Bytes of small buffers, which have no limit of their own: a connection holds one at most.
    small: AtomicU64,
}

/// Memory that is counted while this exists.
pub(super) struct ReservedMemory {
    pool: BufferPool,
    bytes: u64,
}

impl Default for BufferPool {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

impl BufferPool {
    /// A pool whose buffers are of the usual size until they take `limit` bytes together.
    pub(super) fn new(limit: u64) -> Self {
        let (unused, reserved, small) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(PoolState { unused, reserved, limit, small }))
    }

    /// An empty buffer.
    pub(super) fn take(&self) -> Buffer {
        let (memory, reserved) = match self.reserve(BUFFER_SIZE) {
            Some(reserved) => {
                let unused = self.0.unused.lock().pop();
                (unused.unwrap_or_else(|| vec![0; BUFFER_SIZE].into()), Some(reserved))
            }
            None => (vec![0; SMALL_SIZE].into(), None),
        };
        if reserved.is_none() {
            self.0.small.fetch_add(SMALL_SIZE as u64, Ordering::Relaxed);
        }
        Buffer { memory, filled: 0, pool: self.clone(), reserved }
    }

    /// Room for so many bytes, if there is any within the limit.
    pub(super) fn reserve(&self, bytes: usize) -> Option<ReservedMemory> {
        let bytes = bytes as u64;
        let fits = |reserved: u64| Some(reserved + bytes).filter(|sum| *sum <= self.0.limit);
        self.0.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(ReservedMemory { pool: self.clone(), bytes })
    }

    /// Whether more than half of the memory is taken.
    pub(super) fn is_scarce(&self) -> bool {
        self.0.reserved.load(Ordering::Relaxed) > self.0.limit / 2
    }

    /// Bytes that are held, unused buffers left out.
    pub fn held(&self) -> u64 {
        self.0.reserved.load(Ordering::Relaxed) + self.0.small.load(Ordering::Relaxed)
    }
}

impl Drop for ReservedMemory {
    fn drop(&mut self) {
        self.pool.0.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One buffer. Its memory goes back to the pool when it is dropped, or the last of its [`Bytes`] are.
pub(super) struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
    pool: BufferPool,
    /// `None` for a small one.
    reserved: Option<ReservedMemory>,
}

impl Buffer {
    /// Lets `read` fill the first `length` bytes, or as many as there is room for; `read` returns how many it filled.
    pub(super) fn fill(&mut self, length: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        self.filled = 0;
        let length = length.min(self.memory.len());
        self.filled = read(&mut self.memory[..length])?.min(length);
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
        if self.reserved.is_none() {
            self.pool.0.small.fetch_sub(SMALL_SIZE as u64, Ordering::Relaxed);
            return;
        }
        let mut unused = self.pool.0.unused.lock();
        if unused.len() < MAX_UNUSED {
            unused.push(std::mem::take(&mut self.memory));
        }
    }
}

/// Bytes that are counted as long as any part of them is held.
pub(super) fn counted(bytes: Box<[u8]>, reserved: ReservedMemory) -> Bytes {
    struct Counted(Box<[u8]>, #[expect(dead_code, reason = "it is dropped with the bytes")] ReservedMemory);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Counted(bytes, reserved))
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
        assert_eq!(pool.0.unused.lock().len(), MAX_UNUSED);
    }

    #[test]
    fn beyond_its_limit_the_pool_hands_out_small_buffers_and_counts_all_of_them() -> io::Result<()> {
        let pool = BufferPool::new(3 * BUFFER_SIZE as u64);
        let mut crowd: Vec<Buffer> = (0..100).map(|_| pool.take()).collect();
        assert_eq!(pool.held(), (3 * BUFFER_SIZE + 97 * SMALL_SIZE) as u64);
        let last = crowd.last_mut().expect("a hundred");
        last.fill(BUFFER_SIZE, |memory| Ok(memory.len()))?;
        assert_eq!(last.as_ref().len(), SMALL_SIZE, "part of what was asked for");
        assert!(pool.reserve(1).is_none());
        drop(crowd);
        assert_eq!(pool.held(), 0);
        let part = counted(vec![1; 5000].into(), pool.reserve(5000).expect("room")).slice(1..2);
        assert_eq!((pool.held(), &*part), (5000, [1].as_slice()));
        drop(part);
        assert_eq!(pool.held(), 0);
        Ok(())
    }
}

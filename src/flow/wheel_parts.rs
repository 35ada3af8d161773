//! Two parts of a wheel that bypasses the cache: what its core metadata is read from when it cannot be stored.
//!
//! The directory of an archive is at its end, and build tools write the metadata right before it or first of all. So
//! a bounded part of each end is enough for nearly every wheel, and all of a smaller one is held. Where the metadata is
//! in the middle, the directory has told where, and that part can be held instead of the beginning when the wheel comes
//! again.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wheelport_index::ReadAt;

/// How much of the beginning, or of another part, is held, in bytes.
const PART: usize = 4 << 20;
/// How much is held before the position that was missed: more than the header that stands before its bytes.
const BEFORE: u64 = 256 << 10;
/// No position.
const NONE: u64 = u64::MAX;
/// How much of the end is held, in bytes.
const TAIL: usize = 12 << 20;

/// The bytes of a file that is read only once, as far as they are held.
#[derive(Debug)]
pub(super) struct WheelParts {
    /// Where the part that is held besides the end begins.
    begins: u64,
    part: Vec<u8>,
    tail: VecDeque<u8>,
    length: u64,
    missed: Arc<Missed>,
}

/// The first position that was read and is not held.
#[derive(Debug)]
pub(super) struct Missed(AtomicU64);

impl Missed {
    pub(super) fn position(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|position| *position != NONE)
    }
}

impl Default for WheelParts {
    fn default() -> Self {
        let missed = Arc::new(Missed(AtomicU64::new(NONE)));
        Self { begins: 0, part: Vec::new(), tail: VecDeque::new(), length: 0, missed }
    }
}

impl WheelParts {
    /// The most that is held, in bytes.
    pub(super) const MOST: u64 = (PART + TAIL) as u64;

    /// Holds the part around a position instead of the beginning.
    pub(super) fn around(position: u64) -> Self {
        Self { begins: position.saturating_sub(BEFORE), ..Self::default() }
    }

    /// Tells what was missed, after it was read from.
    pub(super) fn missed(&self) -> Arc<Missed> {
        Arc::clone(&self.missed)
    }

    /// Appends to the file.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        let before = usize::try_from(self.begins.saturating_sub(self.length)).unwrap_or(usize::MAX);
        let before = before.min(chunk.len());
        let end = chunk.len().min(before + PART - self.part.len());
        self.length += chunk.len() as u64;
        self.part.extend_from_slice(&chunk[before..end]);
        self.tail.extend(chunk);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }
}

impl ReadAt for WheelParts {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let tail_begins = self.length - self.tail.len() as u64;
        let (first, second) = self.tail.as_slices();
        let parts = [(self.begins, &*self.part), (tail_begins, first), (tail_begins + first.len() as u64, second)];
        for (begins, bytes) in parts {
            let within = position.checked_sub(begins).and_then(|at| usize::try_from(at).ok());
            if let Some(rest) = within.and_then(|at| bytes.get(at..)).filter(|rest| !rest.is_empty()) {
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                return Ok(length);
            }
        }
        if position >= self.length {
            return Ok(0);
        }
        let _ = self.missed.0.compare_exchange(NONE, position, Ordering::AcqRel, Ordering::Acquire);
        Err(io::Error::other("this part of the file is not held"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ends: &WheelParts, mut position: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match ends.read_at(&mut bytes[filled..], position)? {
                0 => break,
                read => (filled, position) = (filled + read, position + read as u64),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn held(mut parts: WheelParts, content: &[u8]) -> WheelParts {
        content.chunks(100_003).for_each(|chunk| parts.push(chunk));
        assert!(parts.part.len() + parts.tail.len() <= PART + TAIL);
        parts
    }

    fn content(length: usize) -> Vec<u8> {
        (0_u32..).flat_map(u32::to_le_bytes).take(length).collect()
    }

    #[test]
    fn a_small_file_is_held_and_of_a_large_one_both_ends() -> io::Result<()> {
        for length in [0, 1, PART - 1, PART + 1, PART + TAIL, PART + TAIL + 1, 2 * (PART + TAIL)] {
            let content = content(length);
            let parts = held(WheelParts::default(), &content);
            assert_eq!(parts.length()?, length as u64);
            let head = length.min(PART);
            assert!(read(&parts, 0, head)? == content[..head], "{length}");
            let tail = (length - head).min(TAIL);
            assert!(read(&parts, (length - tail) as u64, tail + 9)? == content[length - tail..], "{length}");
            assert_eq!(read(&parts, head as u64, 1).is_err(), head + tail < length, "{length}");
        }
        Ok(())
    }

    #[test]
    fn what_was_missed_is_held_the_next_time() -> io::Result<()> {
        let content = content(3 * (PART + TAIL));
        let first = held(WheelParts::default(), &content);
        assert_eq!(first.missed().position(), None);
        let middle = 2 * PART + 7;
        assert!(read(&first, middle as u64, 10).is_err() && read(&first, middle as u64 + 9, 1).is_err());
        assert_eq!(first.missed().position(), Some(middle as u64));
        let second = held(WheelParts::around(middle as u64), &content);
        let (from, length) = (middle - 1000, PART / 2);
        assert!(read(&second, from as u64, length)? == content[from..from + length]);
        assert!(read(&second, (content.len() - TAIL) as u64, TAIL)? == content[content.len() - TAIL..]);
        assert!(read(&second, 0, 1).is_err());
        Ok(())
    }
}

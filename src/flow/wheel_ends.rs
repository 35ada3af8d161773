//! The two ends of a wheel that bypasses the cache: what its core metadata is read from when it cannot be stored.
//!
//! The directory of an archive is at its end, and build tools write the metadata right before it or first of all. So
//! a bounded part of each end is enough for nearly every wheel, and all of a smaller one is held.

use std::collections::VecDeque;
use std::io;

use wheelport_index::ReadAt;

/// How much of the beginning is held, in bytes.
const HEAD: usize = 4 << 20;
/// How much of the end is held, in bytes.
const TAIL: usize = 12 << 20;

/// The bytes of a file that is read only once, as far as they are held.
#[derive(Debug, Default)]
pub(super) struct WheelEnds {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    length: u64,
}

impl WheelEnds {
    /// The most that is held, in bytes.
    pub(super) const MOST: u64 = (HEAD + TAIL) as u64;

    /// Appends to the file.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.length += chunk.len() as u64;
        let (head, tail) = chunk.split_at(chunk.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }
}

impl ReadAt for WheelEnds {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let tail_begins = self.length - self.tail.len() as u64;
        let (first, second) = self.tail.as_slices();
        let parts = [(0, &*self.head), (tail_begins, first), (tail_begins + first.len() as u64, second)];
        for (begins, bytes) in parts {
            let within = position.checked_sub(begins).and_then(|at| usize::try_from(at).ok());
            if let Some(rest) = within.and_then(|at| bytes.get(at..)).filter(|rest| !rest.is_empty()) {
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                return Ok(length);
            }
        }
        if position < self.length { Err(io::Error::other("this part of the file is not held")) } else { Ok(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ends: &WheelEnds, mut position: u64, length: usize) -> io::Result<Vec<u8>> {
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

    #[test]
    fn a_small_file_is_held_and_of_a_large_one_both_ends() -> io::Result<()> {
        let content = |length: usize| -> Vec<u8> { (0_u32..).flat_map(u32::to_le_bytes).take(length).collect() };
        for length in [0, 1, HEAD - 1, HEAD + 1, HEAD + TAIL, HEAD + TAIL + 1, 2 * (HEAD + TAIL)] {
            let content = content(length);
            let mut ends = WheelEnds::default();
            content.chunks(100_003).for_each(|chunk| ends.push(chunk));
            assert_eq!(ends.length()?, length as u64);
            let head = length.min(HEAD);
            assert!(read(&ends, 0, head)? == content[..head], "{length}");
            let tail = (length - head).min(TAIL);
            assert!(read(&ends, (length - tail) as u64, tail + 9)? == content[length - tail..], "{length}");
            assert_eq!(read(&ends, head as u64, 1).is_err(), head + tail < length, "{length}");
            assert!(ends.head.len() + ends.tail.len() <= HEAD + TAIL);
        }
        Ok(())
    }
}

//! Parts of a wheel that stays at upstream: what its core metadata is read from when its server honours ranges.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use wheelport_index::ReadAt;

/// The bytes of a file of known length, as far as they are held. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct HeldParts {
    length: u64,
    /// Where each begins, and its bytes.
    parts: Vec<(u64, Bytes)>,
}

impl HeldParts {
    pub(super) fn new(length: u64, begins: u64, bytes: Bytes) -> Self {
        Self { length, parts: vec![(begins, bytes)] }
    }

    pub(super) fn add(&mut self, begins: u64, bytes: Bytes) {
        self.parts.push((begins, bytes));
    }

    /// How much is held, in bytes.
    pub(super) fn held(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Without what is held at its end; `None` if all of it is.
    pub(super) fn missing(&self, mut range: Range<u64>) -> Option<Range<u64>> {
        while let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) {
            let Some((begins, _)) = self.parts.iter().find(|part| rest(part, last).is_some()) else {
                return Some(range);
            };
            range.end = *begins;
        }
        None
    }
}

/// What a part holds from a position on.
fn rest((begins, bytes): &(u64, Bytes), position: u64) -> Option<&[u8]> {
    let within = usize::try_from(position.checked_sub(*begins)?).ok()?;
    bytes.get(within..).filter(|rest| !rest.is_empty())
}

impl ReadAt for HeldParts {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if position >= self.length {
            return Ok(0);
        }
        let found = self.parts.iter().find_map(|part| rest(part, position));
        let rest = found.ok_or_else(|| io::Error::other("this part of the file is not held"))?;
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_can_be_read_and_the_rest_is_missing() {
        let mut parts = HeldParts::new(100, 90, Bytes::from_static(b"0123456789"));
        let mut buffer = [0; 20];
        assert_eq!(parts.read_at(&mut buffer, 95).expect("held"), 5);
        assert_eq!(parts.read_at(&mut buffer, 100).expect("the end"), 0);
        assert!(parts.read_at(&mut buffer, 89).is_err());
        assert_eq!(parts.missing(80..100), Some(80..90));
        assert_eq!((parts.missing(92..95), parts.missing(50..50)), (None, None));
        parts.add(80, Bytes::from_static(b"abcdefghij"));
        assert_eq!((parts.missing(80..100), parts.missing(79..95)), (None, Some(79..80)));
        assert_eq!(parts.read_at(&mut buffer, 85).expect("held"), 5);
        assert_eq!(&buffer[..5], b"fghij");
    }
}

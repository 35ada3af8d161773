//! Reading a stored or growing file piece by piece, without blocking the async threads and without holding more than
//! one piece in memory.
//!
//! What the system holds in memory is read, or handed to the connection, on the spot; only what has to come from the disk
//! first is waited for on a helper thread.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::blobs::{Blob, Remembered};
use super::fill::{Fill, FillFailure};
use crate::runtime::lane::{self, Lane};

/// The size of one piece in bytes; also what one download holds in memory.
pub const PIECE: usize = 128 << 10;
/// Files up to this size are remembered in memory while they are open, in bytes.
const SMALL: usize = 64 << 10;
/// How far apart a part is probed for being in memory, in bytes: the system reads ahead about so much.
const PROBES: usize = 128 << 10;

/// Why a read ended before its range did.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("reading a cached file failed: {0}")]
    Io(#[from] io::Error),
    /// The file was not completed.
    #[error("the file could not be fetched completely: {0:?}")]
    Fill(FillFailure),
}

/// A range of a file, read in order.
pub struct Reader {
    file: Arc<File>,
    position: u64,
    /// `None`: until the end, which is not known yet.
    end: Option<u64>,
    fill: Option<Fill>,
    readable: u64,
    lane: Option<Lane>,
    /// Of a stored file.
    remembered: Option<Arc<Remembered>>,
}

impl Reader {
    /// Reads a range of a stored file.
    pub fn stored(blob: &Blob, range: Range<u64>) -> Self {
        Self {
            file: Arc::clone(&blob.file),
            position: range.start,
            end: Some(range.end),
            fill: None,
            readable: blob.length,
            lane: None,
            remembered: Some(Arc::clone(&blob.remembered)),
        }
    }

    /// Reads a growing file from `start` to `end`, or to wherever it ends.
    pub fn growing(fill: Fill, file: Arc<File>, start: u64, end: Option<u64>) -> Self {
        Self { file, position: start, end, fill: Some(fill), readable: 0, lane: None, remembered: None }
    }

    /// From now on long pieces are announced on the connection's lane, and stand-ins are given instead of their bytes.
    pub fn announce_on(&mut self, lane: Lane) {
        self.lane = lane::OFFERED.then_some(lane);
    }

    /// Bytes left, if known.
    pub fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.position))
    }

    /// Where the next piece begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// All that is left, if that is one short piece that can be had without waiting.
    pub fn rest_at_once(&mut self) -> Option<Bytes> {
        let rest = usize::try_from(self.remaining()?).ok().filter(|rest| *rest < PIECE)?;
        if self.fill.is_some() {
            return None;
        }
        let bytes = self.remembered_part(rest).or_else(|| {
            let bytes = read_at_once(&self.file, self.position, rest)?;
            // The whole of a small file comes from memory from now on.
            if let Some(remembered) = &self.remembered
                && self.position == 0
                && rest as u64 == self.readable
                && rest <= SMALL
            {
                let _ = remembered.bytes.set(bytes.clone());
            }
            Some(bytes)
        })?;
        self.position += rest as u64;
        Some(bytes)
    }

    fn remembered_part(&self, length: usize) -> Option<Bytes> {
        let bytes = self.remembered.as_ref()?.bytes.get()?;
        let start = usize::try_from(self.position).ok()?;
        let end = start.checked_add(length).filter(|end| *end <= bytes.len())?;
        Some(bytes.slice(start..end))
    }

    /// The next piece, or `None` at the end of the range. After an error the answer must be broken off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.end.is_some_and(|end| self.position >= end) {
            return Ok(None);
        }
        if self.readable <= self.position {
            let Some(fill) = &mut self.fill else {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            };
            self.readable = fill.readable_past(self.position).await.map_err(ReadError::Fill)?;
            if self.readable <= self.position {
                return Ok(None);
            }
        }
        let until = self.end.map_or(self.readable, |end| end.min(self.readable));
        let until = self.withhold(until).await?;
        let available = usize::try_from(until - self.position).unwrap_or(usize::MAX);
        let bytes = match &self.lane {
            Some(lane) if available >= lane::SHORTEST => {
                self.part(lane, available.min(lane::LONGEST)).await?
            }
            _ => self.piece(available.min(PIECE)).await?,
        };
        self.position += bytes.len() as u64;
        Ok(Some(bytes))
    }

    async fn piece(&self, length: usize) -> io::Result<Bytes> {
        let position = self.position;
        if let Some(bytes) = read_at_once(&self.file, position, length) {
            return Ok(bytes);
        }
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || {
            let mut bytes = BytesMut::zeroed(length);
            file.read_exact_at(&mut bytes, position)?;
            Ok(bytes.freeze())
        })
        .await
        .map_err(io::Error::other)?
    }

    /// A part for the lane. It is brought into memory first, because the connection sends it from an async thread.
    async fn part(&self, lane: &Lane, length: usize) -> io::Result<Bytes> {
        let position = self.position;
        // What a fill has just written is in memory.
        if self.fill.is_none() && !is_in_memory(&self.file, position, length) {
            let file = Arc::clone(&self.file);
            tokio::task::spawn_blocking(move || bring_into_memory(&file, position, length))
                .await
                .map_err(io::Error::other)??;
        }
        Ok(lane.stand_in(Arc::clone(&self.file), position, length))
    }

    /// The end of a range within a growing file is kept back by a byte until the whole file was verified, as the end
    /// of the file is: nobody comes to the clean end of an answer whose bytes nothing vouches for.
    async fn withhold(&mut self, until: u64) -> Result<u64, ReadError> {
        match &mut self.fill {
            Some(fill) if self.end == Some(until) => {
                if until - self.position > 1 && !fill.is_verified() {
                    return Ok(until - 1);
                }
                fill.verified().await.map_err(ReadError::Fill)?;
                Ok(until)
            }
            _ => Ok(until),
        }
    }
}

/// Reads what is in memory already; nothing, if any of it is not, or the system cannot tell.
#[cfg(target_os = "linux")]
fn read_at_once(file: &File, position: u64, length: usize) -> Option<Bytes> {
    use rustix::io::{ReadWriteFlags, preadv2};

    let mut bytes = BytesMut::zeroed(length);
    let mut slices = [io::IoSliceMut::new(&mut bytes)];
    let read = preadv2(file, &mut slices, position, ReadWriteFlags::NOWAIT).ok()?;
    (read == length).then(|| bytes.freeze())
}

#[cfg(not(target_os = "linux"))]
fn read_at_once(_: &File, _: u64, _: usize) -> Option<Bytes> {
    None
}

/// Whether a part of a file is in memory, as far as probes of it tell.
fn is_in_memory(file: &File, position: u64, length: usize) -> bool {
    let last = position + length as u64 - 1;
    (position..last).step_by(PROBES).chain([last]).all(|at| read_at_once(file, at, 1).is_some())
}

fn bring_into_memory(file: &File, position: u64, length: usize) -> io::Result<()> {
    let mut scratch = [0; 16 << 10];
    let mut at = 0;
    while at < length {
        let step = scratch.len().min(length - at);
        file.read_exact_at(&mut scratch[..step], position + at as u64)?;
        at += step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::cache::fill::{FillWriter, Head, Whole};
    use crate::pypi::Sha256;

    async fn collect(reader: &mut Reader) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        while let Some(piece) = reader.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_range_of_a_stored_file_is_exact() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        let content: Vec<u8> = (0..PIECE * 2 + 17).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect();
        file.write_all(&content)?;
        let blob = Blob::new(Arc::new(file), content.len() as u64, Sha256::of(&content));
        for range in [0..content.len(), 5..6, PIECE - 1..PIECE + 1, 7..content.len()] {
            let mut reader = Reader::stored(&blob, range.start as u64..range.end as u64);
            assert_eq!(collect(&mut reader).await?, content[range]);
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_short_rest_is_there_at_once_and_a_long_one_is_not() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&vec![7; PIECE])?;
        let blob = Blob::new(Arc::new(file), PIECE as u64, Sha256::of(b""));
        assert!(Reader::stored(&blob, 0..PIECE as u64).rest_at_once().is_none());
        let mut short = Reader::stored(&blob, 1..PIECE as u64);
        // Not every file system can tell what is in memory; then the rest comes piece by piece.
        if let Some(rest) = short.rest_at_once() {
            assert_eq!(rest.len(), PIECE - 1);
            assert_eq!(short.remaining(), Some(0));
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_small_file_is_read_once_and_every_part_of_it_is_exact()
    -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(b"wheelport")?;
        let blob = Blob::new(Arc::new(file), 9, Sha256::of(b"wheelport"));
        let part = |range: Range<u64>| Reader::stored(&blob, range).rest_at_once();
        let _ = part(2..5);
        assert!(blob.remembered.bytes.get().is_none(), "a part is not the whole");
        if part(0..9).is_none() {
            return Ok(()); // Not every file system can tell what is in memory.
        }
        blob.file.set_len(0)?;
        for range in [0..9, 2..5, 8..9] {
            let expected = &b"wheelport"[usize::try_from(range.start)?..usize::try_from(range.end)?];
            assert_eq!(part(range).as_deref(), Some(expected));
        }
        Ok(())
    }

    #[tokio::test]
    async fn long_parts_are_announced_and_the_short_tail_is_read() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        let length = lane::LONGEST + lane::SHORTEST + 5;
        file.write_all(&vec![7; length])?;
        let blob = Blob::new(Arc::new(file), length as u64, Sha256::of(b""));
        let mut reader = Reader::stored(&blob, 0..length as u64);
        reader.announce_on(Lane::default());
        let mut pieces = Vec::new();
        while let Some(piece) = reader.next().await? {
            pieces.push((Lane::is_stand_in(&piece), piece.len()));
        }
        assert_eq!(pieces.iter().map(|(_, length)| length).sum::<usize>(), length);
        if lane::OFFERED {
            assert_eq!(pieces, [(true, lane::LONGEST), (true, lane::SHORTEST + 5)]);
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_reader_of_a_growing_file_gets_what_is_there_and_fails_with_the_fill()
    -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::NamedTempFile::new()?;
        let (writer, fill) = FillWriter::new();
        let readers = Arc::new(file.reopen()?);
        writer.begin(Head { file: Arc::clone(&readers), length: None });
        file.write_all(b"wheelport")?;
        writer.wrote(9);
        let mut reader = Reader::growing(fill.clone(), Arc::clone(&readers), 0, None);
        assert_eq!(reader.next().await?.as_deref(), Some(b"wheelpor".as_slice()));
        let mut late = Reader::growing(fill.clone(), Arc::clone(&readers), 2, Some(9));
        let mut part = Reader::growing(fill, readers, 2, Some(5));
        assert_eq!(part.next().await?.as_deref(), Some(b"ee".as_slice()), "its last byte waits too");
        writer.verified(Whole { length: 9, sha256: Sha256::of(b"wheelport"), proven: true });
        assert_eq!(collect(&mut reader).await?, b"t");
        assert_eq!(collect(&mut late).await?, b"eelport");
        assert_eq!(collect(&mut part).await?, b"l");
        Ok(())
    }
}

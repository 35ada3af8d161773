//! Reading a stored or growing file piece by piece, without blocking the async threads.
//!
//! What the system holds in memory is read on the spot; only what has to come from the disk first is waited for on a helper
//! thread. Whoever takes pieces as fast as they come gives way to others now and then.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::blobs::{Blob, Remembered};
use super::fill::{Fill, FillFailure};
use super::pieces::{PIECE, Piece, Pieces};

/// Shorter answers are not given in pieces but at once, in bytes.
const AT_ONCE: usize = 128 << 10;
/// Files up to this size are remembered in memory while they are open, in bytes.
const SMALL: usize = 64 << 10;
/// After so many bytes other tasks of the thread have their turn.
const TURN: usize = 512 << 10;

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
    pieces: Pieces,
    /// Bytes given since others had their turn.
    given: usize,
    /// Of a stored file.
    remembered: Option<Arc<Remembered>>,
}

impl Reader {
    /// Reads a range of a stored file.
    pub fn stored(blob: &Blob, range: Range<u64>, pieces: Pieces) -> Self {
        Self {
            file: Arc::clone(&blob.file),
            position: range.start,
            end: Some(range.end),
            fill: None,
            readable: blob.length,
            pieces,
            given: 0,
            remembered: Some(Arc::clone(&blob.remembered)),
        }
    }

    /// Reads a growing file from `start` to `end`, or to wherever it ends.
    pub fn growing(fill: Fill, file: Arc<File>, start: u64, end: Option<u64>, pieces: Pieces) -> Self {
        Self { file, position: start, end, fill: Some(fill), readable: 0, pieces, given: 0, remembered: None }
    }

    /// Bytes left, if known.
    pub fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.position))
    }

    /// Where the next piece begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// All that is left, if that is little and can be had without waiting.
    pub fn rest_at_once(&mut self) -> Option<Bytes> {
        let rest = usize::try_from(self.remaining()?).ok().filter(|rest| *rest < AT_ONCE)?;
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
        if self.given >= TURN {
            self.given = 0;
            tokio::task::yield_now().await;
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
        let bytes = self.piece(available.min(PIECE)).await?;
        self.position += bytes.len() as u64;
        self.given += bytes.len();
        Ok(Some(bytes))
    }

    /// A piece of `length` bytes, or of those that are in memory already.
    async fn piece(&self, length: usize) -> io::Result<Bytes> {
        let (mut piece, position) = (self.pieces.take(), self.position);
        let at_once = piece.fill(length, |room| read_in_memory(&self.file, position, room));
        if at_once.is_ok() && !piece.is_empty() {
            return Ok(piece.into());
        }
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || read_from_disk(&file, position, length, piece))
            .await
            .map_err(io::Error::other)?
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

/// Reads all of a part that is in memory already.
fn read_at_once(file: &File, position: u64, length: usize) -> Option<Bytes> {
    let mut bytes = BytesMut::zeroed(length);
    let read = read_in_memory(file, position, &mut bytes).ok()?;
    (read == length).then(|| bytes.freeze())
}

/// Reads what is in memory already, as far as that goes; an error, if nothing is, or the system cannot tell.
#[cfg(target_os = "linux")]
fn read_in_memory(file: &File, position: u64, room: &mut [u8]) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};

    Ok(preadv2(file, &mut [io::IoSliceMut::new(room)], position, ReadWriteFlags::NOWAIT)?)
}

#[cfg(not(target_os = "linux"))]
fn read_in_memory(_: &File, _: u64, _: &mut [u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads a whole piece, however long the disk takes. A file that ends before is an error.
fn read_from_disk(file: &File, position: u64, length: usize, mut piece: Piece) -> io::Result<Bytes> {
    piece.fill(length, |room| file.read_exact_at(room, position).map(|()| room.len()))?;
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::cache::fill::{FillWriter, Head, Whole};
    use wheelport_index::Sha256;

    fn stored(blob: &Blob, range: Range<u64>) -> Reader {
        Reader::stored(blob, range, Pieces::default())
    }

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
            let mut reader = stored(&blob, range.start as u64..range.end as u64);
            assert_eq!(collect(&mut reader).await?, content[range]);
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_short_rest_is_there_at_once_and_a_long_one_is_not() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&vec![7; AT_ONCE])?;
        let blob = Blob::new(Arc::new(file), AT_ONCE as u64, Sha256::of(b""));
        assert!(stored(&blob, 0..AT_ONCE as u64).rest_at_once().is_none());
        let mut short = stored(&blob, 1..AT_ONCE as u64);
        // Not every file system can tell what is in memory; then the rest comes piece by piece.
        if let Some(rest) = short.rest_at_once() {
            assert_eq!(rest.len(), AT_ONCE - 1);
            assert_eq!(short.remaining(), Some(0));
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_small_file_is_read_once_and_every_part_of_it_is_exact() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(b"wheelport")?;
        let blob = Blob::new(Arc::new(file), 9, Sha256::of(b"wheelport"));
        let part = |range: Range<u64>| stored(&blob, range).rest_at_once();
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
    async fn a_file_that_became_shorter_is_an_error() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&vec![7; PIECE * 2])?;
        let blob = Blob::new(Arc::new(file), PIECE as u64 * 2, Sha256::of(b""));
        let mut reader = stored(&blob, 0..blob.length);
        assert_eq!(reader.next().await?.map(|piece| piece.len()), Some(PIECE));
        blob.file.set_len(PIECE as u64 + 9)?;
        let failed = collect(&mut reader).await.map(|bytes| bytes.len());
        assert!(
            matches!(&failed, Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof),
            "{failed:?}"
        );
        Ok(())
    }

    #[tokio::test]
    async fn others_have_their_turn_while_pieces_are_at_hand() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        let length = TURN * 3;
        file.write_all(&vec![7; length])?;
        let blob = Blob::new(Arc::new(file), length as u64, Sha256::of(b""));
        let mut reader = stored(&blob, 0..blob.length);
        let mut at_once = 0;
        while let Some(Some(piece)) = reader.next().now_or_never().transpose()? {
            at_once += piece.len();
        }
        assert!(at_once <= TURN, "{at_once} bytes in one turn");
        assert_eq!(at_once + collect(&mut reader).await?.len(), length, "nothing is lost by giving way");
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
        let growing = |start, end| Reader::growing(fill.clone(), Arc::clone(&readers), start, end, Pieces::default());
        let mut reader = growing(0, None);
        assert_eq!(reader.next().await?.as_deref(), Some(b"wheelpor".as_slice()));
        let mut late = growing(2, Some(9));
        let mut part = growing(2, Some(5));
        assert_eq!(part.next().await?.as_deref(), Some(b"ee".as_slice()), "its last byte waits too");
        writer.verified(Whole { length: 9, sha256: Sha256::of(b"wheelport"), proven: true });
        assert_eq!(collect(&mut reader).await?, b"t");
        assert_eq!(collect(&mut late).await?, b"eelport");
        assert_eq!(collect(&mut part).await?, b"l");
        Ok(())
    }
}

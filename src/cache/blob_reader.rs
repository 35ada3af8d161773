//! Reading a stored or growing file one buffer at a time, without blocking the async threads.
//!
//! Bytes that the system has in memory are read on the spot; a helper thread waits for those that have to come from the
//! disk. A reader yields to other tasks now and then, also while bytes are always available.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use super::blob::Blob;
use super::buffer_pool::{BUFFER_SIZE, Buffer, BufferPool, counted};
use super::download::{Download, DownloadFailure};
use wheelport_runtime::{blocking, sabotaged};

/// Less than this many bytes are read in one go instead of buffer by buffer.
const ONE_GO: usize = 128 << 10;
/// A reader yields to other tasks of its thread after this many bytes.
const YIELD_AFTER: usize = 512 << 10;

/// Why a read ended before its range did.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The file could not be read.
    #[error("reading a cached file failed: {0}")]
    Io(#[from] io::Error),
    /// The download of the file failed.
    #[error("the file could not be downloaded completely: {0}")]
    Download(DownloadFailure<E>),
}

/// A range of a file, read in order.
pub struct BlobReader<E> {
    source: ReadSource<E>,
    position: u64,
    /// `None`: the end of the file, which is not known yet.
    end: Option<u64>,
    readable: u64,
    buffers: BufferPool,
    /// Bytes returned since the last yield.
    since_yield: usize,
}

enum ReadSource<E> {
    Stored(Blob),
    Growing { download: Download<E>, file: Arc<File> },
}

impl<E: Clone> BlobReader<E> {
    /// Reads a range of a stored file.
    pub fn stored(blob: &Blob, range: Range<u64>, buffers: BufferPool) -> Self {
        Self {
            source: ReadSource::Stored(blob.clone()),
            position: range.start,
            end: Some(range.end),
            readable: blob.length,
            buffers,
            since_yield: 0,
        }
    }

    /// Reads a growing file from `start` to `end`, or to wherever the file ends.
    pub fn growing(download: Download<E>, file: Arc<File>, start: u64, end: Option<u64>, buffers: BufferPool) -> Self {
        let source = ReadSource::Growing { download, file };
        Self { source, position: start, end, readable: 0, buffers, since_yield: 0 }
    }

    /// The number of bytes left, if known.
    pub fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.position))
    }

    /// The position of the next byte in the file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// All bytes that are left, if they are few and available without waiting.
    pub fn rest_without_waiting(&mut self) -> Option<Bytes> {
        let rest = usize::try_from(self.remaining()?).ok().filter(|rest| *rest < ONE_GO)?;
        let ReadSource::Stored(blob) = &self.source else { return None };
        let bytes = part_in_memory(blob, self.position, rest).or_else(|| {
            // A client that reads nothing holds them, so they count.
            let reserved = self.buffers.reserve(rest)?;
            let bytes = counted(read_all_in_memory(&blob.file, self.position, rest)?, reserved);
            if self.position == 0 && !self.buffers.is_scarce() {
                blob.remember_small(&bytes);
            }
            Some(bytes)
        })?;
        self.position += rest as u64;
        Some(bytes)
    }

    /// The next bytes, or `None` at the end of the range. After an error the response must be aborted.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError<E>> {
        if self.end.is_some_and(|end| self.position >= end) {
            return Ok(None);
        }
        if self.since_yield >= YIELD_AFTER {
            self.since_yield = 0;
            tokio::task::yield_now().await;
        }
        if self.readable <= self.position {
            let ReadSource::Growing { download, .. } = &mut self.source else {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            };
            self.readable = download.readable_past(self.position).await.map_err(ReadError::Download)?;
            if self.readable <= self.position {
                return Ok(None);
            }
        }
        let until = self.end.map_or(self.readable, |end| end.min(self.readable));
        let until = self.withhold_end(until).await?;
        let available = usize::try_from(until - self.position).unwrap_or(usize::MAX);
        let bytes = self.read(available.min(BUFFER_SIZE)).await?;
        self.position += bytes.len() as u64;
        self.since_yield += bytes.len();
        Ok(Some(bytes))
    }

    /// Reads `length` bytes, or as many of them as are in memory.
    async fn read(&self, length: usize) -> io::Result<Bytes> {
        let file = match &self.source {
            ReadSource::Stored(blob) => &blob.file,
            ReadSource::Growing { file, .. } => file,
        };
        let (mut buffer, position) = (self.buffers.take(), self.position);
        let in_memory = buffer.fill(length, |memory| read_in_memory(file, position, memory));
        if in_memory.is_ok() && !buffer.is_empty() {
            return Ok(buffer.into());
        }
        let file = Arc::clone(file);
        blocking(move || read_from_disk(&file, position, length, buffer)).await.map_err(io::Error::other)?
    }

    /// Withholds the last byte of a range within a growing file until the complete file was verified, as the download
    /// withholds the last byte of the file: no response ends cleanly whose bytes were not verified.
    async fn withhold_end(&mut self, until: u64) -> Result<u64, ReadError<E>> {
        match &mut self.source {
            ReadSource::Growing { download, .. } if self.end == Some(until) && !sabotaged("withheld-end") => {
                if until - self.position > 1 && !download.is_verified() {
                    return Ok(until - 1);
                }
                download.verified().await.map_err(ReadError::Download)?;
                Ok(until)
            }
            _ => Ok(until),
        }
    }
}

/// A part of a small file whose bytes are remembered.
fn part_in_memory(blob: &Blob, position: u64, length: usize) -> Option<Bytes> {
    let bytes = blob.small_bytes()?;
    let start = usize::try_from(position).ok()?;
    let end = start.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some(bytes.slice(start..end))
}

/// Reads a part of a file if the system has all of it in memory.
fn read_all_in_memory(file: &File, position: u64, length: usize) -> Option<Box<[u8]>> {
    let mut bytes = vec![0; length];
    let read = read_in_memory(file, position, &mut bytes).ok()?;
    (read == length).then(|| bytes.into())
}

/// Reads the bytes that the system has in memory. An error, if it has none of them or cannot tell.
#[cfg(target_os = "linux")]
fn read_in_memory(file: &File, position: u64, memory: &mut [u8]) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};

    Ok(preadv2(file, &mut [io::IoSliceMut::new(memory)], position, ReadWriteFlags::NOWAIT)?)
}

#[cfg(not(target_os = "linux"))]
fn read_in_memory(_: &File, _: u64, _: &mut [u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads `length` bytes, or as many as the buffer holds, however long the disk takes. A file that ends before that is
/// an error.
fn read_from_disk(file: &File, position: u64, length: usize, mut buffer: Buffer) -> io::Result<Bytes> {
    buffer.fill(length, |memory| file.read_exact_at(memory, position).map(|()| memory.len()))?;
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::cache::blob::Complete;
    use crate::cache::download::{DownloadWriter, Started};
    use wheelport_index::Sha256;

    fn stored(blob: &Blob, range: Range<u64>) -> BlobReader<&'static str> {
        BlobReader::stored(blob, range, BufferPool::default())
    }

    async fn collect(reader: &mut BlobReader<&'static str>) -> Result<Vec<u8>, ReadError<&'static str>> {
        let mut all = Vec::new();
        while let Some(bytes) = reader.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_range_of_a_stored_file_is_exact() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        let content: Vec<u8> = (0..BUFFER_SIZE * 2 + 17).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect();
        file.write_all(&content)?;
        let blob = Blob::new(Arc::new(file), content.len() as u64, Sha256::of(&content));
        for range in [0..content.len(), 5..6, BUFFER_SIZE - 1..BUFFER_SIZE + 1, 7..content.len()] {
            let mut reader = stored(&blob, range.start as u64..range.end as u64);
            assert_eq!(collect(&mut reader).await?, content[range]);
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_short_rest_needs_no_waiting_and_a_long_one_is_read_by_buffers() -> Result<(), Box<dyn std::error::Error>>
    {
        let mut file = tempfile::tempfile()?;
        file.write_all(&vec![7; ONE_GO])?;
        let blob = Blob::new(Arc::new(file), ONE_GO as u64, Sha256::of(b""));
        assert!(stored(&blob, 0..ONE_GO as u64).rest_without_waiting().is_none());
        let mut short = stored(&blob, 1..ONE_GO as u64);
        // Not every file system can tell what is in memory; then the rest comes buffer by buffer.
        if let Some(rest) = short.rest_without_waiting() {
            assert_eq!(rest.len(), ONE_GO - 1);
            assert_eq!(short.remaining(), Some(0));
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_small_file_is_read_once_and_every_part_of_it_is_exact() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(b"wheelport")?;
        let blob = Blob::new(Arc::new(file), 9, Sha256::of(b"wheelport"));
        let part = |range: Range<u64>| stored(&blob, range).rest_without_waiting();
        let _ = part(2..5);
        assert!(blob.small_bytes().is_none(), "a part is not the complete file");
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
        file.write_all(&vec![7; BUFFER_SIZE * 2])?;
        let blob = Blob::new(Arc::new(file), BUFFER_SIZE as u64 * 2, Sha256::of(b""));
        let mut reader = stored(&blob, 0..blob.length);
        assert_eq!(reader.next().await?.map(|bytes| bytes.len()), Some(BUFFER_SIZE));
        blob.file.set_len(BUFFER_SIZE as u64 + 9)?;
        let failed = collect(&mut reader).await.map(|bytes| bytes.len());
        assert!(
            matches!(&failed, Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof),
            "{failed:?}"
        );
        Ok(())
    }

    #[tokio::test]
    async fn other_tasks_run_while_bytes_are_always_available() -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::tempfile()?;
        let length = YIELD_AFTER * 3;
        file.write_all(&vec![7; length])?;
        let blob = Blob::new(Arc::new(file), length as u64, Sha256::of(b""));
        let mut reader = stored(&blob, 0..blob.length);
        let mut first_turn = 0;
        while let Some(Some(bytes)) = reader.next().now_or_never().transpose()? {
            first_turn += bytes.len();
        }
        assert!(first_turn <= YIELD_AFTER, "{first_turn} bytes in one turn");
        assert_eq!(first_turn + collect(&mut reader).await?.len(), length, "yielding loses nothing");
        Ok(())
    }

    #[tokio::test]
    async fn a_reader_of_a_growing_file_gets_its_last_byte_once_it_is_verified()
    -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::NamedTempFile::new()?;
        let (writer, download) = DownloadWriter::new();
        let download = download.join();
        let readers = Arc::new(file.reopen()?);
        writer.start(Started { file: Arc::clone(&readers), length: None });
        file.write_all(b"wheelport")?;
        writer.written(9);
        let growing = |start, end| -> BlobReader<&'static str> {
            BlobReader::growing(download.clone(), Arc::clone(&readers), start, end, BufferPool::default())
        };
        let mut reader = growing(0, None);
        assert_eq!(reader.next().await?.as_deref(), Some(b"wheelpor".as_slice()));
        let mut late = growing(2, Some(9));
        let mut part = growing(2, Some(5));
        assert_eq!(part.next().await?.as_deref(), Some(b"ee".as_slice()), "its last byte waits too");
        writer.verified(Complete { length: 9, sha256: Sha256::of(b"wheelport"), proven: true });
        assert_eq!(collect(&mut reader).await?, b"t");
        assert_eq!(collect(&mut late).await?, b"eelport");
        assert_eq!(collect(&mut part).await?, b"l");
        Ok(())
    }
}

//! Reading one member of a ZIP archive from outside, in constant memory.
//!
//! The central directory is scanned through one buffer and never held, so an archive with a million entries costs no
//! more than one with ten. What counts as the archive follows Python's `zipfile`, which pip reads wheels with: the
//! last end record counts, and the entries are those that its central directory lists. Where a reader of the local
//! headers would see another member, the member is refused.

mod directory;
mod member;

use std::fs::File;
use std::io;
use std::sync::Arc;

pub(crate) use directory::{Directory, Member};

/// Bytes that can be read at any position: a file, or memory.
pub trait ReadAt {
    /// The number of bytes.
    fn length(&self) -> io::Result<u64>;

    /// Reads from a position on, at least one byte unless the end is reached.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, position)
    }
}

impl ReadAt for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let rest = usize::try_from(position).ok().and_then(|position| self.get(position..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        (**self).read_at(buffer, position)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        (**self).read_at(buffer, position)
    }
}

/// Why a member of an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes of the archive could not be read; it may be a good one.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// Not a ZIP archive, or a broken one.
    #[error("it is not a readable ZIP archive: {0}")]
    Broken(&'static str),
    #[error("its metadata is encrypted")]
    Encrypted,
    /// A method of compression that installers cannot read either.
    #[error("its metadata is compressed with method {0}, which installers cannot read")]
    Compression(u16),
    #[error("its metadata is larger than {0} bytes")]
    TooLarge(u64),
}

/// Reads exactly as many bytes as the buffer has.
fn read_exact_at(source: &(impl ReadAt + ?Sized), mut buffer: &mut [u8], mut position: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match source.read_at(buffer, position) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                position += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The bytes from one position to another, read one after the other.
pub(crate) struct Section<'a, R: ?Sized> {
    source: &'a R,
    position: u64,
    end: u64,
}

impl<'a, R: ReadAt + ?Sized> Section<'a, R> {
    pub(crate) fn new(source: &'a R, position: u64, end: u64) -> Self {
        Self { source, position, end }
    }
}

impl<R: ReadAt + ?Sized> io::Read for Section<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = self.source.read_at(&mut buffer[..length], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// Where a member comes to be when everything is unpacked, however its path is spelled.
pub(crate) fn unpacked(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"." | b".."));
    parts.collect::<Vec<_>>().join(&b'/')
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes[at..at + 2].try_into().map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests;

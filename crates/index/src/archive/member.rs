//! The bytes of one member: every compression that Python's `zipfile` reads, up to a bound.

use std::cell::Cell;
use std::io::{self, BufReader, Read};

use bzip2::read::BzDecoder;
use flate2::Crc;
use flate2::read::DeflateDecoder;
use lzma_rust2::LzmaReader;

use super::directory::{Directory, Member, unreadable};
use super::{ArchiveError, ReadAt, Section, read_exact_at, u16_at, u32_at};
use crate::sabotage::sabotaged;

const LOCAL_HEADER: usize = 30;
const LOCAL_SIGNATURE: &[u8; 4] = b"PK\x03\x04";
/// Flags: encrypted, patch data, strong encryption, masked header.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const PATCH: u16 = 1 << 5;
/// Flag of an LZMA stream that ends with a marker. Another one ends where its size says.
const END_MARKER: u16 = 1 << 1;
/// The smallest dictionary of an LZMA decoder.
const LEAST_DICTIONARY: u64 = 4096;

impl Directory {
    /// Reads a member that has at most `limit` bytes, and compares it with its checksum.
    pub(crate) fn read(
        &self,
        source: &(impl ReadAt + ?Sized),
        member: &Member,
        limit: u64,
    ) -> Result<Vec<u8>, ArchiveError> {
        const BROKEN: ArchiveError = ArchiveError::Broken("its metadata is damaged");
        if member.flags & ENCRYPTED != 0 && !sabotaged("encrypted-member") {
            return Err(ArchiveError::Encrypted);
        }
        if member.flags & PATCH != 0 {
            return Err(ArchiveError::Broken("its metadata is a patch"));
        }
        if member.size > limit && !sabotaged("member-limit") {
            return Err(ArchiveError::TooLarge(limit));
        }
        let start = self.data(source, member)?;
        let end = start.checked_add(member.compressed).filter(|end| *end <= self.start).ok_or(BROKEN)?;
        let failed = Cell::new(None);
        let section = Faithful { reader: Section::new(source, start, end), failed: &failed };
        let mut bytes = Vec::with_capacity(usize::try_from(member.size).unwrap_or_default());
        // One byte more would show that it is longer than it says.
        let decompressed = decompress(section, member)
            .and_then(|reader| reader.take(member.size + 1).read_to_end(&mut bytes).map_err(|_| BROKEN));
        if let Some(error) = failed.take() {
            return Err(ArchiveError::Read(error));
        }
        decompressed?;
        let mut crc = Crc::new();
        crc.update(&bytes);
        let is_whole = bytes.len() as u64 == member.size || sabotaged("member-size");
        if is_whole && (crc.sum() == member.crc32 || sabotaged("member-checksum")) { Ok(bytes) } else { Err(BROKEN) }
    }

    /// Where the bytes of a member begin: behind its local header, which must be for the same member.
    fn data(&self, source: &(impl ReadAt + ?Sized), member: &Member) -> Result<u64, ArchiveError> {
        const DIFFERS: ArchiveError = ArchiveError::Broken("its metadata has two headers that differ");
        let at = self.absolute(member.header).ok_or(DIFFERS)?;
        let mut header = vec![0; LOCAL_HEADER + member.raw_name.len()];
        read_exact_at(source, &mut header, at).map_err(unreadable)?;
        let same = header.starts_with(LOCAL_SIGNATURE)
            && u16_at(&header, 6) & ENCRYPTED == 0
            && u16_at(&header, 8) == member.method
            && usize::from(u16_at(&header, 26)) == member.raw_name.len()
            && header[LOCAL_HEADER..] == member.raw_name;
        let data = at + header.len() as u64 + u64::from(u16_at(&header, 28));
        if same || sabotaged("two-headers") { Ok(data) } else { Err(DIFFERS) }
    }
}

/// Keeps an error of the source, which a decoder would pass off as damage.
struct Faithful<'a, R> {
    reader: R,
    failed: &'a Cell<Option<io::Error>>,
}

impl<R: Read> Read for Faithful<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed.set(Some(error));
            }
            kind.into()
        })
    }
}

fn decompress<'a>(section: impl Read + 'a, member: &Member) -> Result<Box<dyn Read + 'a>, ArchiveError> {
    Ok(match member.method {
        0 => Box::new(section),
        8 => Box::new(DeflateDecoder::new(section)),
        12 => Box::new(BzDecoder::new(section)),
        14 => lzma(section, member)?,
        93 => Box::new(zstd::stream::read::Decoder::new(section).map_err(ArchiveError::Read)?),
        other => return Err(ArchiveError::Compression(other)),
    })
}

/// LZMA as ZIP has it: the version of the encoder, the length of the properties, the properties, and the raw stream.
fn lzma<'a>(section: impl Read + 'a, member: &Member) -> Result<Box<dyn Read + 'a>, ArchiveError> {
    const BROKEN: ArchiveError = ArchiveError::Broken("its metadata has broken LZMA properties");
    let mut section = BufReader::new(section);
    let mut header = [0; 9];
    section.read_exact(&mut header).map_err(unreadable)?;
    if u16_at(&header, 2) != 5 {
        return Err(BROKEN);
    }
    // The decoder allocates the dictionary at once, and no match reaches back beyond the beginning of the member.
    let dictionary = u32_at(&header, 5).min(u32::try_from(member.size.max(LEAST_DICTIONARY)).unwrap_or(u32::MAX));
    let size = if member.flags & END_MARKER == 0 { member.size } else { u64::MAX };
    let reader = LzmaReader::new_with_props(section, size, header[4], dictionary, None);
    Ok(Box::new(reader.map_err(|_| BROKEN)?))
}

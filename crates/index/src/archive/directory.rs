//! The central directory: where it is, and its entries one after the other.

use std::io;

use super::{ArchiveError, ReadAt, read_exact_at, u16_at, u32_at, u64_at};
use crate::sabotage::sabotaged;

const END_RECORD: u64 = 22;
const END_SIGNATURE: &[u8; 4] = b"PK\x05\x06";
/// The locator of the ZIP64 end record, which stands before the end record.
const LOCATOR: u64 = 20;
const LOCATOR_SIGNATURE: &[u8; 4] = b"PK\x06\x07";
const END64_RECORD: u64 = 56;
const END64_SIGNATURE: &[u8; 4] = b"PK\x06\x06";
/// The longest comment of an archive.
const MAX_COMMENT: u64 = u16::MAX as u64;

/// The fixed part of an entry.
const ENTRY: usize = 46;
const ENTRY_SIGNATURE: &[u8; 4] = b"PK\x01\x02";
/// The buffer that the directory is read through. The largest entry fits: name, extra fields and comment are shorter
/// than 64 KiB each.
const BUFFER: usize = 256 << 10;
/// The extra field of an entry that holds what does not fit into 32 bits.
const ZIP64_FIELD: u16 = 1;

/// Where the central directory of an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Directory {
    pub start: u64,
    pub end: u64,
    /// What stands before the archive, in bytes: positions inside it are counted from there. It may be negative.
    prefix: i128,
}

/// One entry, in the buffer that the next one overwrites.
pub(crate) struct Entry<'a> {
    bytes: &'a [u8],
}

/// What the central directory says of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The name as it is stored.
    pub raw_name: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    pub crc32: u32,
    pub compressed: u64,
    pub size: u64,
    /// Where its local header is, counted from the beginning of the archive.
    pub header: u64,
}

impl Directory {
    pub(crate) fn find(source: &(impl ReadAt + ?Sized)) -> Result<Self, ArchiveError> {
        let length = source.length().map_err(ArchiveError::Read)?;
        let (at, record) = end_record(source, length)?;
        let (size, offset) = (u64::from(u32_at(&record, 12)), u64::from(u32_at(&record, 16)));
        let (end, size, offset) = end64_record(source, at)?.unwrap_or((at, size, offset));
        let start = end.checked_sub(size).ok_or(ArchiveError::Broken("its directory does not fit into it"))?;
        Ok(Self { start, end, prefix: i128::from(start) - i128::from(offset) })
    }

    /// A position of the archive as one of the file.
    pub(crate) fn absolute(&self, position: u64) -> Option<u64> {
        u64::try_from(i128::from(position) + self.prefix).ok().filter(|position| *position <= self.start)
    }

    /// Calls `visit` for every entry, in the order of the directory.
    pub(crate) fn scan(
        &self,
        source: &(impl ReadAt + ?Sized),
        mut visit: impl FnMut(&Entry<'_>) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        const CUT: ArchiveError = ArchiveError::Broken("its directory is cut off");
        let mut buffer = vec![0; BUFFER.min(usize::try_from(self.end - self.start).unwrap_or(BUFFER))];
        // The buffer holds `held` bytes of the directory, and those before `used` were visited.
        let (mut position, mut used, mut held) = (self.start, 0, 0);
        loop {
            let rest = &buffer[used..held];
            let needed = if rest.len() < ENTRY { ENTRY } else { entry_length(rest)? };
            if rest.len() < needed {
                if rest.is_empty() && position == self.end {
                    return Ok(());
                }
                buffer.copy_within(used..held, 0);
                (held, used) = (held - used, 0);
                let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
                let more = left.min(buffer.len() - held);
                if held + more < needed {
                    return Err(CUT);
                }
                read_exact_at(source, &mut buffer[held..held + more], position).map_err(unreadable)?;
                (held, position) = (held + more, position + more as u64);
                continue;
            }
            visit(&Entry { bytes: &buffer[used..used + needed] })?;
            used += needed;
        }
    }
}

/// The end record and where it is: the last one in the file, as every reader looks for it.
fn end_record(source: &(impl ReadAt + ?Sized), length: u64) -> Result<(u64, Vec<u8>), ArchiveError> {
    const MISSING: ArchiveError = ArchiveError::Broken("it has no end record");
    // Without a comment it ends the file, whatever its own bytes look like. Nearly every archive is like that, and
    // where only its end is held, no more has to be.
    let bare = length.checked_sub(END_RECORD).ok_or(MISSING)?;
    let mut record = vec![0; 22];
    read_exact_at(source, &mut record, bare).map_err(unreadable)?;
    if record.starts_with(END_SIGNATURE) && record.ends_with(&[0, 0]) {
        return Ok((bare, record));
    }
    let from = length.saturating_sub(END_RECORD + MAX_COMMENT);
    let mut tail = vec![0; usize::try_from(length - from).unwrap_or_default()];
    read_exact_at(source, &mut tail, from).map_err(unreadable)?;
    // The last signature counts, also where a comment holds it and no more of a record.
    let searched = if sabotaged("cut-end-record") { tail.len() - 22 + END_SIGNATURE.len() } else { tail.len() };
    let at = memchr::memmem::rfind(&tail[..searched], END_SIGNATURE).ok_or(MISSING)?;
    let record = tail.get(at..at + 22).ok_or(MISSING)?;
    Ok((from + at as u64, record.to_vec()))
}

/// End, size and offset of the directory, if a ZIP64 end record says them.
fn end64_record(source: &(impl ReadAt + ?Sized), at: u64) -> Result<Option<(u64, u64, u64)>, ArchiveError> {
    const BROKEN: ArchiveError = ArchiveError::Broken("its ZIP64 end record cannot be found");
    let Some(locator_at) = at.checked_sub(LOCATOR) else { return Ok(None) };
    let mut locator = [0; 20];
    read_exact_at(source, &mut locator, locator_at).map_err(unreadable)?;
    if !locator.starts_with(LOCATOR_SIGNATURE) {
        return Ok(None);
    }
    if (u32_at(&locator, 4) != 0 || u32_at(&locator, 16) > 1) && !sabotaged("several-volumes") {
        return Err(ArchiveError::Broken("it is a part of several files"));
    }
    // Where the locator says, or, with something before the archive, right before the locator.
    let before = locator_at.checked_sub(END64_RECORD).ok_or(BROKEN)?;
    for start in [u64_at(&locator, 8), before] {
        let mut record = [0; 56];
        if start > before {
            continue;
        }
        read_exact_at(source, &mut record, start).map_err(unreadable)?;
        if record.starts_with(END64_SIGNATURE) || sabotaged("zip64-record") {
            return Ok(Some((start, u64_at(&record, 40), u64_at(&record, 48))));
        }
    }
    Err(BROKEN)
}

/// The length of the entry that these bytes begin with.
fn entry_length(bytes: &[u8]) -> Result<usize, ArchiveError> {
    if !bytes.starts_with(ENTRY_SIGNATURE) {
        return Err(ArchiveError::Broken("its directory has a broken entry"));
    }
    let lengths = [28, 30, 32].map(|at| usize::from(u16_at(bytes, at)));
    Ok(ENTRY + lengths.iter().sum::<usize>())
}

impl<'a> Entry<'a> {
    fn raw_name(&self) -> &'a [u8] {
        &self.bytes[ENTRY..ENTRY + usize::from(u16_at(self.bytes, 28))]
    }

    /// The name as installers see it: Python ends a name at its first NUL.
    pub(crate) fn name(&self) -> &'a [u8] {
        shown(self.raw_name())
    }

    /// All that the entry says, for as long as it is needed.
    pub(crate) fn member(&self) -> Result<Member, ArchiveError> {
        let bytes = self.bytes;
        let mut member = Member {
            raw_name: self.raw_name().to_vec(),
            flags: u16_at(bytes, 8),
            method: u16_at(bytes, 10),
            crc32: u32_at(bytes, 16),
            compressed: u64::from(u32_at(bytes, 20)),
            size: u64::from(u32_at(bytes, 24)),
            header: u64::from(u32_at(bytes, 42)),
        };
        let extra = ENTRY + member.raw_name.len();
        member.widen(&bytes[extra..extra + usize::from(u16_at(bytes, 30))])?;
        Ok(member)
    }
}

fn shown(raw: &[u8]) -> &[u8] {
    raw.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl Member {
    pub(crate) fn name(&self) -> &[u8] {
        shown(&self.raw_name)
    }

    /// Takes over what the ZIP64 field says instead of the numbers that are all ones.
    fn widen(&mut self, mut extra: &[u8]) -> Result<(), ArchiveError> {
        const BROKEN: ArchiveError = ArchiveError::Broken("its directory has a broken extra field");
        while extra.len() >= 4 {
            let (kind, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
            let mut field = extra.get(4..4 + length).ok_or(BROKEN)?;
            extra = &extra[4 + length..];
            if kind != ZIP64_FIELD {
                continue;
            }
            for number in [&mut self.size, &mut self.compressed, &mut self.header] {
                if *number == u64::from(u32::MAX) || sabotaged("zip64-field") {
                    let (wide, rest) = field.split_at_checked(8).ok_or(BROKEN)?;
                    (*number, field) = (u64_at(wide, 0), rest);
                }
            }
        }
        Ok(())
    }
}

/// A file that ends early is broken; another failure says nothing about it.
pub(super) fn unreadable(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Broken("it is cut off"),
        _ => ArchiveError::Read(error),
    }
}

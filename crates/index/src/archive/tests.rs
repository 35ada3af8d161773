//! Archives as they should be, and as they should not: written byte by byte, because no writer writes these.

use std::cell::Cell;
use std::io::Write as _;

use proptest::prelude::*;

use super::*;

const METADATA: &[u8] = b"Metadata-Version: 2.1\nName: A.b\nVersion: 1.0\n";
/// [`METADATA`] as Python's `zipfile` compresses it.
const BZIP2: &str = "425a6839314159265359806df6780000095f800010400370102003010036239c002000314006234\
    d34682549a7a260266a36\
                     890bc9d7ee74a1314cbeaeb31eea56f94561366cc0c23f82ee48a70a12100dbecf00";
const LZMA: &str = "090405005d000080000026994a862301a60271fc8bc5a8791c59001b0ee5b1176acba45fdd3eae66\
    8c668fef10f2446a23a817ff\
                    ff94d52000";
const LIMIT: u64 = 1 << 20;
/// An entry of a directory without its name.
const ENTRY_LENGTH: usize = 46;

/// One member, with both of its headers.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub name: Vec<u8>,
    pub local_name: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    pub size: u64,
    pub crc32: u32,
    pub data: Vec<u8>,
    /// Whether sizes and position stand in ZIP64 fields.
    pub wide: bool,
}

impl Part {
    pub(crate) fn new(name: &str, plain: &[u8]) -> Self {
        Self::packed(name, plain, 0, plain.to_vec())
    }

    fn packed(name: &str, plain: &[u8], method: u16, data: Vec<u8>) -> Self {
        let (name, size) = (name.as_bytes().to_vec(), plain.len() as u64);
        let mut crc = flate2::Crc::new();
        crc.update(plain);
        Self { local_name: name.clone(), name, flags: 0, method, size, crc32: crc.sum(), data, wide: false }
    }

    fn local(&self) -> Vec<u8> {
        let mut header = b"PK\x03\x04\x14\0".to_vec();
        header.extend([self.flags, self.method, 0, 0].iter().flat_map(|number| number.to_le_bytes()));
        header.extend([self.crc32, narrow(self.data.len() as u64), narrow(self.size)].map(u32::to_le_bytes).concat());
        header.extend([short(&self.local_name), 4].map(u16::to_le_bytes).concat());
        [&header, &*self.local_name, b"xx\0\0", &self.data].concat()
    }

    fn central(&self, position: u64) -> Vec<u8> {
        let numbers = [self.size, self.data.len() as u64, position];
        let [size, compressed, at] = if self.wide { [u32::MAX; 3] } else { numbers.map(narrow) };
        let mut extra = b"xx\x02\0yy".to_vec();
        if self.wide {
            extra.extend([1, 24].map(u16::to_le_bytes).concat());
            extra.extend(numbers.map(u64::to_le_bytes).concat());
        }
        let mut entry = b"PK\x01\x02\x14\0\x14\0".to_vec();
        entry.extend([self.flags, self.method, 0, 0].map(u16::to_le_bytes).concat());
        entry.extend([self.crc32, compressed, size].map(u32::to_le_bytes).concat());
        entry.extend([short(&self.name), short(&extra), 3, 0, 0, 0, 0].map(u16::to_le_bytes).concat());
        entry.extend(at.to_le_bytes());
        [&entry, &*self.name, &extra, b"abc"].concat()
    }
}

fn short(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("a short part")
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("a small number")
}

fn end_record(entries: usize, size: u64, offset: u64, comment: &[u8]) -> Vec<u8> {
    let count = u16::try_from(entries).unwrap_or(u16::MAX);
    let mut record = b"PK\x05\x06\0\0\0\0".to_vec();
    record.extend([count, count].map(u16::to_le_bytes).concat());
    record.extend([narrow(size), narrow(offset)].map(u32::to_le_bytes).concat());
    record.extend(short(comment).to_le_bytes());
    [&record, comment].concat()
}

fn end64_records(entries: u64, size: u64, offset: u64, at: u64) -> Vec<u8> {
    let mut records = b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0".to_vec();
    records.extend([entries, entries, size, offset].map(u64::to_le_bytes).concat());
    records.extend(b"PK\x06\x07\0\0\0\0");
    records.extend(at.to_le_bytes());
    records.extend(1_u32.to_le_bytes());
    records
}

/// An archive of these members.
pub(crate) fn archive(parts: &[Part]) -> Vec<u8> {
    let (mut file, directory) = bodies(parts);
    let at = file.len() as u64;
    file.extend(&directory);
    file.extend(end_record(parts.len(), directory.len() as u64, at, b""));
    file
}

fn bodies(parts: &[Part]) -> (Vec<u8>, Vec<u8>) {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for part in parts {
        directory.extend(part.central(file.len() as u64));
        file.extend(part.local());
    }
    (file, directory)
}

fn member(file: &[u8], name: &[u8]) -> Result<Option<Member>, ArchiveError> {
    let mut found = None;
    Directory::find(file)?.scan(file, |entry| {
        if entry.name() == name {
            found = Some(entry.member()?);
        }
        Ok(())
    })?;
    Ok(found)
}

fn read(file: &[u8], name: &str) -> Result<Vec<u8>, ArchiveError> {
    let found = member(file, name.as_bytes())?.ok_or(ArchiveError::Broken("no such member"))?;
    Directory::find(file)?.read(file, &found, LIMIT)
}

fn compressed() -> [Part; 5] {
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(METADATA).expect("memory can be written");
    let decoded = |text: &str| const_hex::decode(text).expect("hexadecimal");
    [
        Part::new("stored", METADATA),
        Part::packed("deflate", METADATA, 8, deflate.finish().expect("memory can be written")),
        Part::packed("bzip2", METADATA, 12, decoded(BZIP2)),
        Part { flags: 2, ..Part::packed("lzma", METADATA, 14, decoded(LZMA)) },
        Part::packed("zstd", METADATA, 93, zstd::bulk::compress(METADATA, 3).expect("memory can be written")),
    ]
}

#[test]
fn every_compression_is_read_and_damage_to_any_is_noticed() {
    let parts = compressed();
    let file = archive(&parts);
    for part in &parts {
        let name = str::from_utf8(&part.name).expect("ASCII");
        assert_eq!(read(&file, name).expect(name), METADATA);
        for at in 0..part.data.len() {
            let mut damaged = part.clone();
            damaged.data[at] ^= 0x10;
            let found = read(&archive(&[damaged]), name);
            assert!(found.as_ref().map_or(true, |bytes| bytes == METADATA), "{name}, byte {at}: {found:?}");
        }
        let cut = Part { data: part.data[..part.data.len() / 2].to_vec(), ..part.clone() };
        assert!(matches!(read(&archive(&[cut]), name), Err(ArchiveError::Broken(_))), "{name}");
    }
    let deflate64 = Part { method: 9, ..parts[1].clone() };
    assert!(matches!(read(&archive(&[deflate64]), "deflate"), Err(ArchiveError::Compression(9))));
}

#[test]
fn a_member_has_the_size_it_claims_and_no_more_than_the_limit() {
    for part in compressed() {
        let name = str::from_utf8(&part.name).expect("ASCII").to_owned();
        for size in [part.size - 1, part.size + 1, 0] {
            let lying = Part { size, ..part.clone() };
            assert!(matches!(read(&archive(&[lying]), &name), Err(ArchiveError::Broken(_))), "{name} of {size}");
        }
        // Python would end it where it says it ends, and others would not.
        let shorter = Part::new("", &METADATA[..METADATA.len() - 1]);
        let longer = Part { size: shorter.size, crc32: shorter.crc32, ..part.clone() };
        assert!(matches!(read(&archive(&[longer]), &name), Err(ArchiveError::Broken(_))), "{name} goes on");
        let large = Part { size: LIMIT + 1, ..part };
        assert!(matches!(read(&archive(&[large]), &name), Err(ArchiveError::TooLarge(LIMIT))), "{name}");
    }
    // A dictionary of 4 GiB costs what the member costs.
    let mut lzma = compressed()[3].clone();
    lzma.data[5..9].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(read(&archive(&[lzma]), "lzma").expect("a member"), METADATA);
}

#[test]
fn the_two_headers_of_a_member_agree() {
    let part = Part::new("a", METADATA);
    for (what, other) in [
        ("another name", Part { local_name: b"b".to_vec(), ..part.clone() }),
        ("a longer name", Part { local_name: b"aa".to_vec(), ..part.clone() }),
        ("what installers do not see of the name", Part { local_name: b"a\0b".to_vec(), ..part.clone() }),
    ] {
        assert!(matches!(read(&archive(&[other]), "a"), Err(ArchiveError::Broken(_))), "{what}");
    }
    let mut file = archive(std::slice::from_ref(&part));
    file[8] = 8;
    assert!(matches!(read(&file, "a"), Err(ArchiveError::Broken(_))), "another method");
    let encrypted = Part { flags: 1, ..part.clone() };
    assert!(matches!(read(&archive(&[encrypted]), "a"), Err(ArchiveError::Encrypted)));
    let mut file = archive(&[part]);
    file[6] = 1;
    assert!(read(&file, "a").is_err(), "only the local header says that it is encrypted");
    // As Python ends a name at its first NUL.
    let hidden = Part { name: b"a\0b".to_vec(), local_name: b"a\0b".to_vec(), ..Part::new("", METADATA) };
    assert_eq!(read(&archive(&[hidden]), "a").expect("a member"), METADATA);
}

#[test]
fn something_before_the_archive_and_a_comment_behind_it_change_nothing() {
    let parts = compressed();
    for before in [&b""[..], b"#!/bin/sh\n", b"PK\x05\x06 is not the end"] {
        for comment in [&b""[..], b"a comment", b"with PK\x05\x07 in it"] {
            let (bodies, directory) = bodies(&parts);
            let (size, offset) = (directory.len() as u64, bodies.len() as u64);
            let plain = [before, &bodies, &directory, &end_record(parts.len(), size, offset, comment)].concat();
            let at = offset + size;
            let large =
                [before, &bodies, &directory, &end64_records(4, size, offset, at), &end_record(4, 0, 0, comment)]
                    .concat();
            for file in [plain, large] {
                for part in &parts {
                    let name = str::from_utf8(&part.name).expect("ASCII");
                    assert_eq!(read(&file, name).expect(name), METADATA);
                }
            }
        }
    }
    let wide = Part { wide: true, ..Part::new("wide", METADATA) };
    assert_eq!(read(&archive(&[Part::new("a", b"x"), wide]), "wide").expect("a member"), METADATA);
}

#[test]
fn a_broken_archive_is_an_error() {
    let file = archive(&compressed());
    for broken in [&b""[..], b"PK", b"<html>", &[0; 100], &file[..file.len() - 9], &file[9..file.len() - 22]] {
        assert!(matches!(Directory::find(broken), Err(ArchiveError::Broken(_))), "{} bytes", broken.len());
    }
    let lying = [archive(&[]), end_record(1, 1 << 20, 0, b"")].concat();
    assert!(matches!(Directory::find(&lying[..]), Err(ArchiveError::Broken(_))));
    let torn = [&b"PK\x01\x02"[..], &end_record(1, 4, 0, b"")].concat();
    assert!(matches!(member(&torn, b"a"), Err(ArchiveError::Broken(_))));
    assert_eq!(member(&archive(&[]), b"a").expect("an empty archive"), None);
}

#[test]
fn zip64_records_are_believed_only_where_they_fit() {
    let parts = compressed();
    let (bodies, directory) = bodies(&parts);
    let (size, offset) = (directory.len() as u64, bodies.len() as u64);
    let found = |records: &[u8]| {
        let file = [&bodies, &directory, records, &end_record(5, 0, 0, b"")].concat();
        Directory::find(&file[..]).and_then(|directory| directory.scan(&file[..], |entry| entry.member().map(drop)))
    };
    let good = end64_records(5, size, offset, offset + size);
    assert!(found(&good).is_ok());
    // As after something was put before the archive.
    assert!(found(&end64_records(5, size, offset, u64::MAX)).is_ok(), "a position behind the record");
    assert!(found(&end64_records(5, size, offset, 0)).is_ok(), "another position before it");
    let (locator, broken) = (good.len() - 20, |records: &[u8]| matches!(found(records), Err(ArchiveError::Broken(_))));
    for (what, at) in [("no record", 0), ("the second of several volumes", locator + 4), ("two volumes", locator + 16)]
    {
        let mut records = good.clone();
        records[at] = 2;
        assert!(broken(&records), "{what}");
    }
    assert!(broken(&end64_records(5, u64::MAX, offset, offset + size)), "a directory larger than the file");
    assert!(broken(&good[locator..]), "a locator alone");
}

#[test]
fn only_what_does_not_fit_stands_in_a_zip64_field() {
    let part = Part { wide: true, ..Part::new("a", METADATA) };
    let (body, wide) = (part.local(), part.central(0));
    let read_with = |directory: &[u8]| {
        let (size, offset) = (directory.len() as u64, body.len() as u64);
        read(&[&body[..], directory, &end_record(1, size, offset, b"")].concat(), "a")
    };
    assert_eq!(read_with(&wide).expect("a member"), METADATA);
    // The numbers of the entry stand at 20, 24 and 42, its field begins behind the name and another field.
    let field = ENTRY_LENGTH + 1 + 6;
    let mut narrower = wide.clone();
    narrower[20..24].copy_from_slice(&narrow(METADATA.len() as u64).to_le_bytes());
    narrower.drain(field + 12..field + 20);
    narrower[30] -= 8;
    narrower[field + 2] -= 8;
    assert_eq!(read_with(&narrower).expect("a member"), METADATA, "size and position only");
    let mut short = wide.clone();
    short.drain(field + 20..field + 28);
    short[30] -= 8;
    short[field + 2] -= 8;
    assert!(matches!(read_with(&short), Err(ArchiveError::Broken(_))), "no position");
    let mut other = wide;
    other[field] = 2;
    assert!(read_with(&other).is_err(), "a field of another kind");
}

/// A file with a directory of many entries, of which only those are made that are read. Counts what is held of it.
struct Endless {
    entry: Vec<u8>,
    entries: u64,
    largest_read: Cell<usize>,
}

impl ReadAt for Endless {
    fn length(&self) -> io::Result<u64> {
        Ok(self.entries * self.entry.len() as u64 + 22)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.largest_read.set(self.largest_read.get().max(buffer.len()));
        let directory = self.length()? - 22;
        let end = end_record(usize::MAX, directory, 0, b"");
        let (part, at) = if position < directory { (&self.entry, position) } else { (&end, position - directory) };
        let part = &part[usize::try_from(at).map_err(io::Error::other)? % part.len()..];
        let length = part.len().min(buffer.len());
        buffer[..length].copy_from_slice(&part[..length]);
        Ok(length)
    }
}

#[test]
fn a_million_entries_cost_one_buffer() {
    let entry = Part::new("a/b.py", b"").central(0);
    let file = Endless { entry, entries: 1_000_000, largest_read: Cell::new(0) };
    let mut seen = 0;
    let directory = Directory::find(&file).expect("a directory");
    directory
        .scan(&file, |entry| {
            assert_eq!(entry.name(), b"a/b.py");
            seen += 1;
            Ok(())
        })
        .expect("a good directory");
    assert_eq!(seen, 1_000_000);
    assert!(file.largest_read.get() <= 256 << 10, "{}", file.largest_read.get());
}

#[test]
fn a_failure_to_read_says_nothing_about_the_archive() {
    /// Fails on one part of a file.
    struct BadSector(Vec<u8>, std::ops::Range<u64>);
    impl ReadAt for BadSector {
        fn length(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
            let end = position + buffer.len() as u64;
            if self.1.start < end && position < self.1.end {
                return Err(io::Error::other("a bad sector"));
            }
            self.0.as_slice().read_at(buffer, position)
        }
    }
    for part in compressed() {
        let file = archive(std::slice::from_ref(&part));
        let found = member(&file, &part.name).expect("a good archive").expect("a member");
        let directory = Directory::find(&file[..]).expect("a good archive");
        let data = (30 + part.name.len() + 4) as u64;
        let bad = BadSector(file, data + 12..data + 13);
        assert!(matches!(directory.read(&bad, &found, LIMIT), Err(ArchiveError::Read(_))), "{part:?}");
    }
}

fn some_part() -> impl Strategy<Value = Part> {
    let name = proptest::collection::vec(any::<u8>(), 0..300);
    let plain = proptest::collection::vec(any::<u8>(), 0..200);
    (name, plain, any::<bool>()).prop_map(|(name, plain, wide)| {
        let part = Part::new("", &plain);
        Part { local_name: name.clone(), name, wide, ..part }
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        parts in proptest::collection::vec(some_part(), 0..40),
        before in "[a-zPK\u{5}\u{6}]{0,9}",
    ) {
        let file = [before.as_bytes(), &archive(&parts)].concat();
        let directory = Directory::find(&file[..])?;
        let mut members = Vec::new();
        directory.scan(&file[..], |entry| {
            members.push(entry.member()?);
            Ok(())
        })?;
        prop_assert_eq!(members.len(), parts.len());
        for (member, part) in members.iter().zip(&parts) {
            prop_assert_eq!(&member.raw_name, &part.name);
            prop_assert_eq!(&directory.read(&file[..], member, LIMIT)?, &part.data);
        }
    }

    #[test]
    fn no_bytes_panic(
        mut file in Just(archive(&compressed())),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
    ) {
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let Ok(directory) = Directory::find(&file[..]) else { return Ok(()) };
        let _ = directory.scan(&file[..], |entry| {
            let _ = entry.member().and_then(|member| directory.read(&file[..], &member, LIMIT));
            Ok(())
        });
    }
}

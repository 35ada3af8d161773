//! Core metadata out of a source distribution: the `PKG-INFO` in its top directory (PEP 625, PEP 643).
//!
//! What counts is what an installer finds there when it has unpacked all of it with Python's `tarfile` or `zipfile`: of
//! several members in one place the last one. Where that could not be said for sure, the archive is refused.
//!
//! Blocking and bounded, as `wheel` is: the caller runs it on a thread that may block.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::archive::{ArchiveError, Directory, ReadAt, Section, unpacked};
use crate::excerpt::excerpt;
use crate::filename::FileName;
use crate::sabotage::sabotaged;
use crate::wheel::{Choice, MAX_METADATA};

/// The most members of a tar archive that are looked at.
const MAX_MEMBERS: usize = 200_000;
/// How much of any archive is unpacked in search of its `PKG-INFO`, in bytes.
const ALWAYS_UNPACKED: u64 = 64 << 20;
/// How many times its own size an archive may have beyond that; above it is a decompression bomb. PyPI has the same
/// two bounds.
const MAX_RATIO: u64 = 50;
/// The most that the headers of one member may take, in bytes: pax records, GNU long names and sparse maps. The tar
/// reader holds them in memory.
const MAX_MEMBER_HEADERS: u64 = 1 << 20;
/// The most that the paths of an archive's links may take together, in bytes. They are remembered until its end.
const MAX_LINK_PATHS: usize = 4 << 20;

/// Why no metadata can be taken from a source distribution.
#[derive(Debug, thiserror::Error)]
pub enum SdistError {
    /// Neither `.tar.gz` nor `.zip`.
    #[error("a source distribution is a .tar.gz or .zip file")]
    Format,
    #[error("the source distribution is not a readable archive: {0}")]
    Archive(String),
    /// There is no `PKG-INFO` in its top directory.
    #[error("the source distribution has no PKG-INFO in its top directory")]
    Missing,
    /// Readers of archives would not agree on what is in its place.
    #[error("the source distribution has several PKG-INFO that could be its own, or one that is no plain file")]
    Ambiguous,
    #[error(
        "the source distribution is too large to read its PKG-INFO, which may have {MAX_METADATA} bytes, in an archive \
         that unpacks to {MAX_RATIO} times its size at most"
    )]
    TooLarge,
}

/// A [`Meter`] refused to read on.
#[derive(Debug, thiserror::Error)]
#[error("the archive is too large")]
struct LimitReached;

impl From<io::Error> for SdistError {
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.downcast_ref::<LimitReached>().is_some()) {
            Self::TooLarge
        } else {
            // The reader quotes what it could not read.
            Self::Archive(excerpt(&error.to_string()))
        }
    }
}

impl From<ArchiveError> for SdistError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::TooLarge(_) => Self::TooLarge,
            other => Self::Archive(other.to_string()),
        }
    }
}

/// The bytes of `PKG-INFO` in the source distribution that is called `name`.
pub(crate) fn core_metadata(file: impl ReadAt, name: &FileName) -> Result<Vec<u8>, SdistError> {
    let suffix = name.stem().map(|stem| &name.as_str()[stem.len()..]);
    match suffix {
        Some(".tar.gz" | ".tgz") => {
            let length = file.length()?;
            let compressed = BufReader::with_capacity(1 << 16, Section::new(&file, 0, length));
            from_tar_gz(compressed, max_unpacked(length))
        }
        Some(".zip") => from_zip(&file),
        _ => Err(SdistError::Format),
    }
}

/// To how many bytes an archive of this length may unpack.
fn max_unpacked(length: u64) -> u64 {
    let ratio = if sabotaged("unpacked-size") { u64::MAX } else { MAX_RATIO };
    ALWAYS_UNPACKED.max(length.saturating_mul(ratio))
}

/// Whether an unpacked path is `{directory}/PKG-INFO`.
fn is_metadata(path: &[u8]) -> bool {
    path.strip_suffix(b"/PKG-INFO").is_some_and(|directory| !directory.is_empty() && !directory.contains(&b'/'))
}

fn from_zip(file: &impl ReadAt) -> Result<Vec<u8>, SdistError> {
    let directory = Directory::find(file)?;
    let mut choice = Choice::default();
    directory.scan(file, |entry| {
        let name = entry.name();
        if is_metadata(name.strip_prefix(b"./").unwrap_or(name)) {
            choice.add(entry.member()?);
        } else if is_metadata(&unpacked(name)) && !sabotaged("disguised-entry") {
            choice = Choice::Several;
        }
        Ok(())
    })?;
    match choice {
        Choice::One(member) => Ok(directory.read(file, &member, MAX_METADATA)?),
        Choice::None => Err(SdistError::Missing),
        Choice::Several => Err(SdistError::Ambiguous),
    }
}

fn bounded(reader: impl Read) -> Result<Vec<u8>, SdistError> {
    let mut bytes = Vec::new();
    reader.take(MAX_METADATA + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_METADATA { Err(SdistError::TooLarge) } else { Ok(bytes) }
}

/// Searches a tar archive, in one gzip member or several, for the `PKG-INFO` in its top directory. That unpacks all of
/// it, into nothing.
fn from_tar_gz(compressed: impl Read, max_unpacked: u64) -> Result<Vec<u8>, SdistError> {
    let (position, limit) = (Cell::new(0), Cell::new(MAX_MEMBER_HEADERS.min(max_unpacked)));
    let reader = MultiGzDecoder::new(compressed);
    let mut archive = Archive::new(Meter { reader, position: &position, limit: &limit });
    let mut search = TarSearch::default();
    for (number, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        if number == MAX_MEMBERS {
            return Err(SdistError::TooLarge);
        }
        let kind = entry.header().entry_type();
        // A sparse member is larger than the bytes that the archive holds for it.
        let stored = if kind == EntryType::GNUSparse { entry.header().entry_size()? } else { entry.size() };
        // The tar reader has read this member's headers. It may skip the content and read the headers of the next one.
        limit.set(position.get().saturating_add(stored).saturating_add(MAX_MEMBER_HEADERS).min(max_unpacked));
        search.visit(&mut entry)?;
    }
    search.outcome()
}

/// What a tar archive has in the place of its metadata, as far as it was read.
#[derive(Default)]
struct TarSearch {
    /// Where it is, and what is there: none if that is no plain file.
    found: Option<(Vec<u8>, Option<Vec<u8>>)>,
    /// Where links are. What is written to one of them, or below, comes to be elsewhere.
    links: HashSet<Vec<u8>>,
    /// What these paths take, in bytes.
    link_bytes: usize,
}

impl TarSearch {
    fn visit(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), SdistError> {
        let kind = entry.header().entry_type();
        let raw = entry.path_bytes().into_owned();
        if is_odd_header(entry, &raw)? || has_odd_records(entry, &raw)? {
            return Err(SdistError::Ambiguous);
        }
        // Readers differ in where a path that goes up leads.
        let goes_up = raw.ends_with(b"/PKG-INFO") && raw.split(|byte| *byte == b'/').any(|part| part == b"..");
        if goes_up && !sabotaged("upward-member") {
            return Err(SdistError::Ambiguous);
        }
        let path = unpacked(&raw);
        let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        if is_file && self.is_through_link(&path) && !sabotaged("through-link") {
            return Err(SdistError::Ambiguous);
        }
        if is_metadata(&path) {
            self.replace(entry, &raw, path, is_file)
        } else {
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                // No path is free: each takes a place in the table.
                self.link_bytes += path.len() + size_of::<Vec<u8>>();
                if self.link_bytes > MAX_LINK_PATHS && !sabotaged("link-paths") {
                    return Err(SdistError::TooLarge);
                }
                self.links.insert(path);
            }
            Ok(())
        }
    }

    /// Takes a member for what is in the place of the metadata.
    fn replace(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        raw: &[u8],
        path: Vec<u8>,
        is_file: bool,
    ) -> Result<(), SdistError> {
        // Readers differ in what a file with the name of a directory is.
        let bytes = if is_file && !raw.ends_with(b"/") { Some(whole(entry)?) } else { None };
        match &mut self.found {
            Some((known, _)) if *known != path => return Err(SdistError::Ambiguous),
            Some(_) if sabotaged("last-member") || (bytes.is_none() && sabotaged("other-member")) => {}
            found => *found = Some((path, bytes)),
        }
        Ok(())
    }

    fn is_through_link(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        !self.links.is_empty() && ends.chain([path.len()]).any(|end| self.links.contains(&path[..end]))
    }

    fn outcome(self) -> Result<Vec<u8>, SdistError> {
        match self.found {
            None => Err(SdistError::Missing),
            Some((_, None)) => Err(SdistError::Ambiguous),
            Some((_, Some(bytes))) => Ok(bytes),
        }
    }
}

/// Whether readers differ in where this member ends, or in its name.
fn is_odd_header(entry: &Entry<'_, impl Read>, path: &[u8]) -> Result<bool, SdistError> {
    let header = entry.header();
    let bytes = header.as_bytes();
    let (kind, is_old_directory) = (header.entry_type(), bytes[156] == 0 && path.ends_with(b"/"));
    let has_content = !matches!(
        kind,
        EntryType::Directory
            | EntryType::Link
            | EntryType::Symlink
            | EntryType::Fifo
            | EntryType::Char
            | EntryType::Block
    ) && !is_old_directory;
    // Python takes what follows for the next header.
    let is_longer = !has_content && header.entry_size()? > 0 && !sabotaged("empty-member");
    // The second half of a name, which Python reads from every header, and others only where it is defined.
    let has_prefix = bytes[345] != 0 && kind != EntryType::GNUSparse && header.as_ustar().is_none();
    Ok(is_longer || has_prefix && !sabotaged("name-prefix"))
}

/// Whether pax records say of members what the tar reader does not take from them: sparse files of later GNU tar, a
/// name where there is another long one, and names and sizes for all that follow.
fn has_odd_records(entry: &mut Entry<'_, impl Read>, path: &[u8]) -> Result<bool, SdistError> {
    let is_global = entry.header().entry_type().is_pax_global_extensions();
    let Some(records) = entry.pax_extensions()? else { return Ok(false) };
    for record in records {
        let record = record?;
        let key = record.key_bytes();
        let is_sparse = key.starts_with(b"GNU.sparse.") && !sabotaged("sparse-record");
        let is_general = is_global && matches!(key, b"path" | b"size" | b"linkpath") && !sabotaged("global-record");
        let is_another = !is_global && key == b"path" && record.value_bytes() != path && !sabotaged("two-names");
        if is_sparse || is_general || is_another {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The bytes of a member. The tar reader takes the end of the archive for the end of a member.
fn whole(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, SdistError> {
    let size = entry.size();
    let bytes = bounded(entry)?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
}

/// Reads up to a limit that may be raised meanwhile, and fails beyond it.
struct Meter<'a, R> {
    reader: R,
    position: &'a Cell<u64>,
    limit: &'a Cell<u64>,
}

impl<R: Read> Read for Meter<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = self.limit.get().saturating_sub(self.position.get());
        let length = buffer.len().min(usize::try_from(allowed).unwrap_or(usize::MAX));
        if length == 0 && !buffer.is_empty() {
            return Err(io::Error::other(LimitReached));
        }
        let read = self.reader.read(&mut buffer[..length])?;
        self.position.set(self.position.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::Header;

    use super::*;
    use crate::archive::tests::{Part, archive};

    /// A member with a header of its own.
    fn member(mut header: Header, name: &str, kind: EntryType, data: &[u8]) -> Vec<u8> {
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_cksum();
        let mut bytes = [header.as_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn file(name: &str, data: &[u8]) -> Vec<u8> {
        member(Header::new_ustar(), name, EntryType::Regular, data)
    }

    fn pax(records: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_bytes()))).expect("memory");
        let mut bytes = archive.into_inner().expect("memory");
        bytes.truncate(bytes.len() - END.len());
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory can be written");
        encoder.finish().expect("memory can be written")
    }

    /// The two empty blocks that end an archive.
    const END: [u8; 1024] = [0; 1024];

    fn packed(members: &[Vec<u8>]) -> Vec<u8> {
        gzip(&[&members.concat(), &END[..]].concat())
    }

    fn read(name: &str, bytes: impl AsRef<[u8]>) -> Result<String, String> {
        let name = FileName::parse(name).expect("a file name");
        core_metadata(bytes.as_ref(), &name)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_metadata_of_the_top_directory_is_found_wherever_it_stands() {
        for before in [
            member(Header::new_ustar(), "a-1.0/", EntryType::Directory, b""),
            member(Header::new_ustar(), "global", EntryType::XGlobalHeader, b"18 comment=abcdef\n"),
            member(Header::new_ustar(), "a-1.0/PKG-INFO", EntryType::Symlink, b""),
            file("a-1.0/a.egg-info/PKG-INFO", b"wrong"),
            file("PKG-INFO", b"wrong"),
            file("a-1.0/setup.py", &[b'x'; 5000]),
        ] {
            for name in ["a-1.0/PKG-INFO", "./a-1.0/PKG-INFO"] {
                let after = file("a-1.0/a.egg-info/PKG-INFO", b"wrong");
                assert_eq!(
                    read("a-1.0.tar.gz", packed(&[before.clone(), file(name, b"Name: a"), after])).as_deref(),
                    Ok("Name: a")
                );
            }
        }
        let old = member(Header::new_old(), "a-1.0/PKG-INFO", EntryType::Regular, b"Name: a");
        assert_eq!(read("a-1.0.tgz", packed(&[old])).as_deref(), Ok("Name: a"));
    }

    #[test]
    fn of_several_members_in_the_place_of_the_metadata_the_last_one_counts() {
        let link = |name, kind| member(Header::new_ustar(), name, kind, b"");
        let (first, last) = (file("a-1.0/PKG-INFO", b"first"), file("./a-1.0//PKG-INFO", b"last"));
        assert_eq!(read("a-1.0.tar.gz", packed(&[first.clone(), last])).as_deref(), Ok("last"));
        for after in [
            file("b/PKG-INFO", b"elsewhere"),
            file("a-1.0/b/../PKG-INFO", b"elsewhere"),
            file("a-1.0/PKG-INFO/", b"a directory to some"),
            link("a-1.0/PKG-INFO", EntryType::Symlink),
            link("a-1.0/PKG-INFO", EntryType::Fifo),
            [link("a-1.0/b", EntryType::Link), file("a-1.0/b", b"elsewhere")].concat(),
            [link("a-1.0/b", EntryType::Symlink), file("a-1.0/b/c", b"elsewhere")].concat(),
            pax(&[("GNU.sparse.major", "1")]),
        ] {
            let refused = read("a-1.0.tar.gz", packed(&[first.clone(), after, file("a-1.0/c", b"x")]));
            assert!(refused.as_ref().is_err_and(|text| text.contains("several PKG-INFO")), "{refused:?}");
        }
    }

    #[test]
    fn the_paths_of_links_take_a_bounded_place() {
        let path = "a/".repeat(1 << 14);
        let long = member(Header::new_gnu(), "././@LongLink", EntryType::GNULongName, format!("{path}\0").as_bytes());
        let link = [long, member(Header::new_gnu(), "b", EntryType::Symlink, b"")].concat();
        let linked = |number: usize| {
            let links = vec![link.clone(); number];
            read("a-1.0.tar.gz", packed(&[&links[..], &[file("a-1.0/PKG-INFO", b"Name: a")]].concat()))
        };
        assert_eq!(linked(100).as_deref(), Ok("Name: a"));
        assert!(linked(130).is_err_and(|text| text.contains("too large")));
    }

    #[test]
    fn a_gnu_long_name_is_the_name_of_the_next_member() {
        let long_name = |name: &str| {
            member(Header::new_gnu(), "././@LongLink", EntryType::GNULongName, format!("{name}\0").as_bytes())
        };
        let gnu = |name: &str, data| member(Header::new_gnu(), name, EntryType::Regular, data);
        let directory = "a".repeat(200);
        let bytes = packed(&[
            long_name(&format!("a-1.0/{directory}/PKG-INFO")),
            gnu("a-1.0/PKG-INFO", b"its name is the long one"),
            long_name(&format!("{directory}/PKG-INFO")),
            gnu("aaa", b"Name: a"),
        ]);
        assert_eq!(read("a-1.0.tar.gz", bytes).as_deref(), Ok("Name: a"));
    }

    #[test]
    fn a_pax_path_is_the_name_of_the_next_member_and_a_pax_size_its_size() {
        let bytes = packed(&[
            pax(&[("mtime", "1.5"), ("path", "a-1.0/é/PKG-INFO")]),
            file("a-1.0/PKG-INFO", b"its name is the other one"),
            pax(&[("comment", "x"), ("path", "a-1.0/PKG-INFO"), ("size", "7")]),
            file("shortened", b"Name: a, and more than its size"),
        ]);
        assert_eq!(read("a-1.0.tar.gz", bytes).as_deref(), Ok("Name: a"));
    }

    #[test]
    fn a_sparse_member_is_passed_over_by_what_is_stored_of_it() {
        let mut header = Header::new_gnu();
        let gnu = header.as_gnu_mut().expect("it is one");
        // Two bytes at the end of a file of a tebibyte.
        gnu.sparse[0].offset.copy_from_slice(b"17777777776\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000000002\0");
        gnu.realsize.copy_from_slice(b"20000000000\0");
        let sparse = member(header, "a-1.0/data.bin", EntryType::GNUSparse, b"xy");
        assert_eq!(
            read("a-1.0.tar.gz", packed(&[sparse, file("a-1.0/PKG-INFO", b"Name: a")])).as_deref(),
            Ok("Name: a")
        );
    }

    #[test]
    fn the_archive_goes_on_in_further_gzip_members() {
        let metadata = file("a-1.0/PKG-INFO", b"Name: a");
        let (begun, ended) = metadata.split_at(515);
        let bytes = [
            gzip(&file("a-1.0/setup.py", &[b'x'; 5000])),
            gzip(b""),
            gzip(begun),
            gzip(&[ended, &END[..]].concat()),
            b"what follows the archive does not matter".to_vec(),
        ];
        assert_eq!(read("a-1.0.tar.gz", bytes.concat()).as_deref(), Ok("Name: a"));
    }

    /// A file without end: `beginning`, then `rest` again and again. Counts what is read of it.
    struct Endless {
        beginning: Cursor<Vec<u8>>,
        rest: Vec<u8>,
        read: u64,
    }

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let mut read = self.beginning.read(buffer)?;
            if read == 0 {
                self.beginning = Cursor::new(self.rest.clone());
                read = self.beginning.read(buffer)?;
            }
            self.read += read as u64;
            Ok(read)
        }
    }

    const FAR: u64 = 1 << 40;

    /// How many bytes of the file are read before the archive is refused for its size.
    fn refused_after(beginning: &[u8], rest: &[u8], max_unpacked: u64) -> u64 {
        let mut file = Endless { beginning: Cursor::new(gzip(beginning)), rest: gzip(rest), read: 0 };
        let refused = from_tar_gz(&mut file, max_unpacked);
        assert!(matches!(refused, Err(SdistError::TooLarge)), "{refused:?}");
        file.read
    }

    #[test]
    fn an_archive_that_inflates_without_end_is_refused_after_bounded_work() {
        let header = |kind, size| {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..14].copy_from_slice(b"a-1.0/PKG-INFO");
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_cksum();
            header
        };
        let zeros = vec![0; 1 << 20];
        // What 16 MiB of zeros and the buffer of the decoder take.
        let bound = 17 * gzip(&zeros).len() as u64 + (32 << 10);
        let (anything, endless) = (8 << 20, 1 << 50);

        let read = refused_after(header(EntryType::new(b'Q'), endless).as_bytes(), &zeros, anything);
        assert!(read < bound, "one member without end: {read}");
        let read = refused_after(header(EntryType::Regular, endless).as_bytes(), &zeros, FAR);
        assert!(read < bound, "a PKG-INFO without end: {read}");
        for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink] {
            let read = refused_after(header(kind, endless).as_bytes(), &zeros, FAR);
            assert!(read < bound, "member headers without end: {read}");
        }
        let members = file("a-1.0/setup.py", b"x").repeat(1000);
        let read = refused_after(b"", &members, anything);
        assert!(read < 10 * gzip(&members).len() as u64 + (32 << 10), "members without end: {read}");

        let mut sparse = header(EntryType::GNUSparse, 0);
        sparse.as_gnu_mut().expect("it is one").set_is_extended(true);
        sparse.set_cksum();
        let mut map = tar::GnuExtSparseHeader::new();
        map.isextended = [1];
        let read = refused_after(sparse.as_bytes(), &map.as_bytes().repeat(1000), FAR);
        assert!(read < bound, "a sparse map without end: {read}");
    }

    #[test]
    fn an_archive_may_unpack_to_a_multiple_of_its_size_beyond_what_any_may() {
        let padded = |mebibytes: usize| {
            let zeros = file("a-1.0/zeros", &vec![0; mebibytes << 20]);
            read("a-1.0.tar.gz", packed(&[zeros, file("a-1.0/PKG-INFO", b"Name: a")]))
        };
        assert_eq!(padded(63).as_deref(), Ok("Name: a"));
        assert!(padded(64).is_err_and(|text| text.contains("50 times")));
        assert_eq!((max_unpacked(1 << 20), max_unpacked(2 << 20)), (64 << 20, 100 << 20));
    }

    #[test]
    fn a_sparse_file_of_zeros_is_not_read_as_metadata() {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().expect("it is one").realsize.copy_from_slice(b"20000000000\0");
        header.as_gnu_mut().expect("it is one").sparse[0].offset.copy_from_slice(b"20000000000\0");
        header.as_gnu_mut().expect("it is one").sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        let sparse = member(header, "a-1.0/PKG-INFO", EntryType::GNUSparse, b"");
        assert!(read("a-1.0.tar.gz", packed(&[sparse])).is_err_and(|text| text.contains("too large")));
    }

    #[test]
    fn missing_and_broken_metadata_are_explained() {
        let complete = packed(&[file("a-1.0/setup.py", &[b'x'; 5000])]);
        assert!(read("a-1.0.tar.gz", complete.clone()).is_err_and(|text| text.contains("no PKG-INFO")));
        let half = complete[..complete.len() / 2].to_vec();
        assert!(read("a-1.0.tar.gz", half).is_err_and(|text| text.contains("readable")));
        assert!(read("a-1.0.tar.gz", b"hello").is_err_and(|text| text.contains("readable")));
        assert!(read("a-1.0.zip", b"hello").is_err_and(|text| text.contains("readable")));
        assert!(read("a-1.0.tar.xz", Vec::new()).is_err_and(|text| text.contains(".tar.gz")));
        let mut damaged = file("a-1.0/PKG-INFO", b"x");
        damaged[0] = b'b';
        assert!(read("a-1.0.tar.gz", packed(&[damaged])).is_err_and(|text| text.contains("checksum")));
        for name in ["a-1.0/PKG-INFO", "a-1.0/setup.py"] {
            let cut = gzip(&file(name, &[b'x'; 5000])[..2000]);
            assert!(read("a-1.0.tar.gz", cut).is_err_and(|text| text.contains("readable")), "{name}");
        }
    }

    #[test]
    fn what_a_broken_archive_holds_is_quoted_without_control_characters() {
        let mut block = [b'a'; 512];
        block[148..156].copy_from_slice(b"g\x1b[2J\r\n ");
        let error = read("a-1.tar.gz", gzip(&block)).expect_err("its checksum is no number");
        assert!(error.contains("g[2J") && !error.contains(char::is_control), "{error:?}");
    }

    #[test]
    fn zip_files_work_too() {
        let part = |name: &str, text: &str| Part::new(name, text.as_bytes());
        let before = part("a-1.0/PKG-INFO", "an entry that was replaced");
        let zip = archive(&[part("PKG-INFO", "wrong"), before, part("a-1.0/PKG-INFO", "Name: a")]);
        assert_eq!(read("a-1.0.zip", zip).as_deref(), Ok("Name: a"));
        let two = archive(&[part("a-1.0/PKG-INFO", "Name: a"), part("b/PKG-INFO", "Name: a")]);
        assert!(read("a-1.0.zip", two).is_err_and(|text| text.contains("several PKG-INFO")));
    }
}

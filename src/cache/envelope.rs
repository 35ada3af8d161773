//! The envelope of record files (pages, core metadata, links, published files): one line before the record's own bytes.
//!
//! ```text
//! wheelport record 1 KIND SHA256-OF-THE-PAYLOAD CHECK
//! ```
//!
//! CHECK covers the line and the path of the record below the cache directory. So the line can be trusted without the
//! payload, and a record that turns up under another name is not taken for the one that belongs there. Pure.

use std::io::{self, BufRead};
use std::path::Path;

use sha2::{Digest as _, Sha256 as Sha256Hasher};

use wheelport_index::Sha256;
use wheelport_runtime::sabotaged;

const MAGIC: &str = "wheelport record 1";
/// The length of CHECK, in hexadecimal digits.
const CHECK: usize = 16;
/// No line is longer than this, in bytes.
pub(super) const LONGEST_LINE: usize = 128;

/// A payload in its envelope.
pub(super) fn seal(relative: &Path, payload: &[u8]) -> Vec<u8> {
    let mut sealed = line_of(relative, Sha256::of(payload)).into_bytes();
    sealed.extend_from_slice(payload);
    sealed
}

/// Takes the payload out of its envelope; `None` if the record is damaged, or belongs to another path.
pub(super) fn open(relative: &Path, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    let expected = digest(relative, &sealed)?;
    sealed.drain(..line_length(&sealed)?);
    (Sha256::of(&sealed) == expected || sabotaged("record-digest")).then_some(sealed)
}

/// Reads a record to its end. The digest and the length of its payload; `None` if it is damaged.
pub(super) fn check(relative: &Path, mut record: impl BufRead) -> io::Result<Option<(Sha256, u64)>> {
    let mut first = Vec::new();
    io::Read::take(&mut record, LONGEST_LINE as u64).read_until(b'\n', &mut first)?;
    let Some(expected) = digest(relative, &first) else { return Ok(None) };
    let (mut hasher, mut length) = (Sha256Hasher::new(), 0);
    loop {
        let bytes = record.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        let read = bytes.len();
        record.consume(read);
        length += read as u64;
    }
    let is_whole = Sha256(hasher.finalize().into()) == expected || sabotaged("record-digest");
    Ok(is_whole.then_some((expected, length)))
}

/// The digest of the payload, from the beginning of a record.
pub(super) fn digest(relative: &Path, beginning: &[u8]) -> Option<Sha256> {
    let found = &beginning[..line_length(beginning)?];
    let digest = std::str::from_utf8(found).ok()?.split(' ').nth(4)?.parse().ok()?;
    (line_of(relative, digest).as_bytes() == found || sabotaged("record-path")).then_some(digest)
}

fn line_length(record: &[u8]) -> Option<usize> {
    record.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n').map(|end| end + 1)
}

/// The first line of a record with this payload.
pub(super) fn line_of(relative: &Path, digest: Sha256) -> String {
    let kind = relative.iter().next().unwrap_or_default().to_string_lossy();
    let line = format!("{MAGIC} {kind} {digest}");
    let check = Sha256::of(format!("{}\0{line}", relative.display()).as_bytes()).to_string();
    format!("{line} {}\n", &check[..CHECK])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_noticed() {
        let path = Path::new("pages/repo/hello");
        let sealed = seal(path, b"a page");
        assert_eq!(open(path, sealed.clone()).as_deref(), Some(b"a page".as_slice()));
        assert_eq!(digest(path, &sealed), Some(Sha256::of(b"a page")));
        assert_eq!(check(path, sealed.as_slice()).expect("bytes"), Some((Sha256::of(b"a page"), 6)));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(path, damaged.as_slice()).expect("bytes"), None, "bit {bit}");
            assert_eq!(open(path, damaged), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(open(path, sealed[..length].to_vec()), None, "{length} bytes");
        }
        assert_eq!(open(path, [sealed.as_slice(), b"x"].concat()), None, "a byte more");
    }

    #[test]
    fn a_record_is_good_at_its_own_path_only() {
        let (one, other) = (Path::new("metadata/ab/cd"), Path::new("metadata/ab/ce"));
        assert_eq!(open(other, seal(one, b"Name: a")), None);
        assert_eq!(digest(other, &seal(one, b"Name: a")), None);
    }

    #[test]
    fn the_line_of_every_kind_is_found() {
        for kind in ["blobs", "pages", "metadata", "links", "published"] {
            let path = Path::new(kind).join("x".repeat(400));
            assert!(line_of(&path, Sha256::of(b"")).len() <= LONGEST_LINE);
            assert_eq!(open(&path, seal(&path, b"")).as_deref(), Some(b"".as_slice()));
        }
    }
}

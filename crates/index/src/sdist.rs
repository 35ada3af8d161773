//! Core metadata out of a source distribution: the `PKG-INFO` in its top directory (PEP 625, PEP 643).
//!
//! Blocking and bounded, as [`super::wheel`] is: the caller puts it on a thread where it may read.

use std::io::{self, Read, Seek};

use flate2::read::GzDecoder;
use zip::ZipArchive;

use super::filename::FileName;

/// The largest `PKG-INFO` that is read, in bytes.
pub const MAX_METADATA: u64 = 16 << 20;
/// The most entries looked at.
const MAX_ENTRIES: usize = 200_000;
/// How far into the unpacked archive is looked, in bytes.
const MAX_UNPACKED: u64 = 64 << 30;
const BLOCK: usize = 512;

/// Why no metadata can be taken from a source distribution.
#[derive(Debug, thiserror::Error)]
pub enum SdistError {
    /// Neither `.tar.gz` nor `.zip`.
    #[error("a source distribution is a .tar.gz or .zip file")]
    Format,
    /// The archive cannot be read.
    #[error("the source distribution is not a readable archive: {0}")]
    Archive(String),
    /// There is no `PKG-INFO` in its top directory.
    #[error("the source distribution has no PKG-INFO in its top directory")]
    Missing,
    /// Larger than [`MAX_METADATA`], or behind too much else.
    #[error("the PKG-INFO of the source distribution is larger than {MAX_METADATA} bytes or cannot be reached")]
    TooLarge,
}

impl From<io::Error> for SdistError {
    fn from(error: io::Error) -> Self {
        Self::Archive(error.to_string())
    }
}

/// The bytes of `PKG-INFO` in the source distribution that is called `name`.
pub fn core_metadata(file: impl Read + Seek, name: &FileName) -> Result<Vec<u8>, SdistError> {
    let suffix = name.stem().map(|stem| &name.as_str()[stem.len()..]);
    match suffix {
        Some(".tar.gz" | ".tgz") => {
            from_tar(GzDecoder::new(io::BufReader::with_capacity(1 << 16, file)).take(MAX_UNPACKED))
        }
        Some(".zip") => from_zip(file),
        _ => Err(SdistError::Format),
    }
}

/// Whether a path is `{directory}/PKG-INFO`.
fn is_metadata(path: &str) -> bool {
    let path = path.strip_prefix("./").unwrap_or(path);
    path.split_once('/').is_some_and(|(directory, file)| !directory.is_empty() && file == "PKG-INFO")
}

fn from_zip(file: impl Read + Seek) -> Result<Vec<u8>, SdistError> {
    let unreadable = |error: zip::result::ZipError| SdistError::Archive(error.to_string());
    let mut archive = ZipArchive::new(file).map_err(unreadable)?;
    let mut positions = archive
        .file_names_raw()
        .enumerate()
        .filter(|(_, raw)| std::str::from_utf8(raw).is_ok_and(is_metadata))
        .map(|(position, _)| position);
    let (Some(position), None) = (positions.next(), positions.next()) else {
        return Err(SdistError::Missing);
    };
    drop(positions);
    bounded(archive.by_index(position).map_err(unreadable)?)
}

fn bounded(reader: impl Read) -> Result<Vec<u8>, SdistError> {
    let mut bytes = Vec::new();
    reader.take(MAX_METADATA + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_METADATA { Err(SdistError::TooLarge) } else { Ok(bytes) }
}

/// Looks through a tar archive (POSIX ustar and pax, and the GNU form of long names) up to the first `PKG-INFO` in a
/// top directory. Build tools write it first or last, so the whole archive may have to be unpacked, into nothing.
fn from_tar(mut tar: impl Read) -> Result<Vec<u8>, SdistError> {
    let mut long_name = None;
    for _ in 0..MAX_ENTRIES {
        let mut header = [0; BLOCK];
        tar.read_exact(&mut header)?;
        if header.iter().all(|byte| *byte == 0) {
            return Err(SdistError::Missing);
        }
        let entry = Header::read(&header).ok_or_else(|| SdistError::Archive("a tar header is damaged".to_owned()))?;
        let padded = entry.size.div_ceil(BLOCK as u64) * BLOCK as u64;
        match entry.kind {
            b'L' | b'x' => {
                let bytes = contents(&mut tar, entry.size, padded)?;
                let name = if entry.kind == b'x' { pax_path(&bytes) } else { Some(until_zero(&bytes)) };
                long_name = name.or(long_name);
            }
            b'0' | 0 | b'7' if is_metadata(long_name.as_deref().unwrap_or(&entry.name)) => {
                return contents(&mut tar, entry.size, padded);
            }
            _ => {
                long_name = None;
                let skipped = io::copy(&mut (&mut tar).take(padded), &mut io::sink())?;
                if skipped != padded {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
        }
    }
    Err(SdistError::TooLarge)
}

fn contents(tar: &mut impl Read, size: u64, padded: u64) -> Result<Vec<u8>, SdistError> {
    if size > MAX_METADATA {
        return Err(SdistError::TooLarge);
    }
    let mut bytes = Vec::new();
    tar.take(padded).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < size {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    Ok(bytes)
}

struct Header {
    name: String,
    size: u64,
    kind: u8,
}

impl Header {
    fn read(block: &[u8; BLOCK]) -> Option<Self> {
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        if octal(&block[148..156])? != sum {
            return None;
        }
        let mut name = until_zero(&block[..100]);
        if &block[257..262] == b"ustar" && block[263..265] == *b"00" && block[345] != 0 {
            name = format!("{}/{name}", until_zero(&block[345..500]));
        }
        Some(Self { name, size: octal(&block[124..136])?, kind: block[156] })
    }
}

fn until_zero(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A number of a header: octal text. The binary form is only used above 8 GiB, which no file here has.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

/// The `path` record of a pax header: `LENGTH path=VALUE\n`.
fn pax_path(mut records: &[u8]) -> Option<String> {
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
        let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
        if let Some(path) = record.strip_prefix(b"path=") {
            return String::from_utf8(path.to_vec()).ok();
        }
        records = &records[length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use super::*;

    fn entry(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
        let mut block = [0_u8; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        block[156] = kind;
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut bytes = block.to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn packed(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&entries.concat()).expect("memory can be written");
        encoder.write_all(&[0; 2 * BLOCK]).expect("memory can be written");
        encoder.finish().expect("memory can be written")
    }

    fn read(name: &str, bytes: Vec<u8>) -> Result<String, String> {
        let name = FileName::parse(name).expect("a file name");
        core_metadata(Cursor::new(bytes), &name)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_metadata_of_the_top_directory_is_found_wherever_it_stands() {
        let long = format!("a-1.0/{}", "x".repeat(200));
        let pax = format!("23 path=a-1.0/PKG-INFO\n{} path=a-1.0/PKG-INFO\n", 0);
        let bytes = packed(&[
            entry("a-1.0/", b'5', b""),
            entry("a-1.0/a.egg-info/PKG-INFO", b'0', b"wrong"),
            entry("././@LongLink", b'L', long.as_bytes()),
            entry("a-1.0/PKG-INFO", b'0', b"not me: my name is the long one"),
            entry("PaxHeader", b'x', &pax.as_bytes()[..23]),
            entry("shortened", b'0', b"Name: a"),
        ]);
        assert_eq!(read("a-1.0.tar.gz", bytes), Ok("Name: a".to_owned()));
    }

    #[test]
    fn what_is_none_or_broken_is_said() {
        let whole = packed(&[entry("a-1.0/setup.py", b'0', &[b'x'; 5000])]);
        assert!(read("a-1.0.tar.gz", whole.clone()).is_err_and(|text| text.contains("no PKG-INFO")));
        assert!(read("a-1.0.tar.gz", whole[..whole.len() / 2].to_vec()).is_err_and(|text| text.contains("readable")));
        assert!(read("a-1.0.tar.gz", b"hello".to_vec()).is_err_and(|text| text.contains("readable")));
        assert!(read("a-1.0.zip", b"hello".to_vec()).is_err_and(|text| text.contains("readable")));
        assert!(read("a-1.0.tar.xz", Vec::new()).is_err_and(|text| text.contains(".tar.gz")));
        let mut damaged = entry("a-1.0/PKG-INFO", b'0', b"x");
        damaged[0] = b'b';
        assert!(read("a-1.0.tar.gz", packed(&[damaged])).is_err_and(|text| text.contains("damaged")));
    }

    #[test]
    fn zip_files_work_too() {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        archive
            .start_file("a-1.0/PKG-INFO", zip::write::SimpleFileOptions::default())
            .and_then(|()| archive.write_all(b"Name: a").map_err(Into::into))
            .expect("memory can be written");
        let bytes = archive.finish().expect("memory can be written").into_inner();
        assert_eq!(read("a-1.0.zip", bytes), Ok("Name: a".to_owned()));
    }
}

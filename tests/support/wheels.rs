//! Packages as an upstream has them: wheels built in memory, files of any name, and the pages that list them.

use std::io::{Cursor, Write as _};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::Digest as _;
use wheelport_index::{Sha256, hex};
use zip::write::{SimpleFileOptions, ZipWriter};

use super::scripted::{Reply, Scripted, Seen};

/// Where the scripted upstream's repository is.
pub(crate) const REPOSITORY: &str = "/pypi/r";

/// One file of the project `a-b`.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// The middle component of its address.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Sample {
    /// A file of any kind.
    pub(crate) fn file(version: &str, name: &str, bytes: impl Into<Bytes>) -> Self {
        Self { version: version.to_owned(), name: name.to_owned(), bytes: bytes.into() }
    }

    /// The wheel of version 1.0 with its metadata.
    pub(crate) fn wheel() -> Self {
        Self::wheel_of("1.0", 0)
    }

    /// A wheel of a version, with so much filling that does not compress.
    pub(crate) fn wheel_of(version: &str, filling: usize) -> Self {
        let directory = format!("a_b-{version}.dist-info");
        let bytes = zipped(&[
            ("a_b/__init__.py", b"A = 1\n"),
            ("a_b/filling.bin", &noise(filling)),
            (&format!("{directory}/METADATA"), metadata(version).as_bytes()),
            (&format!("{directory}/RECORD"), b""),
        ]);
        Self::file(version, &format!("a_b-{version}-py3-none-any.whl"), bytes)
    }

    /// The source distribution of a version: bytes that nothing looks into.
    pub(crate) fn sdist(version: &str, length: usize) -> Self {
        let mut bytes = noise(length);
        // No two versions are the same bytes.
        bytes.iter_mut().zip(version.bytes()).for_each(|(byte, own)| *byte = own);
        Self::file(version, &format!("a_b-{version}.tar.gz"), bytes)
    }

    /// Its address below the directory of pages, as both sides write it.
    pub(crate) fn path(&self) -> String {
        format!("/simple/a-b/{}/{}", self.version, self.name)
    }

    /// How the scripted upstream names a request for it.
    pub(crate) fn upstream(&self) -> String {
        format!("GET {REPOSITORY}{}", self.path())
    }

    /// Its SHA-256 in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        Sha256::of(&self.bytes).to_string()
    }

    /// Its SHA-512 in hexadecimal.
    pub(crate) fn sha512(&self) -> String {
        hex(&sha2::Sha512::digest(&self.bytes))
    }

    /// Its MD5 in hexadecimal.
    pub(crate) fn md5(&self) -> String {
        hex(&md5::Md5::digest(&self.bytes))
    }

    /// Its entity tag here.
    pub(crate) fn tag(&self) -> String {
        format!("\"{}\"", self.sha256())
    }

    /// Its entry on a page.
    pub(crate) fn entry(&self) -> Value {
        json!({
            "filename": self.name,
            "url": format!("{}/{}", self.version, self.name),
            "hashes": {"sha256": self.sha256()},
            "size": self.bytes.len(),
            "upload-time": "2026-01-02T03:04:05.678901Z",
        })
    }

    /// Its entry without some keys.
    pub(crate) fn entry_without(&self, keys: &[&str]) -> Value {
        let mut entry = self.entry();
        let object = entry.as_object_mut().expect("an entry is an object");
        object.retain(|key, _| !keys.contains(&key.as_str()));
        entry
    }
}

/// The metadata of a version.
pub(crate) fn metadata(version: &str) -> String {
    format!("Metadata-Version: 2.1\nName: A.b\nVersion: {version}\nRequires-Dist: c>=1\n\nWords with ümläuts.\n")
}

/// A ZIP archive, stored, so that its bytes are easy to follow.
pub(crate) fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        archive.start_file(*name, options).expect("a name for an entry");
        archive.write_all(bytes).expect("memory can be written");
    }
    archive.finish().expect("memory can be written").into_inner()
}

/// One entry of a ZIP archive as no writer writes it: its name, its compression method, its bytes as they stand in the
/// archive, and what they unpack to.
pub(crate) type RawEntry<'a> = (&'a str, u16, &'a [u8], &'a [u8]);

/// A ZIP archive of these entries, whatever their names are.
pub(crate) fn zipped_raw(entries: &[RawEntry<'_>]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, method, packed, plain) in entries {
        let mut crc = flate2::Crc::new();
        crc.update(plain);
        let sizes = [crc.sum(), length(packed), length(plain)].map(u32::to_le_bytes).concat();
        let name_length = u16::try_from(name.len()).expect("a short name").to_le_bytes();
        // Flags (1 << 1 is the end marker of LZMA, which is always there), method, time, date.
        let common = [2, *method, 0, 0x21].map(u16::to_le_bytes).concat();
        directory.extend([&b"PK\x01\x02\x3f\0\x3f\0"[..], &common, &sizes, &name_length, &[0; 12]].concat());
        directory.extend([&length(&file).to_le_bytes(), name.as_bytes()].concat());
        file.extend(
            [&b"PK\x03\x04\x3f\0"[..], &common, &sizes, &name_length, &[0; 2], name.as_bytes(), packed].concat(),
        );
    }
    let count = u16::try_from(entries.len()).unwrap_or(u16::MAX).to_le_bytes();
    let (size, at) = (length(&directory).to_le_bytes(), length(&file).to_le_bytes());
    [&file, &directory, &b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size, &at, &[0; 2]].concat()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a small archive")
}

/// Bytes without a pattern, the same ones each time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut source = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| source.u8(..)).take(length).collect()
}

/// The JSON page of `a-b` with these entries.
pub(crate) fn page(entries: &[Value]) -> Reply {
    document(&json!({"meta": {"api-version": "1.1"}, "name": "a-b", "files": entries}))
}

/// A JSON page as it stands.
pub(crate) fn document(page: &Value) -> Reply {
    Reply::ok(page.to_string()).header("content-type", super::client::JSON)
}

/// An HTML page as it stands.
pub(crate) fn html(body: &str) -> Reply {
    Reply::ok(body.to_owned()).header("content-type", "text/html; charset=utf-8")
}

/// The request for the page of `a-b`.
pub(crate) const PAGE: &str = "GET /pypi/r/simple/a-b/";

/// Publishes files on an upstream: the page, and every file.
pub(crate) fn publish(upstream: &Scripted, samples: &[&Sample]) {
    list(upstream, samples);
    for sample in samples {
        upstream.on(&sample.upstream(), Reply::ok(sample.bytes.clone()));
    }
}

/// Publishes only the page.
pub(crate) fn list(upstream: &Scripted, samples: &[&Sample]) {
    let entries: Vec<Value> = samples.iter().map(|sample| sample.entry()).collect();
    upstream.on(PAGE, page(&entries));
}

/// The first and the last byte that a request for a part of a file names; `None` for all of it.
pub(crate) fn requested(seen: &Seen, length: usize) -> Option<(usize, usize)> {
    let (first, last) = seen.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some((length - last.parse::<usize>().ok()?.min(length), length - 1));
    }
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// A part of a file.
pub(crate) fn part(bytes: &Bytes, first: usize, last: usize) -> Reply {
    Reply::status(206)
        .header("content-range", format!("bytes {first}-{last}/{}", bytes.len()))
        .body(bytes.slice(first..=last))
}

/// The bytes as a server sends them that honours ranges.
pub(crate) fn ranged(bytes: &Bytes) -> Reply {
    let bytes = bytes.clone();
    Reply::with(move |seen| match requested(seen, bytes.len()) {
        Some((first, last)) => part(&bytes, first, last),
        None => Reply::ok(bytes.clone()),
    })
}

/// The wheel of version 1.0 with 200,000 bytes of filling and other words in its metadata, of the same length.
pub(crate) fn impostor(wheel: &Sample) -> Bytes {
    let other = metadata("1.0").replace("Requires-Dist: c>=1", "Requires-Dist: d>=1");
    let directory = "a_b-1.0.dist-info";
    let bytes = zipped(&[
        ("a_b/__init__.py", b"A = 1\n"),
        ("a_b/filling.bin", &noise(200_000)),
        (&format!("{directory}/METADATA"), other.as_bytes()),
        (&format!("{directory}/RECORD"), b""),
    ]);
    assert_eq!(bytes.len(), wheel.bytes.len());
    bytes.into()
}

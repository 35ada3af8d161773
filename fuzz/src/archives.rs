//! Metadata out of wheels and source distributions.

use std::borrow::Cow;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use wheelport_index::wheel::{RequiredBy, core_metadata, description, metadata_headers, requirements};
use wheelport_index::{FileKind, FileName, ProjectName, Requirement, UploadForm, VersionSegment};

/// A wheel called `a_b-1.0-py3-none-any.whl`.
pub fn wheel(bytes: &[u8]) {
    let name = FileName::parse("a_b-1.0-py3-none-any.whl").expect("a file name");
    if let Ok(metadata) = core_metadata(bytes, &name) {
        read(&metadata);
    }
    // The text itself, which a fuzzer finds inside a compressed member only by luck.
    read(bytes);
}

fn read(metadata: &[u8]) {
    let fields = metadata_headers(metadata);
    assert!(metadata.len() <= 16 << 20);
    let required = requirements(metadata, RequiredBy::AnyPlatform);
    assert!(required.len() <= 64 && required.len() <= fields.requires_dist.len());
    assert!(description(metadata).len() <= metadata.len() * 3);
    for raw in &fields.requires_dist {
        let Some(needed) = Requirement::parse(raw) else { continue };
        assert!(needed.rest.len() + needed.marker.map_or(0, |marker| marker.len()) <= raw.len());
    }
}

/// One byte for the kind of archive, then a source distribution of version 1.0 of `a-b`.
pub fn sdist(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let (file, bytes) = match kind % 3 {
        0 => ("a_b-1.0.tar.gz", Cow::Borrowed(bytes)),
        // A checksum would keep the fuzzer out of the archive.
        1 => ("a_b-1.0.tar.gz", Cow::Owned(gzip(bytes))),
        _ => ("a_b-1.0.zip", Cow::Borrowed(bytes)),
    };
    let form = UploadForm {
        project: ProjectName::parse("a-b").expect("a project"),
        version: VersionSegment::parse("1.0").expect("a version"),
        file: FileName::parse(file).expect("a file name"),
        kind: FileKind::Sdist,
        digests: Vec::new(),
        fields: Vec::new(),
    };
    if let Ok(metadata) = form.check_content(&*bytes) {
        read(&metadata);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
}

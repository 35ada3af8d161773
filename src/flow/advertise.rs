//! Which wheels of a page advertise core metadata (PEP 658, 714).
//!
//! pip and uv abort when advertised metadata cannot be fetched, so it is advertised only where this server can deliver
//! it: for a wheel whose name can be parsed, whose bytes can be verified, and which fits into the cache. A wheel that
//! turned out to hold no usable metadata stops advertising it; where the metadata is known, its digest is given.

use crate::cache::MetadataStore;
use wheelport_index::{CoreMetadata, File, FileKind, Hashes};

/// Completes what a page says of the core metadata of these files. Reads the record of every wheel: blocking.
pub(super) fn advertise_core_metadata(files: &mut [File], store: &MetadataStore, largest: u64) {
    for file in files {
        if !can_extract(file, largest) {
            file.core_metadata = CoreMetadata::Absent;
            continue;
        }
        let known = file.hashes.sha256().and_then(|wheel| store.digest(wheel));
        file.core_metadata = match known {
            Some(None) => CoreMetadata::Absent,
            Some(Some(digest)) => {
                let mut hashes = Hashes::default();
                hashes.insert("sha256", &digest.to_string());
                CoreMetadata::Hashed(hashes)
            }
            // What upstream advertises of its own carries digests of the same bytes: those of the file in the wheel.
            None if matches!(file.core_metadata, CoreMetadata::Hashed(_)) => continue,
            None => CoreMetadata::Available,
        };
    }
}

/// Whether the metadata of this file can be served, as far as its entry tells.
fn can_extract(file: &File, largest: u64) -> bool {
    file.name.kind() == FileKind::Wheel
        && file.name.distribution().is_some()
        && file.hashes.strongest().is_some()
        && file.size.is_none_or(|size| size <= largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CoreMetadataRecord, Disk};
    use wheelport_index::{FileName, Page, ProjectName, Sha256, VersionSegment};
    use wheelport_runtime::Clock;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn file(name: &str, digest: Option<Sha256>, size: Option<u64>) -> Result<File, Box<dyn std::error::Error>> {
        let mut hashes = Hashes::default();
        if let Some(digest) = digest {
            hashes.insert("sha256", &digest.to_string());
        }
        Ok(File {
            name: FileName::parse(name)?,
            version: VersionSegment::parse("1.0")?,
            url: None,
            hashes,
            requires_python: None,
            size,
            upload_time: None,
            yanked: wheelport_index::Yanked::No,
            core_metadata: CoreMetadata::Absent,
            gpg_sig: None,
            provenance: None,
            extra: wheelport_index::Extra::default(),
        })
    }

    #[test]
    fn only_what_can_be_served_is_advertised() -> Outcome {
        let root = tempfile::tempdir()?;
        let store = MetadataStore::new(Disk::open(root.path(), 1 << 20, Clock::system())?);
        let (known, broken, unknown) = (Sha256::of(b"known"), Sha256::of(b"broken"), Sha256::of(b"unknown"));
        store.put(known, &CoreMetadataRecord::present("Name: a".into()))?;
        store.put(broken, &CoreMetadataRecord::Absent)?;
        let mut page = Page {
            name: ProjectName::parse("a")?,
            api_version: (1, 0),
            versions: None,
            files: vec![
                file("a-1.0-py3-none-any.whl", Some(unknown), Some(10))?,
                file("a-1.0-py2-none-any.whl", Some(known), None)?,
                file("a-1.0-cp3-none-any.whl", Some(broken), None)?,
                file("a-1.0.tar.gz", Some(unknown), None)?,
                file("a-1.0-nohash-none-any.whl", None, None)?,
                file("a-1.0-large-none-any.whl", Some(unknown), Some(1 << 30))?,
                file("a.whl", Some(unknown), None)?,
            ],
            status: None,
            meta_extra: wheelport_index::Extra::default(),
            extra: wheelport_index::Extra::default(),
        };
        advertise_core_metadata(&mut page.files, &store, 1 << 20);
        let mut hashed = Hashes::default();
        hashed.insert("sha256", &Sha256::of(b"Name: a").to_string());
        let advertised: Vec<_> = page.files.into_iter().map(|file| file.core_metadata).collect();
        let mut expected = vec![CoreMetadata::Available, CoreMetadata::Hashed(hashed)];
        expected.resize(7, CoreMetadata::Absent);
        assert_eq!(advertised, expected);
        Ok(())
    }
}

//! Core metadata of wheels, by the SHA-256 of the wheel (PEP 658).
//!
//! A record says either what the metadata is, or that this wheel has none that could be served; the latter keeps a
//! page from advertising what would end in an error.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::quality::RandomState;

use super::disk::{Disk, addressed};
use wheelport_index::Sha256;

/// The directory of the records.
pub(super) const DIRECTORY: &str = "metadata";
/// First bytes of a record whose rest is the metadata: a marker and the digest in hexadecimal.
const PRESENT: &[u8] = b"metadata ";
/// The whole record of a wheel without usable metadata.
const ABSENT: &[u8] = b"none\n";
const HEADER: usize = PRESENT.len() + 64 + 1;

/// What recently served metadata may take in memory, in bytes.
const MEMORY: u64 = 8 << 20;
/// What each takes besides its bytes, in bytes.
const OVERHEAD: usize = 256;

/// The core metadata records of the cache. Cheap to clone.
#[derive(Clone)]
pub struct MetadataStore {
    disk: Arc<Disk>,
    /// Metadata by the digest of its wheel. Never out of date, because both are content.
    recent: moka::sync::Cache<Sha256, CachedMetadata, RandomState>,
}

/// Core metadata, byte for byte as the wheel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedMetadata {
    /// The SHA-256 of the metadata.
    pub sha256: Sha256,
    pub bytes: Bytes,
}

/// What is recorded for a wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreMetadataRecord {
    Present(CachedMetadata),
    /// The wheel has no metadata that can be served.
    Absent,
}

impl CoreMetadataRecord {
    /// Metadata as the wheel holds it.
    pub fn present(bytes: Bytes) -> Self {
        Self::Present(CachedMetadata { sha256: Sha256::of(&bytes), bytes })
    }
}

impl MetadataStore {
    pub fn new(disk: Arc<Disk>) -> Self {
        let recent = moka::sync::Cache::builder()
            .max_capacity(MEMORY)
            .weigher(|_, held: &CachedMetadata| u32::try_from(held.bytes.len() + OVERHEAD).unwrap_or(u32::MAX))
            .build_with_hasher(RandomState::default());
        Self { disk, recent }
    }

    /// The metadata of a wheel, if it is in memory.
    pub fn in_memory(&self, wheel: Sha256) -> Option<CachedMetadata> {
        self.recent.get(&wheel)
    }

    /// What is recorded for a wheel. Blocking. A damaged record is removed and counts as missing.
    pub fn get(&self, wheel: Sha256) -> Option<CoreMetadataRecord> {
        let path = addressed(DIRECTORY, &wheel);
        let record = decode(self.disk.read_record(&path).ok()?);
        if let Some(record) = &record {
            self.remember(wheel, record);
        } else {
            tracing::warn!(%wheel, "a core metadata record is damaged and is made again");
            let _ = self.disk.remove(&path);
        }
        record
    }

    /// Holds metadata in memory, before it is recorded or instead of it.
    pub fn remember(&self, wheel: Sha256, record: &CoreMetadataRecord) {
        if let CoreMetadataRecord::Present(metadata) = record {
            self.recent.insert(wheel, metadata.clone());
        }
    }

    /// The digest of a wheel's metadata, without reading the metadata: `Some(None)` where the wheel has none. Blocking.
    pub fn digest(&self, wheel: Sha256) -> Option<Option<Sha256>> {
        if let Some(metadata) = self.recent.get(&wheel) {
            return Some(Some(metadata.sha256));
        }
        let file = std::fs::File::open(self.disk.root().join(addressed(DIRECTORY, &wheel))).ok()?;
        let mut header = Vec::with_capacity(HEADER);
        file.take(HEADER as u64).read_to_end(&mut header).ok()?;
        if header == ABSENT { Some(None) } else { header_digest(&header).map(Some) }
    }

    /// Records a wheel's metadata, or that it has none. Blocking.
    pub fn put(&self, wheel: Sha256, record: &CoreMetadataRecord) -> std::io::Result<()> {
        let bytes = match record {
            CoreMetadataRecord::Absent => ABSENT.to_vec(),
            CoreMetadataRecord::Present(CachedMetadata { sha256, bytes }) => {
                [PRESENT, sha256.to_string().as_bytes(), b"\n", bytes].concat()
            }
        };
        self.disk.write_record(&addressed(DIRECTORY, &wheel), &bytes)
    }
}

fn header_digest(record: &[u8]) -> Option<Sha256> {
    let header = record.get(..HEADER)?.strip_prefix(PRESENT)?.strip_suffix(b"\n")?;
    std::str::from_utf8(header).ok()?.parse().ok()
}

fn decode(record: Vec<u8>) -> Option<CoreMetadataRecord> {
    if record == ABSENT {
        return Some(CoreMetadataRecord::Absent);
    }
    let sha256 = header_digest(&record)?;
    let bytes = Bytes::from(record).slice(HEADER..);
    (Sha256::of(&bytes) == sha256).then_some(CoreMetadataRecord::Present(CachedMetadata { sha256, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_runtime::Clock;

    #[test]
    fn records_survive_and_damage_counts_as_missing() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let store = MetadataStore::new(Disk::open(root.path(), 1 << 20, Clock::system())?);
        let (with, without) = (Sha256::of(b"with"), Sha256::of(b"without"));
        assert_eq!(store.get(with), None);
        let metadata = CoreMetadataRecord::present(Bytes::from_static(b"Metadata-Version: 2.1\n"));
        store.put(with, &metadata)?;
        store.put(without, &CoreMetadataRecord::Absent)?;
        assert_eq!(store.get(with), Some(metadata));
        assert_eq!(store.get(without), Some(CoreMetadataRecord::Absent));
        assert_eq!(store.digest(with), Some(Some(Sha256::of(b"Metadata-Version: 2.1\n"))));
        assert_eq!(store.digest(without), Some(None));

        let path = root.path().join(addressed(DIRECTORY, &with));
        let mut record = std::fs::read(&path)?;
        record.pop();
        std::fs::write(&path, record)?;
        assert_eq!(store.get(with), None);
        assert!(!path.exists());
        Ok(())
    }
}

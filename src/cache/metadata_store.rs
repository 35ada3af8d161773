//! Core metadata of wheels, by the SHA-256 of the wheel (PEP 658).
//!
//! A record says either what the metadata is, or that this wheel has none that could be served; the latter keeps a
//! page from advertising what would end in an error.
//!
//! Metadata that was read from a part of its wheel is recorded apart, and says so: the digest of a wheel vouches for
//! all of its bytes only. It is served until the wheel has been read, to clients of the repository that it came from;
//! its digest is never told.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::quality::RandomState;

use super::disk::Disk;
use super::key::RepositoryId;
use super::layout::addressed;
use wheelport_index::Sha256;
use wheelport_runtime::sabotaged;

/// The directory of the records.
const DIRECTORY: &str = "metadata";
/// The record of a wheel without usable metadata. Other records are the metadata itself, and never this.
const ABSENT: &[u8] = b"\0no core metadata (2)\n";
/// The same from a reader that could not read every wheel that installers can: it says nothing.
const FORMER_ABSENT: &[u8] = b"\0no core metadata\n";

/// What the record of metadata that is not proven begins with.
const UNPROVEN: &[u8] = b"\0read by range\n";

/// What recently served metadata may take in memory, in bytes.
const MEMORY: u64 = 8 << 20;
/// What each takes besides its bytes, in bytes.
const OVERHEAD: usize = 256;

/// The core metadata records of the cache. Cheap to clone.
#[derive(Clone)]
pub struct MetadataStore {
    disk: Arc<Disk>,
    /// Metadata by the digest of its wheel, which is never out of date, because both are content; and by repository
    /// and wheel, what was read from a part.
    recent: moka::sync::Cache<Sha256, CoreMetadataRecord, RandomState>,
}

/// Core metadata, byte for byte as the wheel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedMetadata {
    /// The SHA-256 of the metadata.
    pub sha256: Sha256,
    pub bytes: Bytes,
    /// Whether it was taken from the whole wheel, for which a digest vouches.
    pub is_proven: bool,
}

/// What is recorded for a wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreMetadataRecord {
    Present(CachedMetadata),
    /// The wheel has no metadata that can be served.
    Absent,
}

impl CoreMetadataRecord {
    fn length(&self) -> usize {
        match self {
            Self::Present(metadata) => metadata.bytes.len(),
            Self::Absent => 0,
        }
    }

    /// Metadata as the wheel holds it.
    pub fn present(bytes: Bytes) -> Self {
        Self::Present(CachedMetadata { sha256: Sha256::of(&bytes), bytes, is_proven: true })
    }

    /// Metadata that was read from a part of the wheel.
    pub fn unproven(bytes: Bytes) -> Self {
        Self::Present(CachedMetadata { sha256: Sha256::of(&bytes), bytes, is_proven: false })
    }

    /// Whether a wheel says something else than what was read from a part of it.
    pub fn differs(&self, proven: &Self) -> bool {
        match (self, proven) {
            (Self::Present(before), Self::Present(now)) => before.sha256 != now.sha256,
            (before, now) => before != now,
        }
    }
}

impl MetadataStore {
    pub fn new(disk: Arc<Disk>) -> Self {
        let recent = moka::sync::Cache::builder()
            .max_capacity(MEMORY)
            .weigher(|_, held: &CoreMetadataRecord| u32::try_from(held.length() + OVERHEAD).unwrap_or(u32::MAX))
            .build_with_hasher(RandomState::default());
        Self { disk, recent }
    }

    /// What is known of a wheel, if that is in memory.
    pub fn in_memory(&self, wheel: Sha256) -> Option<CoreMetadataRecord> {
        self.recent.get(&wheel)
    }

    /// What is recorded for a wheel. Blocking. A damaged record is removed and counts as missing.
    pub fn get(&self, wheel: Sha256) -> Option<CoreMetadataRecord> {
        let payload = self.disk.read_record(&addressed(DIRECTORY, &wheel)).ok()?;
        let record = match &*payload {
            ABSENT => CoreMetadataRecord::Absent,
            FORMER_ABSENT => return None,
            _ => CoreMetadataRecord::present(payload.into()),
        };
        self.remember(wheel, &record);
        Some(record)
    }

    /// What was read from a part of a wheel, if nothing is known of the whole wheel and that is in memory.
    pub fn unproven_in_memory(&self, repository: &RepositoryId, wheel: Sha256) -> Option<CoreMetadataRecord> {
        self.recent.get(&unproven_key(repository, wheel))
    }

    /// What was read from a part of a wheel that has not been read as a whole since. Blocking.
    pub fn unproven(&self, repository: &RepositoryId, wheel: Sha256) -> Option<CoreMetadataRecord> {
        let key = unproven_key(repository, wheel);
        if let Some(record) = self.recent.get(&key) {
            return Some(record);
        }
        let payload = Bytes::from(self.disk.read_record(&addressed(DIRECTORY, &key)).ok()?);
        let record = CoreMetadataRecord::unproven(payload.strip_prefix(UNPROVEN).map(|rest| payload.slice_ref(rest))?);
        self.recent.insert(key, record.clone());
        Some(record)
    }

    /// Holds what was read from a part of a wheel in memory.
    pub fn remember_unproven(&self, repository: &RepositoryId, wheel: Sha256, record: &CoreMetadataRecord) {
        self.recent.insert(unproven_key(repository, wheel), record.clone());
    }

    /// Records what was read from a part of a wheel. Blocking.
    pub fn put_unproven(
        &self,
        repository: &RepositoryId,
        wheel: Sha256,
        metadata: &CachedMetadata,
    ) -> std::io::Result<()> {
        let path = addressed(DIRECTORY, &unproven_key(repository, wheel));
        self.disk.write_record(&path, &[UNPROVEN, &metadata.bytes].concat())
    }

    /// The wheel has been read: what was read from a part of it is needed no more. Blocking.
    pub fn forget_unproven(&self, repository: &RepositoryId, wheel: Sha256) -> std::io::Result<()> {
        let key = unproven_key(repository, wheel);
        self.recent.invalidate(&key);
        self.disk.remove(&addressed(DIRECTORY, &key))
    }

    /// Holds a record in memory, before it is on disk or instead of that.
    pub fn remember(&self, wheel: Sha256, record: &CoreMetadataRecord) {
        self.recent.insert(wheel, record.clone());
    }

    /// The digest of a wheel's metadata, without reading the metadata: `Some(None)` where the wheel has none. Blocking.
    pub fn digest(&self, wheel: Sha256) -> Option<Option<Sha256>> {
        match self.recent.get(&wheel) {
            Some(CoreMetadataRecord::Present(metadata)) => return Some(Some(metadata.sha256)),
            Some(CoreMetadataRecord::Absent) => return Some(None),
            None => {}
        }
        let digest = self.disk.record_digest(&addressed(DIRECTORY, &wheel))?;
        match digest {
            absent if absent == Sha256::of(ABSENT) => Some(None),
            unknown if unknown == Sha256::of(FORMER_ABSENT) => None,
            present => Some(Some(present)),
        }
    }

    /// Records a wheel's metadata, or that it has none. Blocking.
    pub fn put(&self, wheel: Sha256, record: &CoreMetadataRecord) -> std::io::Result<()> {
        let payload = match record {
            CoreMetadataRecord::Absent => ABSENT,
            CoreMetadataRecord::Present(metadata) => &metadata.bytes,
        };
        self.disk.write_record(&addressed(DIRECTORY, &wheel), payload)
    }
}

/// The key of metadata that is not proven: another than that of the wheel, for a digest that may have to be taken back
/// must not be told, since clients compare with it; and one for each repository, for no digest keeps what one of them
/// sends from the clients of another.
fn unproven_key(repository: &RepositoryId, wheel: Sha256) -> Sha256 {
    if sabotaged("unproven-digest") {
        return wheel;
    }
    let repository = if sabotaged("unproven-repository") { "" } else { repository.as_str() };
    Sha256::of(format!("by range {repository} {wheel}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_runtime::Clock;

    #[test]
    fn records_survive_and_damage_counts_as_missing() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1 << 20, Clock::system())?;
        let store = MetadataStore::new(Arc::clone(&disk));
        let (with, without) = (Sha256::of(b"with"), Sha256::of(b"without"));
        assert_eq!(store.get(with), None);
        let metadata = CoreMetadataRecord::present(Bytes::from_static(b"Metadata-Version: 2.1\n"));
        store.put(with, &metadata)?;
        store.put(without, &CoreMetadataRecord::Absent)?;
        assert_eq!(store.get(with), Some(metadata));
        assert_eq!(store.get(without), Some(CoreMetadataRecord::Absent));
        assert_eq!(store.digest(with), Some(Some(Sha256::of(b"Metadata-Version: 2.1\n"))));
        assert_eq!(store.digest(without), Some(None));
        let unknown = Sha256::of(b"unknown");
        disk.write_record(&addressed(DIRECTORY, &unknown), FORMER_ABSENT)?;
        assert_eq!((store.get(unknown), store.digest(unknown)), (None, None));

        let path = root.path().join(addressed(DIRECTORY, &with));
        let mut record = std::fs::read(&path)?;
        record.pop();
        std::fs::write(&path, record)?;
        assert_eq!(store.get(with), None);
        assert!(!path.exists());
        Ok(())
    }

    #[test]
    fn what_is_not_proven_is_served_and_its_digest_is_not_told() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1 << 20, Clock::system())?;
        let (wheel, record) = (Sha256::of(b"wheel"), CoreMetadataRecord::unproven(Bytes::from_static(b"Name: a\n")));
        let (here, there) = (RepositoryId::new(&["here"]), RepositoryId::new(&["there"]));
        let CoreMetadataRecord::Present(metadata) = &record else { return Err("it is there".into()) };
        let store = MetadataStore::new(Arc::clone(&disk));
        store.put_unproven(&here, wheel, metadata)?;
        assert_eq!((store.get(wheel), store.digest(wheel)), (None, None));
        for store in [store, MetadataStore::new(Arc::clone(&disk))] {
            assert_eq!(store.unproven_in_memory(&here, wheel), None);
            assert_eq!(
                store.unproven(&here, wheel),
                Some(record.clone()),
                "it survives a restart, and says what it is"
            );
            assert_eq!(store.unproven_in_memory(&here, wheel), Some(record.clone()));
            assert_eq!((store.digest(wheel), store.unproven(&there, wheel)), (None, None));
        }
        let (store, proven) = (MetadataStore::new(disk), CoreMetadataRecord::present(Bytes::from_static(b"Name: b\n")));
        store.remember_unproven(&here, wheel, &record);
        store.put(wheel, &proven)?;
        assert_eq!(store.get(wheel), Some(proven.clone()));
        store.forget_unproven(&here, wheel)?;
        assert_eq!(store.unproven(&here, wheel), None);
        assert!(record.differs(&proven) && record.differs(&CoreMetadataRecord::Absent));
        assert!(!record.differs(&CoreMetadataRecord::present(Bytes::from_static(b"Name: a\n"))));
        assert!(
            !root.path().join(addressed(DIRECTORY, &unproven_key(&here, wheel))).exists(),
            "the other one is removed"
        );
        Ok(())
    }
}

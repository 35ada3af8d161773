//! Core metadata of wheels, by the SHA-256 of the wheel (PEP 658).
//!
//! A record says either what the metadata is, or that this wheel has none that could be served; the latter keeps a
//! page from announcing what would end in an error.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use foldhash::quality::RandomState;
use http::HeaderMap;

use super::disk::{Disk, addressed};
use super::pages::PageContent;
use wheelport_index::Sha256;

/// First bytes of a record whose rest is the metadata: a marker and the digest in hexadecimal.
const PRESENT: &[u8] = b"metadata ";
/// The whole record of a wheel without usable metadata.
const ABSENT: &[u8] = b"none\n";
const HEADER: usize = PRESENT.len() + 64 + 1;

/// What metadata asked for lately may take in memory, in bytes.
const MEMORY: u64 = 8 << 20;
/// What each takes besides its bytes, with the head of its answer, in bytes.
const OVERHEAD: usize = 2048;

/// The core metadata records of the cache. Cheap to clone.
#[derive(Clone)]
pub struct Sidecars {
    disk: Arc<Disk>,
    /// Metadata by the digest of its wheel. Never out of date, because both are content.
    recent: moka::sync::Cache<Sha256, Arc<AtHand>, RandomState>,
}

/// Core metadata in memory.
#[derive(Debug)]
pub struct AtHand {
    /// The SHA-256 of the metadata.
    pub sha256: Sha256,
    /// The metadata.
    pub bytes: Bytes,
    /// Its strong entity tag, with quotes.
    pub tag: Box<str>,
    /// The head of the answer that was made of it.
    pub head: OnceLock<HeaderMap>,
}

impl AtHand {
    fn new(sha256: Sha256, bytes: Bytes) -> Self {
        Self { sha256, bytes, tag: format!("\"{sha256}\"").into(), head: OnceLock::new() }
    }
}

/// What is recorded for a wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sidecar {
    /// Its metadata.
    Present {
        /// The SHA-256 of the metadata.
        sha256: Sha256,
        /// The metadata, byte for byte as the wheel holds it.
        bytes: Bytes,
    },
    /// The wheel has no metadata that can be served.
    Absent,
}

impl Sidecar {
    /// Metadata as the wheel holds it.
    pub fn present(bytes: Bytes) -> Self {
        Self::Present { sha256: Sha256::of(&bytes), bytes }
    }
}

impl Sidecars {
    /// The records of a cache directory.
    pub fn new(disk: Arc<Disk>) -> Self {
        let recent = moka::sync::Cache::builder()
            .max_capacity(MEMORY)
            .weigher(|_, held: &Arc<AtHand>| u32::try_from(held.bytes.len() + OVERHEAD).unwrap_or(u32::MAX))
            .build_with_hasher(RandomState::default());
        Self { disk, recent }
    }

    /// The metadata of a wheel, if it was asked for lately.
    pub fn at_hand(&self, wheel: Sha256) -> Option<Arc<AtHand>> {
        self.recent.get(&wheel)
    }

    /// The metadata of the wheel at this position of a page, if it was asked for lately.
    pub fn at_hand_of(&self, content: &PageContent, position: usize) -> Option<Arc<AtHand>> {
        let wheel = || content.page.files.get(position)?.hashes.sha256();
        content.recent_metadata(position)?.or_look_up(|| self.at_hand(wheel()?))
    }

    /// What is recorded for a wheel. Blocking. A damaged record is removed and counts as missing.
    pub fn get(&self, wheel: Sha256) -> Option<Sidecar> {
        let path = addressed("sidecars", &wheel);
        let record = self.disk.read_record(&path).ok()?;
        let sidecar = decode(record);
        if sidecar.is_none() {
            tracing::warn!(%wheel, "a core metadata record is damaged and is made again");
            let _ = self.disk.remove(&path);
        }
        if let Some(sidecar) = &sidecar {
            self.remember(wheel, sidecar);
        }
        sidecar
    }

    /// Keeps metadata in memory, before it is recorded or instead of it.
    pub fn remember(&self, wheel: Sha256, sidecar: &Sidecar) {
        if let Sidecar::Present { sha256, bytes } = sidecar {
            self.recent.insert(wheel, Arc::new(AtHand::new(*sha256, bytes.clone())));
        }
    }

    /// The digest of a wheel's metadata, without reading the metadata: `Some(None)` where the wheel has none. Blocking.
    pub fn digest(&self, wheel: Sha256) -> Option<Option<Sha256>> {
        use std::io::Read as _;
        if let Some(held) = self.recent.get(&wheel) {
            return Some(Some(held.sha256));
        }
        let file = std::fs::File::open(self.disk.root().join(addressed("sidecars", &wheel))).ok()?;
        let mut head = Vec::with_capacity(HEADER);
        file.take(HEADER as u64).read_to_end(&mut head).ok()?;
        if head == ABSENT { Some(None) } else { header_digest(&head).map(Some) }
    }

    /// Records a wheel's metadata, or that it has none. Blocking.
    pub fn put(&self, wheel: Sha256, sidecar: &Sidecar) -> std::io::Result<()> {
        let record = match sidecar {
            Sidecar::Absent => ABSENT.to_vec(),
            Sidecar::Present { sha256, bytes } => [PRESENT, sha256.to_string().as_bytes(), b"\n", bytes].concat(),
        };
        self.disk.write_record(&addressed("sidecars", &wheel), &record)
    }
}

fn header_digest(record: &[u8]) -> Option<Sha256> {
    let header = record.get(..HEADER)?.strip_prefix(PRESENT)?.strip_suffix(b"\n")?;
    std::str::from_utf8(header).ok()?.parse().ok()
}

fn decode(record: Vec<u8>) -> Option<Sidecar> {
    if record == ABSENT {
        return Some(Sidecar::Absent);
    }
    let sha256 = header_digest(&record)?;
    let bytes = Bytes::from(record).slice(HEADER..);
    (Sha256::of(&bytes) == sha256).then_some(Sidecar::Present { sha256, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_runtime::Clock;

    #[test]
    fn records_survive_and_damage_counts_as_missing() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let sidecars = Sidecars::new(Disk::open(root.path(), 1 << 20, Clock::system())?);
        let (with, without) = (Sha256::of(b"with"), Sha256::of(b"without"));
        assert_eq!(sidecars.get(with), None);
        let metadata = Sidecar::present(Bytes::from_static(b"Metadata-Version: 2.1\n"));
        sidecars.put(with, &metadata)?;
        sidecars.put(without, &Sidecar::Absent)?;
        assert_eq!(sidecars.get(with), Some(metadata));
        assert_eq!(sidecars.get(without), Some(Sidecar::Absent));
        assert_eq!(sidecars.digest(with), Some(Some(Sha256::of(b"Metadata-Version: 2.1\n"))));
        assert_eq!(sidecars.digest(without), Some(None));

        let path = root.path().join(addressed("sidecars", &with));
        let mut record = std::fs::read(&path)?;
        record.pop();
        std::fs::write(&path, record)?;
        assert_eq!(sidecars.get(with), None);
        assert!(!path.exists());
        Ok(())
    }
}

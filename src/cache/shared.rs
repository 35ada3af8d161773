//! Documents as replicas share them: compressed, with the time upstream gave them and a generation. Bytes from outside:
//! what does not agree with itself is an error, and expanding has a bound.

use std::io::{self, BufReader, Read as _};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::persisted::encode;

/// The longest shared document in its compressed form, in bytes.
pub const LARGEST_SHARED: usize = 64 << 20;
/// The longest that one is expanded to, in bytes.
const LARGEST_EXPANDED: u64 = 512 << 20;

/// A document that was fetched further in the future than this was fetched by a clock that is wrong.
const MAX_SKEW: Duration = Duration::from_mins(1);

/// A document and what replicas have to know of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedDocument<D> {
    /// Counts what was written in its place.
    pub generation: u64,
    /// When upstream was asked for it, in milliseconds since the Unix epoch, by the clock of the replica that asked.
    pub fetched: u64,
    pub document: D,
}

impl<D> SharedDocument<D> {
    /// How long ago upstream was asked for it, by this calendar; none where that cannot be.
    pub fn age(&self, now: Duration) -> Option<Duration> {
        let fetched = Duration::from_millis(self.fetched);
        (fetched <= now + MAX_SKEW).then(|| now.saturating_sub(fetched))
    }
}

impl<D: Serialize> SharedDocument<D> {
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        encode(self)
    }
}

impl<D: DeserializeOwned> SharedDocument<D> {
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        decode(bytes)
    }
}

/// Expands and reads what another replica wrote.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let expanded = zstd::stream::Decoder::with_buffer(bytes)?.take(LARGEST_EXPANDED);
    serde_json::from_reader(BufReader::new(expanded)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_document_comes_back_and_a_cut_one_is_an_error() -> io::Result<()> {
        let bytes = SharedDocument { generation: 3, fetched: 17, document: vec!["a"; 100] }.encode()?;
        let back = SharedDocument::<Vec<String>>::decode(&bytes)?;
        assert_eq!((back.generation, back.fetched, back.document.len()), (3, 17, 100));
        assert_eq!(back.age(Duration::from_millis(20)), Some(Duration::from_millis(3)));
        let later = SharedDocument { fetched: 60_001, ..back };
        assert_eq!((later.age(Duration::from_millis(1)), later.age(Duration::ZERO)), (Some(Duration::ZERO), None));
        assert!(SharedDocument::<Vec<String>>::decode(&bytes[..bytes.len() - 5]).is_err());
        assert!(SharedDocument::<Vec<u64>>::decode(&bytes).is_err());
        Ok(())
    }
}

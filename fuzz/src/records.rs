//! Records of the cache directory: their envelope, and what is in it. Files of `cache` are compiled into this crate, over
//! a disk that holds one record in memory.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wheelport_index::{Page, ProjectList, ProjectName};
use wheelport_runtime::Clock;

#[path = "../../src/cache/envelope.rs"]
mod envelope;
#[path = "../../src/cache/freshness.rs"]
mod freshness;
#[path = "../../src/cache/key.rs"]
mod key;
#[path = "../../src/cache/persisted.rs"]
mod persisted;
#[path = "../../src/cache/published.rs"]
mod published;
#[path = "../../src/cache/settings.rs"]
mod settings;

pub(crate) use settings::CacheSettings;

use disk::Disk;
use key::{PageKey, RepositoryId};
use persisted::PersistedIndex;
use published::Published;

use crate::names::safe;

/// What the files above name of others.
mod records {
    use std::time::Duration;

    pub(super) struct FetchedAt(pub(super) Duration);

    impl FetchedAt {
        pub(super) fn aged(prior: Duration) -> Self {
            Self(prior)
        }
    }
}

mod layout {
    pub(super) const PUBLISHED: &str = "published";
}

mod disk {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::time::Duration;

    use super::envelope;

    /// A disk with one record, in its envelope.
    #[derive(Default)]
    pub(super) struct Disk(pub(super) Mutex<Option<(PathBuf, Vec<u8>)>>);

    impl Disk {
        pub(super) fn holding(path: &Path, payload: &[u8]) -> Self {
            Self(Mutex::new(Some((path.to_owned(), envelope::seal(path, payload)))))
        }

        pub(super) fn root(&self) -> &Path {
            Path::new("/nonexistent")
        }

        pub(super) fn read_record(&self, path: &Path) -> io::Result<Vec<u8>> {
            let held = self.0.lock().expect("no panic").clone();
            let sealed = held.filter(|(held, _)| held == path).ok_or(io::ErrorKind::NotFound)?.1;
            envelope::open(path, sealed).ok_or_else(|| io::ErrorKind::InvalidData.into())
        }

        pub(super) fn write_record(&self, path: &Path, payload: &[u8]) -> io::Result<()> {
            *self.0.lock().expect("no panic") = Some((path.to_owned(), envelope::seal(path, payload)));
            Ok(())
        }

        pub(super) fn write_lasting(&self, path: &Path, payload: &[u8]) -> io::Result<()> {
            self.write_record(path, payload)
        }

        pub(super) fn published_records(&self) -> Vec<Vec<u8>> {
            let held = self.0.lock().expect("no panic").clone();
            held.and_then(|(path, sealed)| envelope::open(&path, sealed)).into_iter().collect()
        }

        pub(super) fn remove(&self, _: &Path) -> io::Result<()> {
            *self.0.lock().expect("no panic") = None;
            Ok(())
        }

        pub(super) fn discard(&self, path: &Path, _: &dyn std::fmt::Display) {
            self.remove(path).expect("memory does not fail");
        }

        pub(super) fn unused_for(&self, _: &Path) -> Option<Duration> {
            None
        }
    }
}

/// One byte for the kind of record. Then a whole record with its envelope, or the payload of one whose envelope is good.
pub fn records(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let repository = RepositoryId::new(&["acme", "python"]);
    let key = PageKey { repository, project: ProjectName::parse("a-b").expect("a project") };
    match kind % 4 {
        0 => envelope_of(&persisted::page_path(&key), bytes),
        1 => document::<Page>(&persisted::page_path(&key), bytes, |page| {
            for file in &page.files {
                safe(file.name.as_str());
                safe(file.version.as_str());
            }
        }),
        2 => document::<ProjectList>(&persisted::list_path(&key.repository), bytes, |_| ()),
        _ => published_files(&key, bytes),
    }
}

/// What opens is exactly what sealing its payload gives.
fn envelope_of(path: &Path, bytes: &[u8]) {
    let payload = envelope::open(path, bytes.to_vec());
    if let Some(payload) = payload {
        assert_eq!(envelope::seal(path, &payload), bytes);
        assert_eq!(envelope::digest(path, bytes), Some(wheelport_index::Sha256::of(&payload)));
    }
    // No byte of a record can change unnoticed.
    let Some((at, payload)) = bytes.split_first() else { return };
    let mut sealed = envelope::seal(path, payload);
    let at = usize::from(*at) * 7 % sealed.len();
    sealed[at] ^= 1;
    assert_eq!(envelope::open(path, sealed), None);
}

/// A record is read or discarded; what is read and written again is the same.
fn document<D: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    path: &Path,
    json: &[u8],
    check: impl Fn(&D),
) {
    let compressed = zstd::stream::encode_all(json, 1).expect("memory takes everything");
    let disk = Arc::new(Disk::holding(path, &compressed));
    let index = PersistedIndex::new(Arc::clone(&disk), Clock::system());
    let Some((read, _)) = index.load::<D>(path, |_| true) else {
        assert!(disk.0.lock().expect("no panic").is_none(), "a record that cannot be read stays");
        return;
    };
    check(&read);
    index.persist(path, &read).expect("memory does not fail");
    assert_eq!(index.load::<D>(path, |_| true).map(|(again, _)| again), Some(read));
}

fn published_files(key: &PageKey, json: &[u8]) {
    let path: PathBuf = [layout::PUBLISHED, "x"].iter().collect();
    let published = Published::open(Arc::new(Disk::holding(&path, json)), Clock::system());
    let mut page = Page::empty(key.project.clone());
    published.complete(key, &mut page);
    for file in &page.files {
        safe(file.name.as_str());
    }
    let _ = published.has(key);
}

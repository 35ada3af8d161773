//! Persisted copies of index documents, as upstream gave them, with the time they were fetched.
//!
//! ```text
//! DIR/pages/REPOSITORY/PROJECT    a project's page
//! DIR/pages/REPOSITORY/_list      the project list; no project can have that name
//! DIR/pages/REPOSITORY/_reader-…  roles that may read, where several read one repository
//! DIR/pages/REPOSITORY/_former-…  files that a project's page no longer lists
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::key::{PageKey, RepositoryId};
use super::records::FetchedAt;
use wheelport_index::ProjectName;
use wheelport_runtime::Clock;

const COMPRESSION_LEVEL: i32 = 3;
/// What is handed to the compressor at once, or taken from it, in bytes.
const BUFFER: usize = 64 << 10;

/// The persisted documents of a cache directory.
pub struct PersistedIndex {
    disk: Arc<Disk>,
    clock: Clock,
}

#[derive(Serialize, Deserialize)]
struct Persisted<D> {
    /// Seconds since the Unix epoch.
    fetched: u64,
    document: D,
}

/// Where a project's page is persisted.
pub fn page_path(key: &PageKey) -> PathBuf {
    ["pages", key.repository.as_str(), key.project.as_str()].iter().collect()
}

/// Where a repository's project list is persisted.
pub fn list_path(repository: &RepositoryId) -> PathBuf {
    ["pages", repository.as_str(), "_list"].iter().collect()
}

/// Where is recorded that a role may read a repository. `reader` is safe as a file name.
pub fn reader_path(repository: &RepositoryId, reader: &str) -> PathBuf {
    ["pages", repository.as_str(), &format!("_reader-{reader}")].iter().collect()
}

/// Where is recorded whether a project comes from outside.
pub fn origin_path(key: &PageKey) -> PathBuf {
    ["pages", key.repository.as_str(), &format!("_origin-{}", key.project)].iter().collect()
}

/// Where is recorded when the repository took the versions of a project in.
pub fn intake_path(key: &PageKey) -> PathBuf {
    ["pages", key.repository.as_str(), &format!("_intake-{}", key.project)].iter().collect()
}

/// Where the files of a project are recorded that its page no longer lists.
pub fn delisted_path(key: &PageKey) -> PathBuf {
    ["pages", key.repository.as_str(), &format!("_former-{}", key.project)].iter().collect()
}

impl PersistedIndex {
    pub fn new(disk: Arc<Disk>, clock: Clock) -> Self {
        Self { disk, clock }
    }

    /// Reads a document with its age. Blocking. A damaged copy, or one that `belongs` rejects, is removed and counts
    /// as missing.
    pub fn load<D: DeserializeOwned>(&self, path: &Path, belongs: impl FnOnce(&D) -> bool) -> Option<(D, FetchedAt)> {
        let record = self.disk.read_record(path).ok()?;
        match decode(&record) {
            Ok(Persisted { fetched, document }) if belongs(&document) => {
                let age = self.clock.unix_seconds().saturating_sub(fetched);
                Some((document, FetchedAt::aged(Duration::from_secs(age))))
            }
            outcome => {
                let reason = outcome.err().map_or_else(|| "it is of something else".to_owned(), |e| e.to_string());
                self.disk.discard(path, &reason);
                None
            }
        }
    }

    /// Persists a document that upstream gave a moment ago. Blocking.
    pub fn persist(&self, path: &Path, document: &impl Serialize) -> io::Result<()> {
        self.persist_aged(path, document, Duration::ZERO)
    }

    /// Persists a document that upstream gave this long ago. Blocking.
    pub fn persist_aged(&self, path: &Path, document: &impl Serialize, age: Duration) -> io::Result<()> {
        let persisted = Persisted { fetched: self.clock.unix_seconds().saturating_sub(age.as_secs()), document };
        self.disk.write_record(path, &encode(&persisted)?)
    }

    /// Some projects of a repository whose pages are persisted, in any order. Blocking.
    pub fn some_projects(&self, repository: &RepositoryId, limit: usize) -> Vec<ProjectName> {
        let directory = self.disk.root().join("pages").join(repository.as_str());
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| ProjectName::parse(entry.file_name().to_str()?).ok()).take(limit).collect()
    }

    /// How long ago a copy was written or last read. Blocking.
    pub fn age(&self, path: &Path) -> Option<Duration> {
        self.disk.unused_for(path)
    }

    /// Forgets a document. Blocking.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
}

/// A document as it is written to disk. Compressed as it is written: a page may be large.
pub(super) fn encode(document: &impl Serialize) -> io::Result<Vec<u8>> {
    let compressed = zstd::stream::Encoder::new(Vec::new(), COMPRESSION_LEVEL)?;
    let mut writer = io::BufWriter::with_capacity(BUFFER, compressed);
    serde_json::to_writer(&mut writer, document).map_err(io::Error::other)?;
    let compressed = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    compressed.finish()
}

/// Expanded as it is read: a page may be large.
fn decode<D: DeserializeOwned>(record: &[u8]) -> io::Result<D> {
    let json = io::BufReader::with_capacity(BUFFER, zstd::stream::Decoder::with_buffer(record)?);
    serde_json::from_reader(json).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_index::{Page, ProjectName};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn index(root: &Path) -> io::Result<(PersistedIndex, Clock)> {
        let clock = Clock::system();
        Ok((PersistedIndex::new(Disk::open(root, 1 << 20, clock.clone())?, clock.clone()), clock))
    }

    fn page() -> Result<(PathBuf, Page), Box<dyn std::error::Error>> {
        let project = ProjectName::parse("hello")?;
        let repository = RepositoryId::new(&["acme", "python"]);
        Ok((page_path(&PageKey { repository, project: project.clone() }), Page::empty(project)))
    }

    #[tokio::test]
    async fn a_persisted_document_comes_back_with_its_age() -> Outcome {
        let root = tempfile::tempdir()?;
        let ((index, clock), (path, page)) = (index(root.path())?, page()?);
        index.persist(&path, &page)?;
        clock.shift(3600);
        let (loaded, fetched) = index.load::<Page>(&path, |_| true).ok_or("missing")?;
        assert_eq!(loaded, page);
        assert!((3600..3660).contains(&fetched.age().as_secs()), "{:?}", fetched.age());
        Ok(())
    }

    #[tokio::test]
    async fn a_damaged_copy_or_one_of_something_else_counts_as_missing() -> Outcome {
        let root = tempfile::tempdir()?;
        let ((index, _), (path, page)) = (index(root.path())?, page()?);
        let file = root.path().join(&path);
        index.persist(&path, &page)?;
        let mut bytes = std::fs::read(&file)?;
        bytes.truncate(bytes.len() / 2);
        std::fs::write(&file, bytes)?;
        assert!(index.load::<Page>(&path, |_| true).is_none());
        assert!(!file.exists());
        index.persist(&path, &page)?;
        assert!(index.load::<Page>(&path, |page| page.name.as_str() == "other").is_none());
        assert!(!file.exists());
        Ok(())
    }
}

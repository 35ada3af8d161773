//! Files that were published through this process and that upstream's pages may not list yet.
//!
//! They stay on their pages until upstream lists them. A record is written before the publisher gets its response, so a
//! restart forgets none. Records are few and small, live for [`LIFE`] at most, and are never evicted.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::key::{PageKey, RepositoryId};
use super::layout::PUBLISHED;
use wheelport_index::{File, Page, ProjectName};
use wheelport_runtime::Clock;

/// How long a published file is shown although upstream does not list it. CodeArtifact usually takes a second.
const LIFE: Duration = Duration::from_hours(1);
/// How long a file is still shown after upstream listed it: of several replicas of an index, some may be late.
const SETTLED_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PublishedFile {
    /// Seconds since the Unix epoch.
    published: u64,
    file: File,
}

/// The record of one project on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct PublishedRecord {
    repository: String,
    project: Option<ProjectName>,
    entries: Vec<PublishedFile>,
}

type FilesByPage = HashMap<PageKey, Vec<PublishedFile>>;

/// The published files, by page.
pub struct Published {
    disk: Arc<Disk>,
    clock: Clock,
    files: Mutex<FilesByPage>,
    additions: AtomicU64,
}

/// The files under their lock, together with the disk and the clock. Never held across an await.
struct LockedFiles<'a> {
    published: &'a Published,
    files: MutexGuard<'a, FilesByPage>,
}

impl Published {
    /// Reads the records of earlier processes. Blocking. Skips damaged ones.
    pub fn open(disk: Arc<Disk>, clock: Clock) -> Self {
        let mut files = HashMap::new();
        for bytes in disk.published_records() {
            let Ok(record) = serde_json::from_slice::<PublishedRecord>(&bytes) else { continue };
            if let Some(project) = record.project {
                let repository = RepositoryId::restored(&record.repository);
                files.insert(PageKey { repository, project }, record.entries);
            }
        }
        Self { disk, clock, files: Mutex::new(files), additions: AtomicU64::new(0) }
    }

    /// How many files were added so far. A page that was completed before this number changed must be completed again.
    pub fn additions(&self) -> u64 {
        self.additions.load(Ordering::SeqCst)
    }

    /// Whether files of this project were published that upstream may not list yet. Blocking.
    pub fn has(&self, key: &PageKey) -> bool {
        let mut locked = self.lock();
        locked.expire(key);
        locked.files.contains_key(key)
    }

    /// Remembers a published file, in memory and on disk. Blocking. If the disk fails, memory still remembers it.
    pub fn add(&self, key: &PageKey, file: File) -> io::Result<()> {
        let mut locked = self.lock();
        let list = locked.files.entry(key.clone()).or_default();
        list.retain(|published| published.file.name != file.name);
        list.push(PublishedFile { published: self.clock.unix_seconds(), file });
        self.additions.fetch_add(1, Ordering::SeqCst);
        locked.write(key)
    }

    /// Puts the published files onto a page, where it does not list them. Blocking. Doing it twice changes nothing.
    pub fn complete(&self, key: &PageKey, page: &mut Page) {
        self.lock().complete(key, page);
    }

    fn lock(&self) -> LockedFiles<'_> {
        LockedFiles { published: self, files: self.files.lock() }
    }
}

impl LockedFiles<'_> {
    fn complete(&mut self, key: &PageKey, page: &mut Page) {
        self.expire(key);
        let Some(list) = self.files.get_mut(key) else { return };
        let now = self.published.clock.unix_seconds();
        let before = list.len();
        let index = page.index();
        list.retain(|published| {
            let listed = index.contains_key(&published.file.name);
            if !listed {
                page.files.push(published.file.clone());
            }
            !listed || now.saturating_sub(published.published) < SETTLED_AFTER.as_secs()
        });
        if list.len() != before {
            self.update_record(key);
        }
    }

    fn expire(&mut self, key: &PageKey) {
        let Some(list) = self.files.get_mut(key) else { return };
        let (now, before) = (self.published.clock.unix_seconds(), list.len());
        list.retain(|published| now.saturating_sub(published.published) < LIFE.as_secs());
        if list.len() != before {
            self.update_record(key);
        }
    }

    /// Writes the record again after files were forgotten, or removes it where none is left.
    fn update_record(&mut self, key: &PageKey) {
        let empty = self.files.get(key).is_none_or(Vec::is_empty);
        let outcome = if empty {
            self.files.remove(key);
            self.published.disk.remove(&path(key))
        } else {
            self.write(key)
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "the record of published files could not be updated");
        }
    }

    fn write(&self, key: &PageKey) -> io::Result<()> {
        let record = PublishedRecord {
            repository: key.repository.as_str().to_owned(),
            project: Some(key.project.clone()),
            entries: self.files.get(key).cloned().unwrap_or_default(),
        };
        let bytes = serde_json::to_vec(&record).map_err(io::Error::other)?;
        self.published.disk.write_lasting(&path(key), &bytes)
    }
}

fn path(key: &PageKey) -> PathBuf {
    // One flat directory: neither part contains a slash, and a project name contains no `~`.
    PathBuf::from(PUBLISHED).join(format!("{}~{}", key.repository.as_str(), key.project))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_index::{CoreMetadata, FileName, Hashes, VersionSegment, Yanked};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn key() -> Result<PageKey, Box<dyn std::error::Error>> {
        Ok(PageKey { repository: RepositoryId::new(&["acme", "python"]), project: ProjectName::parse("a")? })
    }

    fn file(name: &str) -> Result<File, Box<dyn std::error::Error>> {
        Ok(File {
            name: FileName::parse(name)?,
            version: VersionSegment::parse("1.0")?,
            url: None,
            hashes: Hashes::default(),
            requires_python: None,
            size: Some(1),
            upload_time: None,
            yanked: Yanked::No,
            core_metadata: CoreMetadata::Absent,
            gpg_sig: None,
            provenance: None,
            extra: wheelport_index::Extra::default(),
        })
    }

    fn completed(published: &Published, listed: &[&str]) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let mut page = Page::empty(ProjectName::parse("a")?);
        page.files = listed.iter().map(|name| file(name)).collect::<Result<_, _>>()?;
        published.complete(&key()?, &mut page);
        Ok(page.files.into_iter().map(|file| file.name.to_string()).collect())
    }

    #[test]
    fn a_file_stays_until_upstream_lists_it_and_survives_a_restart() -> Outcome {
        let root = tempfile::tempdir()?;
        let clock = Clock::system();
        let open = || {
            let disk = Disk::open(root.path(), 1 << 20, clock.clone())?;
            Ok::<_, io::Error>(Published::open(disk, clock.clone()))
        };
        let published = open()?;
        published.add(&key()?, file("a-1.0.tar.gz")?)?;
        assert_eq!(completed(&published, &["a-0.9.tar.gz"])?, ["a-0.9.tar.gz", "a-1.0.tar.gz"]);
        let published = open()?;
        assert_eq!(completed(&published, &[])?, ["a-1.0.tar.gz"], "after a restart");
        assert_eq!(completed(&published, &["a-1.0.tar.gz"])?, ["a-1.0.tar.gz"], "never twice");
        assert_eq!(completed(&published, &[])?, ["a-1.0.tar.gz"], "one late replica changes nothing");
        clock.shift(31);
        assert_eq!(completed(&published, &["a-1.0.tar.gz"])?, ["a-1.0.tar.gz"]);
        assert_eq!(completed(&published, &[])?.len(), 0, "upstream has the last word");
        assert!(!open()?.has(&key()?));
        Ok(())
    }

    #[test]
    fn a_file_that_upstream_never_lists_is_forgotten_in_the_end() -> Outcome {
        let root = tempfile::tempdir()?;
        let clock = Clock::system();
        let disk = Disk::open(root.path(), 1 << 20, clock.clone())?;
        let published = Published::open(disk, clock.clone());
        published.add(&key()?, file("a-1.0.tar.gz")?)?;
        assert!(published.has(&key()?));
        clock.shift(3601);
        assert!(!published.has(&key()?));
        assert_eq!(std::fs::read_dir(root.path().join(PUBLISHED))?.count(), 0);
        Ok(())
    }
}

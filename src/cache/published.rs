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
use wheelport_index::{File, Page, ProjectName, Sha256};
use wheelport_runtime::Clock;

/// How long a published file is shown although upstream does not list it. CodeArtifact usually takes a second.
const LIFE: Duration = Duration::from_hours(1);
/// How long a file is still shown after upstream listed it: of several replicas of an index, some may be late.
const SETTLED_AFTER: Duration = Duration::from_secs(30);
/// No file system takes a longer name, in bytes.
const LONGEST_NAME: usize = 255;

/// A file, and when it was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedFile {
    /// Seconds since the Unix epoch.
    published: u64,
    file: File,
}

impl PublishedFile {
    /// A file that is published now.
    pub fn now(file: File, clock: &Clock) -> Self {
        Self { published: clock.unix_seconds(), file }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether it was published so long ago that upstream has the last word.
    pub fn is_over(&self, clock: &Clock) -> bool {
        clock.unix_seconds().saturating_sub(self.published) >= LIFE.as_secs()
    }
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
        list.push(PublishedFile::now(file, &self.clock));
        self.additions.fetch_add(1, Ordering::SeqCst);
        locked.write(key)
    }

    /// Remembers what was published through other replicas. Blocking. Returns whether any of it was new.
    pub fn merge(&self, key: &PageKey, others: Vec<PublishedFile>) -> io::Result<bool> {
        let mut locked = self.lock();
        let known = locked.files.get(key).map_or(&[][..], Vec::as_slice);
        let is_new = |other: &PublishedFile| {
            let own = known.iter().find(|own| own.file.name == other.file.name);
            own.is_none_or(|own| own.published < other.published) && !other.is_over(&self.clock)
        };
        let new: Vec<_> = others.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(false);
        }
        let list = locked.files.entry(key.clone()).or_default();
        list.retain(|own| !new.iter().any(|other| other.file.name == own.file.name));
        list.extend(new);
        self.additions.fetch_add(1, Ordering::SeqCst);
        locked.write(key).map(|()| true)
    }

    /// Puts the published files onto a page, where it does not list them. Blocking. Doing it twice changes nothing.
    pub fn complete(&self, key: &PageKey, page: &mut Page) {
        self.lock().complete(key, page);
    }

    /// Whether files can be forgotten once a page of upstream that lists these files is on disk.
    pub fn has_settled(&self, key: &PageKey, listed: &[File]) -> bool {
        let locked = self.lock();
        let files = locked.files.get(key);
        files.is_some_and(|files| files.iter().any(|published| locked.is_settled(published, listed)))
    }

    /// The files of a project, as they were published.
    pub fn of(&self, key: &PageKey) -> Vec<PublishedFile> {
        self.lock().files.get(key).cloned().unwrap_or_default()
    }

    /// Whether upstream has listed a file for so long, on this page, that it has the last word.
    pub fn is_settled(&self, published: &PublishedFile, listed: &[File]) -> bool {
        self.lock().is_settled(published, listed)
    }

    /// Forgets files that upstream lists, on a page that is on disk. Blocking.
    pub fn forget_settled(&self, key: &PageKey, listed: &[File]) {
        self.lock().forget(key, |locked, published| locked.is_settled(published, listed));
    }

    fn lock(&self) -> LockedFiles<'_> {
        LockedFiles { published: self, files: self.files.lock() }
    }
}

impl LockedFiles<'_> {
    fn complete(&mut self, key: &PageKey, page: &mut Page) {
        self.expire(key);
        let Some(list) = self.files.get(key) else { return };
        let index = page.index();
        let missing = list.iter().map(|published| &published.file).filter(|file| !index.contains_key(&file.name));
        let missing: Vec<_> = missing.cloned().collect();
        page.files.extend(missing);
    }

    fn is_settled(&self, published: &PublishedFile, listed: &[File]) -> bool {
        self.age(published) >= SETTLED_AFTER && listed.iter().any(|file| file.name == published.file.name)
    }

    fn age(&self, published: &PublishedFile) -> Duration {
        Duration::from_secs(self.published.clock.unix_seconds().saturating_sub(published.published))
    }

    fn expire(&mut self, key: &PageKey) {
        self.forget(key, |locked, published| locked.age(published) >= LIFE);
    }

    fn forget(&mut self, key: &PageKey, is_over: impl Fn(&Self, &PublishedFile) -> bool) {
        let Some(mut list) = self.files.remove(key) else { return };
        let before = list.len();
        list.retain(|published| !is_over(self, published));
        let is_changed = list.len() != before;
        self.files.insert(key.clone(), list);
        if is_changed {
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
    let (repository, project) = (key.repository.as_str(), key.project.as_str());
    let name = format!("{repository}~{project}");
    let is_short = name.len() <= LONGEST_NAME;
    let name = if is_short { name } else { format!("{repository}~~{}", Sha256::of(project.as_bytes())) };
    PathBuf::from(PUBLISHED).join(name)
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
        let upstream = page.files.clone();
        published.complete(&key()?, &mut page);
        published.forget_settled(&key()?, &upstream);
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
    fn the_longest_names_are_remembered() -> Outcome {
        let root = tempfile::tempdir()?;
        let clock = Clock::system();
        let open = || {
            let disk = Disk::open(root.path(), 1 << 20, clock.clone())?;
            Ok::<_, io::Error>(Published::open(disk, clock.clone()))
        };
        let repository = RepositoryId::new(&[&"r".repeat(300)]);
        for project in ["a".repeat(255), "b".repeat(254)] {
            let key = PageKey { repository: repository.clone(), project: ProjectName::parse(&project)? };
            open()?.add(&key, file("a-1.0.tar.gz")?)?;
            assert!(open()?.has(&key));
        }
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

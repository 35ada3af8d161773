//! Pages in memory, bounded by bytes, over a persisted copy; and the bounded memory of what went wrong with a page.
//!
//! Two maps: records (what is known of a project, and since when) and renderings (the bytes of one representation of
//! one revision). A rendering belongs to a record as long as their revisions agree. Ages are decided in
//! [`super::freshness`], never by the map.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use foldhash::quality::RandomState;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::disk::Disk;
use super::recent::Recent;
use super::sidecars::AtHand;
use wheelport_index::{File, FileName, Page, ProjectName};
use wheelport_runtime::Clock;

/// Remembered troubles at most; older ones make room.
const MAX_NOTES: u64 = 50_000;
/// The share of the page memory that renderings may take, in hundredths; records get the rest.
const RENDERINGS_SHARE: u64 = 60;
/// What one file of a record weighs in memory besides its own strings, in bytes: a rounded measurement.
const FILE_OVERHEAD: usize = 512;
const COMPRESSION_LEVEL: i32 = 3;
/// The length of the part of a repository's identity that is unique by itself, in bytes.
const EXACT: usize = 16;

/// What a rendering weighs in memory besides its bytes, with the heads of its answers, in bytes.
const RENDERING_OVERHEAD: usize = 2048;

/// A rendering's key. A revision belongs to one project for as long as the process lives.
type RenderingKey = (u64, Written, Coding);

/// A CodeArtifact repository as a part of cache keys: made from configuration only, safe as a directory name.
#[derive(Clone, PartialEq, Eq)]
pub struct RepositoryId(Arc<str>);

impl Hash for RepositoryId {
    /// The end tells repositories apart by itself, and this is hashed for every answer.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let text = self.0.as_bytes();
        state.write(&text[text.len().saturating_sub(EXACT)..]);
    }
}

/// The key of a page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PageKey {
    /// The repository.
    pub repository: RepositoryId,
    /// The project.
    pub project: ProjectName,
}

/// What is known of a project's page, and since when.
#[derive(Debug, Clone)]
pub struct PageRecord {
    /// The content.
    pub content: Arc<PageContent>,
    /// When upstream said so.
    pub fetched: Stamp,
    /// When the persisted copy was written.
    pub persisted: Stamp,
}

/// A page's content; unchanged as long as the revision is.
#[derive(Debug)]
pub struct PageContent {
    /// The page as it is served.
    pub page: Page,
    /// Unique for each content within this process.
    pub revision: u64,
    index: HashMap<FileName, usize, RandomState>,
    /// By form and coding.
    renderings: [Recent<Rendering>; FORMS * CODINGS],
    /// By the position of the wheel; made for projects whose metadata is asked for.
    metadata: OnceLock<Box<[Recent<AtHand>]>>,
}

/// The number of written forms.
const FORMS: usize = 2;
/// The number of content codings.
const CODINGS: usize = 3;

/// A moment that survives a restart: a monotonic instant and the age it already had then.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    at: Instant,
    prior: Duration,
}

/// The written form of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Written {
    /// PEP 691 JSON.
    Json,
    /// HTML.
    Html,
}

/// The content coding of a rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// As it is.
    Identity,
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
}

/// The bytes of one representation.
#[derive(Debug)]
pub struct Rendering {
    /// The bytes.
    pub body: Bytes,
    /// The strong entity tags, with their quotes, of the two media types that have these bytes: two media types are two
    /// representations, even with the same bytes.
    pub tags: [Bytes; 2],
    /// The heads of the answers that were made of it: with its bytes and without, as either media type.
    pub heads: [OnceLock<HeaderMap>; 4],
}

/// What went wrong with a page lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Upstream said, to a good token, that the project does not exist.
    Missing,
    /// Upstream could not be asked.
    Failed,
}

/// A trouble and when it began.
#[derive(Debug, Clone, Copy)]
pub struct Note {
    /// What happened.
    pub trouble: Trouble,
    /// When.
    pub at: Instant,
}

/// The pages of the cache.
pub struct Pages {
    disk: Arc<Disk>,
    clock: Clock,
    records: moka::sync::Cache<PageKey, PageRecord, RandomState>,
    renderings: moka::sync::Cache<RenderingKey, Arc<Rendering>, RandomState>,
    notes: moka::sync::Cache<PageKey, Note, RandomState>,
    revisions: AtomicU64,
}

impl RepositoryId {
    /// The identity of a repository, from its parts as configured.
    pub fn new(parts: &[&str]) -> Self {
        let label: String = parts.iter().flat_map(|part| part.chars().chain(['_'])).filter(char::is_ascii).collect();
        let readable: String =
            label.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(80).collect();
        // Two repositories with the same readable label are still two.
        let exact = wheelport_index::Sha256::of(parts.join("\0").as_bytes()).to_string();
        Self(format!("{}-{}", readable.trim_end_matches('_'), &exact[..EXACT]).into())
    }

    /// The identity that was written down as [`RepositoryId::as_str`].
    pub(super) fn written(text: &str) -> Self {
        Self(text.into())
    }

    /// The directory name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Stamp {
    /// Now.
    pub fn now() -> Self {
        Self { at: Instant::now(), prior: Duration::ZERO }
    }

    /// So long ago.
    pub fn aged(prior: Duration) -> Self {
        Self { at: Instant::now(), prior }
    }

    /// The age.
    pub fn age(&self) -> Duration {
        self.prior + self.at.elapsed()
    }
}

impl PageContent {
    /// The entry of a file.
    pub fn file(&self, name: &FileName) -> Option<&File> {
        self.position(name).map(|position| &self.page.files[position])
    }

    /// Where the entry of a file is.
    pub fn position(&self, name: &FileName) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Where the metadata of the wheel at this position is, if it was asked for lately.
    pub(super) fn recent_metadata(&self, position: usize) -> Option<&Recent<AtHand>> {
        let made = || self.page.files.iter().map(|_| Recent::default()).collect();
        self.metadata.get_or_init(made).get(position)
    }

    fn weight(&self) -> usize {
        let text = |file: &File| {
            file.name.as_str().len() * 2
                + file.hashes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
                + file.requires_python.as_ref().map_or(0, String::len)
        };
        self.page.files.iter().map(|file| FILE_OVERHEAD + text(file)).sum::<usize>() + 1024
    }
}

/// What a persisted page begins with.
#[derive(Serialize, Deserialize)]
struct Persisted<P> {
    fetched: u64,
    page: P,
}

impl Pages {
    /// Pages with so many bytes of memory over a cache directory.
    pub fn new(disk: Arc<Disk>, memory: u64, clock: Clock) -> Self {
        let renderings = memory / 100 * RENDERINGS_SHARE;
        Self {
            disk,
            clock,
            records: moka::sync::Cache::builder()
                .max_capacity(memory - renderings)
                .weigher(|_, record: &PageRecord| u32::try_from(record.content.weight()).unwrap_or(u32::MAX))
                .build_with_hasher(RandomState::default()),
            renderings: moka::sync::Cache::builder()
                .max_capacity(renderings)
                .weigher(|_, rendering: &Arc<Rendering>| {
                    u32::try_from(rendering.body.len() + RENDERING_OVERHEAD).unwrap_or(u32::MAX)
                })
                .build_with_hasher(RandomState::default()),
            notes: moka::sync::Cache::builder().max_capacity(MAX_NOTES).build_with_hasher(RandomState::default()),
            revisions: AtomicU64::new(1),
        }
    }

    /// The record in memory.
    pub fn get(&self, key: &PageKey) -> Option<PageRecord> {
        self.records.get(key)
    }

    /// Puts a page into memory. Content equal to what is there keeps its revision, so its renderings stay valid.
    pub fn put(&self, key: &PageKey, page: Page, fetched: Stamp, persisted: Stamp) -> PageRecord {
        let content = match self.records.get(key) {
            Some(record) if record.content.page == page => record.content,
            held => {
                if let Some(held) = held {
                    self.forget_renderings(held.content.revision);
                }
                let index = page.index();
                Arc::new(PageContent {
                    page,
                    index,
                    renderings: Default::default(),
                    metadata: OnceLock::new(),
                    revision: self.revisions.fetch_add(1, Ordering::Relaxed),
                })
            }
        };
        let record = PageRecord { content, fetched, persisted };
        self.records.insert(key.clone(), record.clone());
        record
    }

    /// Reads the persisted copy as upstream gave it, with its age. Blocking.
    pub fn load(&self, key: &PageKey) -> Option<(Page, Stamp)> {
        let path = Self::path(key);
        let record = self.disk.read_record(&path).ok()?;
        match decode(&record) {
            Ok(Persisted { fetched, page }) if page.name == key.project => {
                let age = self.clock.unix_seconds().saturating_sub(fetched);
                Some((page, Stamp::aged(Duration::from_secs(age))))
            }
            Ok(_) | Err(_) => {
                tracing::warn!(project = %key.project, "a persisted page is damaged and is fetched again");
                let _ = self.disk.remove(&path);
                None
            }
        }
    }

    /// Persists a page as upstream gave it a moment ago. Blocking.
    pub fn persist(&self, key: &PageKey, page: &Page) -> io::Result<()> {
        let record = Persisted { fetched: self.clock.unix_seconds(), page };
        let json = serde_json::to_vec(&record).map_err(io::Error::other)?;
        self.disk.write_record(&Self::path(key), &zstd::bulk::compress(&json, COMPRESSION_LEVEL)?)
    }

    /// Forgets a page everywhere. Blocking.
    pub fn remove(&self, key: &PageKey) -> io::Result<()> {
        if let Some(held) = self.records.remove(key) {
            self.forget_renderings(held.content.revision);
        }
        self.disk.remove(&Self::path(key))
    }

    /// One representation of a content, by its revision.
    pub fn rendering(&self, revision: u64, written: Written, coding: Coding) -> Option<Arc<Rendering>> {
        self.renderings.get(&(revision, written, coding))
    }

    /// One representation of a content.
    pub fn rendering_of(&self, content: &PageContent, written: Written, coding: Coding) -> Option<Arc<Rendering>> {
        content.renderings[written as usize * CODINGS + coding as usize]
            .or_look_up(|| self.rendering(content.revision, written, coding))
    }

    /// Keeps a rendering.
    pub fn keep_rendering(&self, revision: u64, written: Written, coding: Coding, rendering: Arc<Rendering>) {
        self.renderings.insert((revision, written, coding), rendering);
    }

    /// Nobody will ask for these again.
    fn forget_renderings(&self, revision: u64) {
        for written in [Written::Json, Written::Html] {
            for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
                self.renderings.invalidate(&(revision, written, coding));
            }
        }
    }

    /// What went wrong with a page lately.
    pub fn note(&self, key: &PageKey) -> Option<Note> {
        self.notes.get(key)
    }

    /// Notes what went wrong; a note of the same trouble keeps its beginning.
    pub fn set_note(&self, key: &PageKey, trouble: Trouble) {
        self.notes.insert(key.clone(), Note { trouble, at: Instant::now() });
    }

    /// All is well with a page again.
    pub fn clear_note(&self, key: &PageKey) {
        self.notes.invalidate(key);
    }

    /// Bytes of renderings and records in memory, for metrics.
    pub fn weights(&self) -> (u64, u64) {
        (self.renderings.weighted_size(), self.records.weighted_size())
    }

    fn path(key: &PageKey) -> PathBuf {
        ["pages", key.repository.as_str(), key.project.as_str()].iter().collect()
    }
}

fn decode(record: &[u8]) -> io::Result<Persisted<Page>> {
    let json = zstd::stream::decode_all(record)?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn page(versions: &[&str]) -> Result<Page, Box<dyn std::error::Error>> {
        Ok(Page {
            name: ProjectName::parse("hello")?,
            api_version: (1, 1),
            versions: Some(versions.iter().map(|&version| version.to_owned()).collect()),
            files: Vec::new(),
            status: None,
            meta_extra: serde_json::Map::new(),
            extra: serde_json::Map::new(),
        })
    }

    fn pages(root: &std::path::Path) -> io::Result<(Pages, Clock)> {
        let clock = Clock::system();
        Ok((Pages::new(Disk::open(root, 1 << 20, clock.clone())?, 1 << 20, clock.clone()), clock))
    }

    fn key() -> Result<PageKey, Box<dyn std::error::Error>> {
        Ok(PageKey { repository: RepositoryId::new(&["acme", "python"]), project: ProjectName::parse("hello")? })
    }

    #[tokio::test]
    async fn a_persisted_page_comes_back_with_its_age() -> Outcome {
        let root = tempfile::tempdir()?;
        let (pages, clock) = pages(root.path())?;
        pages.persist(&key()?, &page(&["1.0"])?)?;
        clock.shift(3600);
        let (loaded, stamp) = pages.load(&key()?).ok_or("missing")?;
        assert_eq!(loaded, page(&["1.0"])?);
        assert!((3600..3660).contains(&stamp.age().as_secs()), "{:?}", stamp.age());
        Ok(())
    }

    #[tokio::test]
    async fn a_damaged_persisted_page_counts_as_missing() -> Outcome {
        let root = tempfile::tempdir()?;
        let (pages, _) = pages(root.path())?;
        pages.persist(&key()?, &page(&["1.0"])?)?;
        let path = root.path().join(Pages::path(&key()?));
        let mut bytes = std::fs::read(&path)?;
        bytes.truncate(bytes.len() / 2);
        std::fs::write(&path, bytes)?;
        assert!(pages.load(&key()?).is_none());
        assert!(!path.exists());
        Ok(())
    }

    #[tokio::test]
    async fn equal_content_keeps_its_revision() -> Outcome {
        let root = tempfile::tempdir()?;
        let (pages, _) = pages(root.path())?;
        let first = pages.put(&key()?, page(&["1.0"])?, Stamp::now(), Stamp::now());
        let same = pages.put(&key()?, page(&["1.0"])?, Stamp::now(), Stamp::now());
        let changed = pages.put(&key()?, page(&["1.0", "2.0"])?, Stamp::now(), Stamp::now());
        assert_eq!(first.content.revision, same.content.revision);
        assert_ne!(first.content.revision, changed.content.revision);
        Ok(())
    }

    #[tokio::test]
    async fn what_was_rendered_goes_with_its_revision() -> Outcome {
        let root = tempfile::tempdir()?;
        let (pages, _) = pages(root.path())?;
        let put = |versions: &[&str]| -> Result<u64, Box<dyn std::error::Error>> {
            Ok(pages.put(&key()?, page(versions)?, Stamp::now(), Stamp::now()).content.revision)
        };
        let rendering = || {
            Arc::new(Rendering {
                body: Bytes::from_static(b"page"),
                tags: Default::default(),
                heads: Default::default(),
            })
        };
        let held = |revision| pages.rendering(revision, Written::Html, Coding::Gzip).is_some();
        let first = put(&["1.0"])?;
        pages.keep_rendering(first, Written::Html, Coding::Gzip, rendering());
        assert_eq!((put(&["1.0"])?, held(first)), (first, true), "nothing has changed");
        let second = put(&["2.0"])?;
        assert!(!held(first) && !held(second));
        pages.keep_rendering(second, Written::Html, Coding::Gzip, rendering());
        pages.remove(&key()?)?;
        assert!(!held(second));
        Ok(())
    }

    #[tokio::test]
    async fn every_representation_is_found_as_itself_however_often_it_is_asked_for() -> Outcome {
        let root = tempfile::tempdir()?;
        let (pages, _) = pages(root.path())?;
        let content = pages.put(&key()?, page(&["1.0"])?, Stamp::now(), Stamp::now()).content;
        let all = [Written::Json, Written::Html]
            .into_iter()
            .flat_map(|form| [Coding::Identity, Coding::Gzip, Coding::Zstd].map(|coding| (form, coding)));
        for (form, coding) in all.clone() {
            assert!(pages.rendering_of(&content, form, coding).is_none(), "nothing was rendered yet");
            let body = Bytes::from(format!("{form:?} {coding:?}"));
            let rendering = Rendering { body, tags: Default::default(), heads: Default::default() };
            pages.keep_rendering(content.revision, form, coding, Arc::new(rendering));
        }
        for (form, coding) in (0..100).flat_map(|_| all.clone()) {
            let found = pages.rendering_of(&content, form, coding).map(|rendering| rendering.body.clone());
            assert_eq!(found, Some(Bytes::from(format!("{form:?} {coding:?}"))));
        }
        Ok(())
    }

    #[test]
    fn repositories_with_look_alike_names_are_apart() {
        let (dot, dash) = (RepositoryId::new(&["acme", "a.b"]), RepositoryId::new(&["acme", "a_b"]));
        assert_ne!(dot, dash);
        assert!(dot.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')));
    }
}

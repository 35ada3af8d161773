//! What advisories say, as it is in force: the compact form in memory, the documents in the copy on disk. Questions of
//! clients and operators are answered from here; `advisory_feed.rs` renews it, `shared_advisories.rs` shares it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::Error;
use crate::advisories::{AdvisorySettings, AdvisoryTable, CopyHeader, Documents, ExportError, OsvQuestion, load};
use crate::cache::{AdvisoryRecord, Disk, StoredAdvisories};
use crate::fleet::{Fleet, ObjectTag};
use crate::policy::PolicyHandle;
use crate::upstream::Client;
use wheelport_index::Sha256;
use wheelport_runtime::{Clock, Turns, blocking, sabotaged};

/// How long the start waits for advisories, where no copy of an earlier process is there.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Questions that are answered at the same time.
const AT_ONCE: usize = 2;
/// Advisories in the response to a batch.
const MOST_LISTED: usize = 50_000;
/// Documents in the response to a query, together, in bytes.
const LONGEST_REPLY: usize = 16 << 20;

/// What advisories say, and where that comes from. Cheap to clone.
#[derive(Clone)]
pub struct Advisories {
    pub(super) inner: Arc<AdvisoriesInner>,
}

/// What advisories stand on.
pub struct AdvisoryParts {
    pub settings: AdvisorySettings,
    pub client: Client,
    pub disk: Arc<Disk>,
    pub fleet: Fleet,
    pub policy: PolicyHandle,
    pub clock: Clock,
}

pub(super) struct AdvisoriesInner {
    pub settings: AdvisorySettings,
    pub record: AdvisoryRecord,
    pub client: Client,
    pub fleet: Fleet,
    pub clock: Clock,
    /// Others have a copy that may be newer.
    pub hint: Notify,
    /// The version of the copy in the store that was last looked at.
    pub shared: Mutex<Option<ObjectTag>>,
    /// Whether what is in force is not in the store yet.
    pub unshared: AtomicBool,
    policy: PolicyHandle,
    /// Few questions at once are answered, so that they keep no one from packages.
    questions: Turns,
    current: RwLock<Arc<LoadedAdvisories>>,
    /// When the source last confirmed what is in force, in seconds since the epoch.
    confirmed: AtomicU64,
    /// Whether the source was looked at.
    pub looked: watch::Sender<bool>,
    outcomes: [AtomicU64; RefreshOutcome::ALL.len()],
    trouble: Mutex<Option<String>>,
    unreadable: AtomicU64,
}

/// A copy that is in force.
#[derive(Default)]
pub(super) struct LoadedAdvisories {
    pub header: CopyHeader,
    pub table: Arc<AdvisoryTable>,
    pub documents: Option<Documents>,
    pub length: u64,
    pub sha256: Option<Sha256>,
}

/// What became of looking at the source; the text form is the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshOutcome {
    Taken,
    /// Taken from the store that replicas share.
    Shared,
    Unchanged,
    Unreachable,
    Unreadable,
    Shrunken,
    /// Than what replicas share.
    Older,
    NotStored,
}

impl RefreshOutcome {
    pub const ALL: [Self; 8] = [
        Self::Taken,
        Self::Shared,
        Self::Unchanged,
        Self::Unreachable,
        Self::Unreadable,
        Self::Shrunken,
        Self::Older,
        Self::NotStored,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Shared => "shared",
            Self::Unchanged => "unchanged",
            Self::Unreachable => "unreachable",
            Self::Unreadable => "unreadable",
            Self::Shrunken => "shrunken",
            Self::Older => "older",
            Self::NotStored => "not-stored",
        }
    }
}

/// Why what is in force stays as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdvisoryFailure {
    #[error("the source cannot be read: {0}")]
    Unreachable(String),
    #[error("the export cannot be used: {0}")]
    Unreadable(#[from] ExportError),
    #[error(
        "the export has lost most of what was there: {before} advisories, {malware} of them malware, are {after} and \
         {malware_after}; [advisories] accept_shrunken = true takes it all the same"
    )]
    Shrunken { before: usize, malware: usize, after: usize, malware_after: usize },
    #[error("the export is older than the one that replicas share")]
    Older,
    #[error("the copy cannot be written: {0}")]
    NotStored(#[from] io::Error),
}

impl AdvisoryFailure {
    const fn outcome(&self) -> RefreshOutcome {
        match self {
            Self::Unreachable(_) => RefreshOutcome::Unreachable,
            Self::Unreadable(_) => RefreshOutcome::Unreadable,
            Self::Shrunken { .. } => RefreshOutcome::Shrunken,
            Self::Older => RefreshOutcome::Older,
            Self::NotStored(_) => RefreshOutcome::NotStored,
        }
    }
}

/// How advisories are, for operators.
#[derive(Debug, Clone)]
pub struct AdvisoryState {
    /// Where they come from, without what may be secret in it.
    pub source: String,
    pub advisories: usize,
    pub malware: usize,
    /// Documents of the last export that could not be read.
    pub unreadable: u64,
    /// What they take of memory, in bytes.
    pub memory: usize,
    /// Seconds since the source last confirmed them; none where there are none yet.
    pub age: Option<u64>,
    /// Why the last look at the source changed nothing, where it failed.
    pub error: Option<String>,
    /// Looks at the source, by what became of them.
    pub outcomes: [(RefreshOutcome, u64); RefreshOutcome::ALL.len()],
}

/// An advisory in a list: its id, and when it was last changed, in seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAdvisory {
    pub id: String,
    pub modified: u32,
}

impl Advisories {
    pub fn new(parts: AdvisoryParts) -> Self {
        let AdvisoryParts { settings, client, disk, fleet, policy, clock } = parts;
        let inner = AdvisoriesInner {
            settings,
            record: AdvisoryRecord::new(disk),
            client,
            fleet,
            clock,
            hint: Notify::new(),
            shared: Mutex::default(),
            unshared: AtomicBool::new(false),
            policy,
            questions: Turns::new(AT_ONCE),
            current: RwLock::default(),
            confirmed: AtomicU64::new(0),
            looked: watch::Sender::new(false),
            outcomes: Default::default(),
            trouble: Mutex::default(),
            unreadable: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether a source is configured.
    pub fn are_offered(&self) -> bool {
        self.inner.settings.source.is_some()
    }

    /// Puts the copy of an earlier process in force.
    pub async fn recall(&self) {
        if !self.are_offered() {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let recalled = blocking(move || inner.recall()).await;
        match recalled.map_err(|panicked| io::Error::other(panicked.to_string())).and_then(|recalled| recalled) {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "the advisories of an earlier process cannot be read"),
        }
    }

    /// Waits until the source was looked at, if nothing is in force before that; for a while.
    pub async fn first(&self) {
        if !self.are_offered() || !self.current().table.is_empty() {
            return;
        }
        let mut looked = self.inner.looked.subscribe();
        let looking = looked.wait_for(|looked| *looked);
        if !matches!(tokio::time::timeout(FIRST_LOOK, looking).await, Ok(Ok(_))) {
            tracing::warn!("there are no advisories yet; what they report as malware is served until they are there");
        }
    }

    pub(super) fn current(&self) -> Arc<LoadedAdvisories> {
        Arc::clone(&self.inner.current.read())
    }

    /// How they are; nothing where there is no source.
    pub fn state(&self) -> Option<AdvisoryState> {
        let inner = &*self.inner;
        let (source, loaded) = (inner.settings.source.as_ref()?, self.current());
        let confirmed = Some(inner.confirmed.load(Ordering::Relaxed)).filter(|confirmed| *confirmed > 0);
        let count = |at: usize| inner.outcomes[at].load(Ordering::Relaxed);
        Some(AdvisoryState {
            source: source.to_string(),
            advisories: loaded.table.len(),
            malware: loaded.table.malware(),
            unreadable: inner.unreadable.load(Ordering::Relaxed),
            memory: loaded.table.weight(),
            age: confirmed.map(|confirmed| inner.clock.unix_seconds().saturating_sub(confirmed)),
            error: inner.trouble.lock().clone(),
            outcomes: std::array::from_fn(|at| (RefreshOutcome::ALL[at], count(at))),
        })
    }

    /// Which advisories each question is about. None if they are more than fit into a response.
    pub async fn list(&self, questions: Vec<OsvQuestion>) -> Result<Option<Vec<Vec<ListedAdvisory>>>, Error> {
        let advisories = self.clone();
        Ok(self.inner.questions.run(move || advisories.current().list(&questions)).await?)
    }

    /// The documents that a question is about. None if they are more than fit into a response.
    pub async fn documents(&self, question: OsvQuestion) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let advisories = self.clone();
        let read = self.inner.questions.run(move || {
            let loaded = advisories.current();
            let listed = loaded.list(&[question]).unwrap_or_default();
            let (mut documents, mut length) = (Vec::new(), 0);
            for ListedAdvisory { id, .. } in listed.into_iter().flatten() {
                let Some(document) = loaded.read(&id)? else { continue };
                length += document.len();
                if length > LONGEST_REPLY && !sabotaged("osv-reply") {
                    return Ok(None);
                }
                documents.push(document);
            }
            Ok(Some(documents))
        });
        let read: io::Result<_> = read.await?;
        read.map_err(|error| Error::internal(&format!("the copy of advisories cannot be read: {error}")))
    }

    /// The document with this id.
    pub async fn document(&self, id: String) -> Result<Option<Vec<u8>>, Error> {
        let loaded = self.current();
        let read = blocking(move || loaded.read(&id)).await?;
        read.map_err(|error| Error::internal(&format!("the copy of advisories cannot be read: {error}")))
    }
}

impl LoadedAdvisories {
    /// Which advisories each question is about; those about one project are read once. Blocking.
    fn list(&self, questions: &[OsvQuestion]) -> Option<Vec<Vec<ListedAdvisory>>> {
        let (mut projects, mut left) = (HashMap::new(), MOST_LISTED);
        let mut listed = Vec::with_capacity(questions.len());
        for question in questions {
            let OsvQuestion::Project { project, version } = question else {
                listed.push(Vec::new());
                continue;
            };
            let known: &Vec<_> = projects.entry(project).or_insert_with(|| self.table.of_project(project));
            let version = version.as_deref();
            let affecting =
                known.iter().filter(|advisory| version.is_none_or(|version| advisory.versions.contains_text(version)));
            let found: Vec<_> = affecting
                .map(|found| ListedAdvisory { id: found.id.to_owned(), modified: found.modified })
                .take(left + 1)
                .collect();
            left = left.checked_sub(found.len())?;
            listed.push(found);
        }
        Some(listed)
    }

    fn read(&self, id: &str) -> io::Result<Option<Vec<u8>>> {
        self.documents.as_ref().map_or(Ok(None), |documents| documents.read(&self.table, id))
    }
}

impl AdvisoriesInner {
    /// Blocking.
    fn recall(&self) -> io::Result<()> {
        let stored = self.record.open()?.filter(|_| !sabotaged("advisory-copy"));
        let Some(stored) = stored else { return Ok(()) };
        let (header, table) = load(io::BufReader::new(stored.reader()?))?;
        tracing::info!(advisories = table.len(), malware = table.malware(), "advisories of an earlier process hold");
        self.confirmed.store(header.made, Ordering::Relaxed);
        self.put_in_force(header, table, stored);
        Ok(())
    }

    pub(super) fn put_in_force(&self, header: CopyHeader, table: AdvisoryTable, stored: StoredAdvisories) {
        let StoredAdvisories { file, begins, length, sha256 } = stored;
        let is_other = table.digest() != self.current.read().table.digest();
        let (table, documents) = (Arc::new(table), Some(Documents::new(file, begins)));
        let loaded = LoadedAdvisories { header, table: Arc::clone(&table), documents, length, sha256: Some(sha256) };
        *self.current.write() = Arc::new(loaded);
        if is_other {
            self.policy.set_advisories(table);
        }
    }

    pub(super) fn known(&self) -> Arc<LoadedAdvisories> {
        Arc::clone(&self.current.read())
    }

    pub(super) fn note(&self, outcome: RefreshOutcome) {
        let at = RefreshOutcome::ALL.iter().position(|known| *known == outcome).unwrap_or_default();
        self.outcomes[at].fetch_add(1, Ordering::Relaxed);
    }

    /// The source has said that what is in force is what it has, or that it is this.
    pub(super) fn confirm(&self, outcome: RefreshOutcome, at: u64) {
        self.note(outcome);
        self.confirmed.fetch_max(at, Ordering::Relaxed);
        if outcome != RefreshOutcome::Shared {
            *self.trouble.lock() = None;
        }
    }

    pub(super) fn count_unreadable(&self, documents: usize) {
        self.unreadable.store(documents as u64, Ordering::Relaxed);
    }

    /// What is in force stays. What is known already is not logged again.
    pub(super) fn fail(&self, failure: &AdvisoryFailure) {
        self.note(failure.outcome());
        let text = failure.to_string();
        let mut trouble = self.trouble.lock();
        if trouble.as_ref() != Some(&text) {
            tracing::error!(error = text, "the advisories are not renewed; those before stay in force");
            *trouble = Some(text);
        }
    }
}

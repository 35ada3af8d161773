//! The records of what files were when they were first seen: one per project, written when it changes, never evicted.
//!
//! ```text
//! DIR/first-seen/REPO/NAME   the record of one project
//! ```
//!
//! A record is read when a page is taken in, and never per request. It is merged and written under a lock, so that no
//! process that shares the directory takes back what another one has recorded.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::checks::Stamp;
use super::disk::{Disk, is_damage};
use super::key::{PageKey, RepositoryId};
use super::layout::{self, FIRST_SEEN};
use super::ledger::{Acceptance, ChangedFile, KnownSince, Ledger, Merge, Observation, SeenBytes, UndatedFiles};
use super::persisted::encode;
use super::shared::decode;
use wheelport_index::{File, FileName, ProjectName};
use wheelport_runtime::Clock;

/// Changed files of one project that are held for those who ask what has changed.
const SHOWN: usize = 20;
/// Projects of which they are held; of further ones only their number is.
const SHOWN_PROJECTS: usize = 500;
/// Changed files of one page that are logged one by one.
const LOGGED: usize = 20;

/// The records of a cache directory.
pub struct FirstSeen {
    disk: Arc<Disk>,
    clock: Clock,
    /// Held while a record is read, changed and written.
    writing: Mutex<()>,
    state: Mutex<ChangeState>,
}

#[derive(Default)]
struct ChangeState {
    /// What is not accepted, as far as it is known.
    changed: BTreeMap<(String, ProjectName), ChangedFiles>,
    /// Changes noticed since the start, by repository.
    noticed: HashMap<RepositoryId, u64>,
}

/// The files of one project whose bytes are not those that are known.
#[derive(Debug, Clone, Default)]
pub struct ChangedFiles {
    /// All of them.
    pub number: usize,
    /// Some of them.
    pub files: Vec<ChangedFile>,
}

/// What a page showed of its files.
#[derive(Debug, Default)]
pub struct Observed {
    /// Those whose bytes are not those that are known, and that are not accepted.
    pub changed: Vec<ChangedFile>,
    /// Those of them of which it was not known before.
    pub news: Vec<ChangedFile>,
    /// Since when those are known that have no time of upload.
    pub undated: UndatedFiles,
}

/// A record as it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordVersion(Stamp);

/// What came of merging the record that replicas share into the one here.
#[derive(Debug, Default)]
pub struct Met {
    /// The record here has learned something.
    pub is_news: bool,
    /// What has to be written in place of the shared record, because that lacks something.
    pub lacking: Option<Vec<u8>>,
    /// The record here, merged.
    pub here: Option<RecordVersion>,
}

impl FirstSeen {
    pub fn new(disk: Arc<Disk>, clock: Clock) -> Self {
        Self { disk, clock, writing: Mutex::default(), state: Mutex::default() }
    }

    /// Takes in the files of a page, of which upstream lists the first `listed`. Each change is logged once. Blocking.
    ///
    /// Where the record can be neither read nor written, what can be known without it is returned.
    pub fn observe(&self, key: &PageKey, files: &[File], listed: usize) -> Observed {
        let now = self.clock.unix_seconds();
        let observe = |ledger: &mut Ledger| ledger.observe(files, listed, now);
        // Most pages show nothing new, and need no lock. Of a large record there is one copy at a time.
        let update = || {
            self.update(key, |ledger| {
                let observation = observe(ledger);
                (observation.is_altered, observation)
            })
        };
        let observed = match self.load(&path(key)) {
            // Everything is new on the first page of a project.
            Ok(ledger) if ledger.is_empty() && !files.is_empty() => update(),
            Ok(mut ledger) => match observe(&mut ledger) {
                Observation { is_altered: true, .. } => update(),
                observation => (observation, Ok(())),
            },
            Err(error) => (Observation::default(), Err(error)),
        };
        let (Observation { changed, news, is_full, undated, .. }, recorded) = observed;
        if let Err(error) = recorded {
            tracing::warn!(project = %key.project, %error, "what files were when they were first seen is not recorded");
        }
        if is_full {
            tracing::warn!(project = %key.project, "a project has more files than are recorded as first seen");
        }
        let before = self.hold(key, &changed);
        let is_held = |new: &ChangedFile| {
            before.iter().any(|held| (&held.file, &held.listed.digest) == (&new.file, &new.listed.digest))
        };
        // Where nothing can be recorded, what is held tells what was logged.
        let news: Vec<_> = news.into_iter().filter(|new| !is_held(new)).collect();
        self.raise_alarm(key, &news);
        Observed { changed, news, undated }
    }

    /// Since when a file is known, whether or not a page lists it. Blocking.
    pub fn known_since(&self, key: &PageKey, file: &FileName) -> Option<KnownSince> {
        self.load(&path(key)).ok()?.known_since(file)
    }

    /// What a file is known to be, whether or not a page lists it. Blocking.
    pub fn known(&self, key: &PageKey, file: &FileName) -> Option<SeenBytes> {
        self.load(&path(key)).ok()?.known(file).cloned()
    }

    /// Accepts what upstream lists now of one file, or of all changed files of a project. Blocking. Returns what was
    /// accepted; it is recorded then.
    pub fn accept(
        &self,
        key: &PageKey,
        file: Option<&FileName>,
        reason: &str,
        by: Option<&str>,
    ) -> io::Result<Vec<ChangedFile>> {
        let (reason, by) = (reason.to_owned(), by.map(str::to_owned));
        let acceptance = Acceptance { at: self.clock.unix_seconds(), reason, by };
        let ((accepted, left), recorded) = self.update(key, |ledger| {
            let accepted = ledger.accept(file, &acceptance);
            (!accepted.is_empty(), (accepted, ledger.changed()))
        });
        recorded?;
        self.hold(key, &left);
        Ok(accepted)
    }

    /// Takes in what replicas share of a project; `None` where they share nothing yet. Blocking.
    ///
    /// Both records say the same afterwards, if what is lacking is written.
    pub fn meet(&self, key: &PageKey, shared: Option<&[u8]>) -> io::Result<Met> {
        let shared = shared.map(decode::<Ledger>).transpose()?;
        let ((met, left), recorded) = self.update(key, |ledger| {
            let Merge { is_altered, is_lacking } = match &shared {
                Some(theirs) => ledger.merge(theirs),
                None => Merge { is_altered: false, is_lacking: !ledger.is_empty() },
            };
            let lacking = if is_lacking { encode(&*ledger).map(Some) } else { Ok(None) };
            let met = lacking.map(|lacking| Met { is_news: is_altered, lacking, here: None });
            (is_altered, (Some(met), ledger.changed()))
        });
        recorded?;
        let met = met.ok_or_else(|| io::Error::other("there is no record"))??;
        if met.is_news {
            self.hold(key, &left);
        }
        Ok(Met { here: self.version(key), ..met })
    }

    /// The record here as it is on disk, if there is one. Blocking.
    pub fn version(&self, key: &PageKey) -> Option<RecordVersion> {
        let found = fs::symlink_metadata(self.disk.root().join(path(key))).ok()?;
        Some(RecordVersion(Stamp::of(&found)))
    }

    /// The changed files of a repository, by project.
    pub fn changed(&self, repository: &RepositoryId) -> Vec<(ProjectName, ChangedFiles)> {
        let state = self.state.lock();
        let of_repository = state.changed.iter().filter(|((found, _), _)| found == repository.as_str());
        of_repository.map(|((_, project), changed)| (project.clone(), changed.clone())).collect()
    }

    /// Changes noticed in a repository since the start, and changed files that are not accepted.
    pub fn counts(&self, repository: &RepositoryId) -> (u64, u64) {
        let state = self.state.lock();
        let of_repository = state.changed.iter().filter(|((found, _), _)| found == repository.as_str());
        let pending = of_repository.map(|(_, changed)| changed.number as u64).sum();
        (state.noticed.get(repository).copied().unwrap_or_default(), pending)
    }

    /// Reads all records for changes that an earlier process has noticed. Blocking.
    pub fn recall(&self) {
        let root = self.disk.root().to_owned();
        layout::walk(&root.join(FIRST_SEEN), &mut |found, _| {
            let Some(key) = found.strip_prefix(&root).ok().and_then(key_of) else { return };
            if let Ok(ledger) = self.load(&path(&key)) {
                self.hold(&key, &ledger.changed());
            }
        });
    }

    fn raise_alarm(&self, key: &PageKey, news: &[ChangedFile]) {
        if news.is_empty() {
            return;
        }
        *self.state.lock().noticed.entry(key.repository.clone()).or_default() += news.len() as u64;
        for ChangedFile { file, known, listed, first_seen, .. } in news.iter().take(LOGGED) {
            tracing::warn!(
                repository = key.repository.as_str(), project = %key.project, %file, first_seen,
                was = known.text(), now = listed.text(),
                "the repository lists other bytes under the name of a file than when it was first seen"
            );
        }
        if news.len() > LOGGED {
            tracing::warn!(project = %key.project, files = news.len(), "many files of a project have changed");
        }
    }

    /// Holds what has changed for those who ask. Returns what was held before.
    fn hold(&self, key: &PageKey, changed: &[ChangedFile]) -> Vec<ChangedFile> {
        let place = (key.repository.as_str().to_owned(), key.project.clone());
        let mut state = self.state.lock();
        let before = if changed.is_empty() {
            state.changed.remove(&place)
        } else {
            let most = if state.changed.len() < SHOWN_PROJECTS { SHOWN } else { 0 };
            let shown = ChangedFiles { number: changed.len(), files: changed.iter().take(most).cloned().collect() };
            state.changed.insert(place, shown)
        };
        before.map(|before| before.files).unwrap_or_default()
    }

    /// Changes a record under the locks, and writes it where `change` says that it has to be. What cannot be written
    /// is an error beside the outcome.
    fn update<T: Default>(&self, key: &PageKey, change: impl FnOnce(&mut Ledger) -> (bool, T)) -> (T, io::Result<()>) {
        let path = path(key);
        let _writing = self.writing.lock();
        let _shared = self.disk.lock_shared(&path);
        let mut ledger = match self.load(&path) {
            Ok(ledger) => ledger,
            Err(error) => return (T::default(), Err(error)),
        };
        let is_new = ledger.is_empty();
        let (is_altered, outcome) = change(&mut ledger);
        // A new record that a crash tears costs what was seen a moment before. An older one is worth the wait.
        let write = || match encode(&ledger)? {
            bytes if is_new => self.disk.write_record(&path, &bytes),
            bytes => self.disk.write_lasting(&path, &bytes),
        };
        (outcome, if is_altered { write() } else { Ok(()) })
    }

    /// Reads a record. There being none is an empty one; so is a damaged one, which is removed.
    fn load(&self, path: &Path) -> io::Result<Ledger> {
        let damaged = || Ledger::in_place_of_damaged(self.clock.unix_seconds());
        let opened = match self.disk.open_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
            opened => opened,
        };
        match opened.and_then(|file| self.disk.read_opened(file, path)) {
            Ok(payload) => Ok(read(&payload).unwrap_or_else(|error| {
                self.disk.discard(path, &error);
                damaged()
            })),
            Err(error) if is_damage(&error) => Ok(damaged()),
            Err(error) => Err(error),
        }
    }
}

/// Reads a record without a copy of its text: it may be large.
fn read(payload: &[u8]) -> io::Result<Ledger> {
    let json = io::BufReader::new(zstd::stream::Decoder::new(payload)?);
    serde_json::from_reader(json).map_err(io::Error::other)
}

fn path(key: &PageKey) -> PathBuf {
    [FIRST_SEEN, key.repository.as_str(), key.project.as_str()].iter().collect()
}

/// The key of the record at a path below the cache directory.
fn key_of(path: &Path) -> Option<PageKey> {
    let mut parts = path.iter().skip(1).map(|part| part.to_str());
    let (repository, project) = (parts.next()??, parts.next()??);
    Some(PageKey { repository: RepositoryId::restored(repository), project: ProjectName::parse(project).ok()? })
}

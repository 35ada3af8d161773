//! The rules that hold now, and the task that reads them again.
//!
//! A set of rules is swapped as a whole, and so is what advisories say. Files that cannot be used change nothing: the
//! rules before them stay in force, which is logged, counted and shown to operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::counts::PolicyCounts;
use super::granted::{GrantError, GrantStore, GrantTable, GrantedException, NewException};
use super::moment::Moment;
use super::rules::RuleSet;
use super::sources::{PolicySettings, RuleFileError, RuleTexts};
use crate::advisories::AdvisoryTable;
use wheelport_runtime::{Clock, Tasks, blocking};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The rules that hold now. Cheap to clone.
#[derive(Clone)]
pub struct PolicyHandle {
    inner: Arc<PolicyInner>,
}

struct PolicyInner {
    settings: PolicySettings,
    current: RwLock<Arc<RuleSet>>,
    /// That of `current`, so that what was decided under it is recognised without a lock.
    revision: AtomicU64,
    /// Whether they let everything through.
    is_empty: AtomicBool,
    /// Held while rules are compiled, read from files or not.
    changing: Mutex<Changing>,
    state: Mutex<PolicyState>,
    counts: PolicyCounts,
    store: Box<dyn GrantStore>,
    clock: Clock,
}

struct Changing {
    texts: RuleTexts,
    grants: GrantTable,
    /// What could not be used the last time, so that it is reported once.
    refused: Option<(Option<RuleTexts>, RuleFileError)>,
}

/// How reading the rules goes.
#[derive(Debug, Clone, Default)]
pub struct PolicyState {
    /// Why the files that are there now are not in force.
    pub error: Option<String>,
    /// How often files were read that could not be used.
    pub failures: u64,
    /// How often rules were swapped.
    pub swaps: u64,
}

/// Starts with the rules that there are. Blocking. Granted exceptions that cannot be read are left out, which is
/// logged: without them, less is let through.
pub fn watch(
    settings: PolicySettings,
    store: Box<dyn GrantStore>,
    clock: Clock,
) -> Result<PolicyHandle, RuleFileError> {
    let texts = RuleTexts::read(&settings)?;
    let grants = store.load().and_then(|record| record.as_deref().map_or(Ok(GrantTable::default()), GrantTable::read));
    let grants = grants.unwrap_or_else(|error| {
        tracing::error!(%error, "exceptions that were granted before cannot be read and do not hold");
        GrantTable::default()
    });
    let rules = texts.compile(&settings, grants.granted())?.with_revision(1);
    let inner = PolicyInner {
        settings,
        revision: AtomicU64::new(rules.revision),
        is_empty: AtomicBool::new(rules.is_empty()),
        current: RwLock::new(Arc::new(rules)),
        changing: Mutex::new(Changing { texts, grants, refused: None }),
        state: Mutex::default(),
        counts: PolicyCounts::default(),
        store,
        clock,
    };
    Ok(PolicyHandle { inner: Arc::new(inner) })
}

impl PolicyHandle {
    /// The rules that hold now.
    pub fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.inner.current.read())
    }

    /// The revision of the rules that hold now.
    pub fn revision(&self) -> u64 {
        self.inner.revision.load(Ordering::Acquire)
    }

    /// Whether every file is let through.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty.load(Ordering::Acquire)
    }

    pub fn counts(&self) -> &PolicyCounts {
        &self.inner.counts
    }

    pub fn state(&self) -> PolicyState {
        self.inner.state.lock().clone()
    }

    pub fn now(&self) -> Moment {
        Moment(self.inner.clock.unix_seconds())
    }

    /// Looks at the files until the process stops.
    pub fn keep(&self, tasks: &Tasks) {
        if self.inner.settings.file.is_none() && self.inner.settings.table.directory.is_none() {
            return;
        }
        let inner = Arc::clone(&self.inner);
        tasks.spawn_loop("watch rules", async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let inner = Arc::clone(&inner);
                let _ = blocking(move || inner.look()).await;
            }
        });
    }

    /// The rules that would hold with this text in place of the files of the directory. Blocking.
    pub fn candidate(&self, text: &str) -> Result<RuleSet, RuleFileError> {
        let (texts, grants) = {
            let changing = self.inner.changing.lock();
            (changing.texts.with_candidate(text), changing.grants.clone())
        };
        let rules = texts.compile(&self.inner.settings, grants.granted())?;
        Ok(rules.with_advisories(self.advisories()))
    }

    /// What advisories say.
    pub fn advisories(&self) -> Arc<AdvisoryTable> {
        Arc::clone(self.inner.current.read().advisories())
    }

    /// Swaps what advisories say; it holds for the next request. Blocking.
    pub fn set_advisories(&self, advisories: Arc<AdvisoryTable>) {
        let _changing = self.inner.changing.lock();
        let mut current = self.inner.current.write();
        let rules = RuleSet::clone(&current).with_advisories(advisories);
        self.inner.replace(&mut current, rules);
    }

    /// The exceptions that were granted in a running process.
    pub fn granted(&self) -> Vec<GrantedException> {
        self.inner.changing.lock().grants.granted().to_vec()
    }

    /// Grants an exception: it holds for the next request, and is recorded. Blocking.
    pub fn grant(&self, new: NewException) -> Result<GrantedException, GrantError> {
        let now = self.now();
        self.inner.change_grants(|grants| grants.add(new, now))
    }

    /// Takes an exception back. Blocking.
    pub fn revoke(&self, id: &str) -> Result<GrantedException, GrantError> {
        let now = self.now();
        self.inner.change_grants(|grants| grants.remove(id, now))
    }

    /// Takes in the record of exceptions that replicas share, if there is one. Returns the record that they should
    /// share, where that is another. Blocking.
    pub fn merge_granted(&self, record: Option<&[u8]>) -> Result<Option<Vec<u8>>, GrantError> {
        let now = self.now();
        let shared = record.map_or(Ok(GrantTable::default()), GrantTable::read).unwrap_or_else(|error| {
            tracing::warn!(%error, "the exceptions that replicas share cannot be read; those known here replace them");
            GrantTable::default()
        });
        let theirs = shared.clone();
        let ours = self.inner.change_grants(|grants| {
            grants.merge(theirs, now);
            Ok(grants.clone())
        })?;
        Ok(if ours == shared { None } else { Some(ours.written()?) })
    }
}

impl PolicyInner {
    /// Reads the files, and swaps the rules if they have changed.
    fn look(&self) {
        let mut changing = self.changing.lock();
        let read = RuleTexts::read(&self.settings);
        let texts = match read {
            Ok(texts) if texts == changing.texts => {
                self.state.lock().error = None;
                changing.refused = None;
                return;
            }
            Ok(texts) => texts,
            Err(error) => return self.refuse(&mut changing, None, error),
        };
        if changing.refused.as_ref().is_some_and(|(refused, _)| refused.as_ref() == Some(&texts)) {
            return;
        }
        match texts.compile(&self.settings, changing.grants.granted()) {
            Ok(rules) => {
                changing.texts = texts;
                changing.refused = None;
                self.swap(rules);
            }
            Err(error) => self.refuse(&mut changing, Some(texts), error),
        }
    }

    /// The rules stay as they are. What is known already is not reported again.
    fn refuse(&self, changing: &mut Changing, texts: Option<RuleTexts>, error: RuleFileError) {
        if changing.refused.as_ref().is_some_and(|(_, known)| *known == error) {
            return;
        }
        tracing::error!(%error, "the rules cannot be used; those before them stay in force");
        let mut state = self.state.lock();
        state.failures += 1;
        state.error = Some(error.to_string());
        changing.refused = Some((texts, error));
    }

    fn swap(&self, rules: RuleSet) {
        let mut current = self.current.write();
        let rules = rules.with_advisories(Arc::clone(current.advisories()));
        tracing::info!(rules = rules.len(), digest = %rules.digest(), "rules are in force");
        self.replace(&mut current, rules);
        drop(current);
        let mut state = self.state.lock();
        state.swaps += 1;
        state.error = None;
    }

    /// Puts rules into the place of others, under the next revision.
    fn replace(&self, current: &mut Arc<RuleSet>, rules: RuleSet) {
        let revision = current.revision + 1;
        self.is_empty.store(rules.is_empty(), Ordering::Release);
        *current = Arc::new(rules.with_revision(revision));
        self.revision.store(revision, Ordering::Release);
    }

    fn change_grants<T>(&self, change: impl FnOnce(&mut GrantTable) -> Result<T, GrantError>) -> Result<T, GrantError> {
        let mut changing = self.changing.lock();
        let mut grants = changing.grants.clone();
        let changed = change(&mut grants)?;
        if grants == changing.grants {
            return Ok(changed);
        }
        let rules = changing.texts.compile(&self.settings, grants.granted());
        let rules = rules.map_err(|error| GrantError::Invalid(error.to_string()))?;
        self.store.save(&grants.written()?)?;
        changing.grants = grants;
        let refused = self.state.lock().error.clone();
        self.swap(rules);
        // The files that are there may still be of no use.
        self.state.lock().error = refused;
        Ok(changed)
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;

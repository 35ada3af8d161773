//! Exceptions from the rules that operators granted or took back, in force on all replicas: a record in the store,
//! merged on condition, so that no replica takes back what another has written.
//!
//! ```text
//! grant ─► this replica ─► the record in the store ─► hint ─► the others take the record in
//! ```
//!
//! Without hints, each replica looks at the record by itself. Where the store is away, an exception holds on the
//! replica that granted it, and is written as soon as the store is back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Flow;
use crate::fleet::{Fleet, Hint, ObjectKey, ObjectStore, ObjectWrite, StoreError};
use crate::policy::{GrantError, GrantedException, NewException, PolicyHandle};
use wheelport_runtime::{Tasks, blocking, sabotaged};

/// How often the record is looked at while hints are heard.
const LOOK_RARELY: Duration = Duration::from_secs(30);
/// How often it is looked at while they are not.
const LOOK_OFTEN: Duration = Duration::from_millis(800);
/// How long an operator waits until other replicas can know of an exception.
const SPREAD_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the record is read and written again because another replica has changed it meanwhile.
const MERGE_TRIES: u32 = 8;
/// The longest record, in bytes.
const LARGEST_RECORD: usize = 8 << 20;

/// Where an operator's word is in force: an exception that was granted or taken back, or a change that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExceptionSpread {
    /// Here; there are no other replicas to share with.
    Here,
    /// Here alone: other replicas hear hints, but there is no store that could tell them what was granted.
    HereAlone,
    /// On all replicas.
    Everywhere,
    /// Here, and on the others once the store can be reached.
    Later,
}

impl ExceptionSpread {
    /// Hints carry no content, so without a store nothing but the fact that something changed could reach others.
    pub(super) fn without_store(fleet: &Fleet) -> Self {
        if fleet.is_alone() { Self::Here } else { Self::HereAlone }
    }

    /// The word in responses and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::HereAlone => "here-alone",
            Self::Everywhere => "everywhere",
            Self::Later => "later",
        }
    }
}

/// Shares exceptions. Cheap to clone.
#[derive(Clone)]
pub(super) struct SharedExceptions {
    fleet: Fleet,
    policy: PolicyHandle,
    tasks: Tasks,
    hint: Arc<Notify>,
}

impl SharedExceptions {
    pub(super) fn new(fleet: Fleet, policy: PolicyHandle, tasks: Tasks) -> Self {
        Self { fleet, policy, tasks, hint: Arc::default() }
    }

    /// Others have said that the record has changed, or may have.
    pub(super) fn look_soon(&self) {
        if !sabotaged("shared-exceptions") {
            self.hint.notify_one();
        }
    }

    /// Takes in what other replicas grant and take back, until the process ends.
    async fn follow(self) {
        let Some(store) = self.fleet.store().cloned() else { return };
        loop {
            if let Err(error) = self.agree(&store).await {
                tracing::debug!(%error, "the exceptions that replicas share are not known");
            }
            let is_told = self.fleet.hints().is_hearing() || sabotaged("shared-exceptions");
            let pause = if is_told { LOOK_RARELY } else { LOOK_OFTEN };
            let _ = tokio::time::timeout(pause, self.hint.notified()).await;
        }
    }

    /// Writes what has changed here where all replicas see it, and tells them.
    async fn spread(&self) -> ExceptionSpread {
        let Some(store) = self.fleet.store().cloned() else { return ExceptionSpread::without_store(&self.fleet) };
        let shared = self.clone();
        let spreading = self.tasks.run("share exceptions", async move {
            let agreed = shared.agree(&store).await;
            if agreed.is_ok() {
                shared.fleet.hints().send(Hint::Exceptions).await;
            }
            agreed
        });
        match spreading.within(SPREAD_TIMEOUT).await {
            Ok(Ok(())) => ExceptionSpread::Everywhere,
            Ok(Err(error)) => {
                tracing::warn!(%error, "exceptions are not shared with other replicas yet");
                // Written there by the loop that follows them.
                ExceptionSpread::Later
            }
            Err(_) => ExceptionSpread::Later,
        }
    }

    /// Makes the record in the store and what is known here the same.
    async fn agree(&self, store: &ObjectStore) -> Result<(), StoreError> {
        let key = ObjectKey::exceptions();
        for attempt in 1..=MERGE_TRIES {
            let (theirs, tag) = match store.read(&key, None, LARGEST_RECORD).await {
                Ok((bytes, tag)) => (Some(bytes), tag),
                Err(StoreError::Missing) => (None, None),
                Err(error) => return Err(error),
            };
            let policy = self.policy.clone();
            let merged = blocking(move || policy.merge_granted(theirs.as_deref())).await;
            let Ok(Ok(ours)) = merged.inspect(report) else { return Err(StoreError::Source) };
            let Some(ours) = ours else { return Ok(()) };
            match store.put(&key, ours.into(), tag.map_or(ObjectWrite::Create, ObjectWrite::Replace)).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Exists | StoreError::Missing) if attempt < MERGE_TRIES => {
                    tokio::time::sleep(Duration::from_millis(10).mul_f64(f64::from(attempt) * fastrand::f64())).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Raced)
    }
}

fn report(merged: &Result<Option<Vec<u8>>, GrantError>) {
    if let Err(error) = merged {
        tracing::error!(%error, "exceptions that another replica granted or took back are not in force here");
    }
}

impl Flow {
    /// Follows exceptions of other replicas until the process ends.
    pub async fn follow_exceptions(self) {
        self.exceptions.follow().await;
    }

    /// Grants an exception, here and on the other replicas.
    pub async fn grant(&self, new: NewException) -> Result<(GrantedException, ExceptionSpread), GrantError> {
        self.change_exceptions(move |policy| policy.grant(new)).await
    }

    /// Takes an exception back, here and on the other replicas.
    pub async fn revoke(&self, id: String) -> Result<(GrantedException, ExceptionSpread), GrantError> {
        self.change_exceptions(move |policy| policy.revoke(&id)).await
    }

    async fn change_exceptions(
        &self,
        change: impl FnOnce(&PolicyHandle) -> Result<GrantedException, GrantError> + Send + 'static,
    ) -> Result<(GrantedException, ExceptionSpread), GrantError> {
        let policy = self.policy().clone();
        let changed = blocking(move || change(&policy)).await;
        let granted =
            changed.map_err(|panicked| GrantError::Storage(std::io::Error::other(panicked.to_string())))??;
        Ok((granted, self.exceptions.spread().await))
    }
}

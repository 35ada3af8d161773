//! The keys of issuers: fetched when they are needed, kept for ten minutes, fetched again for a key that is not among
//! them, and kept beyond that while they cannot be fetched.
//!
//! What to do is a pure decision over the state of one issuer; the fetch is single-flight and runs in a task, so that
//! no client's disconnection ends it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use url::Url;
use wheelport_runtime::{Joined, SingleFlight, Tasks, blocking, sabotaged};

use super::issuer::{Issuer, KeySource};
use super::keys::KeySet;
use crate::redact::hide_secrets;

/// How long keys are used without being fetched again.
const FRESH_FOR: Duration = Duration::from_mins(10);
/// The least time between two fetches for keys that are not known.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_mins(1);
/// The least time between two fetches that fail.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);
/// How long one document may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest discovery document.
const MAX_DISCOVERY: usize = 64 << 10;
/// The longest key set.
const MAX_KEY_SET: usize = 1 << 20;

/// A document of an issuer.
#[derive(Debug)]
pub struct IssuerDocument {
    pub bytes: Bytes,
    /// What time it is where it comes from, if that was said.
    pub date: Option<SystemTime>,
}

/// Fetches a document of at most so many bytes; the error is a sentence for the log.
pub trait FetchDocument: Send + Sync {
    /// `is_configured` says that the operator named the host, so that it may be anywhere.
    fn fetch(&self, url: Url, limit: usize, is_configured: bool) -> BoxFuture<'static, Result<IssuerDocument, String>>;
}

/// The keys of all issuers.
#[derive(Clone)]
pub(super) struct KeyCache {
    fetcher: Arc<dyn FetchDocument>,
    held: Arc<Mutex<HashMap<Arc<str>, HeldKeys>>>,
    fetching: SingleFlight<Arc<str>, Joined<()>>,
    tasks: Tasks,
}

/// What is held of one issuer.
#[derive(Clone)]
struct HeldKeys {
    source: KeySource,
    keys: Option<(Arc<KeySet>, Instant)>,
    tried: Option<Instant>,
    has_failed: bool,
}

/// What to do to find a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyPlan {
    Use(usize),
    Fetch,
    /// There is no such key, or it cannot be had.
    Miss,
}

/// How an issuer's keys are, for metrics and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    pub issuer: Arc<str>,
    /// Keys that can be used; none if none were ever fetched.
    pub number: usize,
    /// How old they are.
    pub age: Option<Duration>,
    /// Whether the last fetch failed.
    pub has_failed: bool,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer has no such key.
    Unknown,
    /// The issuer's keys were never had.
    Unavailable,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

impl HeldKeys {
    fn new(source: &KeySource) -> Self {
        Self { source: source.clone(), keys: None, tried: None, has_failed: false }
    }

    fn plan(&self, key_id: Option<&str>, now: Instant) -> KeyPlan {
        let may_fetch = |pause: Duration| {
            let pause = if self.has_failed { pause.max(FAILURE_PAUSE) } else { pause };
            self.tried.is_none_or(|tried| now.duration_since(tried) >= pause)
        };
        let Some((keys, fetched)) = &self.keys else {
            return if may_fetch(FAILURE_PAUSE) { KeyPlan::Fetch } else { KeyPlan::Miss };
        };
        let is_fresh = now.duration_since(*fetched) < FRESH_FOR;
        match keys.find(key_id) {
            Some(position) if is_fresh || !may_fetch(UNKNOWN_KEY_PAUSE) => KeyPlan::Use(position),
            None if !may_fetch(UNKNOWN_KEY_PAUSE) && !sabotaged("unknown-key-pause") => KeyPlan::Miss,
            _ => KeyPlan::Fetch,
        }
    }
}

impl KeyCache {
    pub(super) fn new(fetcher: Arc<dyn FetchDocument>, tasks: Tasks) -> Self {
        Self { fetcher, held: Arc::default(), fetching: SingleFlight::default(), tasks }
    }

    /// The key with this id: its set, and where it is in there.
    pub(super) async fn find(&self, issuer: &Arc<Issuer>, key_id: Option<&str>) -> Result<(Arc<KeySet>, usize), NoKey> {
        let (plan, held) = self.look(issuer, key_id);
        let (plan, held) = if plan == KeyPlan::Fetch {
            self.fetch(issuer).await;
            self.look(issuer, key_id)
        } else {
            (plan, held)
        };
        let Some((keys, _)) = held.keys else { return Err(NoKey::Unavailable) };
        let position = match plan {
            KeyPlan::Use(position) => Some(position),
            // The fetch did not succeed: the last good keys are kept.
            KeyPlan::Fetch | KeyPlan::Miss => keys.find(key_id),
        };
        position.map(|position| (keys, position)).ok_or(NoKey::Unknown)
    }

    fn look(&self, issuer: &Issuer, key_id: Option<&str>) -> (KeyPlan, HeldKeys) {
        let mut all = self.held.lock();
        let held = all.entry(Arc::clone(&issuer.url)).or_insert_with(|| HeldKeys::new(&issuer.keys));
        if held.source != issuer.keys {
            *held = HeldKeys::new(&issuer.keys);
        }
        (held.plan(key_id, Instant::now()), held.clone())
    }

    /// Keys that were read from files are read again when they are needed next; those of issuers that are gone are
    /// forgotten.
    pub(super) fn reload(&self, issuers: &[Arc<Issuer>]) {
        let is_known = |url: &Arc<str>| issuers.iter().any(|issuer| issuer.url == *url);
        let mut all = self.held.lock();
        all.retain(|url, _| is_known(url));
        for held in all.values_mut().filter(|held| matches!(held.source, KeySource::File(_))) {
            (held.tried, held.has_failed) = (None, false);
            held.keys =
                held.keys.take().map(|(keys, fetched)| (keys, fetched.checked_sub(FRESH_FOR).unwrap_or(fetched)));
        }
    }

    /// How the keys of these issuers are.
    pub(super) fn states(&self, issuers: &[Arc<Issuer>]) -> Vec<KeyState> {
        let all = self.held.lock();
        let state = |issuer: &Arc<Issuer>| {
            let held = all.get(&issuer.url);
            let keys = held.and_then(|held| held.keys.as_ref());
            KeyState {
                issuer: Arc::clone(&issuer.name),
                number: keys.map_or(0, |(keys, _)| keys.len()),
                age: keys.map(|(_, fetched)| fetched.elapsed()),
                has_failed: held.is_some_and(|held| held.has_failed),
            }
        };
        issuers.iter().map(state).collect()
    }

    /// Fetches the keys of an issuer, whatever is held.
    pub(super) async fn fetch(&self, issuer: &Arc<Issuer>) {
        let (cache, of) = (self.clone(), Arc::clone(issuer));
        let work = || async move { cache.refresh(&of).await };
        let (fetching, _) = self.fetching.run(Arc::clone(&issuer.url), &self.tasks, "fetch issuer keys", work);
        let _ = fetching.finished().await;
    }

    async fn refresh(&self, issuer: &Issuer) {
        let fetched = load(&*self.fetcher, issuer).await;
        let now = Instant::now();
        let mut all = self.held.lock();
        let held = all.entry(Arc::clone(&issuer.url)).or_insert_with(|| HeldKeys::new(&issuer.keys));
        if held.source != issuer.keys {
            return;
        }
        held.tried = Some(now);
        match fetched {
            Ok(LoadedKeys { keys, .. }) => {
                tracing::debug!(issuer = %issuer.name, keys = keys.len(), "the keys of an issuer were fetched");
                (held.keys, held.has_failed) = (Some((Arc::new(keys), now)), false);
            }
            Err(reason) => {
                held.has_failed = true;
                let reason = hide_secrets(&reason, 300);
                tracing::warn!(issuer = %issuer.name, %reason, "keys of an issuer cannot be fetched");
                if sabotaged("last-good-keys") {
                    held.keys = None;
                }
            }
        }
    }
}

/// The keys of an issuer, and what else is learned when they are fetched.
pub(super) struct LoadedKeys {
    pub(super) keys: KeySet,
    /// What time it is at the issuer.
    pub(super) date: Option<SystemTime>,
    /// When the file was written that they come from.
    pub(super) written: Option<SystemTime>,
}

/// Fetches the keys of an issuer; the error is a sentence for people.
pub(super) async fn load(fetcher: &dyn FetchDocument, issuer: &Issuer) -> Result<LoadedKeys, String> {
    let (bytes, date, written) = match &issuer.keys {
        KeySource::File(path) => {
            let path = path.clone();
            let name = path.display().to_string();
            let read = move || Ok((std::fs::read(&path)?, std::fs::metadata(&path)?.modified().ok()));
            let read = blocking(read).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let (bytes, written) = read.map_err(|error| format!("{name}: {error}"))?;
            (Bytes::from(bytes), None, written)
        }
        KeySource::Discovery(url) => {
            let document = bounded(fetcher.fetch(url.clone(), MAX_DISCOVERY, true)).await?;
            let discovery: Discovery = serde_json::from_slice(&document.bytes)
                .map_err(|_| format!("{url} is not a discovery document with an issuer and a jwks_uri"))?;
            if !issuer.is(&discovery.issuer) && !sabotaged("discovery-issuer") {
                return Err(format!("{url} is the discovery document of another issuer"));
            }
            let is_configured = discovery.jwks_uri.origin() == url.origin();
            if discovery.jwks_uri.scheme() != "https" && !is_configured {
                return Err(format!("{url} names an address of keys that is not https"));
            }
            let fetched = bounded(fetcher.fetch(discovery.jwks_uri, MAX_KEY_SET, is_configured)).await?;
            (fetched.bytes, document.date, None)
        }
    };
    let keys = KeySet::parse(&bytes).map_err(|invalid| format!("its key set cannot be used: {invalid}"))?;
    Ok(LoadedKeys { keys, date, written })
}

async fn bounded(fetching: BoxFuture<'static, Result<IssuerDocument, String>>) -> Result<IssuerDocument, String> {
    timeout(FETCH_TIMEOUT, fetching).await.unwrap_or_else(|_| Err(format!("no document within {FETCH_TIMEOUT:?}")))
}

#[cfg(test)]
#[path = "key_cache_tests.rs"]
mod tests;

//! A source of tokens that mints what a test tells it, and counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use wheelport::token::{KeeperSettings, MintError, Minted, TokenHandle, TokenSource, keep};
use wheelport_runtime::Tasks;

use super::scripted::Gate;

/// Mints `canary-1`, `canary-2`, … with a life of twelve hours. Clones share everything.
#[derive(Clone, Default)]
pub(crate) struct Mints {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    count: AtomicUsize,
    gate: OnceLock<Gate>,
}

impl Mints {
    /// How many mints were asked for.
    pub(crate) fn count(&self) -> usize {
        self.inner.count.load(Ordering::SeqCst)
    }

    /// Every mint waits at this gate first.
    pub(crate) fn wait_at(&self, gate: &Gate) {
        drop(self.inner.gate.set(gate.clone()));
    }

    /// Starts a keeper of these tokens.
    pub(crate) fn keep(&self, tasks: &Tasks) -> TokenHandle {
        keep(Arc::new(self.clone()), KeeperSettings::new("test"), tasks)
    }
}

impl TokenSource for Mints {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>> {
        Box::pin(async {
            let number = self.inner.count.fetch_add(1, Ordering::SeqCst) + 1;
            if let Some(gate) = self.inner.gate.get() {
                gate.pass().await;
            }
            let secret = SecretString::from(format!("canary-{number}"));
            Ok(Minted { secret, lifetime: Duration::from_hours(12) })
        })
    }
}

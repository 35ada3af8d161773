//! Work that blocks its thread: files, compression, parsing of large documents.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::sabotage::sabotaged;

/// The work panicked. The panic hook has logged why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("blocking work panicked")]
pub struct Panicked;

/// Blocking work on a helper thread. It goes on when this is dropped.
#[must_use = "the outcome of the work may be an error"]
#[derive(Debug)]
pub struct Blocking<T>(JoinHandle<T>);

/// Starts blocking work on a helper thread at once, in the tracing span of its caller, so that its log lines name the
/// request.
#[expect(clippy::disallowed_methods, reason = "the one place that hands work to helper threads")]
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Blocking<T> {
    let span = tracing::Span::current();
    if sabotaged("helper-threads") {
        let outcome = span.in_scope(work);
        return Blocking(tokio::task::spawn_blocking(|| outcome));
    }
    Blocking(tokio::task::spawn_blocking(move || span.in_scope(work)))
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Panicked)
    }
}

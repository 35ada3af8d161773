//! Work that blocks its thread: files, compression, parsing of large documents.

/// The work panicked. The panic hook has logged why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("blocking work panicked")]
pub struct Panicked;

/// Starts blocking work on a helper thread at once, in the tracing span of its caller, so that its log lines name the
/// request. The work goes on when the returned future is dropped.
#[expect(clippy::disallowed_methods, reason = "the one place that hands work to helper threads")]
pub fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, Panicked>> + Send + 'static {
    let span = tracing::Span::current();
    let running = tokio::task::spawn_blocking(move || span.in_scope(work));
    async move { running.await.map_err(|_| Panicked) }
}

//! The outcome of a task, shared by every caller that waits for it.

use std::time::Duration;

use tokio::sync::watch;

/// The outcome of work that runs elsewhere. Every clone resolves to it.
#[derive(Debug)]
pub struct Joined<T> {
    outcome: watch::Receiver<Option<T>>,
}

/// Why there is no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The work takes longer than the caller waits. It goes on.
    #[error("the work takes longer than its caller waits")]
    Elapsed,
    /// The work ended without an outcome: it panicked, or the process is stopping.
    #[error("the work ended without an outcome")]
    Lost,
}

impl<T> Clone for Joined<T> {
    fn clone(&self) -> Self {
        Self { outcome: self.outcome.clone() }
    }
}

impl<T> Joined<T> {
    /// An outcome that is still to come, and the way to set it.
    pub(crate) fn pending() -> (Self, watch::Sender<Option<T>>) {
        let (sender, outcome) = watch::channel(None);
        (Self { outcome }, sender)
    }
}

impl<T: Clone> Joined<T> {
    /// Waits for the outcome, however long that takes.
    pub async fn finished(mut self) -> Result<T, JoinError> {
        let finished = self.outcome.wait_for(Option::is_some).await.map_err(|_| JoinError::Lost)?;
        finished.clone().ok_or(JoinError::Lost)
    }

    /// Waits for the outcome, at most this long.
    pub async fn within(self, timeout: Duration) -> Result<T, JoinError> {
        tokio::time::timeout(timeout, self.finished()).await.unwrap_or(Err(JoinError::Elapsed))
    }
}

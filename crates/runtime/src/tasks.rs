//! The owner of every task: each has a name, a cancellation point and a join with a deadline.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::Priority;

/// Starts tasks and joins them when the process stops. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that ends by itself, such as a download; [`Tasks::join`] waits for it until its deadline. The task
    /// has the priority of the task that starts it.
    #[expect(clippy::disallowed_methods, reason = "the one place that may start tasks")]
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = Priority::current().serve(task.instrument(tracing::debug_span!("task", task = name)));
        drop(tokio::spawn(self.tracker.track_future(task)));
    }

    /// Starts a loop that runs until the stop, which drops it at its next await.
    pub fn spawn_loop<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Resolves when the stop begins.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the stop has begun.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Begins the stop without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Begins the stop and waits for all tasks; returns whether all of them ended before the deadline.
    pub async fn join(&self, deadline: Duration) -> bool {
        self.stop();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

//! The owner of every task: what is started here has a name, a cancellation point and a join with a deadline.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::joined::Joined;
use super::priority::Priority;

/// Starts tasks and joins them at the end of the process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// An owner without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that ends by itself, such as a download; the stop waits for it until its deadline. It has the
    /// priority of the task that starts it.
    #[expect(clippy::disallowed_methods, reason = "the one place that may start tasks")]
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // A span costs something every time the task runs, and only tells something below a request.
        let is_detached = tracing::Span::current().is_none();
        let span = if is_detached {
            tracing::debug_span!("task", task = name)
        } else {
            tracing::info_span!("task", task = name)
        };
        let task = Priority::current().serve(task.instrument(span));
        drop(tokio::spawn(self.tracker.track_future(task)));
    }

    /// Starts a task whose outcome can be waited for; it goes on when nothing waits.
    pub fn run<F>(&self, name: &'static str, task: F) -> Joined<F::Output>
    where
        F: Future<Output: Clone + Send + Sync> + Send + 'static,
    {
        let (joined, outcome) = Joined::pending();
        self.spawn(name, async move {
            outcome.send_replace(Some(task.await));
        });
        joined
    }

    /// Starts a loop that runs until the stop; it is dropped at its next await then.
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

    /// Begins the stop without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Begins the stop and waits for all tasks; says whether all of them ended before the deadline.
    pub async fn join(&self, deadline: Duration) -> bool {
        self.stop();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

//! The owner of every task: what is started here has a name, a cancellation point and a join with a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::Caller;

/// Starts tasks and joins them at the end of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The runtime of the process, where all tasks run, wherever they are started from.
    runtime: Option<Handle>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An owner without tasks. Its tasks will run on the runtime that this is called from, if it is called from one, and
    /// else on those that they are started from.
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            runtime: Handle::try_current().ok(),
        }
    }

    /// Starts a task that ends by itself, such as a fill; the stop waits for it until its deadline. It works for whom its
    /// starter works for.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = self.runtime.clone().unwrap_or_else(Handle::current);
        self.spawn_on(&runtime, name, Caller::current().serve(task));
    }

    /// As [`Tasks::spawn`], on another runtime, and for nobody in particular.
    pub fn spawn_on<F>(&self, runtime: &Handle, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = task.instrument(tracing::debug_span!("task", task = name));
        drop(runtime.spawn(self.tracker.track_future(task)));
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

    /// Whether the stop has begun.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
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

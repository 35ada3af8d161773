//! Threads that serve connections, one for each processor, each with a single-threaded runtime of its own.
//!
//! An answer that is at hand needs nothing from other threads, so a connection stays with the thread that it was given to:
//! no task wanders, and no thread is woken for another one's work. Whatever outlives a request, or takes long, runs
//! on the runtime of the process, which owns all other tasks (`Tasks`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads. They end when this is dropped.
pub struct Workers {
    workers: Vec<Worker>,
    stop: CancellationToken,
}

struct Worker {
    runtime: Handle,
    /// Connections that it serves now.
    busy: Arc<AtomicUsize>,
}

/// A place on a worker, taken until it is dropped.
pub struct Place {
    /// The worker's runtime.
    pub runtime: Handle,
    busy: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// One thread for each processor that this process may use.
    pub fn start() -> io::Result<Self> {
        Self::of(thread::available_parallelism()?.get())
    }

    fn of(number: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let workers = (0..number).map(|_| Worker::start(stop.clone())).collect::<io::Result<_>>()?;
        Ok(Self { workers, stop })
    }

    /// No threads: connections are served on the runtime that accepts them, whose clock a test may hold.
    pub fn none() -> Self {
        Self { workers: Vec::new(), stop: CancellationToken::new() }
    }

    /// A place on the worker that has the fewest connections.
    pub fn place(&self) -> Place {
        let least = self.workers.iter().min_by_key(|worker| worker.busy.load(Ordering::Relaxed));
        let Some(worker) = least else {
            return Place { runtime: Handle::current(), busy: Arc::new(AtomicUsize::new(1)) };
        };
        worker.busy.fetch_add(1, Ordering::Relaxed);
        Place { runtime: worker.runtime.clone(), busy: Arc::clone(&worker.busy) }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Worker {
    fn start(stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new().name("connections".to_owned());
        // The thread owns the runtime, because a runtime cannot be dropped where tasks run.
        drop(thread.spawn(move || runtime.block_on(stop.cancelled()))?);
        Ok(Self { runtime: handle, busy: Arc::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_given_where_the_fewest_are_taken() -> Result<(), Box<dyn std::error::Error>> {
        let workers = Workers::of(2)?;
        let thread_of = async |place: &Place| {
            place.runtime.spawn(async { thread::current().id() }).await.expect("the worker lives")
        };
        let (first, second) = (workers.place(), workers.place());
        let (on_first, on_second) = (thread_of(&first).await, thread_of(&second).await);
        assert_ne!(on_first, on_second);
        assert_ne!(on_first, thread::current().id());
        drop(second);
        let third = workers.place();
        assert_eq!(thread_of(&third).await, on_second, "the other one was busier");
        Ok(())
    }

    #[tokio::test]
    async fn the_threads_end_with_their_owner() -> io::Result<()> {
        let workers = Workers::start()?;
        let place = workers.place();
        let pending = place.runtime.spawn(std::future::pending::<()>());
        drop(workers);
        assert!(pending.await.is_err_and(|error| error.is_cancelled()));
        Ok(())
    }
}

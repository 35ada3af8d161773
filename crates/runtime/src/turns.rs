//! Blocking work of which only so much goes on at the same time.
//!
//! A helper thread cannot be stopped, so its work goes on when the client that it is for has left. A permit that its
//! request held would be free by then, and clients that come and go could start any amount of work.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::sabotage::sabotaged;
use super::{Panicked, blocking};

/// So many turns to do blocking work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// As much work at the same time.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Runs the work on a helper thread once a turn is free. The turn is held until the work ends, even if the caller
    /// has stopped waiting.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        if sabotaged("turn-of-the-work") {
            return blocking(work).await;
        }
        blocking(move || {
            let _turn = turn;
            work()
        })
        .await
    }

    /// Turns that are free.
    pub fn free(&self) -> usize {
        self.0.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_util::{FutureExt as _, poll};

    use super::*;

    #[tokio::test]
    async fn a_turn_goes_with_the_work_also_when_its_client_has_left() {
        let turns = Turns::new(1);
        let (release, held) = mpsc::channel::<()>();
        let mut first = turns
            .run(move || {
                // Ends when the sender is gone.
                let _ = held.recv();
            })
            .boxed();
        assert!(poll!(&mut first).is_pending());
        drop(first);
        assert_eq!(turns.free(), 0, "the work goes on, and so does its turn");
        let mut second = turns.run(|| 2).boxed();
        assert!(poll!(&mut second).is_pending());
        drop(release);
        let outcome = tokio::time::timeout(Duration::from_secs(25), second).await;
        assert_eq!(outcome.expect("the first turn ends"), Ok(2));
    }

    #[tokio::test]
    async fn a_panic_ends_a_turn() {
        let turns = Turns::new(1);
        assert_eq!(turns.run(|| panic!("of a test")).await, Err::<(), _>(Panicked));
        assert_eq!((turns.run(|| 1).await, turns.free()), (Ok(1), 1));
    }
}

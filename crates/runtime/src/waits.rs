//! What a request has waited for, so that a slow response can say why it was slow.
//!
//! As with [`Priority`](super::Priority), this is a property of the task; but tasks that a request starts do not
//! inherit it, because the request only waits for them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Waits;
}

/// The waits of one request. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    ended: Arc<Mutex<Vec<(&'static str, Duration)>>>,
}

/// A wait that lasts until this is dropped.
struct Wait {
    what: &'static str,
    began: Instant,
    waits: Option<Waits>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(waits) = &self.waits else { return };
        let (mut ended, took) = (waits.ended.lock(), self.began.elapsed());
        match ended.iter_mut().find(|(what, _)| *what == self.what) {
            Some((_, sum)) => *sum += took,
            None => ended.push((self.what, took)),
        }
    }
}

impl Waits {
    /// Runs a request, and notes what it waits for.
    pub fn serve<T>(&self, request: impl Future<Output = T>) -> impl Future<Output = T> {
        CURRENT.scope(self.clone(), request)
    }

    /// Waits for something, and notes it for the running request, also when the request ends before the wait.
    pub async fn note<T>(what: &'static str, work: impl Future<Output = T>) -> T {
        let waits = CURRENT.try_with(Self::clone).ok();
        let _wait = Wait { what, began: Instant::now(), waits };
        work.await
    }

    /// How long the request has waited for this.
    pub fn of(&self, what: &str) -> Duration {
        let ended = self.ended.lock();
        ended.iter().filter(|(known, _)| *known == what).map(|(_, took)| *took).sum()
    }

    /// What the request has waited for longest, besides this; `None` if for nothing.
    pub fn longest_besides(&self, what: &str) -> Option<&'static str> {
        let ended = self.ended.lock();
        let others = ended.iter().filter(|(known, _)| *known != what);
        others.max_by_key(|(_, took)| *took).map(|(known, _)| *known)
    }

    /// All of it in words: `index 9.0 s, file 3.0 s`.
    pub fn summary(&self) -> String {
        let ended = self.ended.lock();
        let waits: Vec<_> = ended.iter().map(|(what, took)| format!("{what} {:.1} s", took.as_secs_f64())).collect();
        waits.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_knows_what_it_waited_for_also_when_it_is_cut() {
        let waits = Waits::default();
        let sleep = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let request = async {
            Waits::note("index", sleep(9)).await;
            Waits::note("file", sleep(1)).await;
            Waits::note("file", sleep(100)).await;
        };
        let cut = tokio::time::timeout(Duration::from_secs(12), waits.serve(request)).await;
        assert!(cut.is_err());
        assert_eq!((waits.summary().as_str(), waits.of("file")), ("index 9.0 s, file 3.0 s", Duration::from_secs(3)));
        assert_eq!((waits.longest_besides(""), waits.longest_besides("index")), (Some("index"), Some("file")));
        assert_eq!(Waits::default().longest_besides(""), None);
        Waits::note("outside", sleep(1)).await;
        assert_eq!(waits.of("outside"), Duration::ZERO);
    }
}

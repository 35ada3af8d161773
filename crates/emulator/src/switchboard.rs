//! The switches of a running emulator, and the counters behind error bursts, throttling and cut bodies.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::oddities::{InvalidOddity, Oddities};

/// The switches of a running emulator, with the counters behind them. Cheap to clone; clones share both.
#[derive(Clone)]
pub struct Switchboard {
    now: Arc<RwLock<Arc<Oddities>>>,
    counters: Arc<Mutex<FaultCounters>>,
}

#[derive(Default)]
struct FaultCounters {
    window: Option<Instant>,
    in_window: u32,
    requests: u64,
    cuts: u64,
}

/// A fault that a request meets before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OddityFault {
    /// 429 without `Retry-After`.
    Throttled,
    /// The status of error bursts.
    Broken(u16),
}

impl Switchboard {
    pub(crate) fn new(oddities: Oddities) -> Self {
        Self { now: Arc::new(RwLock::new(Arc::new(oddities))), counters: Arc::default() }
    }

    /// The switches as they are now.
    pub fn get(&self) -> Arc<Oddities> {
        Arc::clone(&self.now.read())
    }

    /// Replaces all switches and resets their counters. Fails if a status is not one that its switch knows.
    pub fn set(&self, oddities: Oddities) -> Result<(), InvalidOddity> {
        oddities.check()?;
        *self.now.write() = Arc::new(oddities);
        *self.counters.lock() = FaultCounters::default();
        Ok(())
    }

    /// Counts a request that arrived at `now`, and says which fault it meets.
    pub(crate) fn fault(&self, now: Instant) -> Option<OddityFault> {
        let oddities = self.get();
        let mut counters = self.counters.lock();
        if oddities.throttle > 0 {
            let fresh = counters.window.is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1));
            if fresh {
                counters.window = Some(now);
                counters.in_window = 0;
            }
            counters.in_window += 1;
            if counters.in_window > oddities.throttle {
                return Some(OddityFault::Throttled);
            }
        }
        if oddities.error_burst.of > 0 {
            let position = counters.requests % oddities.error_burst.of;
            counters.requests += 1;
            if position < oddities.error_burst.failures {
                return Some(OddityFault::Broken(oddities.error_status));
            }
        }
        None
    }

    /// After how many bytes the body that begins now breaks, if it does.
    pub(crate) fn cut(&self) -> Option<u64> {
        let cut = self.get().cut_body;
        let mut counters = self.counters.lock();
        (counters.cuts < cut.times).then(|| {
            counters.cuts += 1;
            cut.after
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oddities::{BodyCut, ErrorBurst};

    #[test]
    fn faults_come_in_their_proportion() {
        let board =
            Switchboard::new(Oddities { error_burst: ErrorBurst { failures: 2, of: 5 }, ..Oddities::default() });
        let start = Instant::now();
        let faults: Vec<bool> = (0..10).map(|_| board.fault(start).is_some()).collect();
        let round = [true, true, false, false, false];
        assert_eq!(faults, [round, round].concat());

        board.set(Oddities { throttle: 2, ..Oddities::default() }).expect("valid statuses");
        let faults: Vec<_> = (0..3).map(|_| board.fault(start)).collect();
        assert_eq!(faults, [None, None, Some(OddityFault::Throttled)]);
        assert_eq!(board.fault(start + Duration::from_secs(1)), None);
    }

    #[test]
    fn only_the_first_bodies_are_cut() {
        let board = Switchboard::new(Oddities { cut_body: BodyCut { after: 7, times: 1 }, ..Oddities::default() });
        assert_eq!((board.cut(), board.cut()), (Some(7), None));
    }
}

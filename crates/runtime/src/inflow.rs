//! How slowly bytes may come: a limit for each silence, and a least rate over the time that is spent waiting for them.
//! So a slow reader on this side is not held against the one that sends.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// The limits of one kind of bodies.
#[derive(Debug, Clone, Copy)]
pub struct InflowLimits {
    /// The longest silence.
    pub stall: Duration,
    /// The least rate in bytes a second.
    pub rate: u64,
    /// The time spent waiting over which the rate is measured.
    pub window: Duration,
}

/// Bytes did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

/// Watches how one body comes.
#[derive(Debug)]
pub struct Inflow {
    limits: InflowLimits,
    waited: Duration,
    bytes: u64,
}

impl Inflow {
    pub const fn new(limits: InflowLimits) -> Self {
        Self { limits, waited: Duration::ZERO, bytes: 0 }
    }

    /// Waits for what comes next; `length` says how many bytes of the body it is, and none for its end.
    pub async fn wait<T>(
        &mut self,
        coming: impl Future<Output = T>,
        length: impl FnOnce(&T) -> Option<u64>,
    ) -> Result<T, TooSlow> {
        let began = Instant::now();
        let Ok(come) = timeout(self.limits.stall, coming).await else { return Err(TooSlow) };
        let is_too_slow = length(&come).is_some_and(|bytes| self.is_too_slow(began.elapsed(), bytes));
        if is_too_slow { Err(TooSlow) } else { Ok(come) }
    }

    fn is_too_slow(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.limits.window {
            return false;
        }
        // In milliseconds and wide, so that no rate and no wait is rounded away.
        let due = u128::from(self.limits.rate) * self.waited.as_millis();
        let is_too_slow = u128::from(self.bytes) * 1000 < due;
        self.waited = Duration::ZERO;
        self.bytes = 0;
        is_too_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Chunks of so many bytes, each after so many seconds; says how many came.
    async fn come(chunks: &[(u32, u64)]) -> usize {
        let mut inflow = Inflow::new(InflowLimits { stall: SECOND * 30, rate: 10, window: SECOND * 60 });
        for (number, (seconds, bytes)) in chunks.iter().enumerate() {
            let coming = tokio::time::sleep(SECOND * *seconds);
            if inflow.wait(coming, |()| Some(*bytes)).await.is_err() {
                return number;
            }
        }
        let end = inflow.wait(tokio::time::sleep(SECOND * 29), |()| None).await;
        assert_eq!(end, Ok(()), "the end of a body is never too slow");
        chunks.len()
    }

    #[tokio::test(start_paused = true)]
    async fn silences_and_drips_are_too_slow_and_a_pause_of_the_reader_is_not() {
        assert_eq!(come(&[(0, 5), (31, 1000)]).await, 1);
        assert_eq!(come(&[(20, 1), (20, 1), (19, 1), (1, 1), (0, 1)]).await, 3, "60 s with less than 600 bytes");
        assert_eq!(come(&[(20, 1), (20, 1), (20, 598), (20, 1), (20, 1), (20, 598)]).await, 6);
        let mut inflow = Inflow::new(InflowLimits { stall: SECOND, rate: 10, window: SECOND });
        for _ in 0..5 {
            assert_eq!(inflow.wait(std::future::ready(()), |()| Some(1)).await, Ok(()));
            tokio::time::advance(SECOND * 300).await;
        }
    }
}

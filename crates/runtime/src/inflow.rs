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

    /// Waits for what comes next, which is no silence.
    pub async fn wait<T>(&mut self, coming: impl Future<Output = T>) -> Result<T, TooSlow> {
        let began = Instant::now();
        let come = timeout(self.limits.stall, coming).await.map_err(|_| TooSlow)?;
        self.waited += began.elapsed();
        Ok(come)
    }

    /// So many bytes came.
    pub fn came(&mut self, bytes: u64) -> Result<(), TooSlow> {
        self.bytes += bytes;
        if self.waited < self.limits.window {
            return Ok(());
        }
        // In milliseconds and wide, so that no rate and no wait is rounded away.
        let due = u128::from(self.limits.rate) * self.waited.as_millis();
        let is_too_slow = u128::from(self.bytes) * 1000 < due;
        self.waited = Duration::ZERO;
        self.bytes = 0;
        if is_too_slow { Err(TooSlow) } else { Ok(()) }
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
            let came = inflow.wait(tokio::time::sleep(SECOND * *seconds)).await;
            if came.and_then(|()| inflow.came(*bytes)).is_err() {
                return number;
            }
        }
        chunks.len()
    }

    #[tokio::test(start_paused = true)]
    async fn silences_and_drips_are_too_slow_and_a_pause_of_the_reader_is_not() {
        assert_eq!(come(&[(0, 5), (31, 1000)]).await, 1);
        assert_eq!(come(&[(20, 1), (20, 1), (19, 1), (1, 1), (0, 1)]).await, 3, "60 s with less than 600 bytes");
        assert_eq!(come(&[(20, 1), (20, 1), (20, 598), (20, 1), (20, 1), (20, 598)]).await, 6);
        let mut inflow = Inflow::new(InflowLimits { stall: SECOND, rate: 10, window: SECOND });
        for _ in 0..5 {
            assert_eq!(inflow.wait(std::future::ready(())).await, Ok(()));
            assert_eq!(inflow.came(1), Ok(()));
            tokio::time::advance(SECOND * 300).await;
        }
    }
}

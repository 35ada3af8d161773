//! The body of an upload as it comes: in batches, neither too slowly nor with long silences, and when its last byte was
//! sent.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use wheelport_runtime::sabotaged;

/// What goes to disk in one go, in bytes.
const BATCH: usize = 1 << 20;
/// How much of a refused form is read for the sake of its sender, in bytes.
const DRAIN_LIMIT: u64 = 256 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(20);
/// More than can be on its way between a sender and us, in bytes.
const IN_TRANSIT: u64 = 8 << 20;

/// A body that is being received.
pub(super) struct UploadBody {
    body: Body,
    pace: Pace,
    /// The sender is gone or too slow: there is no point in reading more.
    has_failed: bool,
}

/// How fast a sender has to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct PaceLimits {
    /// The longest silence, and the time spent waiting over which the rate is measured.
    pub stall: Duration,
    /// The fewest bytes per second.
    pub min_rate: u64,
}

/// Why no more of a body comes; a clause that the publisher sees.
pub(super) type BodyFault = &'static str;

impl UploadBody {
    /// The body of a request that came at `began`.
    pub(super) fn new(body: Body, began: Instant) -> Self {
        Self { body, pace: Pace::new(began), has_failed: false }
    }

    /// What has arrived; waits only if that is nothing. `None` at the end.
    pub(super) async fn next_batch(&mut self, limits: PaceLimits) -> Result<Option<Vec<Bytes>>, BodyFault> {
        let batch = self.gather(limits).await;
        self.has_failed = batch.is_err();
        Ok(Some(batch?).filter(|batch| !batch.is_empty()))
    }

    async fn gather(&mut self, limits: PaceLimits) -> Result<Vec<Bytes>, BodyFault> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while size < BATCH {
            let frame = match self.body.frame().now_or_never() {
                Some(frame) => frame,
                None if batch.is_empty() => self.wait(limits).await?,
                None => break,
            };
            let Some(frame) = frame else { break };
            if let Ok(data) = frame.map_err(|_| "its body broke off")?.into_data() {
                size += data.len();
                self.pace.received(data.len() as u64, Instant::now());
                batch.push(data);
            }
        }
        Ok(batch)
    }

    async fn wait(&mut self, limits: PaceLimits) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, BodyFault> {
        let began = Instant::now();
        let stall = if sabotaged("upload-stall") { Duration::MAX } else { limits.stall };
        let waited = tokio::time::timeout(stall, self.body.frame()).await;
        let frame = waited.map_err(|_| "its body stopped coming")?;
        if self.pace.waited(began, Instant::now(), limits) || sabotaged("upload-rate") {
            Ok(frame)
        } else {
            Err("its body came too slowly")
        }
    }

    /// The earliest time at which the last byte can have been sent, once all of the body was read.
    pub(super) fn sent(&self) -> Instant {
        self.pace.sent()
    }

    /// Reads the rest of a refused form, because most publishing tools look at the response only then.
    pub(super) async fn drain(&mut self) {
        let reading = async {
            let mut read = 0;
            while let Some(Ok(frame)) = self.body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len) as u64;
                if read > DRAIN_LIMIT {
                    break;
                }
            }
        };
        if !self.has_failed && !sabotaged("refused-rest") {
            let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
        }
    }
}

/// How a body has come so far.
#[derive(Debug)]
struct Pace {
    /// When a byte was waited for last: nothing after it can have been sent before.
    missed: Instant,
    /// When one and two times [`IN_TRANSIT`] ago bytes were read: what is read now cannot have been sent before the
    /// second.
    read: (Instant, Instant),
    total: u64,
    /// The bytes that came, and the time spent waiting for them, since the rate was measured last.
    window: (u64, Duration),
}

impl Pace {
    fn new(began: Instant) -> Self {
        Self { missed: began, read: (began, began), total: 0, window: (0, Duration::ZERO) }
    }

    fn received(&mut self, bytes: u64, now: Instant) {
        if (self.total + bytes) / IN_TRANSIT > self.total / IN_TRANSIT {
            self.read = (now, self.read.0);
        }
        self.total += bytes;
        self.window.0 += bytes;
    }

    /// Something was waited for; says whether that is still fast enough.
    fn waited(&mut self, from: Instant, to: Instant, limits: PaceLimits) -> bool {
        self.missed = to;
        self.window.1 += to - from;
        if self.window.1 < limits.stall {
            return true;
        }
        let (bytes, waited) = std::mem::take(&mut self.window);
        u128::from(bytes) * 1000 >= waited.as_millis() * u128::from(limits.min_rate)
    }

    fn sent(&self) -> Instant {
        self.missed.max(self.read.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: PaceLimits = PaceLimits { stall: Duration::from_secs(30), min_rate: 1024 };

    #[test]
    fn a_sender_that_trickles_is_too_slow_and_one_that_pauses_is_not() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut wait = |pace: &mut Pace, seconds: u32, bytes| {
            let from = now;
            now += SECOND * seconds;
            let fast_enough = pace.waited(from, now, LIMITS);
            pace.received(bytes, now);
            fast_enough
        };
        for _ in 0..10 {
            assert!(wait(&mut pace, 25, 100_000));
        }
        let trickled = (0..4).take_while(|_| wait(&mut pace, 12, 1)).count();
        assert!((1..4).contains(&trickled) || !wait(&mut pace, 30, 1), "{trickled}");
    }

    #[test]
    fn the_last_byte_was_sent_no_earlier_than_what_could_be_on_its_way() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        pace.received(1000, began + SECOND * 5);
        assert_eq!(pace.sent(), began, "all of it may have come before it was read");
        pace.waited(began + SECOND * 5, began + SECOND * 6, LIMITS);
        assert_eq!(pace.sent(), began + SECOND * 6);
        // Never waited for again, because it is read more slowly than it is sent.
        for megabyte in 0..100 {
            pace.received(1 << 20, began + SECOND * (10 + megabyte));
        }
        let late = pace.sent() - began;
        assert!((SECOND * 90..=SECOND * 102).contains(&late), "{late:?}");
    }
}

//! The backoff after 429s that all requests to one endpoint share: it grows while they go on and shrinks with every
//! other response. Pure state over explicit instants.

use std::time::Duration;

use tokio::time::Instant;

use super::retry::MAX_RETRY_AFTER;

#[derive(Debug, Default)]
pub(super) struct Backoff {
    level: u32,
    began: Option<Instant>,
    until: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    /// A `Retry-After` of zero must not become a busy loop.
    const SHORTEST: Duration = Duration::from_millis(250);
    const MAX_LEVEL: u32 = 6;

    /// The end of the backoff, while it lasts.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// The endpoint throttled a request sent at `sent`. `random` is a number between 0 and 1.
    pub(super) fn throttled(&mut self, sent: Instant, now: Instant, retry_after: Option<Duration>, random: f64) {
        // A request that was sent before the backoff began says nothing new.
        let is_known = self.began.is_some_and(|began| sent <= began);
        if !is_known {
            self.level = (self.level + 1).min(Self::MAX_LEVEL);
            self.began = Some(now);
        }
        let pause = match retry_after {
            Some(retry_after) => retry_after.clamp(Self::SHORTEST, MAX_RETRY_AFTER),
            None if is_known => return,
            None => (Self::FIRST * 2_u32.pow(self.level - 1)).mul_f64(0.75 + random / 2.0).min(MAX_RETRY_AFTER),
        };
        self.until = self.until.max(Some(now + pause));
    }

    /// The endpoint responded, and not with a 429.
    pub(super) fn responded(&mut self) {
        self.level = self.level.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_wave_of_429_counts_once_and_later_ones_make_the_backoff_longer() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        let now = start + SECOND;
        for _ in 0..64 {
            backoff.throttled(start, now, None, 0.5);
        }
        assert_eq!(backoff.until(now), Some(now + Duration::from_millis(500)));
        let later = now + SECOND;
        assert_eq!(backoff.until(later), None);
        backoff.throttled(later, later + SECOND, None, 0.5);
        assert_eq!(backoff.until(later + SECOND), Some(later + SECOND * 2));
        backoff.responded();
        backoff.responded();
        assert_eq!(backoff.level, 0);
    }

    #[test]
    fn retry_after_is_honoured_up_to_the_cap_and_never_shortened() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.throttled(now, now, Some(SECOND * 3), 0.5);
        backoff.throttled(now, now, Some(SECOND), 0.5);
        assert_eq!(backoff.until(now), Some(now + SECOND * 3));
        backoff.throttled(now, now, Some(SECOND * 3600), 0.5);
        assert_eq!(backoff.until(now), Some(now + MAX_RETRY_AFTER));
    }
}

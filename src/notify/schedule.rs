//! What an attempt leads to, and when the next one is. Pure.

use std::time::Duration;

use wheelport_runtime::sabotaged;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// What a receiver says that will never take this notice.
const REFUSALS: [u16; 5] = [400, 410, 413, 415, 422];

/// What an attempt leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryStep {
    Delivered,
    /// Another attempt would be in vain.
    Refused,
    Again(Duration),
    /// It was tried for long enough.
    Expired,
}

/// After so many attempts, the last of which got this status or none, with a notice of this age. A redirect is not
/// followed: the signed document is for the receiver that the operator named.
pub(super) fn step(
    status: Option<u16>,
    attempts: u32,
    age: Duration,
    retry_for: Duration,
    random: f64,
) -> DeliveryStep {
    match status {
        Some(200..=299) => return DeliveryStep::Delivered,
        Some(_) if sabotaged("notice-retry") => return DeliveryStep::Refused,
        Some(status) if REFUSALS.contains(&status) => return DeliveryStep::Refused,
        _ => {}
    }
    let pause = pause(attempts, random);
    if age + pause >= retry_for && !sabotaged("notice-age") {
        DeliveryStep::Expired
    } else {
        DeliveryStep::Again(pause)
    }
}

/// Twice as long after each attempt, and by up to a half shorter, so that replicas do not come all at once.
fn pause(attempts: u32, random: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(6);
    let longest = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn only_a_success_delivers_and_only_what_is_wrong_with_the_notice_ends_it() {
        let after = |status| step(status, 1, Duration::ZERO, HOUR, 1.0);
        for status in [200, 202, 204] {
            assert_eq!(after(Some(status)), DeliveryStep::Delivered, "{status}");
        }
        for status in REFUSALS {
            assert_eq!(after(Some(status)), DeliveryStep::Refused, "{status}");
        }
        for status in [302, 307, 401, 403, 404, 408, 429, 500, 502, 503] {
            assert_eq!(after(Some(status)), DeliveryStep::Again(FIRST_PAUSE), "{status}");
        }
        assert_eq!(after(None), DeliveryStep::Again(FIRST_PAUSE));
    }

    #[test]
    fn pauses_grow_to_a_minute_and_end_with_the_time_there_is() {
        let pauses: Vec<u64> = (1..=9).map(|attempts| pause(attempts, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(3, 0.0), Duration::from_secs(2));
        assert_eq!(pause(u32::MAX, 0.5), Duration::from_secs(45));
        let late = Duration::from_secs(3599);
        assert_eq!(step(None, 1, late, HOUR, 1.0), DeliveryStep::Expired);
        assert_eq!(step(None, 1, late, HOUR, 0.0), DeliveryStep::Again(Duration::from_millis(500)));
        assert_eq!(step(Some(200), 1, HOUR, HOUR, 1.0), DeliveryStep::Delivered);
    }
}

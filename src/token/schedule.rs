//! When to mint: pure decisions from lifetimes, failures and a random number between 0 and 1.

use std::time::Duration;

use super::MintErrorKind;

/// The longest lifetime that CodeArtifact grants.
pub const MAX_LIFETIME: Duration = Duration::from_hours(12);
/// The shortest lifetime that CodeArtifact accepts in a request.
pub const MIN_LIFETIME: Duration = Duration::from_mins(15);
/// The least time between forced mints, and between renewals of tokens with an absurdly short lifetime.
pub(super) const MINT_DISTANCE: Duration = Duration::from_secs(30);
/// The pause after a denied mint: the cause is a policy, and policies change slowly.
const DENIED_PAUSE: Duration = Duration::from_mins(1);

const MARGIN: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_RETRY_AFTER: Duration = Duration::from_mins(15);

/// The lifetime to count with: that of the response, or the requested one if the response makes no sense.
///
/// A response without a lifetime, or with one longer than requested, is corrected. `requested` is `None` for tokens
/// that expire with the role session: for them any lifetime up to the longest is plausible.
pub(super) fn believable_lifetime(granted: Duration, requested: Option<Duration>) -> Duration {
    let ceiling = requested.unwrap_or(MAX_LIFETIME);
    match (granted, requested) {
        (Duration::ZERO, Some(requested)) => requested,
        // A session may be about to end; a short lifetime is the careful guess.
        (Duration::ZERO, None) => MIN_LIFETIME,
        (granted, _) => granted.min(ceiling),
    }
}

/// How long after its mint a token is renewed: a sixth of its lifetime, ten per cent more or less.
///
/// At least a minute, and at least a minute before it expires. A lifetime too short for both is halved, but two mints
/// are never closer than [`MINT_DISTANCE`].
pub(super) fn renew_after(lifetime: Duration, random: f64) -> Duration {
    if lifetime <= MARGIN * 2 {
        return (lifetime / 2).max(MINT_DISTANCE);
    }
    (lifetime / 6).mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0)).clamp(MARGIN, lifetime.saturating_sub(MARGIN))
}

/// The pause after the given number of failures in a row (at least one): exponential from one second to a minute
/// with full jitter, a whole minute where a person has to act first, and never less than the service requested for.
pub(super) fn pause(failures: u32, kind: MintErrorKind, retry_after: Option<Duration>, random: f64) -> Duration {
    let random = random.clamp(0.0, 1.0);
    let requested = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    let own = if kind == MintErrorKind::Denied {
        DENIED_PAUSE
    } else {
        let doublings = failures.saturating_sub(1).min(6);
        let ceiling = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
        // Half a second at least: a source that fails at once must not become a busy loop.
        ceiling.mul_f64(random).max(Duration::from_millis(500))
    };
    if requested.is_zero() { own } else { own.max(requested.mul_f64(1.0 + 0.1 * random)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn absurd_lifetimes_become_the_requested_one() {
        for (granted, requested, expected) in [
            (MAX_LIFETIME, Some(MAX_LIFETIME), MAX_LIFETIME),
            (Duration::ZERO, Some(MAX_LIFETIME), MAX_LIFETIME),
            (HOUR * 24 * 365, Some(MAX_LIFETIME), MAX_LIFETIME),
            (HOUR * 24, Some(HOUR), HOUR),
            (HOUR, None, HOUR),
            (HOUR * 24, None, MAX_LIFETIME),
            (Duration::ZERO, None, MIN_LIFETIME),
            (SECOND, Some(MAX_LIFETIME), SECOND),
        ] {
            assert_eq!(believable_lifetime(granted, requested), expected, "{granted:?} {requested:?}");
        }
    }

    #[test]
    fn twelve_hours_are_renewed_after_about_two() {
        assert_eq!(renew_after(HOUR * 12, 0.5), HOUR * 2);
        assert_eq!(renew_after(HOUR * 12, 0.0), Duration::from_mins(108));
        assert_eq!(renew_after(HOUR * 12, 1.0), Duration::from_mins(132));
    }

    #[test]
    fn short_lifetimes_keep_their_margins() {
        assert_eq!(renew_after(Duration::from_mins(15), 0.5), SECOND * 150);
        assert_eq!(renew_after(Duration::from_mins(5), 0.5), SECOND * 60);
        assert_eq!(renew_after(SECOND * 121, 0.5), SECOND * 60);
        assert_eq!(renew_after(SECOND * 100, 0.5), SECOND * 50);
        assert_eq!(renew_after(SECOND, 0.5), MINT_DISTANCE);
        assert_eq!(renew_after(Duration::ZERO, 0.5), MINT_DISTANCE);
    }

    #[test]
    fn failures_wait_longer_and_longer() {
        let ceilings: Vec<u64> =
            (1..=9).map(|failures| pause(failures, MintErrorKind::Unreachable, None, 1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(5, MintErrorKind::Other, None, 0.5), SECOND * 8);
        assert_eq!(pause(u32::MAX, MintErrorKind::Other, None, 0.0), Duration::from_millis(500));
    }

    #[test]
    fn denials_wait_a_minute_and_retry_after_is_honoured() {
        assert_eq!(pause(1, MintErrorKind::Denied, None, 0.1), DENIED_PAUSE);
        assert_eq!(pause(1, MintErrorKind::Throttled, Some(SECOND * 7), 0.0), SECOND * 7);
        assert_eq!(pause(1, MintErrorKind::Throttled, Some(SECOND * 10), 1.0), SECOND * 11);
        assert_eq!(pause(1, MintErrorKind::Throttled, Some(HOUR * 100), 0.0), MAX_RETRY_AFTER);
    }
}

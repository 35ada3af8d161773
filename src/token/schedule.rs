//! When to mint: pure decisions from lifetimes, failures and a random number between 0 and 1.

use std::time::Duration;

use super::MintErrorKind;

/// The longest life that CodeArtifact gives.
pub const LONGEST_LIFE: Duration = Duration::from_hours(12);
/// The shortest life that one can ask for.
pub const SHORTEST_LIFE: Duration = Duration::from_mins(15);
/// Forced mints, and renewals of tokens with an absurdly short life, keep this distance.
pub const MINT_DISTANCE: Duration = Duration::from_secs(30);
/// A denied mint waits this long: the cause is a policy, and policies change slowly.
pub const DENIED_PAUSE: Duration = Duration::from_mins(1);

const MARGIN: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_WISH: Duration = Duration::from_mins(15);

/// The life to count with: the answered one, or the asked one where the answer makes no sense.
///
/// An answer without a life, with one that is over already or with one longer than asked for is corrected. `asked`
/// is `None` for tokens that end with the role session: for them any life up to the longest is plausible.
pub fn believable_life(answered: Duration, asked: Option<Duration>) -> Duration {
    let ceiling = asked.unwrap_or(LONGEST_LIFE);
    match (answered, asked) {
        (Duration::ZERO, Some(asked)) => asked,
        // A session may be about to end; without any word a short life is the careful guess.
        (Duration::ZERO, None) => SHORTEST_LIFE,
        (answered, _) => answered.min(ceiling),
    }
}

/// How long after its mint a token is renewed: a sixth of its life, ten per cent more or less.
///
/// At least a minute, and at least a minute before the end. A life too short for both is halved, but the distance
/// of two mints never falls below [`MINT_DISTANCE`].
pub fn renew_after(life: Duration, random: f64) -> Duration {
    if life <= MARGIN * 2 {
        return (life / 2).max(MINT_DISTANCE);
    }
    (life / 6).mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0)).clamp(MARGIN, life.saturating_sub(MARGIN))
}

/// The pause after the given number of failures in a row (at least one): exponential from one second to a minute
/// with full jitter, a whole minute where a person has to act first, and never less than the service asked for.
pub fn pause(failures: u32, kind: MintErrorKind, retry_after: Option<Duration>, random: f64) -> Duration {
    let random = random.clamp(0.0, 1.0);
    let wish = retry_after.unwrap_or_default().min(LONGEST_WISH);
    let own = if kind == MintErrorKind::Denied {
        DENIED_PAUSE
    } else {
        let doublings = failures.saturating_sub(1).min(6);
        let ceiling = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
        // Half a second at least: a failure that comes back at once must not become a busy loop.
        ceiling.mul_f64(random).max(Duration::from_millis(500))
    };
    if wish.is_zero() { own } else { own.max(wish.mul_f64(1.0 + 0.1 * random)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn absurd_lives_become_what_was_asked() {
        for (answered, asked, expected) in [
            (LONGEST_LIFE, Some(LONGEST_LIFE), LONGEST_LIFE),
            (Duration::ZERO, Some(LONGEST_LIFE), LONGEST_LIFE),
            (HOUR * 24 * 365, Some(LONGEST_LIFE), LONGEST_LIFE),
            (HOUR * 24, Some(HOUR), HOUR),
            (HOUR, None, HOUR),
            (HOUR * 24, None, LONGEST_LIFE),
            (Duration::ZERO, None, SHORTEST_LIFE),
            (SECOND, Some(LONGEST_LIFE), SECOND),
        ] {
            assert_eq!(believable_life(answered, asked), expected, "{answered:?} {asked:?}");
        }
    }

    #[test]
    fn twelve_hours_are_renewed_after_about_two() {
        assert_eq!(renew_after(HOUR * 12, 0.5), HOUR * 2);
        assert_eq!(renew_after(HOUR * 12, 0.0), Duration::from_mins(108));
        assert_eq!(renew_after(HOUR * 12, 1.0), Duration::from_mins(132));
    }

    #[test]
    fn short_lives_keep_their_margins() {
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
    fn denials_wait_a_minute_and_wishes_are_granted() {
        assert_eq!(pause(1, MintErrorKind::Denied, None, 0.1), DENIED_PAUSE);
        assert_eq!(pause(1, MintErrorKind::Throttled, Some(SECOND * 7), 0.0), SECOND * 7);
        assert_eq!(pause(1, MintErrorKind::Throttled, Some(SECOND * 10), 1.0), SECOND * 11);
        assert_eq!(pause(1, MintErrorKind::Throttled, Some(HOUR * 100), 0.0), LONGEST_WISH);
    }
}

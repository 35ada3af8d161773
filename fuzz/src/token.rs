//! The bounds of a token's lifetime, for the configuration.

#[path = "../../src/token/schedule.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is compiled in is more than what is fuzzed")]
mod schedule;

pub(crate) use schedule::{MAX_LIFETIME, MIN_LIFETIME};

/// What `schedule` names of `token`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MintErrorKind {
    Denied,
}

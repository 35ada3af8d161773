//! What the process asks of the system for itself: file descriptors for its connections, and no core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wheelport_runtime::sabotaged;

/// Descriptors for everything but clients: cached files, upstream, uploads, the log.
const RESERVED: u64 = 512;
/// A client that downloads takes a socket and a file.
const PER_CONNECTION: u64 = 2;

/// Raises the limit of file descriptors as far as the system allows. Says how many there are.
pub(super) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if sabotaged("descriptors") {
        return limit.current.unwrap_or(u64::MAX);
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let current = if raised.is_ok() { limit.maximum } else { limit.current };
    current.unwrap_or(u64::MAX)
}

/// As many of `wanted` connections as have descriptors.
pub(super) fn connections_within(descriptors: u64, wanted: usize) -> usize {
    let reserved = RESERVED.min(descriptors / 2);
    let possible = (descriptors - reserved) / PER_CONNECTION;
    wanted.min(usize::try_from(possible).unwrap_or(usize::MAX)).max(1)
}

/// Sees to it that no dump of the memory, which holds tokens, is ever written, and that no other process of the same
/// user can read it.
pub fn forbid_core_dumps() {
    if sabotaged("core-dumps") {
        return;
    }
    let limited = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // Where dumps are piped to a program, the limit does not count.
    #[cfg(target_os = "linux")]
    let limited = limited.and(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    if let Err(error) = limited {
        tracing::warn!(%error, "core dumps could not be turned off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_fitted_to_the_descriptors() {
        for (descriptors, wanted, fitted) in [
            (u64::MAX, 10_000, 10_000),
            (20_512, 10_000, 10_000),
            (1024, 10_000, 256),
            (64, 10_000, 16),
            (64, 5, 5),
            (0, 9, 1),
        ] {
            assert_eq!(connections_within(descriptors, wanted), fitted, "{descriptors}");
        }
    }
}

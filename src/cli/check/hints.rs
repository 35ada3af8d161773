//! The step about Redis: whether it can be reached, and whether what one replica says reaches another.

use super::report::Finding;
use crate::fleet::{FleetSettings, RedisAddress, RedisFailure, prove_redis};

const STEP: &str = "redis";

/// Subscribes, publishes, and waits for what it published; runs the script of the request budget on a key of its own.
pub(super) async fn step(address: &RedisAddress, settings: &FleetSettings) -> Finding {
    match prove_redis(address, settings).await {
        Ok(took) => {
            Finding::ok(STEP, format!("{address} passes on what a replica says, after {} ms", took.as_millis()))
        }
        Err(failure) => {
            let remedy = remedy(&failure, address);
            Finding::fail(STEP, format!("{address}: {failure}"), remedy)
        }
    }
}

/// Hints say that something has changed, never what: what operators decide needs the store to reach other replicas.
pub(super) fn without_store(settings: &FleetSettings) -> Option<Finding> {
    if settings.store.is_some() {
        return None;
    }
    let what = "without a store, an exception from the rules and an accepted change hold on the replica that was asked \
                alone, and a start with an empty cache asks CodeArtifact for everything";
    Some(Finding::warn("redis alone", what, "set `[fleet] store`, or give such commands to every replica"))
}

fn remedy(failure: &RedisFailure, address: &RedisAddress) -> String {
    match failure {
        RedisFailure::Refused(code) if matches!(code.as_str(), "NOAUTH" | "WRONGPASS") => {
            "put user and password into the address: rediss://USER:PASSWORD@HOST:PORT, in WHEELPORT_FLEET_REDIS or in \
             the configuration file"
                .to_owned()
        }
        RedisFailure::Refused(code) if code == "NOPERM" => {
            "let this user read and write the keys `wheelport:*`, use the channel `wheelport:v1:hints`, and run the \
             commands SET, GET, DEL, HMGET, HSET, PEXPIRE, TIME, EVALSHA, SCRIPT LOAD, SUBSCRIBE, PUBLISH and PING"
                .to_owned()
        }
        RedisFailure::Refused(_) => {
            "it has to be Redis 6 or newer, or Valkey, on one primary: `[fleet] redis` names no cluster and no sentinel"
                .to_owned()
        }
        RedisFailure::Lost(_) if address.is_plain() => {
            "open the way to it from here; where it demands TLS, as managed ones do, write rediss://".to_owned()
        }
        RedisFailure::Lost(_) => {
            "open the way to it from here; where it has no TLS, write redis://, and where its certificate is of a \
             private authority, install that authority in the system"
                .to_owned()
        }
        RedisFailure::TimedOut | RedisFailure::Away => {
            "open the way to it from here (security group, NetworkPolicy), or raise `[fleet] redis_timeout`".to_owned()
        }
    }
}

//! What replicas share: its settings, for the configuration file. A file of `fleet` is compiled into this crate.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

#[path = "../../src/fleet/settings.rs"]
mod settings;

pub(crate) use settings::{FleetSettings, RedisAddress, StoreLocation};

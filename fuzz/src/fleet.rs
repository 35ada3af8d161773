//! What replicas tell each other, and the settings of what they share, for the configuration.

#[path = "../../src/fleet/hints.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is compiled in is more than what is fuzzed")]
mod codec;
#[path = "../../src/fleet/repository.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is compiled in is more than what is fuzzed")]
mod repository;
#[path = "../../src/fleet/settings.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is compiled in is more than what is fuzzed")]
mod settings;

pub(crate) use settings::{FleetSettings, RedisAddress, StoreLocation};

/// What is read has one spelling, and that is the one it came in.
pub fn hints(bytes: &[u8]) {
    if let Ok(message) = codec::Message::parse(bytes) {
        assert_eq!(message.to_string().as_bytes(), bytes);
    }
}

//! What replicas tell each other, CodeArtifact's events, and the settings of what they share, for the configuration.

#[path = "../../src/fleet/hints.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is compiled in is more than what is fuzzed")]
mod codec;
#[path = "../../src/fleet/package_event.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is compiled in is more than what is fuzzed")]
mod package_event;
#[path = "../../src/fleet/repository.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is compiled in is more than what is fuzzed")]
mod repository;
#[path = "../../src/fleet/settings.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is compiled in is more than what is fuzzed")]
mod settings;

use package_event::{QueueMessage, read_event};

pub(crate) use settings::{FleetSettings, RedisAddress, StoreLocation};

/// What is read has one spelling, and that is the one it came in.
pub fn hints(bytes: &[u8]) {
    if let Ok(message) = codec::Message::parse(bytes) {
        assert_eq!(message.to_string().as_bytes(), bytes);
    }
}

/// A message is read as one thing, and what it names can be a name.
pub fn events(bytes: &[u8]) {
    let Ok(body) = std::str::from_utf8(bytes) else { return };
    let read = read_event(body);
    assert_eq!(read, read_event(body));
    let Ok(QueueMessage::Python(event)) = read else { return };
    assert_eq!(wheelport_index::ProjectName::parse(event.project.as_str()).as_ref(), Ok(&event.project));
    assert_eq!(event.owner.len(), 12);
    for name in [&event.region, &event.domain, &event.repository, &event.version] {
        assert!((1..=255).contains(&name.len()) && !name.contains(char::is_control), "{name:?}");
    }
}

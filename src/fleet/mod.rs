//! What replicas share: an object store that holds truth, Redis that carries hints, CodeArtifact's events.
//!
//! Every part is optional and behind a circuit breaker of its own: when it is away, this replica does what it would do
//! alone. Nothing here knows a page of the index or a response; `flow` joins it with the cache and with upstream.

mod events;
mod package_event;
mod queue;
mod settings;

pub use events::{EventOutcome, Events, EventsState};
pub use package_event::{InvalidEvent, PackageEvent, PackageOperation, QueueMessage, read_event};
pub use queue::{EventQueue, QueueError, QueueFault};
pub use settings::{FleetSettings, RedisAddress, StoreLocation};

//! The object store that replicas share: a client of seven operations on any S3-compatible store.
//!
//! ```text
//! operations, multipart ─► client: breaker ─► place in flight ─► credentials ─► signature ─► pool ─► classified
//! ```
//!
//! Every operation has a deadline. Nothing is retried but a write that raced with another, and nothing is listed. It
//! knows names of objects and their bytes, and not what is in them.

mod body;
mod client;
mod connect;
mod credentials;
mod error;
mod key;
mod lease;
mod metrics;
mod multipart;
mod operations;
mod probe;
mod signing;

use std::fmt;
use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::breaker::Breaker;
use super::settings::{FleetSettings, StoreLocation};
use client::StoreClient;
use wheelport_runtime::Clock;

pub use body::{ObjectBody, SourceBytes};
pub use client::{StoreAccess, StoreSetupError};
pub use error::StoreError;
pub use key::ObjectKey;
pub(super) use lease::StoreLeases;
pub use multipart::MultipartUpload;
pub use operations::{ObjectHead, ObjectTag, ObjectWrite, StoredObject};
pub use probe::StoreTraits;

/// The store of a fleet. Cheap to clone.
#[derive(Clone)]
pub struct ObjectStore {
    client: Arc<StoreClient>,
}

impl ObjectStore {
    /// A client for the store of the settings, if they name one. Nothing is sent.
    pub fn new(settings: &FleetSettings, access: StoreAccess, clock: Clock) -> Result<Option<Self>, StoreSetupError> {
        let Some(location) = settings.store.clone() else { return Ok(None) };
        let client = Arc::new(StoreClient::new(settings, location, access, clock)?);
        Ok(Some(Self { client }))
    }

    /// Where the objects are, for people.
    pub fn location(&self) -> &StoreLocation {
        &self.client.location
    }

    /// The region that requests are signed for.
    pub fn region(&self) -> &str {
        &self.client.region
    }

    /// Whether it is asked at all.
    pub fn breaker(&self) -> &Breaker {
        &self.client.breaker
    }

    /// Makes its counters part of a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        self.client.metrics.register(registry);
    }
}

impl fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectStore({})", self.location())
    }
}

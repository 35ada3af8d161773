//! A stand-in for AWS CodeArtifact: control plane and data plane over one store on disk.
//!
//! It knows nothing of the proxy; the two share only `pypi` and `runtime`.

pub mod data;
pub mod oddities;
pub mod public;
pub mod shared;
pub mod store;

pub use oddities::{Oddities, Switchboard};
pub use shared::{Shared, Stats};

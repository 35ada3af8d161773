//! A stand-in for AWS CodeArtifact: control plane and data plane over one store on disk.
//!
//! It knows nothing of the proxy; the two share only `pypi` and `runtime`.

pub mod calendar;
pub mod control;
pub mod data;
pub mod metadata;
pub mod oddities;
pub mod public;
pub mod shared;
pub mod sigv4;
pub mod store;
pub mod sts;

pub use oddities::{Oddities, Switchboard};
pub use shared::{Shared, Stats};

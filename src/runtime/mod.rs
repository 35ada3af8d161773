//! What every part stands on: the calendar clock, the owner of all tasks and for whom they work, metrics and telemetry.
//!
//! Nothing here knows what a package index is.

pub mod access;
pub mod caller;
pub mod clock;
pub mod metrics;
pub mod tasks;
pub mod telemetry;
pub mod units;

pub use caller::Caller;
pub use clock::Clock;
pub use tasks::Tasks;

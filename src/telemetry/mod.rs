//! What the process tells about itself: metrics, and the log with its line for every request.

pub mod access;
pub mod logging;
pub mod metrics;

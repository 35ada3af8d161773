//! What the process says about itself: metrics, and the log.

mod logging;
mod metrics;

pub use logging::{ACCESS_TARGET, Flush, InvalidFilter, LogFormat, start};
pub use metrics::{GaugeGuard, Metrics, ResponseLabels};

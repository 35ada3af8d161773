//! What the process tells about itself: metrics and log.

mod logging;
mod metrics;

pub use logging::{ACCESS_TARGET, Flush, InvalidFilter, LogFormat, start};
pub use metrics::{GaugeGuard, Metrics, ResponseLabels};

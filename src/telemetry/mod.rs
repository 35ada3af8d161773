//! What the process tells about itself: metrics and log.

mod access_line;
mod logging;
mod metrics;

pub use access_line::AccessLine;
pub use logging::{Flush, InvalidFilter, LogFormat, start};
pub use metrics::{GaugeGuard, Metrics, ResponseKind};

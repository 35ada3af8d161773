//! What the process tells about itself: metrics and log.

mod access_line;
mod exposition;
mod history;
mod logging;
mod metrics;
mod savings;

pub use access_line::AccessLine;
pub use history::{FOLDED, History, Measure, SAMPLE_INTERVAL, Sample, Timeline};
pub use logging::{Flush, InvalidFilter, LogFormat, start};
pub use metrics::{GaugeGuard, Metrics, ResponseKind};
pub use savings::{MonthOfSavings, Months, RequestTally, Savings, SavingsView, merged};

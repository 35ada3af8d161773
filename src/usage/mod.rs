//! Who has version X: downloads counted by day, route, project, version and identity.
//!
//! ```text
//! counter (any thread, at once) ─► table of a day (bounded) ─► record (written by `flow`) ─► report
//! ```
//!
//! Pure: no input or output, no clock. `flow` keeps records on disk and among replicas, and gathers them for a report.
//! Nothing of a client is counted but the name of the identity that its token carries.

mod counter;
mod day;
mod index;
mod query;
mod record;
mod report;
mod settings;
mod table;
mod tally;

pub use counter::{UsageCounter, UsageKey};
pub use day::{InvalidDay, UsageDay};
pub use index::{LARGEST_INDEX, UsageIndex, is_writer};
pub use query::{InvalidUsageQuery, UsageGrouping, UsageParams, UsageQuery};
pub use record::{DayRecord, UnreadableUsage};
pub use report::{ReportRow, UsageCollector, UsageNote, UsageReport};
pub use settings::{UsageLimits, UsageSettings};
pub use table::DayTable;
pub use tally::{Taker, Tally};

//! What operators should hear of at once: a closed list of notices, and the bounded outbox in which they wait.
//!
//! Whatever notices something tells it here and goes on: telling waits for nothing, cannot fail, and does nothing where
//! no one is to hear. How notices leave the process is not known here; `notify` takes them out.

mod metrics;
mod notice;
mod outbox;

pub use metrics::{NoticeMetrics, NoticeOutcome};
pub use notice::{Notice, NoticeFacts};
pub use outbox::{Notices, Outbox, OutboxLimits, WaitingNotice};

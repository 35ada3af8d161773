//! What the proxy and the emulator share: calendar time, tasks and their priority, fair waiting, turns for work that
//! blocks, single flight, how slowly bytes may come, and units of settings.
//!
//! Nothing here knows HTTP, AWS or the package index.

mod allocator;
mod blocking;
mod clock;
mod fair_limiter;
mod fair_queue;
mod inflow;
mod joined;
mod priority;
mod sabotage;
mod single_flight;
mod tasks;
mod turns;
mod units;
mod waits;

pub use allocator::{RECEIVE_BUFFER, return_free_memory};
pub use blocking::{Blocking, Panicked, blocking};
pub use clock::Clock;
pub use fair_limiter::{FairLimiter, FairPermit, Overloaded, Permits, Resource};
pub use inflow::{Inflow, InflowLimits, TooSlow};
pub use joined::{JoinError, Joined};
pub use priority::Priority;
pub use sabotage::sabotaged;
pub use single_flight::{Entered, Leader, Role, SingleFlight};
pub use tasks::Tasks;
pub use turns::Turns;
pub use units::{HumanDuration, InvalidDuration, InvalidSize, Size, one_or_many};
pub use waits::Waits;

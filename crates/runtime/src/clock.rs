//! Calendar time. Ages and sleeps use tokio's monotonic time instead, so that timing tests run on the paused clock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The one source of calendar time. Cheap to clone; clones share the offset that [`Clock::shift`] sets.
#[derive(Clone, Default)]
pub struct Clock {
    shift_seconds: Arc<AtomicI64>,
}

impl Clock {
    pub fn system() -> Self {
        Self::default()
    }

    /// Time since the Unix epoch.
    pub fn since_epoch(&self) -> Duration {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the calendar")]
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shift = self.shift_seconds.load(Ordering::Relaxed);
        let distance = Duration::from_secs(shift.unsigned_abs());
        if shift < 0 { real.saturating_sub(distance) } else { real.saturating_add(distance) }
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_seconds(&self) -> u64 {
        self.since_epoch().as_secs()
    }

    /// The same moment as the standard library's type.
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.since_epoch()
    }

    /// Moves this clock and its clones by some seconds, so that the emulator and tests can let tokens expire.
    pub fn shift(&self, seconds: i64) {
        self.shift_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.since_epoch())
    }
}

//! How far this machine's clock is from AWS's, from the `Date` of every response.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::UNIX_EPOCH;

use aws_sdk_codeartifact::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_codeartifact::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_codeartifact::error::BoxError;

use wheelport_runtime::Clock;

/// A difference that is worth a warning, in seconds.
pub(crate) const SKEW_WARNING: u64 = 60;
/// A difference that endangers signatures, in seconds; AWS tolerates about five minutes.
pub(crate) const SKEW_ALARM: u64 = 240;

const UNKNOWN: i64 = i64::MIN;

/// Watches responses; clones share the last observation.
#[derive(Clone, Debug)]
pub(super) struct SkewWatch {
    clock: Clock,
    seconds: Arc<AtomicI64>,
}

impl SkewWatch {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, seconds: Arc::new(AtomicI64::new(UNKNOWN)) }
    }

    /// Seconds that this machine is ahead of AWS; negative if it is behind.
    pub(super) fn seconds(&self) -> Option<i64> {
        let seconds = self.seconds.load(Ordering::Relaxed);
        (seconds != UNKNOWN).then_some(seconds)
    }

    /// AWS's time now, as far as known, since the Unix epoch.
    pub(super) fn aws_now(&self) -> i64 {
        self.here().saturating_sub(self.seconds().unwrap_or(0))
    }

    pub(super) fn saw(&self, date: &str) {
        let Ok(there) = httpdate::parse_http_date(date) else { return };
        let there = there.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = self.here().saturating_sub(i64::try_from(there).unwrap_or(i64::MAX));
        let before = self.seconds.swap(seconds, Ordering::Relaxed);
        let worth = |seconds: i64| seconds != UNKNOWN && seconds.unsigned_abs() > SKEW_WARNING;
        if worth(seconds) && !worth(before) {
            tracing::warn!(ahead_seconds = seconds, "this machine's clock differs from AWS's; check its NTP service");
        }
    }

    fn here(&self) -> i64 {
        i64::try_from(self.clock.unix_seconds()).unwrap_or(i64::MAX)
    }
}

impl Intercept for SkewWatch {
    fn name(&self) -> &'static str {
        "SkewWatch"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _configuration: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.saw(date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_kept_with_its_sign() {
        let clock = Clock::system();
        let watch = SkewWatch::new(clock.clone());
        assert_eq!(watch.seconds(), None);
        let date = httpdate::fmt_http_date(clock.now());
        clock.shift(600);
        watch.saw(&date);
        let seconds = watch.seconds().expect("seen");
        assert!((599..=602).contains(&seconds), "{seconds}");
        assert!(watch.aws_now().abs_diff(watch.here() - 600) <= 2);
        watch.saw("yesterday");
        assert_eq!(watch.seconds(), Some(seconds), "nonsense is ignored");
    }
}

//! Whether an endpoint honours ranges, as far as its responses have shown. Pure state over explicit instants.

use std::time::Duration;

use tokio::time::Instant;

/// How long what was shown is believed.
const BELIEVED_FOR: Duration = Duration::from_hours(1);
/// Failed requests for a part in a row after which none is sent for a while: the service refuses them for every version
/// that it has not imported yet, and of those there may be many.
const FAILURES: u32 = 4;
/// How long none is sent then.
const PAUSE: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct RangeSupport {
    shown: Option<(bool, Instant)>,
    failures: u32,
    paused_until: Option<Instant>,
}

impl RangeSupport {
    /// A response to a request for a part was that part, or else the whole file.
    pub(super) fn shown(&mut self, honoured: bool, now: Instant) {
        *self = Self { shown: Some((honoured, now)), ..Self::default() };
    }

    /// A request for a part failed, which says nothing of other files.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures >= FAILURES {
            (self.failures, self.paused_until) = (0, Some(now + PAUSE));
        }
    }

    /// Whether the endpoint honours ranges, or nothing is known of it, and requests for parts did not fail recently.
    pub(super) fn may_be_tried(&self, now: Instant) -> bool {
        self.believed(now) != Some(false) && self.paused_until.is_none_or(|until| now >= until)
    }

    /// Whether the endpoint has shown that it honours ranges.
    pub(super) fn are_honoured(&self, now: Instant) -> bool {
        self.believed(now) == Some(true) && self.may_be_tried(now)
    }

    fn believed(&self, now: Instant) -> Option<bool> {
        self.shown.filter(|(_, at)| now < *at + BELIEVED_FOR).map(|(honoured, _)| honoured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_responses_show_is_believed_for_an_hour() {
        let (mut support, now) = (RangeSupport::default(), Instant::now());
        assert!(support.may_be_tried(now) && !support.are_honoured(now), "nothing is known");
        support.shown(false, now);
        let almost = now + BELIEVED_FOR - Duration::from_secs(1);
        assert!(!support.may_be_tried(almost));
        assert!(support.may_be_tried(now + BELIEVED_FOR), "forgotten");
        support.shown(true, now);
        assert!(support.are_honoured(almost) && !support.are_honoured(now + BELIEVED_FOR));
        assert!(support.may_be_tried(now + BELIEVED_FOR));
    }

    #[test]
    fn some_failures_in_a_row_are_a_pause() {
        let (mut support, now) = (RangeSupport::default(), Instant::now());
        support.shown(true, now);
        for _ in 1..FAILURES {
            support.failed(now);
            assert!(support.are_honoured(now));
        }
        support.shown(true, now);
        for _ in 1..FAILURES {
            support.failed(now);
        }
        assert!(support.may_be_tried(now), "not in a row");
        support.failed(now);
        assert!(!support.may_be_tried(now) && !support.are_honoured(now));
        assert!(support.are_honoured(now + PAUSE), "what was shown before is still known");
    }
}

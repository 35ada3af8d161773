//! How many requests went out in the busiest second of the last minute. Pure state over explicit instants.

use tokio::time::Instant;

/// The seconds that are remembered, the current one included.
const SECONDS: usize = 60;

/// Counts of single seconds.
#[derive(Debug)]
pub(super) struct BusiestSecond {
    start: Instant,
    /// The counts of the last seconds, each with the number of its second since the start.
    counts: [(u64, u32); SECONDS],
}

impl BusiestSecond {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, counts: [(0, 0); SECONDS] }
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }

    pub(super) fn count(&mut self, now: Instant) {
        let second = self.second(now);
        let (of, count) = &mut self.counts[usize::try_from(second).unwrap_or_default() % SECONDS];
        if *of == second {
            *count = count.saturating_add(1);
        } else {
            (*of, *count) = (second, 1);
        }
    }

    pub(super) fn most(&self, now: Instant) -> u32 {
        let second = self.second(now);
        let recent = self.counts.iter().filter(|(of, _)| of + SECONDS as u64 > second);
        recent.map(|(_, count)| *count).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_busiest_second_counts_for_a_minute() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut seconds = BusiestSecond::new(start);
        assert_eq!(seconds.most(start), 0);
        for milliseconds in [100, 900, 1100, 1200, 1300, 2000] {
            seconds.count(at(milliseconds));
        }
        assert_eq!(seconds.most(at(2000)), 3);
        assert_eq!(seconds.most(at(60_999)), 3);
        assert_eq!(seconds.most(at(61_000)), 1);
        assert_eq!(seconds.most(at(62_000)), 0);
        seconds.count(at(61_000));
        assert_eq!(seconds.most(at(61_000)), 1, "a second of the minute before is not counted with it");
    }
}

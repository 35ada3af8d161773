//! What the process did in the last hour and in the last day: a fixed list of figures, read from the metrics at steady
//! intervals and kept in two rings.
//!
//! Pure state over explicit times; `app` owns the task that takes the samples. Both rings together hold
//! [`MOST_SAMPLES`] samples, which take about 40 KiB.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use super::exposition::Exposition;
use wheelport_runtime::sabotaged;

/// The time between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(30);
/// The samples that are folded into one of the last day.
pub const FOLDED: usize = 20;
/// The intervals of an hour.
const HOUR: usize = 120;
/// The intervals of a day.
const DAY: usize = 144;
/// An interval needs a sample at each of its ends.
const MOST_SAMPLES: usize = HOUR + 1 + DAY + 1;

/// The responses that have content, or say that the client has it.
const CONTENT: [&str; 3] = ["200", "206", "304"];
/// What a client would ask of CodeArtifact if it had no other index.
const OF_REPOSITORIES: [&str; 4] = ["page", "file", "metadata", "upload"];

/// A figure that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Requests of clients, without probes.
    Requests,
    /// Those of them that CodeArtifact would have been sent, and that were answered with content.
    Answered,
    /// Responses from the cache, while upstream was not waited for.
    Hits,
    /// Responses that had to come from upstream or from what replicas share.
    Misses,
    /// Responses that say that this server or something behind it failed.
    ServerErrors,
    /// Bytes of pages, files and core metadata to clients.
    SentBytes,
    /// HTTP requests to CodeArtifact's endpoints.
    UpstreamRequests,
    /// Bytes received from them.
    UpstreamBytes,
    /// Responses 429 among them.
    Throttles,
    /// What was found in the tier that replicas share.
    TierHits,
    /// The most requests to upstream in one second of the last minute.
    BusiestSecond,
    DiskBytes,
    ResidentBytes,
    RequestsInFlight,
    Connections,
}

/// How a figure goes on in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MeasureKind {
    /// It only grows, or begins again at zero.
    Counter,
    /// It is what it is at the moment.
    Level,
    /// It is the most of some time, so what is folded keeps the most.
    Peak,
}

impl Measure {
    pub const ALL: [Self; 15] = [
        Self::Requests,
        Self::Answered,
        Self::Hits,
        Self::Misses,
        Self::ServerErrors,
        Self::SentBytes,
        Self::UpstreamRequests,
        Self::UpstreamBytes,
        Self::Throttles,
        Self::TierHits,
        Self::BusiestSecond,
        Self::DiskBytes,
        Self::ResidentBytes,
        Self::RequestsInFlight,
        Self::Connections,
    ];

    const fn kind(self) -> MeasureKind {
        match self {
            Self::BusiestSecond => MeasureKind::Peak,
            Self::DiskBytes | Self::ResidentBytes | Self::RequestsInFlight | Self::Connections => MeasureKind::Level,
            _ => MeasureKind::Counter,
        }
    }

    fn read(self, text: &Exposition<'_>) -> f64 {
        let requests = |served: &[&str]| {
            text.sum("requests_total", |line| line.has("served", served) && line.has("kind", &OF_REPOSITORIES))
        };
        match self {
            Self::Requests => text.sum("requests_total", |line| !line.has("kind", &["health"])),
            Self::Answered => {
                text.sum("requests_total", |line| line.has("kind", &OF_REPOSITORIES) && line.has("status", &CONTENT))
            }
            Self::Hits => requests(&["hit", "revalidating", "stale"]),
            Self::Misses => requests(&["miss", "collapsed", "bypass"]),
            Self::ServerErrors => text.sum("requests_total", |line| {
                !line.has("kind", &["health"]) && line.has("status", &["500", "502", "503", "504"])
            }),
            Self::SentBytes => text.sum("sent_bytes_total", |line| line.has("kind", &OF_REPOSITORIES)),
            Self::UpstreamRequests => text.sum("upstream_attempts_total", |_| true),
            Self::UpstreamBytes => text.sum("upstream_bytes_total", |_| true),
            Self::Throttles => text.sum("upstream_throttles_total", |_| true),
            Self::TierHits => text.sum("fleet_tier_total", |line| line.has("result", &["hit"])),
            Self::BusiestSecond => text.largest("upstream_busiest_second"),
            Self::DiskBytes => text.sum("cache_disk_bytes", |_| true),
            Self::ResidentBytes => text.sum("memory_resident_bytes", |_| true),
            Self::RequestsInFlight => text.sum("requests_in_flight", |_| true),
            Self::Connections => text.sum("connections", |_| true),
        }
    }
}

/// All figures at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Since the process began to record.
    at: Duration,
    values: [f64; Measure::ALL.len()],
}

impl Sample {
    /// What the text of `/metrics` says.
    pub fn of(metrics: &str, at: Duration) -> Self {
        let text = Exposition(metrics);
        Self { at, values: Measure::ALL.map(|measure| measure.read(&text)) }
    }

    /// Before anything happened.
    pub const fn zero() -> Self {
        Self { at: Duration::ZERO, values: [0.0; Measure::ALL.len()] }
    }

    pub fn get(&self, measure: Measure) -> f64 {
        self.values[measure as usize]
    }

    /// How much a counter has grown since an earlier sample. One that is smaller than before began again at zero.
    pub fn growth(&self, earlier: &Self, measure: Measure) -> f64 {
        let (before, now) = (earlier.get(measure), self.get(measure));
        if now < before && !sabotaged("counter-reset") { now } else { now - before }
    }

    /// One sample in place of several: the last of them, with their peaks.
    fn folded(samples: impl IntoIterator<Item = Self>) -> Option<Self> {
        samples.into_iter().reduce(|folded, next| {
            let values = Measure::ALL.map(|measure| match measure.kind() {
                MeasureKind::Peak if !sabotaged("folded-peak") => folded.get(measure).max(next.get(measure)),
                _ => next.get(measure),
            });
            Self { at: next.at, values }
        })
    }
}

/// The samples of the last hour and the last day. Cheap to ask.
#[derive(Debug, Default)]
pub struct History(Mutex<Rings>);

#[derive(Debug, Default)]
struct Rings {
    hour: VecDeque<Sample>,
    day: VecDeque<Sample>,
    /// Samples since the last one that went into the day.
    unfolded: usize,
}

impl History {
    /// Takes in a sample.
    pub fn record(&self, sample: Sample) {
        let mut rings = self.0.lock();
        push(&mut rings.hour, sample, HOUR + 1);
        rings.unfolded += 1;
        // The first sample is where the day begins; from then on every twentieth ends an interval.
        if rings.day.is_empty() || rings.unfolded >= FOLDED {
            let newest = rings.hour.len().saturating_sub(rings.unfolded);
            let folded = Sample::folded(rings.hour.iter().skip(newest).copied());
            rings.unfolded = 0;
            if let Some(folded) = folded {
                push(&mut rings.day, folded, DAY + 1);
            }
        }
    }

    /// The newest sample.
    pub fn newest(&self) -> Option<Sample> {
        self.0.lock().hour.back().copied()
    }

    /// What the last hour shows, interval by interval.
    pub fn hour(&self) -> Timeline {
        Timeline::of(&self.0.lock().hour, HOUR, SAMPLE_INTERVAL)
    }

    /// What the last day shows, interval by interval. What is not folded yet is missing.
    pub fn day(&self) -> Timeline {
        let step = SAMPLE_INTERVAL * u32::try_from(FOLDED).unwrap_or(u32::MAX);
        Timeline::of(&self.0.lock().day, DAY, step)
    }

    /// The most requests to upstream in one second, of the last hour and of the last day.
    pub fn busiest_seconds(&self) -> [f64; 2] {
        let rings = self.0.lock();
        let most = |samples: &VecDeque<Sample>| {
            samples.iter().map(|sample| sample.get(Measure::BusiestSecond)).fold(0.0, f64::max)
        };
        let hour = most(&rings.hour);
        [hour, most(&rings.day).max(hour)]
    }
}

/// Adds a sample to a ring, which forgets its oldest one for it.
fn push(ring: &mut VecDeque<Sample>, sample: Sample, most: usize) {
    debug_assert!(most <= MOST_SAMPLES, "a ring has its bound");
    while ring.len() >= most && !sabotaged("history-bound") {
        ring.pop_front();
    }
    ring.push_back(sample);
}

/// Consecutive intervals that end now, of which the oldest may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// The pairs of samples at the ends of the intervals.
    samples: Vec<Sample>,
    /// How many intervals there are at most.
    pub most: usize,
    /// The length of an interval, as it is meant.
    pub step: Duration,
}

impl Timeline {
    fn of(ring: &VecDeque<Sample>, most: usize, step: Duration) -> Self {
        Self { samples: ring.iter().copied().collect(), most, step }
    }

    fn intervals(&self) -> impl Iterator<Item = (&Sample, &Sample)> {
        self.samples.iter().zip(self.samples.iter().skip(1))
    }

    /// What a counter grew by in a second of each interval, the oldest first.
    pub fn rate(&self, measure: Measure) -> Vec<f64> {
        let rate = |(from, to): (&Sample, &Sample)| {
            let seconds = to.at.saturating_sub(from.at).as_secs_f64();
            if seconds > 0.0 { to.growth(from, measure) / seconds } else { 0.0 }
        };
        self.intervals().map(rate).collect()
    }

    /// The share (0 to 1) that one counter has of itself and another, where one of them grew.
    pub fn share(&self, part: Measure, rest: Measure) -> Vec<Option<f64>> {
        let share = |(from, to): (&Sample, &Sample)| {
            let (part, rest) = (to.growth(from, part), to.growth(from, rest));
            (part + rest > 0.0).then(|| part / (part + rest))
        };
        self.intervals().map(share).collect()
    }

    /// The value at the end of each interval.
    pub fn level(&self, measure: Measure) -> Vec<f64> {
        self.samples.iter().skip(1).map(|sample| sample.get(measure)).collect()
    }

    /// How much a counter grew in all intervals together.
    pub fn growth(&self, measure: Measure) -> f64 {
        // The sum of nothing is -0.0.
        0.0 + self.intervals().map(|(from, to)| to.growth(from, measure)).sum::<f64>()
    }

    /// The time that is covered.
    pub fn covered(&self) -> Duration {
        let ends = self.samples.first().zip(self.samples.last());
        ends.map_or(Duration::ZERO, |(first, last)| last.at.saturating_sub(first.at))
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;

//! The task that records what happened: a sample of the metrics at steady intervals, and what CodeArtifact was spared,
//! which is also written to the cache directory.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::cache::{Disk, SavingsRecord};
use crate::telemetry::{FOLDED, History, Metrics, Months, RequestTally, SAMPLE_INTERVAL, Sample, Savings, merged};
use wheelport_runtime::{Clock, Tasks, blocking, sabotaged};

/// Everything that the task needs.
pub(super) struct Recorder {
    metrics: Metrics,
    record: SavingsRecord,
    clock: Clock,
    started: Instant,
    pub(super) history: Arc<History>,
    pub(super) savings: Arc<Savings>,
}

impl Recorder {
    pub(super) fn new(metrics: &Metrics, disk: &Arc<Disk>, clock: &Clock) -> Self {
        Self {
            metrics: metrics.clone(),
            record: SavingsRecord::new(Arc::clone(disk)),
            clock: clock.clone(),
            started: Instant::now(),
            history: Arc::default(),
            savings: Arc::default(),
        }
    }

    /// Begins once all metrics are registered. At the stop what was counted last is written.
    pub(super) fn start(self, tasks: &Tasks) {
        let stopping = tasks.clone();
        tasks.spawn("record figures", async move { self.run(stopping).await });
    }

    async fn run(self, tasks: Tasks) {
        let mut last = self.sample();
        self.history.record(last);
        self.savings.add(&RequestTally::default(), self.clock.unix_seconds());
        self.recall().await;
        let mut ticks = interval_at(self.started + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unwritten = 0;
        loop {
            let is_last = tokio::select! {
                _ = ticks.tick() => false,
                () = tasks.stopping() => true,
            };
            let sample = self.sample();
            self.history.record(sample);
            self.savings.add(&RequestTally::between(&last, &sample), self.clock.unix_seconds());
            last = sample;
            unwritten += 1;
            if unwritten >= FOLDED || is_last && !sabotaged("savings-at-stop") {
                self.write().await;
                unwritten = 0;
            }
            if is_last {
                return;
            }
        }
    }

    fn sample(&self) -> Sample {
        Sample::of(&self.metrics.text(), self.started.elapsed())
    }

    /// Reads what was counted before the restart.
    async fn recall(&self) {
        let record = self.record.clone();
        match blocking(move || record.read::<Months>()).await {
            Ok(Ok(months)) => self.savings.recalled(merged(months, &Months::new())),
            Ok(Err(error)) => self.failed(&error),
            Err(panicked) => self.failed(&panicked),
        }
    }

    /// Adds what was counted since the last time to the record, which other processes may have changed.
    async fn write(&self) {
        let (record, pending) = (self.record.clone(), self.savings.pending());
        let added = pending.clone();
        let updated = blocking(move || record.update(|months: Months| merged(months, &added))).await;
        match updated {
            Ok(Ok(months)) => self.savings.recorded(months, &pending, self.clock.unix_seconds()),
            Ok(Err(error)) => self.failed(&error),
            Err(panicked) => self.failed(&panicked),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "the counts of savings cannot be kept in the cache directory");
        self.savings.failed(error.to_string());
    }
}

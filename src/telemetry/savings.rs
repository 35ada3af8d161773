//! What CodeArtifact was spared: what clients requested of this server, and what it requested of CodeArtifact, month by
//! month.
//!
//! State over explicit times, without input or output. `app` adds what a record on disk says, and writes it there, so
//! that a month survives restarts.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::history::{Measure, Sample};
use wheelport_runtime::sabotaged;

/// The months that are remembered, this one included.
const MOST_MONTHS: usize = 13;
/// What has to be counted of a month before its end is projected: a day has a rhythm of its own.
const PROJECTED_FROM: u64 = 24 * 60 * 60;

/// What is added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestTally {
    /// Requests of clients that were answered with content and that CodeArtifact would have been sent otherwise.
    pub requests: u64,
    /// Bytes that clients got of pages, files and core metadata.
    pub bytes: u64,
    /// Requests that went to CodeArtifact all the same, with refreshes, retries and what is fetched ahead.
    pub upstream_requests: u64,
    /// Bytes that came from there.
    pub upstream_bytes: u64,
    /// Objects that came from the tier that replicas share.
    pub tier_hits: u64,
}

impl RequestTally {
    /// What happened between two samples.
    pub fn between(earlier: &Sample, later: &Sample) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "growth is whole and not negative")]
        let growth = |measure| later.growth(earlier, measure).max(0.0) as u64;
        Self {
            requests: growth(Measure::Answered),
            bytes: growth(Measure::SentBytes),
            upstream_requests: growth(Measure::UpstreamRequests),
            upstream_bytes: growth(Measure::UpstreamBytes),
            tier_hits: growth(Measure::TierHits),
        }
    }

    /// Requests that were spared. Negative where this server sent more than clients would have.
    pub fn spared_requests(&self) -> i64 {
        difference(self.requests, self.upstream_requests)
    }

    /// Bytes that did not have to come from CodeArtifact. Negative where more came than clients took.
    pub fn spared_bytes(&self) -> i64 {
        difference(self.bytes, self.upstream_bytes)
    }

    fn scaled(&self, part: u64, whole: u64) -> Self {
        let scale = |number: u64| {
            let scaled = u128::from(number) * u128::from(part) / u128::from(whole.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        Self {
            requests: scale(self.requests),
            bytes: scale(self.bytes),
            upstream_requests: scale(self.upstream_requests),
            upstream_bytes: scale(self.upstream_bytes),
            tier_hits: scale(self.tier_hits),
        }
    }
}

impl AddAssign for RequestTally {
    fn add_assign(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.upstream_requests = self.upstream_requests.saturating_add(other.upstream_requests);
        self.upstream_bytes = self.upstream_bytes.saturating_add(other.upstream_bytes);
        self.tier_hits = self.tier_hits.saturating_add(other.tier_hits);
    }
}

fn difference(one: u64, other: u64) -> i64 {
    let size = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    if one >= other { size(one - other) } else { -size(other - one) }
}

/// One month, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthOfSavings {
    /// Since when it was counted, in seconds since the Unix epoch.
    pub since: u64,
    #[serde(flatten)]
    pub tally: RequestTally,
}

/// Months by their names, such as `2026-11`.
pub type Months = BTreeMap<String, MonthOfSavings>;

/// What was counted here, and how much of it is on disk.
#[derive(Debug, Default)]
pub struct Savings(Mutex<Ledgers>);

#[derive(Debug, Default)]
struct Ledgers {
    /// As the record on disk says.
    recorded: Months,
    /// What is not in it yet.
    pending: Months,
    /// When it was last written, in seconds since the Unix epoch.
    written: Option<u64>,
    /// Why it could not be written.
    failure: Option<String>,
}

/// What is shown of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavingsView {
    /// This month's name.
    pub name: String,
    pub month: MonthOfSavings,
    /// What this month comes to at its end if it goes on like this; none before a day was counted.
    pub projected: Option<RequestTally>,
    /// The months before, the newest first.
    pub earlier: Vec<(String, MonthOfSavings)>,
    pub written: Option<u64>,
    pub failure: Option<String>,
}

impl Savings {
    /// Adds what happened up to `now`, in seconds since the Unix epoch.
    pub fn add(&self, tally: &RequestTally, now: u64) {
        add_month(&mut self.0.lock().pending, &month_of(now), MonthOfSavings { since: now, tally: *tally });
    }

    /// What the record on disk says after a restart.
    pub fn recalled(&self, months: Months) {
        self.0.lock().recorded = months;
    }

    /// What is not on disk yet.
    pub fn pending(&self) -> Months {
        self.0.lock().pending.clone()
    }

    /// What had been pending is part of the record, which holds these months now.
    pub fn recorded(&self, months: Months, of_them: &Months, now: u64) {
        let mut ledgers = self.0.lock();
        ledgers.recorded = months;
        for (name, written) in of_them {
            if let Some(left) = ledgers.pending.get_mut(name) {
                left.tally = remainder(&left.tally, &written.tally);
            }
        }
        ledgers.pending.retain(|_, month| month.tally != RequestTally::default());
        (ledgers.written, ledgers.failure) = (Some(now), None);
    }

    /// It could not be written; it stays pending.
    pub fn failed(&self, reason: String) {
        self.0.lock().failure = Some(reason);
    }

    /// What is known at `now`, in seconds since the Unix epoch.
    pub fn view(&self, now: u64) -> SavingsView {
        let ledgers = self.0.lock();
        let mut months = merged(ledgers.recorded.clone(), &ledgers.pending);
        let name = month_of(now);
        let month = months.remove(&name).unwrap_or(MonthOfSavings { since: now, tally: RequestTally::default() });
        let projected = projection(&month, now);
        let earlier = months.into_iter().rev().filter(|(earlier, _)| *earlier < name).collect();
        let (written, failure) = (ledgers.written, ledgers.failure.clone());
        SavingsView { name, month, projected, earlier, written, failure }
    }
}

/// Months with what was added to them; the oldest are forgotten.
pub fn merged(mut months: Months, added: &Months) -> Months {
    for (name, month) in added {
        add_month(&mut months, name, *month);
    }
    while months.len() > MOST_MONTHS && !sabotaged("savings-bound") {
        months.pop_first();
    }
    months
}

fn add_month(months: &mut Months, name: &str, added: MonthOfSavings) {
    let month =
        months.entry(name.to_owned()).or_insert(MonthOfSavings { since: added.since, tally: RequestTally::default() });
    month.since = month.since.min(added.since);
    month.tally += added.tally;
}

fn remainder(all: &RequestTally, part: &RequestTally) -> RequestTally {
    RequestTally {
        requests: all.requests.saturating_sub(part.requests),
        bytes: all.bytes.saturating_sub(part.bytes),
        upstream_requests: all.upstream_requests.saturating_sub(part.upstream_requests),
        upstream_bytes: all.upstream_bytes.saturating_sub(part.upstream_bytes),
        tier_hits: all.tier_hits.saturating_sub(part.tier_hits),
    }
}

/// What is counted already, and as much for the rest of the month as came in the time that was counted.
fn projection(month: &MonthOfSavings, now: u64) -> Option<RequestTally> {
    let counted = now.saturating_sub(month.since);
    if counted < PROJECTED_FROM && !sabotaged("early-projection") {
        return None;
    }
    let mut projected = month.tally;
    projected += month.tally.scaled(end_of_month(now)?.saturating_sub(now), counted);
    Some(projected)
}

/// The name of the month of a moment.
fn month_of(now: u64) -> String {
    let mut text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(now)).to_string();
    text.truncate("0000-00".len());
    text
}

/// The first second of the next month.
fn end_of_month(now: u64) -> Option<u64> {
    let name = month_of(now);
    let (year, month) = name.split_once('-')?;
    let (year, month): (u32, u32) = (year.parse().ok()?, month.parse().ok()?);
    let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let end = humantime::parse_rfc3339(&format!("{year:04}-{month:02}-01T00:00:00Z")).ok()?;
    Some(end.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
#[path = "savings_tests.rs"]
mod tests;

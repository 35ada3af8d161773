//! Whether a page stays fresh beyond `fresh_for`, because CodeArtifact's events would tell of every change of it. Only
//! the domain's own projects do: what the public index gets is no event.
//!
//! ```text
//! the queue is read, all of it is heard, an event was right within a day ─► the page was asked for since, and a while
//! after the last change ─► nothing of it can come from outside ─► fresh for up to `fresh_for_internal`
//! ```
//!
//! The decision is pure; where any of that is not so, `fresh_for` holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::event_evidence::EventEvidence;
use super::origins::Origins;
use super::route::Route;
use crate::cache::{FetchedAt, PageKey, RepositoryId};
use crate::fleet::{Fleet, QUEUE_READ_WITHIN};
use crate::policy::PolicyHandle;
use wheelport_runtime::sabotaged;

/// How long an event that was right proves that events come.
const PROOF_LASTS: Duration = Duration::from_hours(24);
/// A page that was asked for sooner after a change may be the one from before, because an index may be late.
const SETTLING: Duration = Duration::from_secs(30);

/// Whether the events of a repository would tell of every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventTrust {
    /// `fresh_for_internal` is not set, or there is no queue.
    Off,
    /// What other replicas receive does not reach this one.
    Unheard,
    /// The queue was not read recently.
    Silent,
    /// No event was right about a page within a day.
    Unproven,
    Trusted,
}

impl EventTrust {
    /// The word in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Unheard => "unheard",
            Self::Silent => "silent",
            Self::Unproven => "unproven",
            Self::Trusted => "trusted",
        }
    }
}

/// What is known of the events of a repository.
#[derive(Debug, Clone, Copy)]
struct EventFacts {
    is_on: bool,
    hears_all: bool,
    /// Since the queue was read.
    read: Option<Duration>,
    /// Since an event was right.
    proven: Option<Duration>,
}

/// What is known of a page.
#[derive(Debug, Clone, Copy)]
struct CoveredPage {
    age: Duration,
    /// It was asked for after the queue began to be read without a pause.
    is_since_reading: bool,
    /// It was asked for a while after its last change that was heard of.
    is_settled: bool,
}

/// How long a page is fresh, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FreshnessGround {
    /// As long as `fresh_for_internal` says.
    Covered,
    /// As long as `fresh_for` says, as all that follow: its events are not to be relied on.
    Events(EventTrust),
    TooOld,
    /// From before the events were read.
    Earlier,
    /// A change was heard of that it may not show.
    Unsettled,
    /// Where the project comes from is not known.
    OriginUnknown,
    /// It may get versions from outside.
    External,
}

fn trust(facts: EventFacts) -> EventTrust {
    let is_within = |time: Option<Duration>, most: Duration| time.is_some_and(|time| time < most);
    match facts {
        EventFacts { is_on: false, .. } => EventTrust::Off,
        EventFacts { hears_all: false, .. } if !sabotaged("events-heard") => EventTrust::Unheard,
        EventFacts { read, .. } if !is_within(read, QUEUE_READ_WITHIN) && !sabotaged("events-read") => {
            EventTrust::Silent
        }
        EventFacts { proven, .. } if !is_within(proven, PROOF_LASTS) && !sabotaged("events-proven") => {
            EventTrust::Unproven
        }
        EventFacts { .. } => EventTrust::Trusted,
    }
}

/// Where the project comes from is asked for only where everything else speaks for the page.
fn ground(
    trust: EventTrust,
    page: CoveredPage,
    longest: Duration,
    is_internal: impl FnOnce() -> Option<bool>,
) -> FreshnessGround {
    match page {
        _ if trust != EventTrust::Trusted => FreshnessGround::Events(trust),
        CoveredPage { age, .. } if age >= longest => FreshnessGround::TooOld,
        CoveredPage { is_since_reading: false, .. } if !sabotaged("events-since") => FreshnessGround::Earlier,
        CoveredPage { is_settled: false, .. } if !sabotaged("events-settled") => FreshnessGround::Unsettled,
        CoveredPage { .. } => match is_internal() {
            Some(true) => FreshnessGround::Covered,
            Some(false) if sabotaged("events-internal") => FreshnessGround::Covered,
            Some(false) => FreshnessGround::External,
            None => FreshnessGround::OriginUnknown,
        },
    }
}

/// What the decision is made from.
pub(super) struct InternalFreshness {
    /// `fresh_for_internal`.
    pub longest: Option<Duration>,
    pub fleet: Fleet,
    pub origins: Origins,
    pub policy: PolicyHandle,
    pub evidence: EventEvidence,
}

impl InternalFreshness {
    /// Whether the events of a repository would tell of every change.
    pub(super) fn trust(&self, repository: &RepositoryId) -> EventTrust {
        let reading = self.fleet.events().and_then(crate::fleet::Events::reading);
        trust(EventFacts {
            is_on: self.longest.is_some() && self.fleet.events().is_some(),
            hears_all: self.fleet.hears_every_event(),
            read: reading.map(|(_, last)| last.elapsed()),
            proven: self.evidence.proven(repository).map(|at| at.elapsed()),
        })
    }

    /// Whether a page that was fetched then is still fresh, although it is older than `fresh_for`.
    pub(super) fn covers(&self, route: &Arc<Route>, key: &PageKey, fetched: &FetchedAt) -> bool {
        let Some(longest) = self.longest else { return false };
        let began = self.fleet.events().and_then(crate::fleet::Events::reading).map(|(since, _)| since);
        let is_since = |at: Option<Instant>| at.is_some_and(|at| fetched.is_asked_since(at));
        let changed = self.evidence.changed(key);
        let page = CoveredPage {
            age: fetched.age(),
            is_since_reading: is_since(began),
            is_settled: changed.is_none() || is_since(changed.map(|at| at + SETTLING)),
        };
        let is_internal = || {
            if self.policy.rules().is_private(&key.project) {
                return Some(true);
            }
            self.origins.is_internal(route, &key.project)
        };
        ground(self.trust(&key.repository), page, longest, is_internal) == FreshnessGround::Covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const GOOD: EventFacts =
        EventFacts { is_on: true, hears_all: true, read: Some(SECOND), proven: Some(Duration::from_hours(23)) };
    const PAGE: CoveredPage = CoveredPage { age: Duration::from_mins(59), is_since_reading: true, is_settled: true };

    #[test]
    fn events_are_trusted_while_all_of_them_are_heard_and_one_was_right_within_a_day() {
        for (facts, expected) in [
            (GOOD, EventTrust::Trusted),
            (EventFacts { is_on: false, ..GOOD }, EventTrust::Off),
            (EventFacts { hears_all: false, ..GOOD }, EventTrust::Unheard),
            (EventFacts { read: Some(SECOND * 60), ..GOOD }, EventTrust::Silent),
            (EventFacts { read: Some(SECOND * 59), ..GOOD }, EventTrust::Trusted),
            (EventFacts { read: None, ..GOOD }, EventTrust::Silent),
            (EventFacts { proven: Some(Duration::from_hours(24)), ..GOOD }, EventTrust::Unproven),
            (EventFacts { proven: None, ..GOOD }, EventTrust::Unproven),
        ] {
            assert_eq!(trust(facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_page_is_covered_that_is_of_the_domain_alone_and_was_asked_for_since() {
        let hour = Duration::from_hours(1);
        let of = |trust, page, is_internal| ground(trust, page, hour, || is_internal);
        assert_eq!(of(EventTrust::Trusted, PAGE, Some(true)), FreshnessGround::Covered);
        for trust in [EventTrust::Off, EventTrust::Unheard, EventTrust::Silent, EventTrust::Unproven] {
            assert_eq!(of(trust, PAGE, Some(true)), FreshnessGround::Events(trust));
        }
        for (page, is_internal, expected) in [
            (CoveredPage { age: hour, ..PAGE }, Some(true), FreshnessGround::TooOld),
            (CoveredPage { is_since_reading: false, ..PAGE }, Some(true), FreshnessGround::Earlier),
            (CoveredPage { is_settled: false, ..PAGE }, Some(true), FreshnessGround::Unsettled),
            (PAGE, Some(false), FreshnessGround::External),
            (PAGE, None, FreshnessGround::OriginUnknown),
        ] {
            assert_eq!(of(EventTrust::Trusted, page, is_internal), expected, "{page:?} {is_internal:?}");
        }
    }

    #[test]
    fn where_it_does_not_matter_nothing_is_asked_for() {
        let ask = || panic!("where a project comes from was asked for");
        let old = CoveredPage { is_settled: false, ..PAGE };
        assert_eq!(ground(EventTrust::Trusted, old, Duration::from_hours(1), ask), FreshnessGround::Unsettled);
        let ask = || panic!("where a project comes from was asked for");
        let silent = ground(EventTrust::Silent, PAGE, Duration::from_hours(1), ask);
        assert_eq!(silent, FreshnessGround::Events(EventTrust::Silent));
    }
}

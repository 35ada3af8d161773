//! Whether a 404 of upstream is an absence: pure decisions over what the endpoint has shown, and under which token.
//!
//! A dead token, a balancer without a target and a wrong address say 404 as well, to everything. So a 404 is believed
//! only after a success under the same token whose request was sent after the 404 had arrived. Where other requests
//! bring none, a *canary* is asked: a project known to exist. If the canaries are missing too, the 404s mean an outage.
//! Only when a new token has been told the same for [`OUTAGE`] is the repository really empty.

use std::time::Duration;

use tokio::time::Instant;

use crate::token::NEW_FOR;
use crate::upstream::Witness;
use wheelport_runtime::sabotaged;

/// How long everything must be missing under a new token before that is the truth.
const OUTAGE: Duration = Duration::from_mins(10);

/// What a 404 means, as far as is known now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is an absence.
    Absent,
    /// A newer token is in use: the request has to be repeated with that.
    Outdated,
    /// Nothing has been seen since the 404 that proves or disproves it: a canary has to be asked.
    Open,
    /// A canary was asked since and proves nothing, because upstream failed or because everything is missing.
    Doubt,
    /// The token is too old to be believed without a canary.
    OldToken,
}

/// What is known of one endpoint under one role.
#[derive(Debug, Default)]
pub(super) struct Absence {
    /// The newest success: the generation of its token, and when its request was sent.
    success: Option<(u64, Instant)>,
    /// The last time that canaries were asked without a success.
    failure: Option<FailedRequest>,
    outage: Option<Outage>,
}

#[derive(Debug, Clone, Copy)]
struct FailedRequest {
    /// When the first of the canaries was asked.
    began: Instant,
    /// Whether they were missing, and not just out of reach.
    missing: bool,
}

/// A time in which everything is missing.
#[derive(Debug, Clone, Copy)]
struct Outage {
    began: Instant,
    /// The token under which that was noticed.
    generation: u64,
    /// When it was first noticed under a newer one.
    confirmed: Option<Instant>,
}

impl Absence {
    /// What a 404 means.
    pub(super) fn judge(&self, missing: &Witness) -> Judgement {
        if sabotaged("believed-404") {
            return Judgement::Absent;
        }
        match self.success {
            Some((generation, _)) if generation > missing.generation => return Judgement::Outdated,
            Some((generation, sent))
                if (generation == missing.generation || sabotaged("success-token"))
                    && (sent >= missing.arrived || sabotaged("success-after")) =>
            {
                return Judgement::Absent;
            }
            _ => {}
        }
        match self.failure {
            Some(failure) if failure.began >= missing.arrived => {
                if failure.missing && self.is_empty(missing) {
                    Judgement::Absent
                } else {
                    Judgement::Doubt
                }
            }
            _ => Judgement::Open,
        }
    }

    /// What a 404 means where no project is known that could be asked.
    pub(super) fn judge_without_canary(missing: &Witness) -> Judgement {
        let is_new = missing.arrived.saturating_duration_since(missing.minted) <= NEW_FOR;
        if is_new || sabotaged("old-token") { Judgement::Absent } else { Judgement::OldToken }
    }

    /// A project's page came.
    pub(super) fn succeeded(&mut self, witness: &Witness) {
        self.success = self.success.max(Some((witness.generation, witness.sent)));
        if self.outage.is_some_and(|outage| witness.sent >= outage.began) {
            self.outage = None;
        }
    }

    /// Canaries asked since `began` could not be had, for another reason than a 404.
    pub(super) fn canaries_failed(&mut self, began: Instant) {
        self.failure = Some(FailedRequest { began, missing: false });
    }

    /// Canaries asked since `began` are missing too, the last one as this witness says. Returns whether that begins an
    /// outage.
    pub(super) fn canaries_missing(&mut self, began: Instant, last: &Witness) -> bool {
        self.failure = Some(FailedRequest { began, missing: true });
        let Some(outage) = &mut self.outage else {
            self.outage = Some(Outage { began, generation: last.generation, confirmed: None });
            return true;
        };
        if last.generation > outage.generation {
            outage.confirmed.get_or_insert(last.arrived);
        }
        false
    }

    /// Whether everything is missing at the moment.
    pub(super) fn is_outage(&self) -> bool {
        self.outage.is_some()
    }

    /// Whether a newer token than that of this 404 is needed to know more of an outage.
    pub(super) fn needs_new_token(&self, missing: &Witness) -> bool {
        self.outage.is_some_and(|outage| missing.generation <= outage.generation)
    }

    /// Whether everything has been missing for so long under a new token that it must be true.
    fn is_empty(&self, missing: &Witness) -> bool {
        self.outage.is_some_and(|outage| {
            let lasts = |since| missing.arrived.saturating_duration_since(since) >= OUTAGE || sabotaged("ten-minutes");
            (missing.generation > outage.generation || sabotaged("outage-token")) && outage.confirmed.is_some_and(lasts)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    /// A moment, in seconds after the start of the test.
    struct Times(Instant);

    impl Times {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }

        /// A request under a token that was minted when the test began.
        fn witness(&self, generation: u64, sent: u64, arrived: u64) -> Witness {
            Witness { generation, minted: self.0, sent: self.at(sent), arrived: self.at(arrived) }
        }
    }

    #[test]
    fn a_404_needs_a_success_of_the_same_token_that_was_sent_after_it() {
        let times = Times(Instant::now());
        for (what, success, judgement) in [
            ("nothing else is known", None, Judgement::Open),
            ("a success before", Some((1, 0, 5)), Judgement::Open),
            ("sent before the 404 arrived", Some((1, 19, 30)), Judgement::Open),
            ("of an older token", Some((0, 25, 26)), Judgement::Open),
            ("sent after the 404 arrived", Some((1, 20, 30)), Judgement::Absent),
            ("of a newer token", Some((2, 0, 1)), Judgement::Outdated),
        ] {
            let mut absence = Absence::default();
            if let Some((generation, sent, arrived)) = success {
                absence.succeeded(&times.witness(generation, sent, arrived));
            }
            assert_eq!(absence.judge(&times.witness(1, 10, 20)), judgement, "{what}");
        }
    }

    #[test]
    fn a_success_that_comes_late_does_not_hide_a_newer_one() {
        let times = Times(Instant::now());
        let mut absence = Absence::default();
        absence.succeeded(&times.witness(1, 20, 21));
        absence.succeeded(&times.witness(1, 3, 25));
        assert_eq!(absence.judge(&times.witness(1, 10, 20)), Judgement::Absent);
    }

    #[test]
    fn a_canary_settles_every_404_that_arrived_before_it_was_asked() {
        let times = Times(Instant::now());
        let (before, after) = (times.witness(1, 9, 10), times.witness(1, 9, 12));
        let mut absence = Absence::default();
        absence.canaries_failed(times.at(11));
        assert_eq!((absence.judge(&before), absence.judge(&after)), (Judgement::Doubt, Judgement::Open));
        assert!(!absence.is_outage(), "failing is not missing");
        absence.succeeded(&times.witness(1, 11, 13));
        assert_eq!((absence.judge(&before), absence.judge(&after)), (Judgement::Absent, Judgement::Open));
    }

    #[test]
    fn everything_missing_is_an_outage_until_a_new_token_has_been_told_so_for_ten_minutes() {
        let times = Times(Instant::now());
        let mut absence = Absence::default();
        assert!(absence.canaries_missing(times.at(10), &times.witness(1, 11, 12)), "the outage begins");
        assert!(absence.is_outage());
        assert_eq!(absence.judge(&times.witness(1, 1, 2)), Judgement::Doubt);
        for (what, generation, asked, judgement) in [
            ("long after, and no new token", 1, 30 * MINUTE, Judgement::Doubt),
            ("under a new token", 2, 40 * MINUTE, Judgement::Doubt),
            ("almost ten minutes", 2, 49 * MINUTE, Judgement::Doubt),
            ("ten minutes", 2, 50 * MINUTE, Judgement::Absent),
            ("another new token", 3, 51 * MINUTE, Judgement::Absent),
            ("a 404 of the old token", 1, 52 * MINUTE, Judgement::Doubt),
        ] {
            assert!(!absence.canaries_missing(times.at(asked), &times.witness(generation, asked, asked)), "{what}");
            assert_eq!(absence.judge(&times.witness(generation, asked, asked)), judgement, "{what}");
        }
        let later = times.witness(3, 60 * MINUTE, 60 * MINUTE);
        assert_eq!(absence.judge(&later), Judgement::Open, "a canary is asked each time");
        absence.succeeded(&times.witness(3, 9, 61 * MINUTE));
        assert!(absence.is_outage(), "a response to a request from before proves nothing");
        absence.succeeded(&times.witness(3, 61 * MINUTE, 61 * MINUTE));
        assert!(!absence.is_outage());
    }

    #[test]
    fn without_a_canary_a_new_token_is_believed() {
        let times = Times(Instant::now());
        for (arrived, judgement) in
            [(0, Judgement::Absent), (5 * MINUTE, Judgement::Absent), (5 * MINUTE + 1, Judgement::OldToken)]
        {
            let missing = times.witness(1, arrived, arrived);
            assert_eq!(Absence::judge_without_canary(&missing), judgement, "{arrived} s");
        }
    }
}

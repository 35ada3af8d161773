//! The steps about identities: whether the keys of each issuer can be had, whether clocks agree so far that tokens are
//! valid, and whether replicas can share tokens.

use std::fmt::Write as _;
use std::time::Duration;

use super::report::Finding;
use crate::app::identities_of;
use crate::config::Settings;
use crate::identity::IssuerReport;
use wheelport_runtime::{Clock, Tasks, sabotaged};

const STEP: &str = "issuer";
/// From here on, tokens that were just signed are refused, or such that have expired are accepted.
const SKEW_ALARM: u64 = 60;
/// A difference that is worth a look, in seconds.
const SKEW_WARNING: u64 = 20;
/// Issuers change their keys more often than that.
const OLD_KEYS: Duration = Duration::from_hours(24 * 90);

/// One finding for each issuer, and one for the key of minted tokens.
pub(super) async fn steps(settings: &Settings, clock: &Clock) -> Vec<Finding> {
    let issuers = settings.identities.issuers();
    if issuers.is_empty() {
        return Vec::new();
    }
    let tasks = Tasks::new();
    let mut findings = Vec::new();
    match identities_of(settings, clock.clone(), &tasks) {
        Ok(identities) => {
            for issuer in issuers {
                findings.push(judge(issuer.name(), identities.try_issuer(issuer).await));
            }
        }
        Err(error) => findings.push(Finding::fail(STEP, error.to_string(), "correct the [upstream] table")),
    }
    tasks.stop();
    findings.push(if settings.signing_keys.is_random() {
        Finding::warn(
            "tokens",
            "minted tokens are signed with a key that every process makes for itself".to_owned(),
            "where there are several replicas, give all of them the same [tokens] key_file",
        )
    } else {
        Finding::ok("tokens", "minted tokens are signed with a configured key".to_owned())
    });
    findings
}

/// What is to be said about one issuer.
fn judge(name: &str, tried: Result<IssuerReport, String>) -> Finding {
    let IssuerReport { keys, ahead_seconds, age } = match tried {
        Ok(report) => report,
        Err(reason) => {
            return Finding::fail(
                STEP,
                format!("{name}: {reason}"),
                "correct url, let this machine reach it, or give the issuer's key set as keys_file",
            );
        }
    };
    let mut summary = format!("{name}: {keys} keys that tokens can be verified with");
    if let Some(age) = age {
        let _ = write!(summary, ", from a file that is {} days old", age.as_secs() / (24 * 3600));
    }
    let off = ahead_seconds.unwrap_or_default();
    if off.unsigned_abs() > SKEW_WARNING && !sabotaged("issuer-clock") {
        let direction = if off > 0 { "ahead of" } else { "behind" };
        let _ = write!(summary, "; this machine's clock is {} s {direction} the issuer's", off.unsigned_abs());
        return if off.unsigned_abs() > SKEW_ALARM {
            Finding::fail(STEP, summary, "start the NTP service of this machine; clocks may be a minute apart")
        } else {
            Finding::warn(STEP, summary, "look at the NTP service of this machine; clocks may be a minute apart")
        };
    }
    if age.is_some_and(|age| age > OLD_KEYS) {
        return Finding::warn(STEP, summary, "save the issuer's key set again; it changes its keys now and then");
    }
    Finding::ok(STEP, summary)
}

#[cfg(test)]
mod tests {
    use super::super::report::StepStatus;
    use super::*;

    fn judged(ahead_seconds: Option<i64>, days: Option<u64>) -> (StepStatus, String) {
        let age = days.map(|days| Duration::from_hours(24 * days));
        let finding = judge("ci", Ok(IssuerReport { keys: 2, ahead_seconds, age }));
        (finding.status, finding.summary)
    }

    #[test]
    fn an_issuer_is_judged_by_its_keys_its_clock_and_their_age() {
        for (ahead, days, status, part) in [
            (None, None, StepStatus::Ok, "ci: 2 keys that tokens can be verified with"),
            (Some(20), None, StepStatus::Ok, "verified with"),
            (Some(-21), None, StepStatus::Warn, "21 s behind the issuer's"),
            (Some(60), None, StepStatus::Warn, "60 s ahead of"),
            (Some(61), None, StepStatus::Fail, "61 s ahead of"),
            (Some(-3600), None, StepStatus::Fail, "3600 s behind"),
            (None, Some(90), StepStatus::Ok, "a file that is 90 days old"),
            (None, Some(91), StepStatus::Warn, "91 days old"),
        ] {
            let (judged, summary) = judged(ahead, days);
            assert_eq!(judged, status, "{summary}");
            assert!(summary.contains(part), "{summary}");
        }
        let finding = judge("ci", Err("away".to_owned()));
        assert_eq!((finding.status, &*finding.summary), (StepStatus::Fail, "ci: away"));
    }
}

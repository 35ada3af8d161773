//! The steps about identities: whether the keys of each issuer can be had, and whether replicas can share tokens.

use super::report::Finding;
use crate::app::identities_of;
use crate::config::Settings;
use wheelport_runtime::{Clock, Tasks};

/// One finding for each issuer, and one for the key of minted tokens.
pub(super) async fn steps(settings: &Settings) -> Vec<Finding> {
    const STEP: &str = "issuer";
    let issuers = settings.identities.issuers();
    if issuers.is_empty() {
        return Vec::new();
    }
    let tasks = Tasks::new();
    let mut findings = Vec::new();
    match identities_of(settings, Clock::system(), &tasks) {
        Ok(identities) => {
            for issuer in issuers {
                findings.push(match identities.try_issuer(issuer).await {
                    Ok(keys) => {
                        Finding::ok(STEP, format!("{}: {keys} keys that tokens can be verified with", issuer.name()))
                    }
                    Err(reason) => Finding::fail(
                        STEP,
                        format!("{}: {reason}", issuer.name()),
                        "correct url, let this machine reach it, or give the issuer's key set as keys_file",
                    ),
                });
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

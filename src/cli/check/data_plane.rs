//! Reaching the data plane: proxy variables, and one page read exactly as the proxy would read it.

use crate::upstream::{PageReply, Unavailability, UpstreamError};
use wheelport_index::parse::PageFormat;

use super::report::Finding;
use super::target::Environment;

/// Proxy variables are set, and only the AWS SDK reads them.
pub(super) fn proxy_variables(environment: Environment<'_>, configured: bool) -> Option<Finding> {
    let names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let set: Vec<&str> =
        names.into_iter().filter(|name| environment(name).is_some_and(|value| !value.is_empty())).collect();
    if set.is_empty() || configured {
        return None;
    }
    Some(Finding::warn(
        "proxy",
        format!("{} is set: calls of the AWS SDK go through it, the repository is reached without it", set.join(", ")),
        "set `proxy` in the [upstream] table if the repository is only reachable through a proxy",
    ))
}

/// What the outcome of reading a page means; `listed` if the repository's own list names the project.
pub(super) fn judge(outcome: Result<PageReply, UpstreamError>, project: &str, listed: bool) -> Finding {
    const STEP: &str = "read";
    let error = match outcome {
        Ok(page) => {
            let format = if page.format == PageFormat::Json { "JSON" } else { "HTML" };
            return Finding::ok(STEP, format!("page of `{project}`: {} bytes of {format}", page.body.len()));
        }
        Err(error) => error,
    };
    match error {
        UpstreamError::NotFound(_) if listed => Finding::warn(
            STEP,
            format!("404 for `{project}`, although the repository lists it"),
            "check that `endpoint` belongs to this repository; all versions may be unlisted or archived",
        ),
        UpstreamError::NotFound(_) => Finding::warn(
            STEP,
            format!("404 for `{project}`: the endpoint responds, but that does not prove that reading works"),
            "harmless if the repository is empty and has no public upstream; else check the repository's name",
        ),
        UpstreamError::Denied { message, .. } => Finding::fail(
            STEP,
            "403: the token may not read this repository",
            "allow codeartifact:ReadFromRepository on \
             arn:aws:codeartifact:REGION:ACCOUNT:repository/DOMAIN/REPOSITORY (no package ARN), and look for a denying \
             repository or domain policy",
        )
        .with_details(message.into_iter().map(|message| format!("AWS says: {message}")).collect()),
        UpstreamError::Unavailable { reason, .. } => unavailable(reason),
        other => Finding::fail(STEP, other.to_string(), "check that `endpoint` is a CodeArtifact repository"),
    }
}

fn unavailable(reason: Unavailability) -> Finding {
    const STEP: &str = "read";
    match reason {
        Unavailability::Token => Finding::fail(
            STEP,
            "401: the endpoint refuses tokens that were made a moment ago",
            "check that `endpoint` belongs to this domain, account and region",
        ),
        Unavailability::Connect => Finding::fail(
            STEP,
            "no connection to the endpoint: name resolution, the connection or TLS failed",
            "check DNS, routes and the VPC endpoint `codeartifact.repositories`; behind a TLS gateway set `ca_file`, \
             behind a proxy set `proxy` in the [upstream] table",
        ),
        Unavailability::Timeout => Finding::fail(
            STEP,
            "the endpoint did not respond in time",
            "check routes, security groups and the VPC endpoint `codeartifact.repositories`",
        ),
        Unavailability::Throttled => {
            Finding::warn(STEP, "429: CodeArtifact throttles reads", "look for other heavy readers in this account")
        }
        Unavailability::Redirect => Finding::warn(
            STEP,
            "the endpoint redirects to a host that is not allowed",
            "check that `endpoint` is the repository itself",
        ),
        other => {
            Finding::fail(STEP, format!("the endpoint could not serve the page: {other}"), "try again in a moment")
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use url::Url;

    use super::*;
    use crate::cli::check::report::StepStatus;
    use crate::upstream::Witness;

    fn down(reason: Unavailability) -> Result<PageReply, UpstreamError> {
        Err(UpstreamError::unavailable(reason))
    }

    #[test]
    fn ignored_proxy_variables_are_named_without_their_values() {
        let environment = |name: &str| (name == "https_proxy").then(|| "http://u:canary@p.invalid".to_owned());
        let finding = proxy_variables(&environment, false).expect("set");
        assert!(finding.summary.contains("https_proxy") && !format!("{finding:?}").contains("canary"));
        assert_eq!(proxy_variables(&environment, true), None);
        assert_eq!(proxy_variables(&|_| None, false), None);
    }

    #[test]
    fn every_outcome_of_a_read_has_its_meaning() {
        let url = Url::parse("https://x.invalid/pypi/r/simple/x/").expect("valid");
        let body = Bytes::from_static(b"0123456789");
        let page = PageReply { format: PageFormat::Json, body, url, witness: None, turn: None };
        let now = tokio::time::Instant::now();
        let witness = Witness { generation: 1, minted: now, sent: now, arrived: now };
        for (outcome, listed, expected, words) in [
            (Ok(page), true, StepStatus::Ok, "10 bytes of JSON"),
            (Err(UpstreamError::NotFound(witness)), true, StepStatus::Warn, "although the repository lists it"),
            (Err(UpstreamError::NotFound(witness)), false, StepStatus::Warn, "does not prove"),
            (Err(UpstreamError::Denied { message: None, witness }), true, StepStatus::Fail, "may not read"),
            (down(Unavailability::Token), true, StepStatus::Fail, "refuses tokens"),
            (down(Unavailability::Connect), true, StepStatus::Fail, "no connection"),
            (down(Unavailability::Timeout), true, StepStatus::Fail, "in time"),
            (down(Unavailability::Throttled), true, StepStatus::Warn, "throttles"),
            (down(Unavailability::Redirect), true, StepStatus::Warn, "redirects"),
            (down(Unavailability::ServerError), true, StepStatus::Fail, "server-error"),
            (Err(UpstreamError::TooLarge { limit: 5 }), true, StepStatus::Fail, "5 bytes"),
        ] {
            let finding = judge(outcome, "x", listed);
            assert_eq!(finding.status, expected, "{finding:?}");
            assert!(finding.summary.contains(words), "{finding:?}");
        }
    }
}

//! The steps about one route: token, clock, endpoint, list right, one page, what decisions and events ask for, upload
//! right.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::aws::remedy;
use super::report::Finding;
use super::target::{CheckTarget, SOME_PROJECT};
use super::{data_plane, origins, upstreams};
use crate::control::{ControlPlane, DomainId, SKEW_ALARM, SKEW_WARNING};
use crate::token::{KeeperSettings, MintErrorKind, TokenError, TokenHandle, keep};
use crate::upstream::{Client, Endpoint, Upstream};
use wheelport_index::ProjectName;
use wheelport_runtime::Tasks;

const STEPS: [&str; 6] = ["token", "clock", "endpoint", "list", "read", "upload"];
const TOKEN_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn skipped(because: &str) -> Vec<Finding> {
    STEPS.iter().map(|step| Finding::skip(step, because)).collect()
}

pub(super) async fn steps(
    control: &ControlPlane,
    client: &Client,
    target: &CheckTarget,
    domain: &DomainId,
) -> Vec<Finding> {
    let tasks = Tasks::new();
    let settings = KeeperSettings {
        requested_lifetime: target.aws.token_lifetime.requested(),
        ..KeeperSettings::new(domain.name.as_str())
    };
    let handle = keep(control.token_source(domain, target.aws.token_lifetime), settings, &tasks);
    let (token, has_token) = token(&handle).await;
    let clock = clock(control.clock_skew());
    let (at, endpoint) = endpoint(control, target, domain).await;
    let (list, listed) = list(control, target, domain).await;
    let read = match endpoint {
        Some(endpoint) if has_token => {
            let upstream = Upstream::new(client.clone(), endpoint, handle, Arc::from(target.route.as_str()));
            read(&upstream, listed.first().map(String::as_str)).await
        }
        _ => Finding::skip("read", "there is no token or no endpoint"),
    };
    tasks.stop();
    let asked = origins::steps(control, target, domain, &listed).await;
    let followed = upstreams::step(control, target, domain).await;
    let steps = [token, clock, at, list, read].into_iter().chain(asked).chain(followed);
    steps.chain([upload(target, domain)]).collect()
}

/// The same keeper as in the proxy mints the token, so the proxy would see the same result.
async fn token(handle: &TokenHandle) -> (Finding, bool) {
    const STEP: &str = "token";
    match handle.current(Instant::now() + TOKEN_LIMIT).await {
        Ok(_) => {
            let minutes = handle.state().remaining.unwrap_or_default().as_secs().div_ceil(60);
            let summary = format!("CodeArtifact made a token that lives {} h {} min", minutes / 60, minutes % 60);
            (Finding::ok(STEP, summary), true)
        }
        Err(TokenError::Failed(error)) => (Finding::fail(STEP, error.message, remedy(error.kind)), false),
        Err(TokenError::Late | TokenError::Stopped) => {
            let summary = format!("no token within {} s", TOKEN_LIMIT.as_secs());
            (Finding::fail(STEP, summary, remedy(MintErrorKind::Unreachable)), false)
        }
    }
}

async fn endpoint(control: &ControlPlane, target: &CheckTarget, domain: &DomainId) -> (Finding, Option<Endpoint>) {
    const STEP: &str = "endpoint";
    let (url, origin) = match &target.endpoint {
        Some(endpoint) => (endpoint.clone(), "from the settings"),
        None => match control.repository_endpoint(domain, &target.repository).await {
            Ok(url) => (url, "as CodeArtifact names it"),
            Err(error) => {
                return (Finding::fail(STEP, error.message, endpoint_remedy(error.kind)), None);
            }
        },
    };
    match Endpoint::new(url) {
        Ok(endpoint) => (Finding::ok(STEP, format!("{}, {origin}", endpoint.base())), Some(endpoint)),
        Err(error) => (Finding::fail(STEP, error.to_string(), "correct `endpoint`"), None),
    }
}

/// The right to call is missing only where the call was denied.
const fn endpoint_remedy(kind: MintErrorKind) -> &'static str {
    match kind {
        MintErrorKind::Denied => {
            "set domain_owner, then no call is needed; or allow codeartifact:GetRepositoryEndpoint"
        }
        other => remedy(other),
    }
}

fn clock(skew: Option<i64>) -> Finding {
    const STEP: &str = "clock";
    let Some(seconds) = skew else { return Finding::skip(STEP, "no response of AWS showed its time") };
    let direction = if seconds > 0 { "ahead of" } else { "behind" };
    let summary = format!("{} s {direction} AWS's clock", seconds.unsigned_abs());
    match seconds.unsigned_abs() {
        off if off > SKEW_ALARM => Finding::fail(STEP, summary, "start the NTP service of this machine"),
        off if off > SKEW_WARNING => Finding::warn(STEP, summary, "look at the NTP service of this machine"),
        0..=1 => Finding::ok(STEP, "agrees with AWS's"),
        _ => Finding::ok(STEP, summary),
    }
}

/// Also gives the names of projects that surely exist.
async fn list(control: &ControlPlane, target: &CheckTarget, domain: &DomainId) -> (Finding, Vec<String>) {
    const STEP: &str = "list";
    match control.some_packages(domain, &target.repository).await {
        Ok(names) => {
            let summary = match names.len() {
                0 => "allowed; the repository has no package yet".to_owned(),
                number => format!("allowed; first {number} names read"),
            };
            (Finding::ok(STEP, summary), names)
        }
        Err(error) if error.kind == MintErrorKind::NotFound => {
            (Finding::fail(STEP, error.message, remedy(error.kind)), Vec::new())
        }
        Err(error) => {
            let remedy = "optional: allow codeartifact:ListPackages on the repository; without it the project list \
                          holds only what the cache has seen";
            (Finding::warn(STEP, error.message, remedy), Vec::new())
        }
    }
}

async fn read(upstream: &Upstream, listed: Option<&str>) -> Finding {
    let name = listed.and_then(|name| ProjectName::parse(name).ok());
    let is_listed = name.is_some();
    let name = match name {
        Some(name) => name,
        None => ProjectName::parse(SOME_PROJECT).expect("the constant is a name"),
    };
    data_plane::judge(upstream.page(&name).await, name.as_str(), is_listed)
}

/// No call to AWS proves this right without publishing, so the step makes none.
fn upload(target: &CheckTarget, domain: &DomainId) -> Finding {
    const STEP: &str = "upload";
    if !target.upload {
        return Finding::ok(STEP, "off, nothing to check");
    }
    let account = domain.owner.as_ref().map_or("ACCOUNT", |owner| owner.as_str());
    Finding::warn(
        STEP,
        "on; whether this principal may publish shows only in a real upload, and this command makes none",
        format!(
            "allow codeartifact:PublishPackageVersion on arn:aws:codeartifact:{}:{account}:package/{}/{}/pypi//*",
            domain.region, domain.name, target.repository
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::report::StepStatus;

    #[test]
    fn only_a_denied_call_needs_a_right() {
        assert!(endpoint_remedy(MintErrorKind::Denied).contains("GetRepositoryEndpoint"));
        assert_eq!(endpoint_remedy(MintErrorKind::NotFound), remedy(MintErrorKind::NotFound));
    }

    #[test]
    fn a_clock_is_judged_by_both_limits() {
        for (skew, expected) in [
            (None, StepStatus::Skip),
            (Some(0), StepStatus::Ok),
            (Some(-60), StepStatus::Ok),
            (Some(61), StepStatus::Warn),
            (Some(-241), StepStatus::Fail),
        ] {
            assert_eq!(clock(skew).status, expected, "{skew:?}");
        }
    }
}

//! The steps about AWS that all routes with the same settings share: profile, credentials, identity, region.

use super::profile::{ProfileFinding, Severity, inspect};
use super::profile_files;
use super::report::{Finding, StepStatus};
use super::target::Environment;
use crate::control::{AwsSettings, ControlPlane};
use crate::token::MintErrorKind;
use wheelport_runtime::Clock;

pub(super) async fn steps(
    control: &ControlPlane,
    settings: &AwsSettings,
    environment: Environment<'_>,
    clock: &Clock,
) -> Vec<Finding> {
    let inspection = profile_files::gather(settings.profile.as_deref(), environment, clock);
    let selected = inspection.selected.clone();
    let mistakes = inspect(&inspection);
    let found = control.credentials().await;
    let mut steps = Vec::new();
    steps.extend(profile(&mistakes, selected.as_deref(), found.is_ok()));
    let usable = found.is_ok();
    steps.push(match found {
        Ok(found) => {
            let expires = found.expires.map(|end| format!(", until {}", httpdate::fmt_http_date(end)));
            let summary = format!("found: {}{}", found.provider, expires.unwrap_or_default());
            Finding::ok("credentials", summary).with_details(others(settings, environment, Some(&found.provider)))
        }
        Err(error) => {
            let remedy = remedy(error.kind);
            let message = error.message.replace("; `wheelport check` says more", "");
            Finding::fail("credentials", message, remedy).with_details(others(settings, environment, None))
        }
    });
    steps.push(if usable { identity(control).await } else { Finding::skip("identity", "there are no credentials") });
    steps.push(region(control, settings));
    steps
}

/// Mistakes weigh less if the chain found credentials in spite of them.
fn profile(mistakes: &[ProfileFinding], selected: Option<&str>, usable: bool) -> Option<Finding> {
    let name = selected.unwrap_or("default");
    let Some(worst) = mistakes.first() else {
        return selected.map(|name| Finding::ok("profile", format!("profile `{name}` has no known mistake")));
    };
    let status = match worst.severity {
        Severity::Error if !usable => StepStatus::Fail,
        Severity::Error | Severity::Warning => StepStatus::Warn,
        Severity::Note => StepStatus::Ok,
    };
    let mut details = Vec::new();
    for mistake in mistakes {
        let line = if mistake.line > 0 { format!(":{}", mistake.line) } else { String::new() };
        details.push(format!("{}{line}: {} ({})", mistake.file, mistake.what, mistake.code));
        if !mistake.others.is_empty() {
            details.push(format!("  elsewhere: {}", mistake.others));
        }
        details.push(format!("  remedy: {}", mistake.remedy));
    }
    let summary = match status {
        StepStatus::Ok => format!("profile `{name}`: remarks only"),
        _ => worst.what.clone(),
    };
    let remedy = (status != StepStatus::Ok).then(|| worst.remedy.clone());
    Some(Finding { remedy, ..Finding::new("profile", status, summary).with_details(details) })
}

/// What each provider of the chain has to work with, in the chain's order.
fn others(settings: &AwsSettings, environment: Environment<'_>, winner: Option<&str>) -> Vec<String> {
    let set = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
    let keys = match (set("AWS_ACCESS_KEY_ID"), set("AWS_SECRET_ACCESS_KEY")) {
        (true, true) => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set",
        (false, false) => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
        _ => "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set",
    };
    let profile = settings.profile.clone().or_else(|| environment("AWS_PROFILE"));
    let web = match (set("AWS_WEB_IDENTITY_TOKEN_FILE"), set("AWS_ROLE_ARN")) {
        (true, true) => "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN are set",
        (true, false) => "AWS_WEB_IDENTITY_TOKEN_FILE is set but AWS_ROLE_ARN is not",
        _ => "AWS_WEB_IDENTITY_TOKEN_FILE is not set",
    };
    let container = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
    let metadata = environment("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let mut lines = vec![
        format!("1. environment variables: {keys}"),
        format!("2. profile files: profile `{}` is selected", profile.as_deref().unwrap_or("default")),
        format!("3. web identity token: {web}"),
        format!(
            "4. container credentials: {}",
            if container.iter().any(|name| set(name)) { "an address is set" } else { "no address is set" }
        ),
        format!(
            "5. EC2 instance metadata: {}",
            if metadata { "switched off by AWS_EC2_METADATA_DISABLED" } else { "tried last" }
        ),
    ];
    if let Some(profile) = &settings.profile {
        lines = vec![format!("profile `{profile}` is named in the settings, so no other provider is tried")];
    }
    match winner {
        Some(winner) => lines.push(format!("the first that has credentials wins: {winner}")),
        None => lines.push("none of them had credentials".to_owned()),
    }
    if let Some(role) = &settings.role_arn {
        lines.push(format!("with them the role {role} is assumed"));
    }
    lines
}

async fn identity(control: &ControlPlane) -> Finding {
    const STEP: &str = "identity";
    match control.caller_identity().await {
        Ok(identity) if identity.arn.ends_with(":root") => Finding::fail(
            STEP,
            format!("the root user of account {}, for whom AWS makes no CodeArtifact tokens", identity.account),
            "use a role or an IAM user",
        ),
        Ok(identity) => Finding::ok(STEP, format!("{} (account {})", identity.arn, identity.account)),
        Err(error) if error.kind == MintErrorKind::Unreachable => Finding::warn(
            STEP,
            error.message,
            "in a VPC without internet add an interface endpoint for STS; tokens may work without it",
        ),
        Err(error) => Finding::fail(STEP, error.message, remedy(error.kind)),
    }
}

fn region(control: &ControlPlane, settings: &AwsSettings) -> Finding {
    match control.region() {
        Some(region) if settings.region.is_some() => Finding::ok("region", format!("{region}, from the settings")),
        Some(region) => Finding::ok("region", format!("{region}, from the AWS chain")),
        None => Finding::fail(
            "region",
            "no region is known",
            "set `region` in the [aws] table, `--region`, AWS_REGION, or `region` in the profile",
        ),
    }
}

/// Where to begin, by class; the message itself is more precise.
pub(super) const fn remedy(kind: MintErrorKind) -> &'static str {
    match kind {
        MintErrorKind::NoCredentials => "give this machine, container or pod a role, or set a profile that works",
        MintErrorKind::Denied => "attach the read policy from deploy/iam to this principal",
        MintErrorKind::NotFound => "check domain, domain_owner, repository and region",
        MintErrorKind::Throttled => "wait, and look for what else calls AWS in this account",
        MintErrorKind::Unreachable => "check the network: DNS, routes, security groups, VPC endpoints",
        MintErrorKind::ClockSkew => "start the NTP service of this machine",
        MintErrorKind::Other => "compare the settings with what the AWS console shows",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(severity: Severity) -> ProfileFinding {
        ProfileFinding {
            severity,
            code: "source_without_role",
            profile: Some("mfa".to_owned()),
            file: "/home/u/.aws/config".to_owned(),
            line: 7,
            what: "what".to_owned(),
            others: "others".to_owned(),
            remedy: "remedy".to_owned(),
        }
    }

    #[test]
    fn a_mistake_fails_only_if_it_costs_the_credentials() {
        for (severity, usable, status) in [
            (Severity::Error, false, StepStatus::Fail),
            (Severity::Error, true, StepStatus::Warn),
            (Severity::Warning, false, StepStatus::Warn),
            (Severity::Note, false, StepStatus::Ok),
        ] {
            let finding = profile(&[mistake(severity)], Some("mfa"), usable).expect("there is a mistake");
            assert_eq!(finding.status, status, "{severity:?} {usable}");
            assert!(finding.details[0].starts_with("/home/u/.aws/config:7: what"), "{finding:?}");
        }
        assert_eq!(profile(&[], None, true), None);
        assert_eq!(profile(&[], Some("p"), true).map(|finding| finding.status), Some(StepStatus::Ok));
    }

    #[test]
    fn the_chain_is_listed_in_its_order() {
        let environment = |name: &str| (name == "AWS_ACCESS_KEY_ID").then(|| "canary".to_owned());
        let lines = others(&AwsSettings::default(), &environment, None);
        assert!(lines[0].contains("only one of"), "{lines:?}");
        assert!(lines[1].contains("`default`") && lines.len() == 6, "{lines:?}");
        assert!(!lines.concat().contains("canary"));
        let settings = AwsSettings { profile: Some("p".to_owned()), ..AwsSettings::default() };
        let lines = others(&settings, &environment, Some("profile"));
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
}

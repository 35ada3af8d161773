//! Credentials that could not be had: who was asked, what each said, and what to do.

use std::error::Error;
use std::fmt::Write as _;

use aws_config::meta::ProviderChainError;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_codeartifact::error::ProvideErrorMetadata;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;

use super::{Answer, causes, failure, finish, safe, signing, text_of};
use crate::control::ControlError;
use crate::token::MintErrorKind;

/// Credentials that could not be had.
pub(in crate::control) fn credentials(error: &CredentialsError) -> ControlError {
    if let Some(chain) = causes(error).find_map(|cause| cause.downcast_ref::<ProviderChainError<CredentialsError>>()) {
        return nothing_found(chain);
    }
    if let Some(answer) = causes(error).find_map(role_answer) {
        return assume_role(&answer);
    }
    let text = match safe(&reason(error)) {
        text if text.is_empty() => "the profile has none that this program can use".to_owned(),
        text => text,
    };
    let text = text.trim_start_matches("ProfileFile provider could not be built: ").to_owned();
    let lower = text.to_ascii_lowercase();
    match error {
        CredentialsError::ProviderTimedOut(_) => too_slow(),
        CredentialsError::InvalidConfiguration(_) => {
            failure(MintErrorKind::NoCredentials, format!("the AWS configuration cannot be used: {text}"))
        }
        CredentialsError::CredentialsNotLoaded(_) => failure(
            MintErrorKind::NoCredentials,
            format!("no AWS credentials: {text}; `wheelport check` inspects the profile"),
        ),
        _ if lower.contains("imds is disabled") || lower.contains("imds") && lower.contains("forbidden") => failure(
            MintErrorKind::NoCredentials,
            "no AWS credentials found: nothing is configured, and the EC2 metadata service refuses to give any; give \
             this machine, container or pod a role, or set a profile"
                .to_owned(),
        ),
        _ if lower.contains("sso") || lower.contains("token has expired") || lower.contains("cached token") => failure(
            MintErrorKind::NoCredentials,
            format!("the single sign-on session is missing or over: run `aws sso login`, or use a role ({text})"),
        ),
        _ if ["timed out", "timeout", "connect", "dispatch", "io error", "imds"].iter().any(|w| lower.contains(w)) => {
            failure(
                MintErrorKind::Unreachable,
                format!(
                    "the credentials provider could not be reached; in a container on EC2 check the metadata hop \
                     limit (2), or give the pod a role of its own ({text})"
                ),
            )
        }
        _ => failure(MintErrorKind::NoCredentials, format!("the credentials provider failed: {text}")),
    }
}

pub(in crate::control) fn too_slow() -> ControlError {
    failure(
        MintErrorKind::Unreachable,
        "no credentials in time: a metadata service or STS does not answer; in a container on EC2 check the metadata \
         hop limit (2)"
            .to_owned(),
    )
}

pub(in crate::control) fn no_provider() -> ControlError {
    failure(MintErrorKind::NoCredentials, "the AWS chain has no credentials provider".to_owned())
}

/// Nobody in the chain had credentials: says who was asked and what each said.
fn nothing_found(chain: &ProviderChainError<CredentialsError>) -> ControlError {
    let mut message = "no AWS credentials found. Asked: ".to_owned();
    for (index, attempt) in chain.attempts().iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        let why = match safe(&reason(attempt.error())) {
            why if why.is_empty() => "nothing usable".to_owned(),
            why => why,
        };
        let _ = write!(message, "{separator}{} ({why})", chain_word(attempt.name()));
    }
    message.push_str(". Give this machine, container or pod a role, or set a profile; `wheelport check` says more");
    failure(MintErrorKind::NoCredentials, message)
}

fn assume_role(answer: &Answer) -> ControlError {
    let said = safe(&answer.message);
    let (kind, message) = match answer.code.as_str() {
        "AccessDenied" | "AccessDeniedException" => (
            MintErrorKind::Denied,
            format!(
                "AWS denies assuming the role: its trust policy has to name this principal, `external_id` has to \
                 agree, and a demand for MFA cannot be met here. AWS says: {said}"
            ),
        ),
        "InvalidIdentityToken" | "InvalidIdentityTokenException" => (
            MintErrorKind::NoCredentials,
            "AWS refused the web identity token: check the role's trust policy (issuer, audience, service account)"
                .to_owned(),
        ),
        "IDPCommunicationError" | "IDPCommunicationErrorException" => (
            MintErrorKind::Unreachable,
            "AWS could not reach the identity provider of the web identity token; it will be tried again".to_owned(),
        ),
        "Throttling" | "ThrottlingException" => (MintErrorKind::Throttled, "AWS throttles STS".to_owned()),
        _ => {
            return signing(answer).unwrap_or_else(|| {
                let kind = if answer.status >= 500 { MintErrorKind::Unreachable } else { MintErrorKind::NoCredentials };
                finish(kind, format!("assuming the role failed ({})", safe(&answer.code)), answer)
            });
        }
    };
    finish(kind, message, answer)
}

/// STS's answer, if this cause is one.
fn role_answer(cause: &(dyn Error + 'static)) -> Option<Answer> {
    fn read(error: &dyn ProvideErrorMetadata) -> Option<Answer> {
        let code = error.code()?.to_owned();
        Some(Answer { code, message: error.message().unwrap_or_default().to_owned(), ..Answer::default() })
    }
    if let Some(error) = cause.downcast_ref::<AssumeRoleError>() {
        return read(error);
    }
    read(cause.downcast_ref::<AssumeRoleWithWebIdentityError>()?)
}

/// The chain's last word about where credentials came from, for people.
pub(in crate::control) fn provider_name(features: &[AwsCredentialFeature]) -> String {
    use AwsCredentialFeature as F;
    let word = |feature: &F| {
        Some(match feature {
            F::CredentialsEnvVars => "environment variables",
            F::CredentialsEnvVarsStsWebIdToken => "web identity token of the environment",
            F::CredentialsStsAssumeRole => "assumed role",
            F::CredentialsStsAssumeRoleWebId => "role by web identity",
            F::CredentialsProfile => "profile",
            F::CredentialsProfileSourceProfile => "source profile",
            F::CredentialsProfileNamedProvider => "the profile's credential_source",
            F::CredentialsProfileStsWebIdToken => "the profile's web identity token",
            F::CredentialsProfileSso | F::CredentialsSso => "single sign-on",
            F::CredentialsProfileProcess | F::CredentialsProcess => "credential_process",
            F::CredentialsProfileLogin | F::CredentialsLogin => "console login",
            F::CredentialsHttp => "container credentials (ECS or EKS)",
            F::CredentialsImds => "EC2 instance metadata",
            F::CredentialsCode => "given keys",
            _ => return None,
        })
    };
    let mut words: Vec<&str> = features.iter().filter_map(word).collect();
    words.dedup();
    if words.is_empty() { "unknown provider".to_owned() } else { words.join(", then ") }
}

fn chain_word(name: &str) -> &str {
    match name {
        "Environment" => "environment variables",
        "Profile" => "profile files",
        "WebIdentityToken" => "web identity token",
        "EcsContainer" => "container credentials",
        "Ec2InstanceMetadata" => "EC2 instance metadata",
        other => other,
    }
}

/// The causes of a credentials error without its own general sentence.
fn reason(error: &CredentialsError) -> String {
    error.source().map(text_of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_roles_have_their_own_words() {
        for (code, kind) in [
            ("AccessDenied", MintErrorKind::Denied),
            ("InvalidIdentityToken", MintErrorKind::NoCredentials),
            ("ExpiredTokenException", MintErrorKind::NoCredentials),
            ("IDPCommunicationError", MintErrorKind::Unreachable),
            ("PackedPolicyTooLarge", MintErrorKind::NoCredentials),
        ] {
            assert_eq!(
                assume_role(&Answer { status: 400, code: code.to_owned(), ..Answer::default() }).kind,
                kind,
                "{code}"
            );
        }
    }
}

//! Missing credentials: which providers the chain tried, what each said, and what to do.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use aws_config::meta::ProviderChainError;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_codeartifact::error::ProvideErrorMetadata;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;

use super::causes::{causes, said, text_of};
use super::refusal::{ServiceError, signing};
use crate::control::error::ControlError;
use crate::token::MintErrorKind;

/// What an error of the credentials chain means.
pub(in crate::control) fn credentials(error: &CredentialsError) -> ControlError {
    if let Some(chain) = causes(error).find_map(|cause| cause.downcast_ref::<ProviderChainError<CredentialsError>>()) {
        return nothing_found(chain);
    }
    if let Some(error) = causes(error).find_map(sts_error) {
        return assume_role(&error);
    }
    if let Some(unreadable) = error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        return unreadable_file(unreadable);
    }
    let text = match said(&reason(error)) {
        text if text.is_empty() => "the profile has none that this program can use".to_owned(),
        text => text,
    };
    let text = text.trim_start_matches("ProfileFile provider could not be built: ").to_owned();
    let lower = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match error {
        CredentialsError::ProviderTimedOut(_) => too_slow(),
        CredentialsError::InvalidConfiguration(_) => {
            ControlError::new(MintErrorKind::NoCredentials, format!("the AWS configuration cannot be used: {text}"))
        }
        CredentialsError::CredentialsNotLoaded(_) => ControlError::new(
            MintErrorKind::NoCredentials,
            format!("no AWS credentials: {text}; `wheelport check` inspects the profile"),
        ),
        _ if says(&["imds is disabled"]) || says(&["imds"]) && says(&["forbidden"]) => ControlError::new(
            MintErrorKind::NoCredentials,
            "no AWS credentials found: nothing is configured, and the EC2 metadata service refuses to give any; give \
             this machine, container or pod a role, or set a profile",
        ),
        _ if says(&["sso", "token has expired", "cached token"]) => ControlError::new(
            MintErrorKind::NoCredentials,
            format!(
                "the single sign-on session is missing or has expired: run `aws sso login`, or use a role ({text})"
            ),
        ),
        _ if says(&["timed out", "timeout", "connect", "dispatch", "io error", "imds"]) => ControlError::new(
            MintErrorKind::Unreachable,
            format!(
                "the credentials provider could not be reached; in a container on EC2 check the metadata hop \
                     limit (2), or give the pod a role of its own ({text})"
            ),
        ),
        _ => ControlError::new(MintErrorKind::NoCredentials, format!("the credentials provider failed: {text}")),
    }
}

/// The SDK says why a file cannot be read, and not which one it is. Only that of a web identity token is read in this
/// way.
fn unreadable_file(error: &io::Error) -> ControlError {
    ControlError::new(
        MintErrorKind::NoCredentials,
        format!(
            "the web identity token, whose file AWS_WEB_IDENTITY_TOKEN_FILE or the profile names, cannot be read: {}",
            said(&error.to_string())
        ),
    )
}

pub(in crate::control) fn too_slow() -> ControlError {
    ControlError::new(
        MintErrorKind::Unreachable,
        "no credentials in time: a metadata service or STS does not respond; in a container on EC2 check the metadata \
         hop limit (2)",
    )
}

pub(in crate::control) fn no_provider() -> ControlError {
    ControlError::new(MintErrorKind::NoCredentials, "the AWS chain has no credentials provider")
}

/// No provider of the chain had credentials: names each one and what it said.
fn nothing_found(chain: &ProviderChainError<CredentialsError>) -> ControlError {
    let mut message = "no AWS credentials found. Asked: ".to_owned();
    for (index, attempt) in chain.attempts().iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        let why = match said(&reason(attempt.error())) {
            why if why.is_empty() => "nothing usable".to_owned(),
            why if why.contains("could not communicate with IMDS") => {
                format!("{why}; in a container on EC2 check the metadata hop limit (2)")
            }
            why => why,
        };
        let _ = write!(message, "{separator}{} ({why})", chain_word(attempt.name()));
    }
    message.push_str(". Give this machine, container or pod a role, or set a profile; `wheelport check` says more");
    ControlError::new(MintErrorKind::NoCredentials, message)
}

fn assume_role(error: &ServiceError) -> ControlError {
    let text = said(&error.message);
    let (kind, message) = match error.code.as_str() {
        "AccessDenied" | "AccessDeniedException" => (
            MintErrorKind::Denied,
            format!(
                "AWS denies assuming the role: its trust policy has to name this principal, `external_id` has to \
                 agree, and a demand for MFA cannot be met here. AWS says: {text}"
            ),
        ),
        "InvalidIdentityToken" | "InvalidIdentityTokenException" => (
            MintErrorKind::NoCredentials,
            "AWS refused the web identity token: check the role's trust policy (issuer, audience, service account)"
                .to_owned(),
        ),
        "IDPCommunicationError" | "IDPCommunicationErrorException" => (
            MintErrorKind::Unreachable,
            "AWS could not reach the identity provider of the web identity token; the proxy will try again".to_owned(),
        ),
        "Throttling" | "ThrottlingException" => (MintErrorKind::Throttled, "AWS throttles STS".to_owned()),
        _ => {
            return signing(error).unwrap_or_else(|| {
                let kind = if error.status >= 500 { MintErrorKind::Unreachable } else { MintErrorKind::NoCredentials };
                error.becomes(kind, format!("assuming the role failed ({})", said(&error.code)))
            });
        }
    };
    error.becomes(kind, message)
}

/// STS's refusal, if this cause is one.
fn sts_error(cause: &(dyn Error + 'static)) -> Option<ServiceError> {
    fn read(error: &dyn ProvideErrorMetadata) -> Option<ServiceError> {
        let code = error.code()?.to_owned();
        Some(ServiceError { code, message: error.message().unwrap_or_default().to_owned(), ..ServiceError::default() })
    }
    if let Some(error) = cause.downcast_ref::<AssumeRoleError>() {
        return read(error);
    }
    read(cause.downcast_ref::<AssumeRoleWithWebIdentityError>()?)
}

/// Where the chain found credentials, for people.
pub(in crate::control) fn provider_names(features: &[AwsCredentialFeature]) -> String {
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
                assume_role(&ServiceError { status: 400, code: code.to_owned(), ..ServiceError::default() }).kind,
                kind,
                "{code}"
            );
        }
    }
}

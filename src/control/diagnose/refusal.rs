//! What the refusals of AWS's services mean.

use std::time::Duration;

use super::causes::said;
use crate::control::error::{Call, ControlError};
use crate::token::MintErrorKind;

/// What a service said, apart from the SDK's types.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceError {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

impl ServiceError {
    /// With the time that the service asked us to wait.
    pub(super) fn becomes(&self, kind: MintErrorKind, message: impl Into<String>) -> ControlError {
        ControlError { retry_after: self.retry_after, ..ControlError::new(kind, message) }
    }
}

/// What the refusal of a call means.
pub(super) fn refused(error: &ServiceError, call: Call, subject: &str) -> ControlError {
    let code = error.code.as_str();
    let said = said(&error.message);
    let (kind, message) = match code {
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "NotAuthorized" => {
            (MintErrorKind::Denied, denied(&error.message, call, subject))
        }
        "ResourceNotFoundException" => (
            MintErrorKind::NotFound,
            format!(
                "AWS knows no {subject} ({said}); check the spelling, the region, and `domain_owner` if the domain \
                 belongs to another account"
            ),
        ),
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            (MintErrorKind::Throttled, format!("AWS throttles {call}: too many calls in this account and region"))
        }
        "ValidationException" => {
            (MintErrorKind::Other, format!("AWS refused the parameters of {call} for {subject}: {said}"))
        }
        _ => return signing(error).unwrap_or_else(|| unexpected(error, call)),
    };
    error.becomes(kind, message)
}

/// Refusals that concern keys and signatures, whose text is never passed on.
pub(super) fn signing(error: &ServiceError) -> Option<ControlError> {
    let expired_signature = ["Signature expired", "Signature not yet current"];
    let of_time = expired_signature.iter().any(|words| error.message.contains(words));
    let (kind, message) = match error.code.as_str() {
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => (MintErrorKind::ClockSkew, CLOCK),
        "InvalidSignatureException" | "SignatureDoesNotMatch" if of_time => (MintErrorKind::ClockSkew, CLOCK),
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignature" => (
            MintErrorKind::NoCredentials,
            "AWS says the signature is wrong: the secret access key does not belong to the access key, or a gateway \
             changed the request",
        ),
        "ExpiredTokenException" | "ExpiredToken" => (
            MintErrorKind::NoCredentials,
            "the AWS session credentials have expired: renew them (`aws sso login`, the MFA helper, or the tool that \
             wrote them), or use a role that renews itself",
        ),
        "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidAccessKeyId" | "AuthFailure" => (
            MintErrorKind::NoCredentials,
            "AWS does not know the access key: it was deleted or deactivated, its session token is missing or wrong, \
             or it belongs to another partition",
        ),
        _ => return None,
    };
    Some(error.becomes(kind, message))
}

const CLOCK: &str = "this machine's clock is too far from AWS's for signatures: set it right, for example with NTP";

fn unexpected(error: &ServiceError, call: Call) -> ControlError {
    let code = if error.code.is_empty() { "no error code" } else { &error.code };
    let (kind, message) = match error.status {
        429 => (MintErrorKind::Throttled, format!("AWS throttles {call}")),
        500.. => (
            MintErrorKind::Unreachable,
            format!("AWS responded to {call} with {} ({}); the proxy will try again", error.status, said(code)),
        ),
        status => (MintErrorKind::Other, format!("AWS refused {call} with {status} ({})", said(code))),
    };
    error.becomes(kind, message)
}

fn denied(message: &str, call: Call, subject: &str) -> String {
    let remedy = if message.contains("sts:GetServiceBearerToken") {
        "allow `sts:GetServiceBearerToken` on resource `*` in an identity policy of this principal (a domain policy \
         cannot grant it), best with the condition `sts:AWSServiceName` = `codeartifact.amazonaws.com`"
            .to_owned()
    } else if message.contains("sts:AssumeRole") {
        "let the role's trust policy name this principal, and check `external_id`".to_owned()
    } else if message.contains(call.action()) {
        let resource = match call {
            Call::GetAuthorizationToken => "the domain's ARN (`arn:aws:codeartifact:REGION:ACCOUNT:domain/DOMAIN`)",
            Call::DescribePackage | Call::ListPackageVersions | Call::DescribePackageVersion => {
                "the ARNs of packages (`arn:aws:codeartifact:REGION:ACCOUNT:package/DOMAIN/REPOSITORY/pypi//*`)"
            }
            Call::GetRepositoryEndpoint | Call::ListPackages | Call::DescribeRepository => {
                "the repository's ARN (`arn:aws:codeartifact:REGION:ACCOUNT:repository/DOMAIN/REPOSITORY`)"
            }
            Call::GetCallerIdentity => "`*`",
        };
        format!(
            "allow `{call}` on {resource}; if another account owns the domain, its domain policy has to allow it too"
        )
    } else {
        format!("check that `{call}` and `sts:GetServiceBearerToken` are allowed, and that no policy denies them")
    };
    let said = said(message);
    if said.is_empty() {
        format!("AWS denies {call} for {subject}; {remedy}")
    } else {
        format!("AWS denies {call} for {subject}; {remedy}. AWS says: {said}")
    }
}

/// A `Retry-After` in seconds, the only form AWS uses.
pub(super) fn seconds(raw: &str) -> Option<Duration> {
    raw.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service_error(status: u16, code: &str, message: &str) -> ServiceError {
        ServiceError { status, code: code.to_owned(), message: message.to_owned(), retry_after: None }
    }

    #[test]
    fn every_refusal_has_its_class_and_its_remedy() {
        let user = "User: arn:aws:sts::111122223333:assumed-role/ci/x is not authorized to perform:";
        let kinds = [
            (
                403,
                "AccessDeniedException",
                format!("{user} sts:GetServiceBearerToken on resource: *"),
                MintErrorKind::Denied,
                "a domain policy cannot grant it",
            ),
            (
                403,
                "AccessDeniedException",
                format!("{user} codeartifact:GetAuthorizationToken on resource: d"),
                MintErrorKind::Denied,
                "on the domain's ARN",
            ),
            (403, "AccessDeniedException", String::new(), MintErrorKind::Denied, "no policy denies"),
            (404, "ResourceNotFoundException", "Domain not found".to_owned(), MintErrorKind::NotFound, "domain_owner"),
            (429, "ThrottlingException", String::new(), MintErrorKind::Throttled, "too many calls"),
            (400, "ValidationException", "duration".to_owned(), MintErrorKind::Other, "duration"),
            (403, "UnrecognizedClientException", String::new(), MintErrorKind::NoCredentials, "access key"),
            (
                403,
                "InvalidSignatureException",
                "canonical string".to_owned(),
                MintErrorKind::NoCredentials,
                "secret access key",
            ),
            (403, "InvalidSignatureException", "Signature expired: 2026".to_owned(), MintErrorKind::ClockSkew, "clock"),
            (403, "RequestTimeTooSkewed", String::new(), MintErrorKind::ClockSkew, "NTP"),
            (403, "ExpiredTokenException", String::new(), MintErrorKind::NoCredentials, "expired"),
            (503, "", String::new(), MintErrorKind::Unreachable, "503"),
            (429, "", String::new(), MintErrorKind::Throttled, "throttles"),
            (418, "Teapot", String::new(), MintErrorKind::Other, "Teapot"),
        ];
        for (status, code, message, kind, words) in kinds {
            let error = refused(&service_error(status, code, &message), Call::GetAuthorizationToken, "domain acme");
            assert_eq!(error.kind, kind, "{code} {message}");
            assert!(error.message.contains(words), "{}", error.message);
        }
    }

    #[test]
    fn the_text_about_a_wrong_signature_is_never_passed_on() {
        let said = "The Canonical String should have been POST x-amz-security-token:canary";
        let error = refused(&service_error(403, "SignatureDoesNotMatch", said), Call::ListPackages, "repository r");
        assert!(!error.message.contains("canary"), "{}", error.message);
    }
}

//! From the SDK's errors to a class and a sentence that says what to do.
//!
//! AWS's own words are passed on only for refusals, missing things and bad parameters: the text about a wrong
//! signature repeats request headers, credentials among them. Everything passed on goes through [`safe`].

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_codeartifact::error::{ProvideErrorMetadata, SdkError};

use super::skew::SKEW_ALARM;
use super::{Call, ControlError};
use crate::token::MintErrorKind;

mod credentials;

pub(super) use credentials::{credentials, no_provider, provider_name, too_slow};

const LONGEST_TEXT: usize = 400;
const LONGEST_WORD: usize = 40;

/// What a service said, apart from the SDK's types.
#[derive(Debug, Clone, Default)]
struct Answer {
    status: u16,
    code: String,
    message: String,
    retry_after: Option<Duration>,
}

/// A failed call.
pub(super) fn sdk<E>(error: &SdkError<E>, call: Call, subject: &str, skew: Option<i64>) -> ControlError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()) {
        return with_skew(credentials(error), skew);
    }
    match error {
        SdkError::ServiceError(context) => {
            let raw = context.raw();
            let answer = Answer {
                status: raw.status().as_u16(),
                code: context.err().code().unwrap_or_default().to_owned(),
                message: context.err().message().unwrap_or_default().to_owned(),
                retry_after: raw.headers().get("retry-after").and_then(seconds),
            };
            with_skew(refused(&answer, call, subject), skew)
        }
        SdkError::ResponseError(_) => failure(
            MintErrorKind::Other,
            format!("the answer to {call} could not be read; is something between here and AWS changing it?"),
        ),
        _ => unreachable_endpoint(error, call),
    }
}

fn unreachable_endpoint(error: &(dyn Error + 'static), call: Call) -> ControlError {
    let text = text_of(error).to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["missing region", "region must be set", "invalid configuration: missing region"]) {
        return failure(
            MintErrorKind::NoCredentials,
            "no AWS region is known: set `region` in the configuration, `--region` or AWS_REGION".to_owned(),
        );
    }
    let (why, remedy) = if says(&["certificate", "unknownissuer", "tls"]) {
        ("the TLS certificate was not accepted", "install the certificate authority of an intercepting gateway here")
    } else if says(&["dns", "lookup", "resolve"]) && !says(&["identity resolver"]) {
        ("the host name could not be resolved", "check the region's spelling, DNS, and private DNS of VPC endpoints")
    } else if says(&["refused"]) {
        ("the connection was refused", "check AWS_ENDPOINT_URL settings and firewalls")
    } else if says(&["identity resolver"]) {
        ("the credentials provider did not answer in time", "check the metadata service, hop limit included")
    } else if says(&["timeout", "timed out", "time out"]) {
        ("no answer came in time", "check routes, security groups and VPC endpoints")
    } else {
        ("no answer came", "check the network between here and AWS")
    };
    failure(MintErrorKind::Unreachable, format!("{call} did not reach AWS: {why}; {remedy}"))
}

/// What an error answer of a service means.
fn refused(answer: &Answer, call: Call, subject: &str) -> ControlError {
    let code = answer.code.as_str();
    let said = safe(&answer.message);
    let (kind, message) = match code {
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "NotAuthorized" => {
            (MintErrorKind::Denied, denied(&answer.message, call, subject))
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
        _ => return signing(answer).unwrap_or_else(|| unexpected(answer, call)),
    };
    finish(kind, message, answer)
}

/// Refusals that concern keys and signatures, whose text is never passed on.
fn signing(answer: &Answer) -> Option<ControlError> {
    let expired_signature = ["Signature expired", "Signature not yet current"];
    let of_time = expired_signature.iter().any(|words| answer.message.contains(words));
    let (kind, message) = match answer.code.as_str() {
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => (MintErrorKind::ClockSkew, CLOCK),
        "InvalidSignatureException" | "SignatureDoesNotMatch" if of_time => (MintErrorKind::ClockSkew, CLOCK),
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignature" => (
            MintErrorKind::NoCredentials,
            "AWS says the signature is wrong: the secret access key does not belong to the access key, or a gateway \
             changed the request",
        ),
        "ExpiredTokenException" | "ExpiredToken" => (
            MintErrorKind::NoCredentials,
            "the AWS session credentials have expired: renew them (`aws sso login`, the MFA helper, or whatever wrote \
             them), or use a role that renews itself",
        ),
        "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidAccessKeyId" | "AuthFailure" => (
            MintErrorKind::NoCredentials,
            "AWS does not know the access key: it was deleted or deactivated, its session token is missing or wrong, \
             or it belongs to another partition",
        ),
        _ => return None,
    };
    Some(finish(kind, message.to_owned(), answer))
}

const CLOCK: &str = "this machine's clock is too far from AWS's for signatures: set it right, for example with NTP";

fn unexpected(answer: &Answer, call: Call) -> ControlError {
    let code = if answer.code.is_empty() { "no error code" } else { &answer.code };
    let (kind, message) = match answer.status {
        429 => (MintErrorKind::Throttled, format!("AWS throttles {call}")),
        500.. => (
            MintErrorKind::Unreachable,
            format!("AWS answered {call} with {} ({}); it will be tried again", answer.status, safe(code)),
        ),
        status => (MintErrorKind::Other, format!("AWS refused {call} with {status} ({})", safe(code))),
    };
    finish(kind, message, answer)
}

fn denied(said: &str, call: Call, subject: &str) -> String {
    let remedy = if said.contains("sts:GetServiceBearerToken") {
        "allow `sts:GetServiceBearerToken` on resource `*` in an identity policy of this principal (a domain policy \
         cannot grant it), best with the condition `sts:AWSServiceName` = `codeartifact.amazonaws.com`"
            .to_owned()
    } else if said.contains("sts:AssumeRole") {
        "let the role's trust policy name this principal, and check `external_id`".to_owned()
    } else if said.contains(call.action()) {
        let resource = match call {
            Call::GetAuthorizationToken => "the domain's ARN (`arn:aws:codeartifact:REGION:ACCOUNT:domain/DOMAIN`)",
            Call::GetRepositoryEndpoint | Call::ListPackages => {
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
    let said = safe(said);
    if said.is_empty() {
        format!("AWS denies {call} for {subject}; {remedy}")
    } else {
        format!("AWS denies {call} for {subject}; {remedy}. AWS says: {said}")
    }
}

fn failure(kind: MintErrorKind, message: String) -> ControlError {
    ControlError { kind, message, code: None, retry_after: None }
}

fn finish(kind: MintErrorKind, message: String, answer: &Answer) -> ControlError {
    let code = (!answer.code.is_empty()).then(|| safe(&answer.code));
    ControlError { kind, message, code, retry_after: answer.retry_after }
}

/// A refusal that comes with a wrong clock is probably about the clock.
fn with_skew(mut error: ControlError, skew: Option<i64>) -> ControlError {
    if let Some(seconds) = skew.filter(|seconds| seconds.unsigned_abs() > SKEW_ALARM) {
        let direction = if seconds > 0 { "ahead of" } else { "behind" };
        let _ = write!(error.message, " (this machine's clock is {} s {direction} AWS's)", seconds.unsigned_abs());
    }
    error
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn text_of(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn seconds(raw: &str) -> Option<Duration> {
    raw.trim().parse().ok().map(Duration::from_secs)
}

/// One line of bounded length without anything that looks like a key or a token.
pub(super) fn safe(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        for (index, part) in word.split([':', '"', '\'', ',']).enumerate() {
            if index > 0 {
                line.push(':');
            }
            line.push_str(if looks_secret(part) { "[hidden]" } else { part });
        }
        if line.len() > LONGEST_TEXT {
            let end = line.floor_char_boundary(LONGEST_TEXT);
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line.retain(|letter| !letter.is_control());
    line
}

fn looks_secret(word: &str) -> bool {
    let key_id = word.len() >= 16
        && ["AKIA", "ASIA"].iter().any(|prefix| word.starts_with(prefix))
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let random = word.len() >= LONGEST_WORD
        && !word.contains("role/")
        && word.bytes().any(|byte| byte.is_ascii_uppercase())
        && word.bytes().any(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_.-".contains(&byte));
    key_id || random
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str, message: &str) -> Answer {
        Answer { status, code: code.to_owned(), message: message.to_owned(), retry_after: None }
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
            let error = refused(&answer(status, code, &message), Call::GetAuthorizationToken, "domain acme");
            assert_eq!(error.kind, kind, "{code} {message}");
            assert!(error.message.contains(words), "{}", error.message);
        }
    }

    #[test]
    fn the_text_about_a_wrong_signature_is_never_passed_on() {
        let said = "The Canonical String should have been POST x-amz-security-token:canary";
        let error = refused(&answer(403, "SignatureDoesNotMatch", said), Call::ListPackages, "repository r");
        assert!(!error.message.contains("canary"), "{}", error.message);
    }

    #[test]
    fn a_wrong_clock_is_named() {
        let error = refused(&answer(403, "AccessDeniedException", ""), Call::GetAuthorizationToken, "domain acme");
        assert_eq!(with_skew(error.clone(), Some(59)), error);
        let behind = with_skew(error, Some(-3_600)).message;
        assert!(behind.contains("3600 s behind"), "{behind}");
    }

    #[test]
    fn what_looks_like_a_secret_is_hidden() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEYx";
        let text = safe(&format!("failed\nwith AKIAIOSFODNN7EXAMPLE and key=:{secret} \"token\":\"{secret}\""));
        assert!(!text.contains("AKIA") && !text.contains("wJalr") && !text.contains('\n'), "{text}");
        let arn = "arn:aws:sts::111122223333:assumed-role/Some-Quite-Long-Role-Name-Of-A-Team/session";
        assert!(safe(arn).contains("assumed-role"), "{}", safe(arn));
        assert!(safe(&"word ".repeat(1_000)).len() < 500);
    }
}

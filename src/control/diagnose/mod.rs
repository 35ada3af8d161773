//! From the SDK's errors to a class and a sentence that says what to do.
//!
//! AWS's own words are passed on only for refusals, missing things and bad parameters: the text about a wrong
//! signature repeats request headers, credentials among them. Everything passed on goes through `said`.

use std::error::Error;
use std::fmt::Write as _;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_codeartifact::error::{ProvideErrorMetadata, SdkError};

use super::error::{Call, ControlError};
use super::skew::SKEW_ALARM;
use crate::token::MintErrorKind;

mod causes;
mod credentials;
mod network;
mod refusal;

use causes::causes;
pub(super) use credentials::{credentials, no_provider, provider_names, too_slow};
use refusal::ServiceError;

/// The error of a failed call.
pub(super) fn failed_call<E>(error: &SdkError<E>, call: Call, subject: &str, skew: Option<i64>) -> ControlError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()) {
        return with_skew(credentials(error), skew);
    }
    match error {
        SdkError::ServiceError(context) => {
            let raw = context.raw();
            let refusal = ServiceError {
                status: raw.status().as_u16(),
                code: context.err().code().unwrap_or_default().to_owned(),
                message: context.err().message().unwrap_or_default().to_owned(),
                retry_after: raw.headers().get("retry-after").and_then(refusal::seconds),
            };
            with_skew(refusal::refused(&refusal, call, subject), skew)
        }
        SdkError::ResponseError(_) => ControlError::new(
            MintErrorKind::Other,
            format!("the response to {call} could not be read; is something between here and AWS changing it?"),
        ),
        _ => network::unreachable(error, call),
    }
}

/// A refusal that comes with a wrong clock is probably about the clock.
fn with_skew(mut error: ControlError, skew: Option<i64>) -> ControlError {
    if let Some(seconds) = skew.filter(|seconds| seconds.unsigned_abs() > SKEW_ALARM) {
        let direction = if seconds > 0 { "ahead of" } else { "behind" };
        let _ = write!(error.message, " (this machine's clock is {} s {direction} AWS's)", seconds.unsigned_abs());
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_named() {
        let error = ControlError::new(MintErrorKind::Denied, "AWS denies it");
        assert_eq!(with_skew(error.clone(), Some(59)), error);
        let behind = with_skew(error, Some(-3_600)).message;
        assert!(behind.contains("3600 s behind"), "{behind}");
    }
}

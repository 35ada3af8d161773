//! Calls that did not reach AWS.

use std::error::Error;

use super::causes::text_of;
use crate::control::error::{Call, ControlError};
use crate::token::MintErrorKind;

/// The SDK has no types for these, so its words decide.
pub(super) fn unreachable(error: &(dyn Error + 'static), call: Call) -> ControlError {
    let text = text_of(error).to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["missing region", "region must be set", "invalid configuration: missing region"]) {
        return ControlError::new(
            MintErrorKind::NoCredentials,
            "no AWS region is known: set `region` in the configuration, `--region` or AWS_REGION",
        );
    }
    let (why, remedy) = if says(&["certificate", "unknownissuer", "tls"]) {
        ("the TLS certificate was not accepted", "install the certificate authority of an intercepting gateway here")
    } else if says(&["dns", "lookup", "resolve"]) && !says(&["identity resolver"]) {
        ("the host name could not be resolved", "check the region's spelling, DNS, and private DNS of VPC endpoints")
    } else if says(&["refused"]) {
        ("the connection was refused", "check AWS_ENDPOINT_URL settings and firewalls")
    } else if says(&["identity resolver"]) {
        ("the credentials provider did not respond in time", "check the metadata service, hop limit included")
    } else if says(&["timeout", "timed out", "time out"]) {
        ("no response came in time", "check routes, security groups and VPC endpoints")
    } else {
        ("no response came", "check the network between here and AWS")
    };
    ControlError::new(MintErrorKind::Unreachable, format!("{call} did not reach AWS: {why}; {remedy}"))
}

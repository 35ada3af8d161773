//! The control plane of CodeArtifact: tokens, repository endpoints and package lists, over the AWS SDK.
//!
//! The only user of the SDK outside the doctor's own look at it. Whatever goes wrong becomes a [`ControlError`]:
//! a class and one sentence that says what to do, without secrets and without the SDK's own dumps.

use std::fmt;
use std::time::Duration;

mod connect;
mod diagnose;
mod endpoint;
mod packages;
mod settings;
mod skew;
mod source;
#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;

pub use connect::{CallerIdentity, ControlPlane, CredentialsFound};
pub use packages::MAX_PACKAGES;
pub use settings::{
    AccountId, AwsSettings, DomainId, DomainName, EmulatorAccess, InvalidSetting, RegionName, RepositoryName, RoleArn,
    TokenLifetime,
};
pub use skew::{SKEW_ALARM, SKEW_WARNING};

use crate::token::{MintError, MintErrorKind};

/// A call that failed; safe to log and to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// The class, shared with mints.
    pub kind: MintErrorKind,
    /// One sentence or two: what happened and what to do.
    pub message: String,
    /// AWS's name of the error, where AWS answered at all.
    pub code: Option<String>,
    /// How long AWS asked us to wait.
    pub retry_after: Option<Duration>,
}

impl From<ControlError> for MintError {
    fn from(error: ControlError) -> Self {
        Self { kind: error.kind, message: error.message, retry_after: error.retry_after }
    }
}

/// The calls this program makes, named as IAM names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    GetAuthorizationToken,
    GetRepositoryEndpoint,
    ListPackages,
    GetCallerIdentity,
}

impl Call {
    /// The IAM action.
    fn action(self) -> &'static str {
        match self {
            Self::GetAuthorizationToken => "codeartifact:GetAuthorizationToken",
            Self::GetRepositoryEndpoint => "codeartifact:GetRepositoryEndpoint",
            Self::ListPackages => "codeartifact:ListPackages",
            Self::GetCallerIdentity => "sts:GetCallerIdentity",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action())
    }
}

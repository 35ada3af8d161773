//! The error of a failed call, and the calls that this program makes.

use std::fmt;
use std::time::Duration;

use crate::token::{MintError, MintErrorKind};

/// A call that failed; safe to log and to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ControlError {
    /// The class, shared with mints.
    pub(crate) kind: MintErrorKind,
    /// One sentence or two: what happened and what to do.
    pub(crate) message: String,
    /// How long AWS asked us to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl ControlError {
    pub(super) fn new(kind: MintErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

impl From<ControlError> for MintError {
    fn from(error: ControlError) -> Self {
        Self { kind: error.kind, message: error.message, retry_after: error.retry_after }
    }
}

/// The calls this program makes, named as IAM names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    GetAuthorizationToken,
    GetRepositoryEndpoint,
    ListPackages,
    DescribePackage,
    ListPackageVersions,
    DescribePackageVersion,
    DescribeRepository,
    GetCallerIdentity,
}

impl Call {
    /// The IAM action.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::GetAuthorizationToken => "codeartifact:GetAuthorizationToken",
            Self::GetRepositoryEndpoint => "codeartifact:GetRepositoryEndpoint",
            Self::ListPackages => "codeartifact:ListPackages",
            Self::DescribePackage => "codeartifact:DescribePackage",
            Self::ListPackageVersions => "codeartifact:ListPackageVersions",
            Self::DescribePackageVersion => "codeartifact:DescribePackageVersion",
            Self::DescribeRepository => "codeartifact:DescribeRepository",
            Self::GetCallerIdentity => "sts:GetCallerIdentity",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action())
    }
}

//! The control plane of CodeArtifact: tokens, repositories, their endpoints and package lists, over the AWS SDK.
//!
//! The only user of the SDK. Whatever goes wrong becomes a `ControlError`: a class and one sentence that says what
//! to do, without secrets and without the SDK's own dumps.

mod connect;
mod diagnose;
mod endpoint;
mod error;
mod packages;
mod repository;
mod settings;
mod skew;
mod source;
#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;

pub(crate) use connect::ControlPlane;
pub(crate) use error::ControlError;
pub(crate) use packages::PackageOrigins;
pub(crate) use repository::DescribedRepository;
pub(crate) use settings::DomainId;
pub use settings::{
    AccountId, AwsSettings, DomainName, EmulatorAccess, InvalidSetting, RegionName, RepositoryName, RoleArn,
    TokenLifetime,
};
pub(crate) use skew::{SKEW_ALARM, SKEW_WARNING};

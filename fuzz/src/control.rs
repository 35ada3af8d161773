//! The settings of AWS, for the configuration.

#[path = "../../src/control/settings.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is compiled in is more than what is fuzzed")]
mod settings;

pub(crate) use settings::{AccountId, AwsSettings, DomainName, EmulatorAccess, RegionName, RepositoryName, RoleArn};

//! The configuration file as a person writes it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use url::Url;

use super::error::ConfigError;
use super::settings::ServerSettings;
use crate::cache::CacheSettings;
use crate::control::{AccountId, AwsSettings, DomainName, RegionName, RepositoryName, RoleArn};
use crate::flow::UploadSettings;
use crate::upstream::ClientSettings;
use crate::web::PublisherTable;
use crate::web::UploadPolicy;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigurationFile {
    #[serde(deserialize_with = "one_or_many")]
    pub(super) listen: Vec<SocketAddr>,
    pub(super) ops_listen: Option<SocketAddr>,
    pub(super) aws: AwsSettings,
    pub(super) route: Vec<RouteTable>,
    pub(super) cache: CacheSettings,
    pub(super) server: ServerSettings,
    pub(super) upstream: ClientSettings,
    pub(super) upload: UploadSettings,
    pub(super) publisher: Vec<PublisherTable>,
}

/// A `[[route]]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RouteTable {
    pub(super) name: Option<String>,
    pub(super) domain: Option<DomainName>,
    pub(super) domain_owner: Option<AccountId>,
    pub(super) repository: Option<RepositoryName>,
    pub(super) endpoint: Option<Url>,
    pub(super) default: bool,
    pub(super) upload: UploadPolicy,
    pub(super) profile: Option<String>,
    pub(super) region: Option<RegionName>,
    pub(super) role_arn: Option<RoleArn>,
    pub(super) external_id: Option<String>,
    pub(super) publish_role_arn: Option<RoleArn>,
}

pub(super) fn read(path: &Path) -> Result<ConfigurationFile, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| ConfigError::Malformed { path: path.to_owned(), source: Box::new(source) })
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an address such as \"127.0.0.1:8080\", or a list of addresses")]
    enum OneOrMany {
        One(SocketAddr),
        Many(Vec<SocketAddr>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(address) => vec![address],
        OneOrMany::Many(addresses) => addresses,
    })
}

//! The configuration file as a person writes it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::error::ConfigError;
use super::settings::ServerSettings;
use crate::advisories::AdvisorySettings;
use crate::cache::CacheSettings;
use crate::control::{AccountId, AwsSettings, DomainName, RegionName, RepositoryName, RoleArn};
use crate::fleet::FleetSettings;
use crate::flow::{ChangedFilePolicy, UploadSettings};
use crate::identity::{
    IdentityRules, IdentityTable, IdentityTables, IssuerTable, KeySet, PublisherTable, SecretDigest, SigningKeys,
    TokenTable,
};
use crate::notify::NotifyTable;
use crate::policy::PolicyTable;
use crate::upstream::ClientSettings;
use crate::usage::UsageSettings;
use crate::web::{Prices, ReadPolicy, SiteSettings, UploadPolicy};
use wheelport_runtime::{one_or_many, sabotaged};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigurationFile {
    #[serde(deserialize_with = "addresses")]
    pub(super) listen: Vec<SocketAddr>,
    pub(super) ops_listen: Option<SocketAddr>,
    pub(super) ops_secret_file: Option<PathBuf>,
    pub(super) metrics_secret_file: Option<PathBuf>,
    pub(super) aws: AwsSettings,
    pub(super) route: Vec<RouteTable>,
    pub(super) cache: CacheSettings,
    pub(super) server: ServerSettings,
    pub(super) site: SiteSettings,
    pub(super) upstream: ClientSettings,
    pub(super) upload: UploadSettings,
    pub(super) fleet: FleetSettings,
    pub(super) prices: Prices,
    pub(super) usage: UsageSettings,
    pub(super) publisher: Vec<PublisherTable>,
    pub(super) notify: NotifyTable,
    pub(super) policy: PolicyTable,
    pub(super) advisories: AdvisorySettings,
    // The rules are read with the other files of rules, so that they can be read again.
    pub(super) rule: Vec<IgnoredAny>,
    pub(super) exception: Vec<IgnoredAny>,
    pub(super) freeze: Vec<IgnoredAny>,
    pub(super) issuer: Vec<IssuerTable>,
    pub(super) identity: Vec<IdentityTable>,
    pub(super) tokens: TokenTable,
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
    pub(super) read: ReadPolicy,
    pub(super) changed_files: ChangedFilePolicy,
    pub(super) profile: Option<String>,
    pub(super) region: Option<RegionName>,
    pub(super) role_arn: Option<RoleArn>,
    pub(super) external_id: Option<String>,
    pub(super) publish_role_arn: Option<RoleArn>,
}

pub(super) fn read(path: &Path) -> Result<ConfigurationFile, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| ConfigError::Malformed { path: path.to_owned(), place: place(&error, &text) })
}

/// A secret that a file holds.
pub(super) fn secret(path: Option<&Path>) -> Result<Option<SecretDigest>, ConfigError> {
    let Some(path) = path else { return Ok(None) };
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    match SecretDigest::of(&text) {
        Some(secret) => Ok(Some(secret)),
        None => Err(ConfigError::Inconsistent(format!("{} holds no secret", path.display()))),
    }
}

/// The keys that sign minted tokens.
pub(super) fn signing_keys(tokens: &TokenTable) -> Result<SigningKeys, ConfigError> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })
    };
    let texts = tokens.key_file.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    SigningKeys::new(&texts).map_err(ConfigError::Inconsistent)
}

/// Who is known. Files of keys have to be usable now; later on the last good ones are kept.
pub(super) fn identities(
    issuers: Vec<IssuerTable>,
    identities: Vec<IdentityTable>,
    publishers: Vec<PublisherTable>,
) -> Result<IdentityRules, ConfigError> {
    let rules = IdentityRules::new(IdentityTables { issuers, identities, publishers });
    let rules = rules.map_err(ConfigError::Inconsistent)?;
    for issuer in rules.issuers() {
        let Some(path) = issuer.keys_file() else { continue };
        let bytes = fs::read(path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
        if let Err(invalid) = KeySet::parse(&bytes) {
            let text = format!("[[issuer]] `{}`: {} cannot be used: {invalid}", issuer.name(), path.display());
            return Err(ConfigError::Inconsistent(text));
        }
    }
    Ok(rules)
}

/// What is wrong and where. The parser would show the whole line, and with it a password; only its key is shown here,
/// and of what is wrong as much as holds no value.
fn place(error: &toml::de::Error, text: &str) -> String {
    let Some(span) = error.span() else { return without_value(error.message()) };
    let before = text.get(..span.start).unwrap_or_default();
    let (line, begins) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |end| end + 1));
    let key = text[begins..].lines().next().and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let key =
        key.filter(|key| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')));
    match key {
        Some(key)
            if may_be_secret(key) && !sabotaged("secret-value") && !error.message().starts_with("unknown field") =>
        {
            format!("line {line}: `{key}` cannot be used (its value is not shown, because it may be secret)")
        }
        Some(key) => format!("line {line}, `{key}`: {}", without_value(error.message())),
        None => format!("line {line}: {}", without_value(error.message())),
    }
}

fn may_be_secret(key: &str) -> bool {
    ["proxy", "redis", "external_id", "token_sha256"].contains(&key)
        || ["secret", "password", "credential"].iter().any(|part| key.contains(part))
}

/// `invalid type: string "…", expected a size` and `not a URL: "…"` without the value.
fn without_value(message: &str) -> String {
    if sabotaged("secret-value") {
        return message.to_owned();
    }
    let kind = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((value, expected)) = kind.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return message.split_once(": \"").map_or(message, |(what, _)| what).to_owned();
    };
    format!("expected {expected}, not a value of type {}", value.split([' ', '`', '"']).next().unwrap_or_default())
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    one_or_many(deserializer, "an address such as \"127.0.0.1:8080\", or a list of addresses")
}

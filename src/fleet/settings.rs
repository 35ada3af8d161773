//! The `[fleet]` table. Every bound of this room has its name here.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

use wheelport_runtime::HumanDuration;

/// What replicas share, and how to reach it. Without any of it a process is alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FleetSettings {
    /// The bucket, and the prefix below which the fleet's objects lie.
    pub store: Option<StoreLocation>,
    /// Where an S3-compatible store is that is not AWS's.
    pub store_endpoint: Option<Url>,
    /// The region of the bucket; that of the AWS chain when absent.
    pub store_region: Option<String>,
    /// The KMS key that encrypts what is written; the bucket's own default when absent.
    pub store_kms_key: Option<String>,
    /// Whether the bucket stands in the path of addresses; so it does where `store_endpoint` is set.
    pub store_path_style: Option<bool>,
    /// A role to assume for the store, with the credentials of the process.
    pub store_role_arn: Option<String>,
    /// How long a request to the store may take to its response headers; three longer ones open its breaker.
    pub store_timeout: HumanDuration,
    /// Redis or Valkey, for hints.
    pub redis: Option<RedisAddress>,
    /// How long a command to Redis may take; three longer ones open its breaker.
    pub redis_timeout: HumanDuration,
    /// The SQS queue of CodeArtifact's events.
    pub events: Option<Url>,
    /// Whether no other replica reads that queue.
    pub events_own: bool,
    /// How many replicas there are; only for the share of the request rate while Redis is away.
    pub replicas: Option<NonZeroU32>,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            store: None,
            store_endpoint: None,
            store_region: None,
            store_kms_key: None,
            store_path_style: None,
            store_role_arn: None,
            store_timeout: HumanDuration::millis(300),
            redis: None,
            redis_timeout: HumanDuration::millis(300),
            events: None,
            events_own: false,
            replicas: None,
        }
    }
}

/// `s3://BUCKET` or `s3://BUCKET/PREFIX`; the prefix has no slash at its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreLocation {
    pub bucket: String,
    pub prefix: String,
}

/// A string that is no place in an object store.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a bucket; write `s3://BUCKET` or `s3://BUCKET/PREFIX`")]
pub struct InvalidStore;

impl FromStr for StoreLocation {
    type Err = InvalidStore;

    fn from_str(text: &str) -> Result<Self, InvalidStore> {
        let rest = text.strip_prefix("s3://").ok_or(InvalidStore)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte));
        let is_prefix = prefix.len() <= 512
            && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte))
            && !prefix.split('/').any(|part| (part.is_empty() && !prefix.is_empty()) || matches!(part, "." | ".."));
        if is_bucket && is_prefix {
            Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        } else {
            Err(InvalidStore)
        }
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{}{slash}{}", self.bucket, self.prefix)
    }
}

impl<'de> Deserialize<'de> for StoreLocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `redis://HOST:PORT/DB`, or `rediss://` with TLS; it may hold a user and a password, which are never shown.
#[derive(Clone)]
pub struct RedisAddress(SecretString);

/// A string that is no address of a Redis server. It does not repeat the string, which may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a Redis server; write `redis://HOST:6379` or, with TLS, `rediss://HOST:6379`")]
pub struct InvalidRedis;

impl RedisAddress {
    /// Whether the connection is not encrypted.
    pub(crate) fn is_plain(&self) -> bool {
        self.expose().starts_with("redis:")
    }

    /// Whether the address holds a password.
    pub(crate) fn has_password(&self) -> bool {
        Url::parse(self.expose()).is_ok_and(|url| url.password().is_some())
    }

    /// The address with its password.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl FromStr for RedisAddress {
    type Err = InvalidRedis;

    fn from_str(text: &str) -> Result<Self, InvalidRedis> {
        let url = Url::parse(text).map_err(|_| InvalidRedis)?;
        if matches!(url.scheme(), "redis" | "rediss") && url.host_str().is_some_and(|host| !host.is_empty()) {
            Ok(Self(SecretString::from(text)))
        } else {
            Err(InvalidRedis)
        }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisAddress")
    }
}

/// Scheme, host and port alone.
impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(url) = Url::parse(self.expose()) else { return f.write_str("redis://…") };
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or("…"))?;
        url.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl<'de> Deserialize<'de> for RedisAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_bucket_and_a_prefix() {
        let both = |text: &str| text.parse::<StoreLocation>().map(|place| (place.bucket, place.prefix));
        assert_eq!(both("s3://acme-wheelport"), Ok(("acme-wheelport".into(), String::new())));
        assert_eq!(both("s3://acme-wheelport/a/b/"), Ok(("acme-wheelport".into(), "a/b".into())));
        for bad in
            ["acme", "s3://", "s3://A/b", "s3://acme/a/../b", "s3://acme/a//b", "https://acme/b", "s3://acme/a?b"]
        {
            assert_eq!(both(bad), Err(InvalidStore), "{bad}");
        }
    }

    #[test]
    fn a_redis_address_does_not_show_its_password() {
        let address: RedisAddress = "rediss://user:hunter2@cache.internal:6380/2".parse().expect("an address");
        assert_eq!(format!("{address} {address:?}"), "rediss://cache.internal:6380 RedisAddress");
        for bad in ["cache.internal:6379", "http://cache.internal", "redis://", "hunter2"] {
            assert_eq!(bad.parse::<RedisAddress>().err(), Some(InvalidRedis), "{bad}");
        }
    }
}

//! What a person configures about AWS, parsed into types that cannot hold nonsense.
//!
//! The limits are those of the service model of CodeArtifact (2018-09-22).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::token::{MAX_LIFETIME, MIN_LIFETIME};

/// How to reach AWS; everything left out comes from the standard AWS chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AwsSettings {
    /// A profile of the AWS configuration files; it wins over credentials in the environment.
    pub profile: Option<String>,
    /// The region; else `AWS_REGION`, the profile, or the instance.
    pub region: Option<RegionName>,
    /// A role to assume with the credentials found.
    pub role_arn: Option<RoleArn>,
    /// The external id that the role's trust policy requires.
    pub external_id: Option<String>,
    /// The lifetime to request for tokens.
    pub token_lifetime: TokenLifetime,
    /// An emulator to use instead of AWS. Not a setting of the file: people set `AWS_ENDPOINT_URL`.
    #[serde(skip)]
    pub emulator: Option<EmulatorAccess>,
}

/// How to reach an emulator that runs in this process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EmulatorAccess {
    /// The URL of its control plane.
    pub endpoint: String,
    /// Its access key id and secret key; they are the same in every emulator and protect nothing.
    pub keys: (&'static str, &'static str),
}

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    #[error(
        "`{0}` is no domain name: 2 to 50 lower-case letters, digits and hyphens, beginning with a letter \
         and not ending with a hyphen"
    )]
    Domain(String),
    #[error(
        "`{0}` is no repository name: 2 to 100 letters, digits, `.`, `-` and `_`, beginning with a letter or digit"
    )]
    Repository(String),
    #[error("`{0}` is no AWS account: twelve digits")]
    Account(String),
    #[error("`{0}` is no AWS region, for example `eu-central-1`")]
    Region(String),
    #[error("`{0}` is no role, for example `arn:aws:iam::111122223333:role/wheelport-read`")]
    Role(String),
    #[error("`{0}` is no token lifetime: a duration from 15m to 12h, or `session`")]
    Lifetime(String),
}

macro_rules! text_newtype {
    ($(#[$docs:meta])* $name:ident, $check:path, $error:ident) => {
        $(#[$docs])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Accepts exactly the service's grammar.
            pub fn parse(raw: &str) -> Result<Self, InvalidSetting> {
                if $check(raw) { Ok(Self(raw.to_owned())) } else { Err(InvalidSetting::$error(raw.to_owned())) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidSetting;

            fn from_str(raw: &str) -> Result<Self, Self::Err> {
                Self::parse(raw)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidSetting;

            fn try_from(raw: String) -> Result<Self, Self::Error> {
                Self::parse(&raw)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

text_newtype!(
    /// The name of a CodeArtifact domain.
    DomainName, is_domain, Domain
);
text_newtype!(
    /// The name of a CodeArtifact repository.
    RepositoryName, is_repository, Repository
);
text_newtype!(
    /// The twelve digits of an AWS account.
    AccountId, is_account, Account
);
text_newtype!(
    /// An AWS region, by its shape: new regions need no new release of this program.
    RegionName, is_region, Region
);
text_newtype!(
    /// The ARN of an IAM role.
    RoleArn, is_role, Role
);

fn is_domain(raw: &str) -> bool {
    (2..=50).contains(&raw.len())
        && raw.starts_with(|first: char| first.is_ascii_lowercase())
        && !raw.ends_with('-')
        && raw.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_repository(raw: &str) -> bool {
    (2..=100).contains(&raw.len())
        && raw.starts_with(|first: char| first.is_ascii_alphanumeric())
        && raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn is_account(raw: &str) -> bool {
    raw.len() == 12 && raw.bytes().all(|byte| byte.is_ascii_digit())
}

/// It becomes part of a host name, so nothing but lower-case words between hyphens, the last one a number.
fn is_region(raw: &str) -> bool {
    let words: Vec<&str> = raw.split('-').collect();
    let word =
        |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let number = words.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    raw.len() <= 32 && words.len() >= 3 && words.iter().all(word) && number
}

fn is_role(raw: &str) -> bool {
    let parts: Vec<&str> = raw.splitn(6, ':').collect();
    let [arn, partition, service, region, account, role] = parts[..] else { return false };
    let name = role.strip_prefix("role/").unwrap_or_default();
    arn == "arn"
        && partition.starts_with("aws")
        && service == "iam"
        && region.is_empty()
        && is_account(account)
        && (1..=576).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A domain as calls address it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DomainId {
    pub(crate) name: DomainName,
    /// The account that owns it; without it, AWS assumes the caller's account.
    pub(crate) owner: Option<AccountId>,
    pub(crate) region: RegionName,
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "domain {} of account {owner} in {}", self.name, self.region),
            None => write!(f, "domain {} of the caller's account in {}", self.name, self.region),
        }
    }
}

/// The lifetime to request for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum TokenLifetime {
    /// A fixed time from fifteen minutes to twelve hours; the token outlives the role session if need be.
    Fixed(Duration),
    /// As long as the caller's role session.
    Session,
}

impl TokenLifetime {
    /// What the call's `duration` says, in seconds: 0 means the session.
    pub(crate) fn seconds(self) -> i64 {
        match self {
            Self::Fixed(life) => i64::try_from(life.as_secs()).unwrap_or(i64::MAX),
            Self::Session => 0,
        }
    }

    /// What the keeper compares the real lifetime with.
    pub(crate) fn requested(self) -> Option<Duration> {
        match self {
            Self::Fixed(life) => Some(life),
            Self::Session => None,
        }
    }
}

impl Default for TokenLifetime {
    /// Twelve hours: renewed every two, so about ten hours are left if AWS has an outage.
    fn default() -> Self {
        Self::Fixed(MAX_LIFETIME)
    }
}

impl FromStr for TokenLifetime {
    type Err = InvalidSetting;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        if raw == "session" {
            return Ok(Self::Session);
        }
        match humantime::parse_duration(raw) {
            Ok(life) if (MIN_LIFETIME..=MAX_LIFETIME).contains(&life) && life.subsec_nanos() == 0 => {
                Ok(Self::Fixed(life))
            }
            _ => Err(InvalidSetting::Lifetime(raw.to_owned())),
        }
    }
}

impl TryFrom<String> for TokenLifetime {
    type Error = InvalidSetting;

    fn try_from(raw: String) -> Result<Self, Self::Error> {
        raw.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_service_model() {
        for good in ["ab", "my-domain", "a0", &"a".repeat(50)] {
            assert!(DomainName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "1a", "a-", "My", "a_b", "a.b", "ä-b", "a/b", &"a".repeat(51)] {
            assert!(DomainName::parse(bad).is_err(), "{bad}");
        }
        for good in ["ab", "0b", "My.Repo_1-x", "a.", &"a".repeat(100)] {
            assert!(RepositoryName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", ".a", "-a", "a b", "a/b", "a?b", &"a".repeat(101)] {
            assert!(RepositoryName::parse(bad).is_err(), "{bad}");
        }
        for (raw, good) in [("111122223333", true), ("11112222333", false), ("1111-2222-33", false), ("", false)] {
            assert_eq!(AccountId::parse(raw).is_ok(), good, "{raw}");
        }
    }

    #[test]
    fn a_region_cannot_smuggle_a_host() {
        for good in ["eu-central-1", "us-gov-west-1", "ap-southeast-2", "us-iso-east-1"] {
            assert!(RegionName::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "eu", "eu-central", "eu-central-x", "EU-central-1", "eu--1", "a.b-c-1", "eu-central-1/x", "@-a-1"]
        {
            assert!(RegionName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn roles_are_arns() {
        for good in ["arn:aws:iam::111122223333:role/a", "arn:aws-us-gov:iam::111122223333:role/path/a"] {
            assert!(RoleArn::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "wheelport-read",
            "arn:aws:iam::111122223333:user/a",
            "arn:aws:iam::1111:role/a",
            "arn:aws:sts::111122223333:role/a",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/a b",
        ] {
            assert!(RoleArn::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lifetimes_have_units_and_limits() {
        for (raw, seconds) in [("12h", 43_200), ("15m", 900), ("1h 30m", 5_400), ("session", 0), ("900s", 900)] {
            assert_eq!(raw.parse().map(TokenLifetime::seconds), Ok(seconds), "{raw}");
        }
        for bad in ["", "12", "14m", "13h", "0s", "Session", "900500ms"] {
            assert!(bad.parse::<TokenLifetime>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_table_of_the_file_is_read_and_typos_are_refused() {
        let text = r#"
            profile = "packages"
            region = "eu-central-1"
            role_arn = "arn:aws:iam::111122223333:role/wheelport-read"
            external_id = "x"
            token_lifetime = "1h"
        "#;
        let settings: AwsSettings = toml::from_str(text).expect("valid");
        assert_eq!(settings.token_lifetime.seconds(), 3_600);
        assert_eq!(settings.region.as_ref().map(RegionName::as_str), Some("eu-central-1"));
        assert_eq!(toml::from_str::<AwsSettings>("").ok(), Some(AwsSettings::default()));
        for bad in ["profil = \"x\"", "region = \"nowhere\"", "token_lifetime = \"1 day\""] {
            assert!(toml::from_str::<AwsSettings>(bad).is_err(), "{bad}");
        }
    }
}

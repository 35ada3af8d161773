//! What domains and repositories are called: keys, their ARNs, and the grammar of their names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What identifies a domain: the owner's account and the name. Its text is `NAME-OWNER`, as in host names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DomainKey {
    /// The owner's account: twelve digits.
    pub owner: String,
    /// The name: `[a-z][a-z0-9-]{0,48}[a-z0-9]`.
    pub name: String,
}

impl DomainKey {
    /// A key from its two parts; the store checks the grammar when a domain is created.
    pub fn new(owner: impl Into<String>, name: impl Into<String>) -> Self {
        Self { owner: owner.into(), name: name.into() }
    }

    /// Reads `NAME-OWNER`; the name may itself contain hyphens.
    pub fn from_host_label(label: &str) -> Option<Self> {
        let (name, owner) = label.rsplit_once('-')?;
        (is_account(owner) && is_domain_name(name)).then(|| Self::new(owner, name))
    }

    /// The key of a repository in this domain.
    pub fn repository(&self, name: impl Into<String>) -> RepositoryKey {
        RepositoryKey { domain: self.clone(), name: name.into() }
    }

    /// The ARN: `arn:aws:codeartifact:REGION:OWNER:domain/NAME`.
    pub fn arn(&self, region: &str) -> String {
        format!("arn:aws:codeartifact:{region}:{}:domain/{}", self.owner, self.name)
    }
}

impl fmt::Display for DomainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.owner)
    }
}

/// What identifies a repository: its domain and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryKey {
    /// The domain it is in.
    pub domain: DomainKey,
    /// The name: `[A-Za-z0-9][A-Za-z0-9._-]{1,99}`.
    pub name: String,
}

impl RepositoryKey {
    /// The ARN: `arn:aws:codeartifact:REGION:OWNER:repository/DOMAIN/NAME`.
    pub fn arn(&self, region: &str) -> String {
        let DomainKey { owner, name: domain } = &self.domain;
        format!("arn:aws:codeartifact:{region}:{owner}:repository/{domain}/{}", self.name)
    }
}

impl fmt::Display for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.name)
    }
}

/// Whether this is an account number.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this is a valid domain name.
pub(crate) fn is_domain_name(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (2..=50).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && alphanumeric(bytes[bytes.len() - 1])
        && bytes.iter().all(|byte| alphanumeric(*byte) || *byte == b'-')
}

/// Whether this is a valid repository name.
pub(crate) fn is_repository_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (2..=100).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

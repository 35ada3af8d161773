//! Those whose ID tokens are believed.

use std::path::PathBuf;
use std::sync::Arc;

use url::{Host, Url};

use super::tables::IssuerTable;

/// One issuer of ID tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    pub(super) name: Arc<str>,
    /// The `iss` of its tokens, without a final slash.
    pub(super) url: Arc<str>,
    pub(super) audience: Arc<str>,
    pub(super) keys: KeySource,
}

/// Where the keys of an issuer come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeySource {
    /// Its discovery document, which names their address.
    Discovery(Url),
    File(PathBuf),
}

impl Issuer {
    pub(super) fn read(table: IssuerTable) -> Result<Self, String> {
        let IssuerTable { name, url, audience, keys_file } = table;
        let complain = |text: &str| Err(format!("[[issuer]] `{}`: {text}", name.trim()));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 50 || !name.bytes().all(plain) {
            return Err("an [[issuer]] needs a name of letters, digits, `-`, `_` and `.`, at most 50".to_owned());
        }
        if audience.trim().is_empty() {
            return complain("audience must be what its tokens for this server have as `aud`, such as \"wheelport\"");
        }
        let Ok(parsed) = Url::parse(&url) else {
            return complain("url must be the `iss` of its tokens, such as \"https://gitlab.example.org\"");
        };
        if parsed.query().is_some() || parsed.fragment().is_some() || !parsed.username().is_empty() {
            return complain("url must have neither a query nor a user name");
        }
        if parsed.scheme() != "https" && !(parsed.scheme() == "http" && is_loopback(&parsed)) && keys_file.is_none() {
            return complain("keys are only fetched over https; give keys_file for an issuer without it");
        }
        let url: Arc<str> = url.trim_end_matches('/').into();
        let keys = match keys_file {
            Some(path) => KeySource::File(path),
            None => match Url::parse(&format!("{url}/.well-known/openid-configuration")) {
                Ok(discovery) => KeySource::Discovery(discovery),
                Err(_) => return complain("url cannot be followed by the path of a discovery document"),
            },
        };
        Ok(Self { name: name.into(), url, audience: audience.into(), keys })
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn audience(&self) -> &Arc<str> {
        &self.audience
    }

    /// The file that its keys are in, if they are not fetched.
    pub fn keys_file(&self) -> Option<&PathBuf> {
        match &self.keys {
            KeySource::Discovery(_) => None,
            KeySource::File(path) => Some(path),
        }
    }

    /// Whether this is the `iss` of its tokens.
    pub(super) fn is(&self, claimed: &str) -> bool {
        claimed.strip_suffix('/').unwrap_or(claimed) == &*self.url
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

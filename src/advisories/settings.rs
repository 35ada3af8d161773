//! The `[advisories]` table.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};
use url::Url;

use wheelport_index::Sha256;
use wheelport_runtime::HumanDuration;

/// Where advisories come from, and how often they are looked at. Without a source there are none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdvisorySettings {
    pub source: Option<AdvisorySource>,
    /// How often an address is asked again.
    pub refresh: HumanDuration,
    /// How long fetching an export may take.
    pub timeout: HumanDuration,
    /// Whether an export is used that has lost most of what the one before it had.
    pub accept_shrunken: bool,
}

impl Default for AdvisorySettings {
    fn default() -> Self {
        Self {
            source: None,
            refresh: HumanDuration::secs(3600),
            timeout: HumanDuration::secs(600),
            accept_shrunken: false,
        }
    }
}

/// A file or a directory, or an address.
#[derive(Clone, PartialEq, Eq)]
pub enum AdvisorySource {
    Path(PathBuf),
    Url(Url),
}

impl AdvisorySource {
    /// An address has a scheme; everything else is a path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = "this is the path of an OSV export, or an http or https URL without a user name";
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(wanted.to_owned());
        }
        if !text.contains("://") {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let is_plain = |url: &Url| url.username().is_empty() && url.password().is_none();
        url.filter(is_plain).map(Self::Url).ok_or_else(|| wanted.to_owned())
    }

    /// What tells it from others, and says nothing of it.
    pub fn name(&self) -> String {
        let mut name = Sha256::of(self.to_string().as_bytes()).to_string();
        name.truncate(16);
        name
    }
}

/// Without the query of an address, which may be a secret.
impl fmt::Debug for AdvisorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Url(url) => f.write_str(&url[..url::Position::AfterPath]),
        }
    }
}

impl fmt::Display for AdvisorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for AdvisorySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_path_or_an_address_and_shows_no_secret() {
        assert_eq!(AdvisorySource::parse("/srv/osv/all.zip"), Ok(AdvisorySource::Path("/srv/osv/all.zip".into())));
        let address = AdvisorySource::parse("https://osv.example.org/PyPI/all.zip?key=hunter2").expect("an address");
        assert_eq!(address.to_string(), "https://osv.example.org/PyPI/all.zip");
        assert!(!format!("{address:?}").contains("hunter2"));
        for wrong in ["", "ftp://h/x", "https://", "https://user:secret@h/x", "a\nb"] {
            assert!(AdvisorySource::parse(wrong).is_err(), "{wrong}");
        }
    }
}

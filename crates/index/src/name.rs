//! Project names, always held in normalised form.
//!
//! The grammar and the normalisation are those of the packaging specification "Names and normalization"
//! (PEP 503, PEP 508).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest project name accepted, in bytes; CodeArtifact allows 255.
const MAX_LENGTH: usize = 255;

/// A project name in normalised form: lower case, runs of `.`, `-` and `_` written as one `-`.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectName(Arc<str>);

/// Why a string is not a project name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("a project name must not be empty")]
    Empty,
    /// More than 255 bytes.
    #[error("a project name must not be longer than {MAX_LENGTH} characters")]
    TooLong,
    /// A character outside letters, digits, `.`, `-` and `_`.
    #[error("a project name consists of ASCII letters, digits, '.', '-' and '_'")]
    Character,
    /// Begins or ends with a separator.
    #[error("a project name begins and ends with a letter or digit")]
    Edge,
}

impl ProjectName {
    /// Parses any valid spelling of a name and normalises it.
    pub fn parse(raw: &str) -> Result<Self, InvalidName> {
        Self::check(raw)?;
        if is_normalised(raw) {
            return Ok(Self(raw.into()));
        }
        let mut normalised = String::with_capacity(raw.len());
        for byte in raw.bytes() {
            if !is_separator(byte) {
                normalised.push(char::from(byte.to_ascii_lowercase()));
            } else if !normalised.ends_with('-') {
                normalised.push('-');
            }
        }
        Ok(Self(normalised.into()))
    }

    /// Whether this is a valid spelling of a name.
    pub(crate) fn check(raw: &str) -> Result<(), InvalidName> {
        if raw.is_empty() {
            return Err(InvalidName::Empty);
        }
        if raw.len() > MAX_LENGTH {
            return Err(InvalidName::TooLong);
        }
        if !raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_separator(byte)) {
            return Err(InvalidName::Character);
        }
        let edges = [raw.as_bytes()[0], raw.as_bytes()[raw.len() - 1]];
        if edges.into_iter().any(is_separator) {
            return Err(InvalidName::Edge);
        }
        Ok(())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'_')
}

fn is_normalised(raw: &str) -> bool {
    raw.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') && !raw.contains("--")
}

impl TryFrom<String> for ProjectName {
    type Error = InvalidName;

    fn try_from(raw: String) -> Result<Self, InvalidName> {
        Self::parse(&raw)
    }
}

impl From<ProjectName> for String {
    fn from(name: ProjectName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_becomes_the_same_name() {
        for raw in ["friendly-bard", "Friendly-Bard", "FRIENDLY_BARD", "friendly.bard", "friendly--._bard"] {
            assert_eq!(ProjectName::parse(raw).map(|name| name.to_string()), Ok("friendly-bard".to_owned()), "{raw}");
        }
    }

    #[test]
    fn invalid_names_are_refused() {
        for (raw, reason) in [
            ("", InvalidName::Empty),
            ("-a", InvalidName::Edge),
            ("a.", InvalidName::Edge),
            ("a/b", InvalidName::Character),
            ("a b", InvalidName::Character),
            ("ä", InvalidName::Character),
            ("..", InvalidName::Edge),
        ] {
            assert_eq!(ProjectName::parse(raw), Err(reason), "{raw}");
        }
        assert_eq!(ProjectName::parse(&"a".repeat(MAX_LENGTH + 1)), Err(InvalidName::TooLong));
    }
}

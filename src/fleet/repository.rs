//! What replicas call a repository among themselves: the same on every replica that is configured alike.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name, in bytes.
const LONGEST: usize = 256;

/// A repository in hints and in the keys of shared objects: parts of letters, digits, `-`, `_` and `.`, with slashes
/// between them. It is made of configuration, never of a request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedRepository(Arc<str>);

/// A text that names no repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a repository among replicas")]
pub struct InvalidRepository;

impl SharedRepository {
    /// The repository that these parts identify.
    pub fn of(parts: &[&str]) -> Result<Self, InvalidRepository> {
        parts.join("/").parse()
    }

    /// The name as it stands in keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SharedRepository {
    type Err = InvalidRepository;

    fn from_str(text: &str) -> Result<Self, InvalidRepository> {
        let is_part = |part: &str| {
            let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !part.is_empty() && !matches!(part, "." | "..") && part.bytes().all(is_known)
        };
        if text.len() <= LONGEST && text.split('/').all(is_part) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidRepository)
        }
    }
}

impl fmt::Display for SharedRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SharedRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! The keys of what the cache remembers of an index: made from configuration and parsed names, never from raw requests.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use wheelport_index::{ProjectName, Sha256};

/// The length of the part of a repository's identity that is unique by itself, in bytes.
const EXACT: usize = 16;
/// The longest readable part of a repository's identity, in bytes.
const READABLE: usize = 80;

/// A CodeArtifact repository as a part of cache keys: made from configuration only, safe as a directory name.
#[derive(Clone, PartialEq, Eq)]
pub struct RepositoryId(Arc<str>);

/// The key of a project's page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PageKey {
    pub repository: RepositoryId,
    pub project: ProjectName,
}

impl RepositoryId {
    /// The identity of a repository, from its parts as configured.
    pub fn new(parts: &[&str]) -> Self {
        let label: String = parts.iter().flat_map(|part| part.chars().chain(['_'])).filter(char::is_ascii).collect();
        let readable: String =
            label.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(READABLE).collect();
        // Two repositories with the same readable label are still two.
        let exact = Sha256::of(parts.join("\0").as_bytes()).to_string();
        Self(format!("{}-{}", readable.trim_end_matches('_'), &exact[..EXACT]).into())
    }

    /// The identity that [`RepositoryId::as_str`] gave when it was written down.
    pub(super) fn restored(text: &str) -> Self {
        Self(text.into())
    }

    /// The directory name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Hash for RepositoryId {
    /// The last bytes tell repositories apart by themselves, and every request hashes them.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let text = self.0.as_bytes();
        state.write(&text[text.len().saturating_sub(EXACT)..]);
    }
}

impl fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_with_look_alike_names_are_apart() {
        let (dot, dash) = (RepositoryId::new(&["acme", "a.b"]), RepositoryId::new(&["acme", "a_b"]));
        assert_ne!(dot, dash);
        assert!(dot.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')));
    }
}

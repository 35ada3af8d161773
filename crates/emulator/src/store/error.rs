//! What the store can refuse, in the service's nouns and without HTTP.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The kinds of resource an error can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    /// A domain.
    Domain,
    /// A repository.
    Repository,
    /// A package.
    Package,
    /// A version of a package.
    PackageVersion,
    /// A file of a version.
    Asset,
}

impl ResourceKind {
    /// The service model's `resourceType`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Repository => "repository",
            Self::Package => "package",
            Self::PackageVersion => "package-version",
            Self::Asset => "asset",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing.
    #[error("{kind} not found: {id}")]
    NotFound {
        /// What was looked for.
        kind: ResourceKind,
        /// Its name.
        id: String,
    },
    /// It is there already, or in a state that forbids the change.
    #[error("{message}")]
    Conflict {
        /// What stands in the way.
        kind: ResourceKind,
        /// Its name.
        id: String,
        /// A sentence for the caller.
        message: String,
    },
    /// One more would be too many.
    #[error("{message}")]
    Quota {
        /// What there are too many of.
        kind: ResourceKind,
        /// The name of what would be one too many.
        id: String,
        /// A sentence for the caller.
        message: String,
    },
    /// A value is outside its grammar.
    #[error("{0}")]
    Validation(String),
    /// The disk failed.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn not_found(kind: ResourceKind, id: impl fmt::Display) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }

    pub(super) fn conflict(kind: ResourceKind, id: impl fmt::Display, message: impl Into<String>) -> Self {
        Self::Conflict { kind, id: id.to_string(), message: message.into() }
    }

    pub(super) fn quota(kind: ResourceKind, id: impl fmt::Display, message: impl Into<String>) -> Self {
        Self::Quota { kind, id: id.to_string(), message: message.into() }
    }

    pub(super) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { path, source }
    }
}

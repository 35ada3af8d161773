//! Why the store refuses something, in the service's terms and without HTTP.

use std::fmt;
use std::io;
use std::path::PathBuf;

use wheelport_runtime::Panicked;

/// The kinds of resource an error can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    /// A domain of one account.
    Domain,
    /// A repository of a domain.
    Repository,
    /// A package in a repository.
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

/// Why the store refuses or fails to do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The resource does not exist.
    #[error("{kind} not found: {id}")]
    NotFound {
        /// The kind of resource that is missing.
        kind: ResourceKind,
        /// The name of the resource.
        id: String,
    },
    /// The resource exists already, or its state forbids the change.
    #[error("{message}")]
    Conflict {
        /// The kind of resource that conflicts.
        kind: ResourceKind,
        /// The name of the resource.
        id: String,
        /// A sentence for the caller.
        message: String,
    },
    /// A quota of the service is exhausted.
    #[error("{message}")]
    Quota {
        /// The kind of resource there are too many of.
        kind: ResourceKind,
        /// The name of the resource that was refused.
        id: String,
        /// A sentence for the caller.
        message: String,
    },
    /// A value is outside its grammar.
    #[error("{0}")]
    Validation(String),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Disk {
        /// The path of the file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A change or a read panicked; the process log says where.
    #[error(transparent)]
    Panicked(#[from] Panicked),
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

//! A file that a lock names, and what is wrong with one that cannot be read.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use wheelport_index::{FileName, ProjectName, VersionSegment};

/// The longest lock file that is read, in bytes.
pub(in crate::cli) const MAX_LOCK: u64 = 64 << 20;

/// Files of requirements that one names, and those name, at most.
pub(super) const MAX_OTHERS: usize = 100;

/// Whether requirements that name a version and no file are of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Pins {
    Refuse,
    Take,
}

/// A file of a lock, or what a requirement with hashes stands for. The form in which the server gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct LockedFile {
    pub(super) project: ProjectName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// Where no file is named, and versions are of use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// Such as `sha256:…`.
    pub(super) hashes: Vec<String>,
}

/// What a lock file holds.
#[derive(Debug, Default)]
pub(super) struct ReadLock {
    pub(super) files: Vec<LockedFile>,
    /// Other files of requirements that belong to it, as it names them.
    pub(super) others: Vec<String>,
}

impl From<Vec<LockedFile>> for ReadLock {
    fn from(files: Vec<LockedFile>) -> Self {
        Self { files, others: Vec::new() }
    }
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub(in crate::cli) struct UnreadableLock {
    pub(super) path: PathBuf,
    pub(super) reason: LockFault,
}

/// What is wrong with a lock file.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum LockFault {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is longer than {} MiB", MAX_LOCK >> 20)]
    TooLong,
    #[error("it is no lock file that is known: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("it is none of the versions that are known: {0}")]
    Version(String),
    #[error(
        "it is no lock file by its name; known are uv.lock, poetry.lock, pdm.lock, pylock.toml and requirements (.txt)"
    )]
    Name,
    #[error("{what} of `{project}` cannot be one: {value}")]
    Value { what: &'static str, project: String, value: String },
    #[error("it names more than {MAX_OTHERS} other files of requirements")]
    Others,
    #[error("line {line}: {reason}")]
    Requirement { line: usize, reason: &'static str },
}

impl LockedFile {
    pub(super) fn new(project: &str, file: Option<&str>, hashes: Vec<String>) -> Result<Self, LockFault> {
        let fault = |what, value: &str| LockFault::Value { what, project: project.to_owned(), value: value.to_owned() };
        let name = ProjectName::parse(project).map_err(|_| fault("the name", project))?;
        if let Some(file) = file {
            FileName::parse(file).map_err(|_| fault("a file", file))?;
        }
        for hash in &hashes {
            let digits = hash.split_once(':').map(|(_, digits)| digits);
            if digits.is_none_or(|digits| digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
                return Err(fault("a hash", hash));
            }
        }
        Ok(Self { project: name, file: file.map(str::to_owned), version: None, hashes })
    }

    /// A version of a project, whatever its files.
    pub(super) fn pinned(project: &str, version: &str) -> Result<Self, LockFault> {
        let fault = LockFault::Value { what: "a version", project: project.to_owned(), value: version.to_owned() };
        VersionSegment::parse(version).map_err(|_| fault)?;
        Ok(Self { version: Some(version.to_owned()), ..Self::new(project, None, Vec::new())? })
    }
}

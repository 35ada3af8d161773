//! The files that a lock file names, by project, whatever tool wrote it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{requirements, toml_locks};
use wheelport_index::{FileName, ProjectName};

/// The longest lock file that is read, in bytes.
const MAX_LOCK: u64 = 64 << 20;

/// A file of a lock, or what a requirement with hashes stands for. The form in which the server gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LockedFile {
    pub(super) project: ProjectName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// Such as `sha256:…`.
    pub(super) hashes: Vec<String>,
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub(super) struct UnreadableLock {
    path: PathBuf,
    reason: LockFault,
}

/// What is wrong with a lock file.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockFault {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is longer than {} MiB", MAX_LOCK >> 20)]
    TooLong,
    #[error("it is no lock file that is known: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("it is none of the versions that are known: {0}")]
    Version(String),
    #[error("{what} of `{project}` cannot be one: {value}")]
    Value { what: &'static str, project: String, value: String },
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
        Ok(Self { project: name, file: file.map(str::to_owned), hashes })
    }
}

/// Reads a lock file; its name says which kind it is.
pub(super) fn read(path: &Path) -> Result<Vec<LockedFile>, UnreadableLock> {
    let unreadable = |reason| UnreadableLock { path: path.to_owned(), reason };
    let text = text(path).map_err(unreadable)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    parse(&name, &text).map_err(unreadable)
}

fn text(path: &Path) -> Result<String, LockFault> {
    let mut text = String::new();
    File::open(path)?.take(MAX_LOCK + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_LOCK { Err(LockFault::TooLong) } else { Ok(text) }
}

/// Reads the text of a lock file with this name.
pub(super) fn parse(name: &str, text: &str) -> Result<Vec<LockedFile>, LockFault> {
    match name {
        "uv.lock" => toml_locks::uv(text),
        "poetry.lock" => toml_locks::poetry(text),
        "pdm.lock" => toml_locks::pdm(text),
        _ if name.starts_with("pylock.") && has_extension(name, "toml") => toml_locks::pylock(text),
        _ if has_extension(name, "lock") || has_extension(name, "toml") => Err(LockFault::Version(
            "the name is none of uv.lock, poetry.lock, pdm.lock, pylock.toml; requirements have the extension .txt"
                .to_owned(),
        )),
        _ => requirements::parse(text),
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

//! Reads a lock file, whatever tool wrote it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::locked_file::{LockFault, LockedFile, MAX_LOCK, Pins, UnreadableLock};
use super::{requirements, toml_locks};

/// Reads a lock file; its name says which kind it is.
pub(in crate::cli) fn read(path: &Path, pins: Pins) -> Result<Vec<LockedFile>, UnreadableLock> {
    let unreadable = |reason| UnreadableLock { path: path.to_owned(), reason };
    let text = text(path).map_err(unreadable)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    parse(&name, &text, pins).map_err(unreadable)
}

fn text(path: &Path) -> Result<String, LockFault> {
    let mut text = String::new();
    File::open(path)?.take(MAX_LOCK + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_LOCK { Err(LockFault::TooLong) } else { Ok(text) }
}

/// Reads the text of a lock file with this name.
pub(super) fn parse(name: &str, text: &str, pins: Pins) -> Result<Vec<LockedFile>, LockFault> {
    match name {
        "uv.lock" => toml_locks::uv(text),
        "poetry.lock" => toml_locks::poetry(text),
        "pdm.lock" => toml_locks::pdm(text),
        _ if name.starts_with("pylock.") && has_extension(name, "toml") => toml_locks::pylock(text),
        _ if has_extension(name, "lock") || has_extension(name, "toml") => Err(LockFault::Name),
        _ => requirements::parse(text, pins),
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

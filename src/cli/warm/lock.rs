//! Reads a lock file, whatever tool wrote it.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::locked_file::{LockFault, LockedFile, MAX_LOCK, MAX_OTHERS, Pins, ReadLock, UnreadableLock};
use super::{requirements, toml_locks};

/// What some editors begin a text with.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a lock file, and the files of requirements that it names; their names say which kind they are.
pub(in crate::cli) fn read(path: &Path, pins: Pins) -> Result<Vec<LockedFile>, UnreadableLock> {
    let (mut files, mut open, mut seen) = (Vec::new(), vec![path.to_owned()], HashSet::new());
    while let Some(path) = open.pop() {
        // Two spellings of a path are one file, so a circle comes to an end.
        if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            continue;
        }
        let read = if seen.len() > MAX_OTHERS + 1 { Err(LockFault::Others) } else { read_one(&path, pins) };
        let read = read.map_err(|reason| UnreadableLock { path: path.clone(), reason })?;
        files.extend(read.files);
        open.extend(read.others.into_iter().map(|other| path.with_file_name(other)));
    }
    Ok(files)
}

fn read_one(path: &Path, pins: Pins) -> Result<ReadLock, LockFault> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    parse(&name, &text(path)?, pins)
}

fn text(path: &Path) -> Result<String, LockFault> {
    let mut text = String::new();
    File::open(path)?.take(MAX_LOCK + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_LOCK {
        return Err(LockFault::TooLong);
    }
    // Some editors put it there, and pip reads on behind it.
    Ok(text.strip_prefix(BYTE_ORDER_MARK).map(str::to_owned).unwrap_or(text))
}

/// Reads the text of a lock file with this name.
pub(super) fn parse(name: &str, text: &str, pins: Pins) -> Result<ReadLock, LockFault> {
    let files = match name {
        "uv.lock" => toml_locks::uv(text),
        "poetry.lock" => toml_locks::poetry(text),
        "pdm.lock" => toml_locks::pdm(text),
        _ if name.starts_with("pylock.") && has_extension(name, "toml") => toml_locks::pylock(text),
        _ if has_extension(name, "lock") || has_extension(name, "toml") => Err(LockFault::Name),
        _ => return requirements::parse(text, pins),
    };
    files.map(ReadLock::from)
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_requirements_name_is_read_too_once_and_from_where_they_are() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("sub"))?;
        fs::write(path("all.txt"), "-r sub/base.txt\n--requirement=sub/more.txt # both\na==1\n")?;
        fs::write(path("sub/base.txt"), "-rmore.txt\n-r ./../sub/base.txt\nb==2\n")?;
        fs::write(path("sub/more.txt"), "\u{feff}--requirement ../all.txt\nc==3\n")?;
        let read = read(&path("all.txt"), Pins::Take).map_err(std::io::Error::other)?;
        let mut found: Vec<_> = read.iter().map(|file| file.project.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, ["a", "b", "c"]);
        Ok(())
    }

    #[test]
    fn one_that_cannot_be_read_is_an_error_with_its_name() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        let path = root.path().join("all.txt");
        for named in ["gone.txt", "https://h/gone.txt"] {
            fs::write(&path, format!("-r {named}\na==1\n"))?;
            let error = read(&path, Pins::Take).expect_err(named).to_string();
            assert!(error.contains("gone.txt"), "{error}");
        }
        Ok(())
    }
}

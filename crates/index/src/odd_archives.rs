//! Odd archives, read here and by Python: the same metadata or a refusal, never other metadata.
//!
//! `tests/odd_archives.py` makes the archives, the same ones every time, and asks `zipfile` and `tarfile`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::filename::{FileKind, FileName};
use crate::{sdist, wheel};

#[derive(Deserialize)]
struct OddArchive {
    /// What is odd about it, in words.
    oddities: String,
    /// What it is called on the index.
    name: String,
    path: PathBuf,
    /// Where the metadata is that Python reads, if it reads any.
    expected: Option<PathBuf>,
}

/// The least that has to be read: a reader that refuses everything would pass otherwise.
const READ: usize = 200;

fn made(directory: &Path) -> Vec<OddArchive> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/odd_archives.py");
    let done = Command::new("python3").arg(script).arg(directory).output().expect("Python 3 is there");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let listing = std::fs::read(directory.join("archives.json")).expect("the script writes it");
    serde_json::from_slice(&listing).expect("a list of archives")
}

#[test]
fn of_an_odd_archive_the_same_metadata_is_read_as_by_cpython_or_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let archives = made(directory.path());
    let (mut read, mut problems) = (0, Vec::new());
    for OddArchive { oddities, name, path, expected } in &archives {
        let name = FileName::parse(name).expect("a file name");
        let bytes = std::fs::read(path).expect("the script writes it");
        let found = match name.kind() {
            FileKind::Wheel => wheel::core_metadata(&bytes[..], &name).map_err(|error| error.to_string()),
            FileKind::Sdist | FileKind::Other => {
                sdist::core_metadata(&bytes[..], &name).map_err(|error| error.to_string())
            }
        };
        let expected = expected.as_ref().map(|path| std::fs::read(path).expect("the script writes it"));
        match (found, expected) {
            (Ok(found), Some(expected)) if found == expected => read += 1,
            (Err(_), _) => {}
            (Ok(found), expected) => problems.push(format!(
                "{} ({oddities}): {:?} where Python reads {:?}",
                name,
                summary(&found),
                expected.as_deref().map(summary)
            )),
        }
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), archives.len(), problems.join("\n"));
    assert!(read >= READ, "only {read} of {} are read", archives.len());
}

/// What tells one metadata from another.
fn summary(metadata: &[u8]) -> String {
    let line = metadata.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"Summary"));
    format!("{}, {} bytes", String::from_utf8_lossy(line.unwrap_or_default()), metadata.len())
}

//! Inspecting a cache directory from outside: count, hash again, empty. Works beside a running proxy.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::disk::{FORMAT_FILE, PUBLISHED};
use super::space::EVICTABLE;
use wheelport_index::Hasher;

/// A directory of the first layout, which is emptied with the others.
const FORMER: &str = "sidecars";

/// The files of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindStats {
    /// `blobs`, `pages`, `metadata` or `links`.
    pub kind: &'static str,
    /// The number of files.
    pub files: u64,
    /// The size of all of them.
    pub bytes: u64,
}

/// What [`verify`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The number of files whose bytes are what their name says.
    pub good: u64,
    /// Files whose bytes were not, and that were removed.
    pub damaged: Vec<PathBuf>,
}

/// Counts the files of a cache directory. Blocking.
pub fn stats(root: &Path) -> io::Result<Vec<KindStats>> {
    check(root)?;
    EVICTABLE
        .iter()
        .map(|&kind| {
            let files = files(&root.join(kind))?;
            let bytes = files.iter().map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).sum();
            Ok(KindStats { kind, files: files.len() as u64, bytes })
        })
        .collect()
}

/// Hashes every stored file and removes those whose bytes are not what their name says. Blocking.
pub fn verify(root: &Path) -> io::Result<VerifyReport> {
    check(root)?;
    let mut report = VerifyReport::default();
    for path in files(&root.join("blobs"))? {
        let Ok(found) = hash(&path) else { continue }; // evicted meanwhile
        let named: String = path
            .iter()
            .rev()
            .take(2)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .map(|part| part.to_string_lossy())
            .collect();
        if found == named {
            report.good += 1;
        } else {
            fs::remove_file(&path)?;
            report.damaged.push(path);
        }
    }
    Ok(report)
}

/// Removes all files of a cache directory. Blocking. Returns how many were removed.
pub fn clear(root: &Path) -> io::Result<u64> {
    // A directory of another format may be emptied too, but never one that is no cache at all.
    fs::metadata(root.join(FORMAT_FILE)).map_err(|_| not_a_cache(root))?;
    let mut removed = 0;
    for kind in EVICTABLE.into_iter().chain([PUBLISHED, FORMER]) {
        let directory = root.join(kind);
        // A directory of an older layout may lack it.
        for path in if directory.is_dir() { files(&directory)? } else { Vec::new() } {
            fs::remove_file(path)?;
            removed += 1;
        }
    }
    fs::remove_file(root.join(FORMAT_FILE))?;
    Ok(removed)
}

fn check(root: &Path) -> io::Result<()> {
    fs::metadata(root.join(FORMAT_FILE)).map(drop).map_err(|_| not_a_cache(root))
}

fn not_a_cache(root: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not a cache directory of wheelport", root.display()))
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new(None);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish().sha256.to_string()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Blobs, Disk, Expected};
    use wheelport_index::{Hashes, Sha256};
    use wheelport_runtime::Clock;

    #[test]
    fn damage_is_found_and_healed_by_removal() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let blobs = Blobs::new(Disk::open(root.path(), 1 << 20, Clock::system())?);
        for content in [b"good".as_slice(), b"soon bad"] {
            let mut hashes = Hashes::default();
            hashes.insert("sha256", &Sha256::of(content).to_string());
            let mut partial = blobs.begin(None, &hashes)?;
            partial.write(&[bytes::Bytes::from_static(content)], drop)?;
            partial.verify(&Expected { length: None, hashes })?.commit()?;
        }
        let hex = Sha256::of(b"soon bad").to_string();
        let path = root.path().join("blobs").join(&hex[..2]).join(&hex[2..]);
        fs::write(&path, b"gone bad")?;
        let report = verify(root.path())?;
        assert_eq!((report.good, report.damaged), (1, vec![path]));
        assert_eq!(stats(root.path())?[0], KindStats { kind: "blobs", files: 1, bytes: 4 });
        assert_eq!(clear(root.path())?, 1);
        assert!(stats(root.path()).is_err(), "an emptied directory is no cache until it is used again");
        Ok(())
    }

    #[test]
    fn a_directory_that_is_no_cache_is_left_alone() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        fs::create_dir_all(root.path().join("blobs"))?;
        fs::write(root.path().join("blobs/mine"), "precious")?;
        assert!(clear(root.path()).is_err());
        assert!(root.path().join("blobs/mine").exists());
        Ok(())
    }
}

//! The lock files in TOML: those of uv, poetry and pdm, and pylock.toml (PEP 751).
//!
//! What each names of files of an index, and nothing else: packages from Git, directories and addresses are no business
//! of an index.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use toml::Value;

use super::locked_file::{LockFault, LockedFile};

/// A file as each of the formats writes it.
#[derive(Debug, Deserialize)]
struct FileEntry {
    /// In poetry's and pdm's.
    file: Option<String>,
    /// In pylock's.
    name: Option<String>,
    /// In uv's, pylock's, and pdm's with static addresses.
    url: Option<String>,
    hash: Option<String>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

impl FileEntry {
    fn of(self, project: &str) -> Result<LockedFile, LockFault> {
        let last = self.url.as_deref().and_then(file_of);
        let named = self.file.or(self.name).or(last).ok_or_else(|| LockFault::Value {
            what: "a file",
            project: project.to_owned(),
            value: "it has no name and no address".to_owned(),
        })?;
        let hashes = self.hashes.into_iter().map(|(name, digits)| format!("{name}:{digits}"));
        LockedFile::new(project, Some(&named), self.hash.into_iter().chain(hashes).collect())
    }
}

/// The last part of an address or a path.
fn file_of(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next()?;
    let last = path.rsplit('/').next().filter(|last| !last.is_empty())?;
    Some(percent_decode_str(last).decode_utf8().ok()?.into_owned())
}

fn all(project: &str, files: impl IntoIterator<Item = FileEntry>) -> Result<Vec<LockedFile>, LockFault> {
    files.into_iter().map(|file| file.of(project)).collect()
}

fn joined(parts: impl Iterator<Item = Result<Vec<LockedFile>, LockFault>>) -> Result<Vec<LockedFile>, LockFault> {
    let mut files = Vec::new();
    for part in parts {
        files.extend(part?);
    }
    Ok(files)
}

/// uv.lock.
pub(super) fn uv(text: &str) -> Result<Vec<LockedFile>, LockFault> {
    #[derive(Deserialize)]
    struct UvLock {
        version: u32,
        #[serde(default)]
        package: Vec<UvPackage>,
    }
    #[derive(Deserialize)]
    struct UvPackage {
        name: String,
        #[serde(default)]
        source: BTreeMap<String, Value>,
        sdist: Option<FileEntry>,
        #[serde(default)]
        wheels: Vec<FileEntry>,
    }
    let lock: UvLock = toml::from_str(text)?;
    if lock.version != 1 {
        return Err(LockFault::Version(format!("version {} of uv.lock", lock.version)));
    }
    let of_index = lock.package.into_iter().filter(|package| package.source.contains_key("registry"));
    joined(of_index.map(|package| all(&package.name, package.sdist.into_iter().chain(package.wheels))))
}

/// poetry.lock, of poetry 1.1 to 2.
pub(super) fn poetry(text: &str) -> Result<Vec<LockedFile>, LockFault> {
    #[derive(Deserialize)]
    struct PoetryLock {
        #[serde(default)]
        package: Vec<PoetryPackage>,
        metadata: PoetryMetadata,
    }
    #[derive(Deserialize)]
    struct PoetryPackage {
        name: String,
        #[serde(default)]
        files: Vec<FileEntry>,
        source: Option<PoetrySource>,
    }
    #[derive(Deserialize)]
    struct PoetrySource {
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct PoetryMetadata {
        lock_version: String,
        /// Where version 1 has the files of all packages.
        #[serde(default)]
        files: BTreeMap<String, Vec<FileEntry>>,
    }
    let mut lock: PoetryLock = toml::from_str(text)?;
    let version = &lock.metadata.lock_version;
    if !version.starts_with("1.") && !version.starts_with("2.") {
        return Err(LockFault::Version(format!("version {version} of poetry.lock")));
    }
    let is_of_index = |package: &PoetryPackage| {
        let kind = package.source.as_ref().and_then(|source| source.kind.as_deref());
        kind.is_none_or(|kind| kind == "legacy")
    };
    let of_index: Vec<PoetryPackage> = lock.package.into_iter().filter(is_of_index).collect();
    joined(of_index.into_iter().map(|package| {
        let elsewhere = lock.metadata.files.remove(&package.name).unwrap_or_default();
        all(&package.name, package.files.into_iter().chain(elsewhere))
    }))
}

/// pdm.lock.
pub(super) fn pdm(text: &str) -> Result<Vec<LockedFile>, LockFault> {
    #[derive(Deserialize)]
    struct PdmLock {
        #[serde(default)]
        package: Vec<PdmPackage>,
        metadata: PdmMetadata,
    }
    #[derive(Deserialize)]
    struct PdmPackage {
        name: String,
        #[serde(default)]
        files: Vec<FileEntry>,
        git: Option<Value>,
        url: Option<Value>,
        path: Option<Value>,
    }
    #[derive(Deserialize)]
    struct PdmMetadata {
        lock_version: String,
    }
    let lock: PdmLock = toml::from_str(text)?;
    if !lock.metadata.lock_version.starts_with("4.") {
        return Err(LockFault::Version(format!("version {} of pdm.lock", lock.metadata.lock_version)));
    }
    let is_of_index = |package: &PdmPackage| package.git.is_none() && package.url.is_none() && package.path.is_none();
    let of_index = lock.package.into_iter().filter(is_of_index);
    joined(of_index.map(|package| all(&package.name, package.files)))
}

/// pylock.toml.
pub(super) fn pylock(text: &str) -> Result<Vec<LockedFile>, LockFault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Pylock {
        lock_version: String,
        #[serde(default)]
        packages: Vec<PylockPackage>,
    }
    #[derive(Deserialize)]
    struct PylockPackage {
        name: String,
        sdist: Option<FileEntry>,
        #[serde(default)]
        wheels: Vec<FileEntry>,
    }
    let lock: Pylock = toml::from_str(text)?;
    if !lock.lock_version.starts_with("1.") {
        return Err(LockFault::Version(format!("version {} of pylock.toml", lock.lock_version)));
    }
    joined(lock.packages.into_iter().map(|package| all(&package.name, package.sdist.into_iter().chain(package.wheels))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::warm::lock;
    use crate::cli::warm::locked_file::Pins;

    fn parse(name: &str, text: &str) -> Result<Vec<LockedFile>, LockFault> {
        lock::parse(name, text, Pins::Refuse).map(|read| read.files)
    }

    fn names(file: &str, text: &str) -> Vec<(String, String, String)> {
        let files = parse(file, text).unwrap_or_else(|fault| panic!("{file}: {fault}"));
        let row = |file: LockedFile| (file.project.to_string(), file.file.unwrap_or_default(), file.hashes.join(" "));
        files.into_iter().map(row).collect()
    }

    fn row(project: &str, file: &str, hashes: &str) -> (String, String, String) {
        (project.to_owned(), file.to_owned(), hashes.to_owned())
    }

    #[test]
    fn a_lock_of_uv_names_the_files_of_indexes() {
        let text = r#"
version = 1
revision = 3
requires-python = ">=3.12"

[[package]]
name = "acme-app"
version = "0.1.0"
source = { virtual = "." }
dependencies = [{ name = "acme-core" }]

[[package]]
name = "acme-core"
version = "1.5"
source = { registry = "http://127.0.0.1:8080/simple/" }
sdist = { url = "http://127.0.0.1:8080/simple/acme-core/1.5/acme_core-1.5.tar.gz", hash = "sha256:00", size = 1 }
wheels = [
    { url = "http://h/acme-core/1.5/acme_core-1.5%2Bcpu-py3-none-any.whl?x=y#z", hash = "sha512:11" },
]

[[package]]
name = "from-git"
version = "1.0"
source = { git = "https://git.example.org/x?rev=1#abc" }
"#;
        assert_eq!(
            names("uv.lock", text),
            [
                row("acme-core", "acme_core-1.5.tar.gz", "sha256:00"),
                row("acme-core", "acme_core-1.5+cpu-py3-none-any.whl", "sha512:11"),
            ]
        );
        assert!(matches!(parse("uv.lock", &text.replacen("= 1", "= 2", 1)), Err(LockFault::Version(_))));
    }

    #[test]
    fn locks_of_poetry_name_files_in_two_places() {
        let new = r#"
[[package]]
name = "Acme.Core"
version = "1.5"
files = [{file = "acme_core-1.5-py3-none-any.whl", hash = "sha256:00"}]

[[package]]
name = "from-git"
version = "1.0"
files = []
[package.source]
type = "git"
url = "https://git.example.org/x"

[metadata]
lock-version = "2.1"
content-hash = "00"
"#;
        let expected = [row("acme-core", "acme_core-1.5-py3-none-any.whl", "sha256:00")];
        assert_eq!(names("poetry.lock", new), expected);
        let old = r#"
[[package]]
name = "acme-core"
version = "1.5"

[metadata]
lock-version = "1.1"

[metadata.files]
acme-core = [{file = "acme_core-1.5-py3-none-any.whl", hash = "sha256:00"}]
"#;
        assert_eq!(names("poetry.lock", old), expected);
    }

    #[test]
    fn locks_of_pdm_and_pylock_are_read() {
        let pdm = r#"
[metadata]
lock_version = "4.5.0"

[[package]]
name = "acme-core"
version = "1.5"
files = [
    {file = "acme_core-1.5.tar.gz", hash = "sha256:00"},
    {url = "http://h/x/acme_core-1.5-py3-none-any.whl", hash = "sha256:11"},
]
"#;
        assert_eq!(
            names("pdm.lock", pdm),
            [
                row("acme-core", "acme_core-1.5.tar.gz", "sha256:00"),
                row("acme-core", "acme_core-1.5-py3-none-any.whl", "sha256:11"),
            ]
        );
        let pylock = r#"
lock-version = "1.0"
created-by = "a-tool"

[[packages]]
name = "acme-core"
version = "1.5"
[[packages.wheels]]
name = "acme_core-1.5-py3-none-any.whl"
url = "http://h/other.whl"
hashes = {sha256 = "11"}

[[packages]]
name = "tool"
vcs = { type = "git", url = "https://git.example.org/x", commit-id = "00" }
"#;
        let expected = [row("acme-core", "acme_core-1.5-py3-none-any.whl", "sha256:11")];
        assert_eq!(names("pylock.toml", pylock), expected);
        assert_eq!(names("pylock.prod.toml", pylock), expected);
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        for (name, text) in [
            ("uv.lock", "["),
            ("uv.lock", "[metadata]"),
            ("poetry.lock", "[metadata]\nlock-version = \"3.0\""),
            ("pdm.lock", "[metadata]\nlock_version = \"3.0\""),
            ("pylock.toml", "lock-version = \"2.0\""),
            ("Pipfile.lock", "{}"),
            ("pylock.toml", "lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\n[[packages.wheels]]\nhashes = {}"),
            (
                "poetry.lock",
                "[metadata]\nlock-version = \"2.0\"\n[[package]]\nname = \"a\"\nfiles = [{file = \"../x\", hash = \
                 \"sha256:00\"}]",
            ),
        ] {
            assert!(parse(name, text).is_err(), "{name}: {text}");
        }
    }
}

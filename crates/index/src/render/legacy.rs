//! The JSON interface that is older than the simple API: the part that tools read to look up digests.
//!
//! The shape is `{info, releases, urls}`, without what only a package's metadata says.

use std::io;

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::in_memory;
use super::json::HashesJson;
use crate::address::below_page;
use crate::filename::FileKind;
use crate::page::{File, Page, Yanked};
use crate::releases::{Release, Releases};

/// The document of a project (`version` absent) or of one version of it; `None` if there is no such version.
/// `files_base` is the address of the project's page, to which `{version}/{file}` is appended.
pub fn legacy_json(page: &Page, version: Option<&str>, files_base: &str) -> Option<Vec<u8>> {
    let mut exists = false;
    let document = in_memory(|out| {
        exists = write_legacy_json(page, version, files_base, out)?;
        Ok(())
    });
    exists.then_some(document)
}

/// Writes what [`legacy_json`] returns; nothing, and `false`, if there is no such version.
pub fn write_legacy_json(
    page: &Page,
    version: Option<&str>,
    files_base: &str,
    out: impl io::Write,
) -> io::Result<bool> {
    let releases = Releases::of(page);
    let chosen = match version {
        Some(version) => releases.find(version),
        None => releases.newest(),
    };
    let Some(chosen) = chosen else { return Ok(false) };
    let base = files_base.trim_end_matches('/');
    let release = &releases.0[chosen];
    let (yanked, yanked_reason) = release.yanked();
    let shown = if version.is_some() { std::slice::from_ref(release) } else { &releases.0 };
    let info = Info {
        name: page.name.as_str(),
        version: release.version,
        requires_python: release.files.iter().find_map(|file| file.requires_python.as_deref()),
        yanked,
        yanked_reason,
    };
    let releases = ReleasesJson { releases: shown, base };
    serde_json::to_writer(out, &LegacyDocument { info, releases, urls: FilesJson { files: &release.files, base } })?;
    Ok(true)
}

#[derive(Serialize)]
struct LegacyDocument<'a> {
    info: Info<'a>,
    releases: ReleasesJson<'a>,
    urls: FilesJson<'a>,
}

#[derive(Serialize)]
struct Info<'a> {
    name: &'a str,
    version: &'a str,
    requires_python: Option<&'a str>,
    yanked: bool,
    yanked_reason: Option<&'a str>,
}

/// The files of each version.
struct ReleasesJson<'a> {
    releases: &'a [Release<'a>],
    base: &'a str,
}

impl Serialize for ReleasesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for release in self.releases {
            map.serialize_entry(release.version, &FilesJson { files: &release.files, base: self.base })?;
        }
        map.end()
    }
}

struct FilesJson<'a> {
    files: &'a [&'a File],
    base: &'a str,
}

impl Serialize for FilesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.files.iter().map(|file| LegacyFile::of(file, self.base)))
    }
}

#[derive(Serialize)]
struct LegacyFile<'a> {
    filename: &'a str,
    url: String,
    digests: HashesJson<'a>,
    packagetype: &'a str,
    python_version: &'a str,
    requires_python: Option<&'a str>,
    yanked: bool,
    yanked_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_time_iso_8601: Option<&'a str>,
}

impl<'a> LegacyFile<'a> {
    fn of(file: &'a File, base: &str) -> Self {
        let (packagetype, python_version) = package_type(file);
        // pip escapes the `+` of every link, and pip-tools looks up pip's links among these addresses.
        let address = below_page(&file.version, &file.name).replace('+', "%2B");
        Self {
            filename: file.name.as_str(),
            url: format!("{base}/{address}"),
            digests: HashesJson(&file.hashes),
            packagetype,
            python_version,
            requires_python: file.requires_python.as_deref(),
            yanked: !file.yanked.is_no(),
            yanked_reason: match &file.yanked {
                Yanked::Because(reason) => Some(reason),
                Yanked::No | Yanked::Yes => None,
            },
            size: file.size,
            upload_time_iso_8601: file.upload_time.as_deref(),
        }
    }
}

/// `packagetype` and `python_version`, from the file name.
fn package_type(file: &File) -> (&'static str, &str) {
    let name = file.name.as_str();
    match file.name.kind() {
        // {name}-{version}[-{build}]-{python}-{abi}-{platform}.whl
        FileKind::Wheel => ("bdist_wheel", name.rsplit('-').nth(2).unwrap_or("any")),
        FileKind::Sdist => ("sdist", "source"),
        FileKind::Other => match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("egg") => ("bdist_egg", "any"),
            Some("exe") => ("bdist_wininst", "any"),
            Some("msi") => ("bdist_msi", "any"),
            Some("rpm") => ("bdist_rpm", "any"),
            _ => ("bdist_dumb", "any"),
        },
    }
}

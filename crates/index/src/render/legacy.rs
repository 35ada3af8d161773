//! The JSON interface that is older than the simple API: the part that tools read to look up digests.
//!
//! The shape is `{info, releases, urls}`, without what only a package's metadata says.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::json::to_bytes;
use super::presentable;
use crate::address::below_page;
use crate::filename::FileKind;
use crate::page::{File, Page, Yanked};
use crate::version::{self, VersionKey};

/// The document of a project (`version` absent) or of one version of it; `None` if there is no such version.
/// `files_base` is the address of the project's page, to which `{version}/{file}` is appended.
pub fn legacy_json(page: &Page, version: Option<&str>, files_base: &str) -> Option<Vec<u8>> {
    let releases = Releases::of(page);
    let chosen = match version {
        Some(version) => releases.find(version)?,
        None => releases.newest()?,
    };
    let base = files_base.trim_end_matches('/');
    let entries = |files: &[&File]| -> Value { files.iter().map(|file| entry(file, base)).collect() };
    let shown = |position: usize| version.is_none() || position == chosen;
    let all: Map<String, Value> = releases
        .0
        .iter()
        .enumerate()
        .filter(|(position, _)| shown(*position))
        .map(|(_, release)| (release.version.clone(), entries(&release.files)))
        .collect();
    let release = &releases.0[chosen];
    let (yanked, reason) = release.yanked();
    let document = json!({
        "info": {
            "name": page.name.as_str(),
            "version": release.version,
            "requires_python": release.files.iter().find_map(|file| file.requires_python.as_deref()),
            "yanked": yanked,
            "yanked_reason": reason,
        },
        "releases": all,
        "urls": entries(&release.files),
    });
    Some(to_bytes(&document))
}

struct Release<'a> {
    version: String,
    key: VersionKey,
    files: Vec<&'a File>,
}

impl Release<'_> {
    /// A release is yanked when all its files are.
    fn yanked(&self) -> (bool, Option<&str>) {
        let yanked = !self.files.is_empty() && self.files.iter().all(|file| !file.yanked.is_no());
        let reason = self.files.iter().filter(|_| yanked).find_map(|file| match &file.yanked {
            Yanked::Because(reason) => Some(reason.as_str()),
            Yanked::No | Yanked::Yes => None,
        });
        (yanked, reason)
    }
}

/// The versions in the page's order, each with its files.
struct Releases<'a>(Vec<Release<'a>>);

impl<'a> Releases<'a> {
    fn of(page: &'a Page) -> Self {
        let mut releases: Vec<Release<'a>> = version::listed(page)
            .into_iter()
            .map(|version| Release { key: VersionKey::of(&version), version, files: Vec::new() })
            .collect();
        let positions: HashMap<VersionKey, usize> =
            releases.iter().enumerate().map(|(position, release)| (release.key.clone(), position)).collect();
        for file in &page.files {
            let position = version::of_file(file).and_then(|text| positions.get(&VersionKey::of(text)));
            if let Some(position) = position {
                releases[*position].files.push(file);
            }
        }
        Self(releases)
    }

    fn find(&self, version: &str) -> Option<usize> {
        let key = VersionKey::of(version);
        self.0.iter().position(|release| release.key == key)
    }

    /// The newest release that an installer would choose. It prefers, in this order, releases with files, releases that
    /// are not yanked, and final releases.
    fn newest(&self) -> Option<usize> {
        let rank = |release: &Release<'_>| {
            (!release.files.is_empty(), !release.yanked().0, release.key.is_final(), release.key.clone())
        };
        self.0.iter().enumerate().max_by_key(|(_, release)| rank(release)).map(|(position, _)| position)
    }
}

fn entry(file: &File, base: &str) -> Value {
    let (package_type, python_version) = package_type(file);
    // In the page's order, so that the same page gives the same bytes.
    let digests: Map<String, Value> =
        presentable(&file.hashes).map(|(algorithm, digest)| (algorithm.to_owned(), digest.into())).collect();
    // pip escapes the `+` of every link, and pip-tools looks up pip's links among these addresses.
    let address = below_page(&file.version, &file.name).replace('+', "%2B");
    let mut entry = json!({
        "filename": file.name.as_str(),
        "url": format!("{base}/{address}"),
        "digests": digests,
        "packagetype": package_type,
        "python_version": python_version,
        "requires_python": file.requires_python,
        "yanked": !file.yanked.is_no(),
        "yanked_reason": match &file.yanked {
            Yanked::Because(reason) => Some(reason),
            Yanked::No | Yanked::Yes => None,
        },
    });
    if let Some(size) = file.size {
        entry["size"] = size.into();
    }
    if let Some(upload_time) = &file.upload_time {
        entry["upload_time_iso_8601"] = upload_time.as_str().into();
    }
    entry
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

//! The releases of a page: its versions, each with its files. Pure.

use std::collections::HashMap;

use crate::page::{File, Page, Yanked};
use crate::version::{self, VersionKey};

/// A version with its files.
#[derive(Debug)]
pub struct Release<'a> {
    /// As the index spells it.
    pub version: &'a str,
    /// In the order of the page.
    pub files: Vec<&'a File>,
    key: VersionKey,
}

/// The versions in the page's order, each with its files.
#[derive(Debug)]
pub struct Releases<'a>(pub Vec<Release<'a>>);

impl<'a> Release<'a> {
    /// A release is yanked when all its files are.
    pub fn yanked(&self) -> (bool, Option<&'a str>) {
        let yanked = !self.files.is_empty() && self.files.iter().all(|file| !file.yanked.is_no());
        let reason = self.files.iter().filter(|_| yanked).find_map(|file| match &file.yanked {
            Yanked::Because(reason) => Some(reason.as_str()),
            Yanked::No | Yanked::Yes => None,
        });
        (yanked, reason)
    }

    /// When its first file was uploaded, as the index says.
    pub fn uploaded(&self) -> Option<&'a str> {
        // The index writes all of them in one form, which sorts by time.
        self.files.iter().filter_map(|file| file.upload_time.as_deref()).min()
    }

    /// Whether an installer takes it without being asked for pre-releases.
    pub fn is_final(&self) -> bool {
        self.key.is_final()
    }
}

impl<'a> Releases<'a> {
    pub fn of(page: &'a Page) -> Self {
        let mut releases: Vec<Release<'a>> = version::listed(page)
            .into_iter()
            .map(|version| Release { key: VersionKey::of(version), version, files: Vec::new() })
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

    /// The position of a version in any spelling.
    pub fn find(&self, version: &str) -> Option<usize> {
        let key = VersionKey::of(version);
        self.0.iter().position(|release| release.key == key)
    }

    /// The newest release that an installer would choose. It prefers, in this order, releases with files, releases that
    /// are not yanked, and final releases.
    pub fn newest(&self) -> Option<usize> {
        let rank = |release: &Release<'_>| {
            (!release.files.is_empty(), !release.yanked().0, release.key.is_final(), release.key.clone())
        };
        self.0.iter().enumerate().max_by_key(|(_, release)| rank(release)).map(|(position, _)| position)
    }

    /// The same, the newest version first.
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.0.sort_by(|one, other| other.key.cmp(&one.key));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ProjectName;
    use crate::parse::{PageFormat, page as parse_page};

    #[test]
    fn releases_are_in_the_order_of_versions_and_begin_with_their_first_file() {
        let body = r#"{"files": [
            {"filename": "a-1.9.tar.gz", "url": "1.9/a-1.9.tar.gz"},
            {"filename": "a-1.10.tar.gz", "url": "1.10/a-1.10.tar.gz", "upload-time": "2026-02-02T00:00:00.000000Z"},
            {"filename": "a-1.10-py3-none-any.whl", "url": "1.10/a-1.10-py3-none-any.whl",
             "upload-time": "2026-01-02T00:00:00.000000Z"},
            {"filename": "a-2.0rc1.tar.gz", "url": "2.0rc1/a-2.0rc1.tar.gz"},
            {"filename": "a-nightly.tar.gz", "url": "nightly/a-nightly.tar.gz"}]}"#;
        let base = url::Url::parse("https://index.example.org/simple/a/").expect("a valid address");
        let name = ProjectName::parse("a").expect("a valid name");
        let page = parse_page(PageFormat::Json, body.as_bytes(), &base, &name).expect("a page").page;
        let releases = Releases::of(&page).newest_first();
        let versions: Vec<_> = releases.0.iter().map(|release| release.version).collect();
        assert_eq!(versions, ["2.0rc1", "1.10", "1.9", "nightly"]);
        let newest = &releases.0[releases.newest().expect("there are some")];
        assert_eq!((newest.version, newest.files.len()), ("1.10", 2));
        assert_eq!(newest.uploaded(), Some("2026-01-02T00:00:00.000000Z"));
        assert_eq!(releases.find("v1.10.0"), Some(1));
    }
}

//! The versions of a project: taken from its files, compared according to PEP 440, and listed without gaps.

use std::collections::HashSet;
use std::str::FromStr as _;

use pep440_rs::Version;

use crate::address::UNKNOWN_VERSION;
use crate::page::{File, Page};
use crate::sabotage::sabotaged;

/// A version to compare: two spellings of one PEP 440 version are equal, and a string outside PEP 440 is equal only to
/// itself.
///
/// Strings outside PEP 440 sort before all versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum VersionKey {
    /// Outside PEP 440.
    Verbatim(Box<str>),
    Standard(Version),
}

impl VersionKey {
    pub(crate) fn of(text: &str) -> Self {
        Version::from_str(text).map_or_else(|_| Self::Verbatim(text.into()), Self::Standard)
    }

    /// Whether an installer takes this version without being asked for pre-releases.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Standard(version) if !version.any_prerelease())
    }
}

/// Reads a version according to PEP 440, whose numbers have no limit. One that is too large for a `u64` is read as the
/// largest: it stands where it belongs in every range, and installers that know no limit take it for a version.
pub fn read_version(text: &str) -> Option<Version> {
    match Version::from_str(text) {
        Ok(version) => Some(version),
        Err(_) if sabotaged("large-version") => None,
        Err(_) => Version::from_str(&within_limits(text)?).ok(),
    }
}

/// The text with the largest number in place of each that is larger; `None` where there is no such number.
fn within_limits(text: &str) -> Option<String> {
    let (mut limited, mut rest, mut is_limited) = (String::with_capacity(text.len()), text, false);
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let (digits, after) = from.split_at(from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len()));
        limited.push_str(before);
        if digits.parse::<u64>().is_ok() {
            limited.push_str(digits);
        } else {
            limited.push_str(&u64::MAX.to_string());
            is_limited = true;
        }
        rest = after;
    }
    limited.push_str(rest);
    is_limited.then_some(limited)
}

/// The version a file belongs to: the middle component of its address, if that is known.
pub(crate) fn of_file(file: &File) -> Option<&str> {
    Some(file.version.as_str()).filter(|segment| *segment != UNKNOWN_VERSION)
}

/// All versions of a page (PEP 700): those upstream listed, then those of files that upstream's list does not cover,
/// each once.
///
/// Where upstream keeps a file elsewhere, the version in its address here was read from its name. That is a guess, and
/// adds nothing to a list that upstream gave.
pub(crate) fn listed(page: &Page) -> Vec<&str> {
    let mut seen = HashSet::new();
    let upstream = page.versions.iter().flatten().map(String::as_str);
    let is_known = |file: &&File| page.versions.is_none() || file.url.is_none() || sabotaged("guessed-version");
    upstream
        .chain(page.files.iter().filter(is_known).filter_map(of_file))
        .filter(|text| seen.insert(VersionKey::of(text)))
        .collect()
}

/// Keeps some of the files of a page, and of its versions those that are not only of other files.
pub fn retain_files(page: &mut Page, keep: impl Fn(&File) -> bool) {
    let (kept, dropped): (Vec<File>, Vec<File>) = std::mem::take(&mut page.files).into_iter().partition(&keep);
    let of = |files: &[File]| files.iter().filter_map(of_file).map(VersionKey::of).collect();
    let (left, mut gone): (HashSet<VersionKey>, HashSet<VersionKey>) = (of(&kept), of(&dropped));
    gone.retain(|version| !left.contains(version));
    if let Some(versions) = page.versions.as_mut().filter(|_| !gone.is_empty()) {
        versions.retain(|version| !gone.contains(&VersionKey::of(version)));
    }
    page.files = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ProjectName;
    use crate::parse::{PageFormat, page as parse_page};

    fn page(body: &str) -> Page {
        let base = url::Url::parse("https://index.example.org/simple/a/").expect("a valid address");
        parse_page(PageFormat::Json, body.as_bytes(), &base, &ProjectName::parse("a").expect("a valid name"))
            .expect("a page")
            .page
    }

    #[test]
    fn spellings_of_one_version_are_one_version() {
        for (left, right) in [("1.0", "1.0.0"), ("v1.0RC1", "1.0rc1"), ("1.0-1", "1.0.post1"), ("1.0+A_b", "1.0+a.b")] {
            assert_eq!(VersionKey::of(left), VersionKey::of(right), "{left} {right}");
        }
        assert_ne!(VersionKey::of("2004d"), VersionKey::of("2004D"));
        assert!(VersionKey::of("zzz") < VersionKey::of("0"));
        assert!(VersionKey::of("1.0.post1").is_final() && VersionKey::of("1.0").is_final());
        assert!(!VersionKey::of("1.0rc1").is_final() && !VersionKey::of("1.dev0").is_final());
        assert!(!VersionKey::of("2004d").is_final());
    }

    #[test]
    fn a_version_may_have_numbers_of_any_length() {
        let large = read_version("v99999999999999999999.1").expect("a version of PEP 440");
        assert!(large > Version::new([3]) && large < read_version("1!0").expect("a version"));
        assert!(read_version("2.99999999999999999999").is_some_and(|version| version < Version::new([3])));
        for text in ["1.0.post99999999999999999999", "1.0+99999999999999999999", "99999999999999999999!1.0"] {
            assert!(read_version(text).is_some(), "{text}");
        }
        assert_eq!(read_version("1.00000000000000000000002"), Some(Version::new([1, 2])));
        for text in ["", "odd!", "99999999999999999999odd!", "2004d", "\u{e9}99999999999999999999"] {
            assert_eq!(read_version(text), None, "{text}");
        }
    }

    #[test]
    fn a_version_goes_with_the_last_of_its_files() {
        let mut page = page(
            r#"{"versions": ["1.0.0", "2.0", "3.0"], "files": [
            {"filename": "a-1.0.tar.gz", "url": "1.0/a-1.0.tar.gz"},
            {"filename": "a-2.0.tar.gz", "url": "2.0/a-2.0.tar.gz"},
            {"filename": "a-2.0-py3-none-any.whl", "url": "2.0/a-2.0-py3-none-any.whl"}]}"#,
        );
        retain_files(&mut page, |file| file.name.as_str() == "a-2.0.tar.gz");
        assert_eq!((listed(&page), page.files.len()), (vec!["2.0", "3.0"], 1));
    }

    #[test]
    fn an_old_file_name_with_two_hyphens_adds_no_version() {
        let body = r#"{"versions": ["1.0.2", "1.0.2.post2", "1.0.3"], "files": [
            {"filename": "a-1.0.2.tar.gz", "url": "1.0.2/a-1.0.2.tar.gz"},
            {"filename": "a-1.0.2-2.tar.gz", "url": "1.0.2.post2/a-1.0.2-2.tar.gz"},
            {"filename": "a-1.0.3.tar.gz", "url": "1.0.3/a-1.0.3.tar.gz"}]}"#;
        let page = page(body);
        assert_eq!(listed(&page), ["1.0.2", "1.0.2.post2", "1.0.3"]);
        let legacy = crate::render::legacy_json(&page, None, "https://index.example.org/simple/a/").expect("a version");
        let legacy: serde_json::Value = serde_json::from_slice(&legacy).expect("it is JSON");
        assert_eq!(legacy["info"]["version"], "1.0.3");
        assert_eq!(legacy["releases"]["1.0.2.post2"][0]["filename"], "a-1.0.2-2.tar.gz");
    }

    #[test]
    fn the_list_covers_every_file_once() {
        let files = r#""files": [
            {"filename": "a-1.0.tar.gz", "url": "1.0/a-1.0.tar.gz"},
            {"filename": "a-1.0.0-py3-none-any.whl", "url": "1.0/a-1.0.0-py3-none-any.whl"},
            {"filename": "a-2.0.tar.gz", "url": "2.0/a-2.0.tar.gz"},
            {"filename": "odd.egg", "url": "0.5/odd.egg"},
            {"filename": "lost.bin", "url": "/lost.bin"}]"#;
        assert_eq!(listed(&page(&format!("{{{files}}}"))), ["1.0", "2.0", "0.5"]);
        let with_list = format!(r#"{{"versions": ["3.0", "2", "2.0"], {files}}}"#);
        assert_eq!(listed(&page(&with_list)), ["3.0", "2", "1.0", "0.5"]);
    }

    #[test]
    fn a_version_that_is_only_guessed_is_not_added_to_upstreams_list() {
        let files = r#""files": [
            {"filename": "a-1.0.tar.gz", "url": "/packages/a-1.0.tar.gz"},
            {"filename": "b-7-2.0.tar.gz", "url": "/packages/b-7-2.0.tar.gz"}]"#;
        assert_eq!(listed(&page(&format!("{{{files}}}"))), ["1.0", "2.0"]);
        assert_eq!(listed(&page(&format!(r#"{{"versions": ["1.0"], {files}}}"#))), ["1.0"]);
        assert_eq!(listed(&page(&format!(r#"{{"versions": [], {files}}}"#))), Vec::<&str>::new());
    }

    #[test]
    fn the_address_decides_about_the_version_whatever_the_name_says() {
        let body = r#"{"versions": ["1.0.post2"], "files": [
            {"filename": "a-1.0-2.tar.gz", "url": "1.0.post2/a-1.0-2.tar.gz"},
            {"filename": "a-2.0-py3-none-any.whl", "url": "1.0.post2/a-2.0-py3-none-any.whl"}]}"#;
        assert_eq!(listed(&page(body)), ["1.0.post2"]);
    }
}

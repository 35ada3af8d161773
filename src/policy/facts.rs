//! What a decision looks at.

use std::borrow::Cow;
use std::str::FromStr as _;

use pep440_rs::Version;
use serde::{Deserialize, Serialize};

use super::moment::Moment;
use crate::advisories::AffectedVersions;
use wheelport_index::{FileKind, Sha256, read_version};

/// Where the files of a project come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageOrigin {
    /// From outside, through an external connection.
    External,
    /// Published to a repository of the domain.
    Internal,
}

/// The versions that a file may belong to: that of its address, and that in its name. They may differ, and a client
/// that requests a file which no page lists chooses them. So a rule that blocks needs one of them, and what lifts a
/// rule needs all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedVersions {
    versions: Vec<Version>,
    /// Those of them that are outside PEP 440.
    odd: Vec<String>,
}

impl NamedVersions {
    pub const fn none() -> Self {
        Self { versions: Vec::new(), odd: Vec::new() }
    }

    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut named, mut last) = (Self::default(), None);
        // What an address has where no version is known.
        for text in texts.into_iter().filter(|text| *text != "-") {
            // The address and the name mostly spell it alike.
            if last.replace(text) == Some(text) {
                continue;
            }
            match read_version(text) {
                Some(version) if named.versions.contains(&version) => {}
                Some(version) => named.versions.push(version),
                None => named.odd.push(text.to_owned()),
            }
        }
        named
    }

    /// One spelling for all that write the same numbers. Not for those that only mean the same: a repository may hold
    /// `2.0` of one origin beside `2.0.0` of another.
    pub fn normalised(text: &str) -> String {
        Version::from_str(text).map_or_else(|_| text.to_owned(), |version| version.to_string())
    }

    /// Whether they are one version. Else nothing says of which of them the repository speaks.
    pub fn are_one(&self) -> bool {
        self.versions.len() + self.odd.len() <= 1
    }

    /// Those that PEP 440 knows.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter()
    }

    pub(super) fn any(&self, test: impl Fn(&Version) -> bool) -> bool {
        self.versions.iter().any(test)
    }

    /// Whether one of them is affected; all are, known or not, where every version is.
    pub fn are_affected(&self, affected: &AffectedVersions) -> bool {
        affected.is_everything()
            || self.versions.iter().any(|version| affected.contains(version))
            || self.odd.iter().any(|text| affected.contains_odd(text))
    }

    pub(super) fn all(&self, test: impl Fn(&Version) -> bool) -> bool {
        self.odd.is_empty() && !self.versions.is_empty() && self.versions.iter().all(test)
    }
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub struct FileFacts<'a> {
    pub versions: Cow<'a, NamedVersions>,
    pub kind: FileKind,
    /// Not known of everything; unknown counts as external where that blocks, and as internal nowhere.
    pub origin: Option<PackageOrigin>,
    pub sha256: Option<Sha256>,
    /// When it was uploaded, as the index says.
    pub uploaded: Option<Moment>,
    /// A moment at which it was there already: it is at least that old.
    pub known_since: Option<Moment>,
    /// When the repository took its version in, where the file was there then: it is at least that old.
    pub taken_in: Option<Moment>,
    /// Whether `known_since` is the moment at which it came, because its project was known before.
    pub came_later: bool,
    /// When the first file of its release was uploaded.
    pub release_began: Option<Moment>,
    /// The licence expression of its core metadata, where that is held.
    pub licence: Option<&'a str>,
}

impl FileFacts<'_> {
    /// The moment from which its age counts.
    pub fn date(&self) -> Option<Moment> {
        self.uploaded.or_else(|| self.known_since.into_iter().chain(self.taken_in).min())
    }
}

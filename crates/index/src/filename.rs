//! File names of distributions, and the version segment of a file's address.
//!
//! A page may list files whose names follow no known pattern (new wheel formats, odd sdists). They are listed and
//! served like all others, so [`FileName`] only guarantees that the name is one safe path component. What the name says
//! about project and version is a separate question; see [`FileName::distribution`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::ProjectName;
use crate::sabotage::sabotaged;

/// The longest file name and version segment accepted, in bytes.
const MAX_LENGTH: usize = 255;

/// A file name: one path component without separators, control characters or a leading dot. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(Arc<str>);

/// The path component between project and file name in CodeArtifact's addresses, usually the version. Cheap to clone.
/// It is part of an address, not a version to compare.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionSegment(Arc<str>);

/// A string that cannot be one component of a file's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidComponent {
    /// Empty, or longer than 255 bytes.
    #[error("must have between 1 and {MAX_LENGTH} characters")]
    Length,
    /// A slash, a backslash, a control character, or another one that an address must not contain.
    #[error(
        "must not contain a slash, backslash, percent sign, quote, angle bracket, white space at an edge or control \
         character"
    )]
    Character,
    #[error("must not begin with a dot")]
    LeadingDot,
}

fn check_component(raw: &str) -> Result<(), InvalidComponent> {
    if raw.is_empty() || raw.len() > MAX_LENGTH {
        return Err(InvalidComponent::Length);
    }
    if raw.starts_with('.') {
        return Err(InvalidComponent::LeadingDot);
    }
    let banned = |c: char| {
        c.is_control() || matches!(c, '/' | '\\' | '%' | '"' | '<' | '>' | '?' | '#' | '\u{2028}' | '\u{2029}')
    };
    if raw.chars().any(banned) || raw.trim() != raw {
        return Err(InvalidComponent::Character);
    }
    Ok(())
}

macro_rules! component {
    ($type:ident) => {
        impl $type {
            /// Parses one path component, already percent-decoded.
            pub fn parse(raw: &str) -> Result<Self, InvalidComponent> {
                check_component(raw)?;
                Ok(Self(raw.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidComponent;

            fn try_from(raw: String) -> Result<Self, InvalidComponent> {
                Self::parse(&raw)
            }
        }

        impl From<$type> for String {
            fn from(component: $type) -> Self {
                component.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

component!(FileName);
component!(VersionSegment);

/// The kind of distribution that a file name announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `….whl`
    Wheel,
    /// A source distribution: `….tar.gz`, `….zip` and the older archive formats.
    Sdist,
    /// Anything else: eggs, installers, signatures, formats to come.
    Other,
}

/// The project and version that a file name announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    pub project: ProjectName,
    /// The version as the file name spells it.
    pub version: String,
    /// Never [`FileKind::Other`].
    pub kind: FileKind,
}

/// All that an installer takes for one, in any case: pip and uv install a `.tar` or a `.txz` too.
const SDIST_SUFFIXES: [&str; 14] = [
    ".tar.gz",
    ".zip",
    ".tar.bz2",
    ".tgz",
    ".tar.xz",
    ".tar.z",
    ".tar",
    ".tbz",
    ".txz",
    ".tlz",
    ".tar.lz",
    ".tar.lzma",
    ".tar.zst",
    ".tbz2",
];

impl FileName {
    /// The kind, by suffix alone.
    pub fn kind(&self) -> FileKind {
        if self.0.ends_with(".whl") {
            FileKind::Wheel
        } else if self.stem().is_some() {
            FileKind::Sdist
        } else {
            FileKind::Other
        }
    }

    /// Whether the bytes behind the name may change: an index adds variants to such a file (PEP 825).
    pub fn is_mutable(&self) -> bool {
        self.0.ends_with("-variants.json")
    }

    /// The name of a source distribution without its suffix.
    pub fn stem(&self) -> Option<&str> {
        let known = if sabotaged("sdist-suffix") { &SDIST_SUFFIXES[..6] } else { &SDIST_SUFFIXES };
        let is_suffix = |end: &str| known.iter().any(|suffix| end.eq_ignore_ascii_case(suffix));
        // The longest suffix first: `.tar.gz` is one, `.gz` is none.
        let ends = self.0.rmatch_indices('.').map(|(at, _)| self.0.split_at(at)).take(2);
        ends.filter(|(_, end)| is_suffix(end)).map(|(stem, _)| stem).last()
    }

    /// Project and version, as the specifications "Binary distribution format" and "Source distribution file name"
    /// define them; `None` if the name follows neither.
    ///
    /// An old sdist name may have a hyphen in the project or the version. The version then begins after the last hyphen
    /// before a digit, or before a `v` and a digit.
    pub fn distribution(&self) -> Option<Distribution> {
        let (project, version) = self.announced()?;
        let project = ProjectName::parse(project).ok()?;
        Some(Distribution { project, version: version.to_owned(), kind: self.kind() })
    }

    /// Project and version as the name spells them; what stands for the project may be no name of one.
    fn announced(&self) -> Option<(&str, &str)> {
        match self.kind() {
            FileKind::Wheel => {
                let mut parts = self.0.strip_suffix(".whl")?.split('-');
                let (project, version) = (parts.next()?, parts.next()?);
                let mut others = 0;
                let is_whole = !project.is_empty()
                    && !version.is_empty()
                    && parts.all(|part| {
                        others += 1;
                        !part.is_empty()
                    });
                // Three tags; with a build tag there are four, and one more with the label of a variant (PEP 825).
                (is_whole && matches!(others, 3..=5)).then_some((project, version))
            }
            FileKind::Sdist => {
                let stem = self.stem()?;
                let split = stem.match_indices('-').map(|(at, _)| at).rfind(|at| begins_version(&stem[at + 1..]))?;
                Some((&stem[..split], &stem[split + 1..]))
            }
            FileKind::Other => None,
        }
    }

    /// The version that the name announces for a file of this project; `None` if it follows neither specification.
    ///
    /// The project tells where an old sdist name with several hyphens splits: `cffi-1.0.2-2.tar.gz` is version
    /// `1.0.2-2` of `cffi`, and [`FileName::distribution`] cannot know that.
    pub fn version_of(&self, project: &ProjectName) -> Option<&str> {
        let announced = || self.announced().filter(|(project, _)| ProjectName::check(project).is_ok());
        self.own_version(project).or_else(|| announced().map(|(_, version)| version))
    }

    /// Whether the name is that of a distribution of this project.
    pub(crate) fn belongs_to(&self, project: &ProjectName) -> bool {
        self.own_version(project).is_some() || self.distribution().is_some_and(|found| found.project == *project)
    }

    /// The version in the name of a source distribution of this project.
    fn own_version(&self, project: &ProjectName) -> Option<&str> {
        let stem = self.stem().filter(|_| !sabotaged("old-file-name"))?;
        let mut splits = stem.match_indices('-').map(|(at, _)| (&stem[..at], &stem[at + 1..]));
        let is_own = |name: &str| ProjectName::parse(name).is_ok_and(|name| name == *project);
        splits.find(|(name, version)| begins_version(version) && is_own(name)).map(|(_, version)| version)
    }
}

fn begins_version(text: &str) -> bool {
    text.strip_prefix(['v', 'V']).unwrap_or(text).starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(raw: &str) -> Option<(String, String)> {
        let parsed = FileName::parse(raw).ok()?.distribution()?;
        Some((parsed.project.to_string(), parsed.version))
    }

    #[test]
    fn names_announce_project_and_version() {
        let expect = |project: &str, version: &str| Some((project.to_owned(), version.to_owned()));
        assert_eq!(distribution("Flask-0.1.tar.gz"), expect("flask", "0.1"));
        assert_eq!(distribution("zope.interface-5.0-py3-none-any.whl"), expect("zope-interface", "5.0"));
        assert_eq!(distribution("torch-2.1.0+cu118-1-cp311-cp311-linux_x86_64.whl"), expect("torch", "2.1.0+cu118"));
        assert_eq!(distribution("python-dateutil-2.9.0.tar.gz"), expect("python-dateutil", "2.9.0"));
        assert_eq!(distribution("a-1.0-1-py3-none-any-x86_64_v3.whl"), expect("a", "1.0"));
        assert_eq!(distribution("a-1.0-1-py3-none-any-x-y.whl"), None);
        assert_eq!(distribution("not_a_wheel-1.0.whl"), None);
        assert_eq!(distribution("README.txt"), None);
    }

    #[test]
    fn whatever_installers_take_for_a_source_distribution_is_one() {
        for suffix in [
            "tar.gz", "tgz", "tar", "zip", "tar.bz2", "tbz", "tbz2", "tar.xz", "txz", "tlz", "tar.lz", "tar.lzma",
            "tar.zst", "tar.Z", "TAR.gz", "Zip",
        ] {
            let file = FileName::parse(&format!("a-2.1.{suffix}")).expect("a valid name");
            let of_a = ProjectName::parse("a").expect("a valid name");
            let found = (file.kind(), file.stem(), file.version_of(&of_a));
            assert_eq!(found, (FileKind::Sdist, Some("a-2.1"), Some("2.1")), "{suffix}");
        }
        for other in ["a-2.1.gz", "a-2.1.tar.gz.asc", "a-2.1.egg", "a-2.1.xtar", "a-2.1.WHL", "tar"] {
            assert_eq!(FileName::parse(other).map(|file| file.kind()), Ok(FileKind::Other), "{other}");
        }
        assert_eq!(distribution("a-V2.tar.gz"), Some(("a".to_owned(), "V2".to_owned())));
        assert_eq!(distribution("a-1.0-vista.tar.gz"), Some(("a".to_owned(), "1.0-vista".to_owned())));
    }

    #[test]
    fn the_project_tells_where_an_old_name_splits() {
        let version = |raw: &str, project: &str| {
            let project = ProjectName::parse(project).expect("a valid name");
            FileName::parse(raw).expect("a valid name").version_of(&project).map(str::to_owned)
        };
        for (raw, project, expected) in [
            ("cffi-1.0.2-2.tar.gz", "cffi", Some("1.0.2-2")),
            ("Backports.Zoneinfo-0.2.1.zip", "backports-zoneinfo", Some("0.2.1")),
            ("a-2-1.0.tar.gz", "a-2", Some("1.0")),
            ("a-2-1.0-py3-none-any.whl", "a", Some("2")),
            ("a-1.0-2-py3-none-any.whl", "a", Some("1.0")),
            ("a-b-1.0.tar.gz", "a", Some("1.0")),
            ("a-1.0.egg", "a", None),
        ] {
            assert_eq!(version(raw, project).as_deref(), expected, "{raw} of {project}");
        }
    }

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        for raw in ["", "..", ".hidden", "a/b", "a\\b", "a%2fb", "a\0b", "a\nb", " a", "a\"b", &"x".repeat(256)] {
            assert!(FileName::parse(raw).is_err(), "{raw:?}");
        }
        assert!(FileName::parse("odd name (1)+é.whl").is_ok());
    }
}

//! Rules, exceptions and named dates as a person writes them. What is read here is valid by itself; whether it fits the
//! rest is for `rules.rs` to say.

use std::path::PathBuf;
use std::str::FromStr as _;

use pep440_rs::{Operator, Version, VersionSpecifier, VersionSpecifiers};
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::duration::AgeLimit;
use super::facts::PackageOrigin;
use super::globs::{LicenceGlob, ProjectGlob};
use super::moment::{Expiry, Moment};
use super::{MALWARE, PRIVATE_NAMES};
use wheelport_index::{FileKind, Sha256};
use wheelport_runtime::sabotaged;

/// The longest name of a rule or of a date, in characters.
const LONGEST_NAME: usize = 64;
/// The longest text shown to people, in bytes.
const LONGEST_TEXT: usize = 500;

/// The `[policy]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyTable {
    /// A directory of `*.toml` files with further rules and exceptions.
    pub directory: Option<PathBuf>,
    /// Names that are never served from an external origin.
    pub private: Vec<ProjectGlob>,
}

/// What a file of rules holds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RuleFile {
    pub rule: Vec<RuleTable>,
    pub exception: Vec<ExceptionTable>,
}

/// What the configuration file holds of rules; everything else in it is left to others.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConfiguredRules {
    pub rule: Vec<RuleTable>,
    pub exception: Vec<ExceptionTable>,
    pub freeze: Vec<FreezeTable>,
}

/// A `[[rule]]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleTable {
    pub name: Spanned<Label>,
    pub routes: Option<Vec<Spanned<String>>>,
    pub projects: Option<Vec<ProjectGlob>>,
    pub versions: Option<VersionRange>,
    pub kind: Option<RuleKind>,
    pub origin: Option<PackageOrigin>,
    pub sha256: Option<Vec<KnownBytes>>,
    pub younger_than: Option<AgeLimit>,
    pub late_upload: Option<AgeLimit>,
    pub uploaded_before: Option<Moment>,
    pub uploaded_after: Option<Moment>,
    pub licence: Option<Vec<LicenceGlob>>,
    #[serde(default)]
    pub mode: RuleMode,
    pub reason: Option<ShownText>,
    pub help: Option<ShownText>,
}

/// An `[[exception]]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExceptionTable {
    pub routes: Option<Vec<Spanned<String>>>,
    pub projects: Vec<ProjectGlob>,
    pub versions: Option<VersionRange>,
    pub reason: ShownText,
    pub by: ShownText,
    pub expires: Expiry,
    pub advisory: Option<ShownText>,
}

/// A `[[freeze]]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FreezeTable {
    pub name: Spanned<Label>,
    pub at: Moment,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RuleMode {
    /// The page lists the file as yanked, with the reason.
    #[default]
    Explain,
    /// The page does not list the file.
    Hide,
    /// The file is let through, and counted.
    Audit,
    /// The file is let through, whatever later rules say.
    Allow,
}

/// Which kind of files a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RuleKind {
    Wheel,
    Sdist,
    Other,
}

impl RuleKind {
    pub(super) const fn is(self, kind: FileKind) -> bool {
        matches!(
            (self, kind),
            (Self::Wheel, FileKind::Wheel) | (Self::Sdist, FileKind::Sdist) | (Self::Other, FileKind::Other)
        )
    }
}

/// The name of a rule or of a date: it stands in addresses, logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label(pub String);

/// A text that is shown to people: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShownText(pub String);

/// Versions according to PEP 440.
#[derive(Debug, Clone)]
pub(super) struct VersionRange {
    specifiers: VersionSpecifiers,
    /// The version, where one is all that they allow. Rules name hundreds in this way.
    exact: Option<Version>,
}

/// A digest.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownBytes(pub Sha256);

impl Label {
    fn parse(text: String) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text == PRIVATE_NAMES {
            return Err(format!("`{PRIVATE_NAMES}` is what guards private names is called; choose another name"));
        }
        if text == MALWARE {
            return Err(format!("`{MALWARE}` is what refuses reported malware is called; choose another name"));
        }
        let is_good = (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with('.');
        is_good.then_some(Self(text)).ok_or_else(|| {
            format!("a name has between 1 and {LONGEST_NAME} letters, digits, `-`, `_` and `.`, and begins with no dot")
        })
    }
}

impl ShownText {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let is_good = (1..=LONGEST_TEXT).contains(&text.len()) && !text.chars().any(char::is_control);
        is_good
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| format!("this is one line of between 1 and {LONGEST_TEXT} bytes"))
    }
}

impl VersionRange {
    fn new(specifiers: VersionSpecifiers) -> Self {
        let exact = match &specifiers[..] {
            [only] if *only.operator() == Operator::Equal && only.version().local().is_empty() => Some(only.version()),
            _ => None,
        };
        Self { exact: exact.cloned(), specifiers }
    }

    /// The version, where one is all that they allow, with its local ones.
    pub(super) fn exact(&self) -> Option<&Version> {
        self.exact.as_ref()
    }

    pub(super) fn contains(&self, version: &Version) -> bool {
        match &self.exact {
            Some(exact) if version.local().is_empty() => exact == version,
            _ => self.specifiers.iter().all(|specifier| holds(specifier, version)),
        }
    }

    /// As a person writes it. An empty text is more likely a value that is missing than every version.
    pub(super) fn written(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() && !sabotaged("empty-versions") {
            return Err("this is empty; leave it out where all versions are meant".to_owned());
        }
        Self::parse(text)
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        VersionSpecifiers::from_str(text).map(Self::new).map_err(|error| {
            if Version::from_str(text.trim()).is_ok() {
                return format!("a version alone does not say which are meant; write \"=={}\"", text.trim());
            }
            // Of several lines, the first says what is wrong.
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default().trim_end_matches(':');
            format!("not versions as in \">=2.33, <3\": {reason}")
        })
    }
}

/// Whether a specifier allows a version, as PEP 440 says it and pip reads it. The library compares a prefix only as far
/// as a version has numbers, so that `2` begins with `2.1`, and takes all pre- and post-releases with the same numbers
/// for those of the bound, even in another epoch.
fn holds(specifier: &VersionSpecifier, version: &Version) -> bool {
    let (bound, public) = (specifier.version(), version.clone().without_local());
    match specifier.operator() {
        _ if sabotaged("version-specifiers") => specifier.contains(version),
        Operator::EqualStar => begins_with(version, bound),
        Operator::NotEqualStar => !begins_with(version, bound),
        Operator::LessThan => public < *bound && (bound.any_prerelease() || !is_before_release(&public, bound)),
        Operator::GreaterThan => {
            public > *bound && (bound.is_dev() || bound.is_post() || !is_after_release(&public, bound))
        }
        _ => specifier.contains(version),
    }
}

/// Whether a version is a pre-release of another one.
fn is_before_release(version: &Version, of: &Version) -> bool {
    have_same_numbers(version, of) && version.any_prerelease() && (!of.is_post() || version.post() == of.post())
}

/// Whether a version is a post-release of another one.
fn is_after_release(version: &Version, of: &Version) -> bool {
    have_same_numbers(version, of) && version.is_post() && version.pre() == of.pre()
}

fn have_same_numbers(one: &Version, other: &Version) -> bool {
    begins_with(one, other) && begins_with(other, one)
}

/// Whether the numbers of a version, with as many zeros behind them as it takes, begin with those of another one.
fn begins_with(version: &Version, prefix: &Version) -> bool {
    let mut numbers = version.release().iter().chain(std::iter::repeat(&0));
    version.epoch() == prefix.epoch() && prefix.release().iter().all(|part| numbers.next() == Some(part))
}

macro_rules! from_text {
    ($($type:ident: $parse:expr;)*) => {
        $(impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let parse: fn(String) -> Result<Self, String> = $parse;
                parse(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        })*
    };
}

from_text! {
    Label: Self::parse;
    ShownText: |text| Self::parse(&text);
    VersionRange: |text| Self::written(&text);
    KnownBytes: |text| text.parse().map(Self).map_err(|_| "a SHA-256 has 64 hexadecimal digits".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_index::read_version;

    #[test]
    fn versions_are_those_that_pip_takes_for_them() {
        for (specifier, inside, outside) in [
            ("==2.1.*", "2.1 2.1.0.1 2.1rc1 2.1.post1 2.1+cpu", "2 2.0 3 2.10 1!2.1"),
            ("==2.0.*", "2 2.0rc1 2.0.3", "2.1 1!2"),
            ("!=2.1.*", "2 2.0 3 1!2.1", "2.1 2.1rc1 2.1.7"),
            ("~=2.1.3", "2.1.3 2.1.4", "2 2.1 2.1.2 2.2"),
            ("<2.1rc2", "2.1rc1 2.1.dev1 2.1rc1+cpu 2.0", "2.1rc2 2.1 2.1.post1 1!0"),
            ("<2.1", "2.0 2.0.post1", "2.1rc1 2.1.dev1 2.1 1!0"),
            ("<2.1.post1", "2.1 2.1rc1", "2.1.post1 2.1.post1.dev1"),
            ("<1!2", "2.0rc1 3 1!1", "1!2rc1 1!2"),
            (">2.1", "2.2 2.1.1.post1 1!0", "2.1+cpu 2.1.post1 2.1.0.post1 2.1"),
            (">2.1rc1", "2.1rc2 2.1 2.1.post1", "2.1rc1.post1 2.1rc1"),
            (">2.1.post1", "2.1.post2", "2.1.post1+cpu 2.1"),
            (">=2.1", "2.1+cpu 99999999999999999999 2.99999999999999999999", "2.1rc1 2"),
            ("<=2.1", "2.1+cpu 2.1rc1", "2.1.post1 2.99999999999999999999"),
        ] {
            let range = VersionRange::parse(specifier).expect("versions");
            let contains = |text: &&str| range.contains(&read_version(text).expect("a version"));
            let (missed, wrong) = (inside.split(' ').find(|text| !contains(text)), outside.split(' ').find(contains));
            assert_eq!((missed, wrong), (None, None), "{specifier}");
        }
    }

    #[test]
    fn one_version_alone_means_the_same_as_its_specifier() {
        let versions =
            ["1.0", "1", "1.0.0", "1.0.1", "1.0rc1", "1.0.post1", "1.0.dev1", "1!1.0", "1.0+cpu", "1.0+cuda"];
        for text in ["==1.0", "==1", "==1.0+cpu", "==1.0.*", "===1.0", "==1.0, !=1.0", ">=1.0", "==1.0rc1", "==1!1"] {
            let range = VersionRange::parse(text).expect("versions");
            for version in versions.map(|version| Version::from_str(version).expect("a version")) {
                let all = range.specifiers.iter().all(|specifier| holds(specifier, &version));
                assert_eq!(range.contains(&version), all, "{text} and {version}");
            }
        }
    }
}

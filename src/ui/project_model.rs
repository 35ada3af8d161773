//! What there is to say of a project and one of its versions. Its serialised form is the JSON beside the page.

use serde::Serialize;

use super::catalog::Place;
use wheelport_runtime::sabotaged;

/// A project.
#[derive(Debug, Serialize)]
pub(crate) struct ProjectModel {
    pub(crate) route: String,
    /// The date of the index, as it stands in the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<String>,
    pub(crate) project: String,
    /// The version that is shown: the one of the address, or the newest that an installer would choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<String>,
    /// `private` or `external`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<&'static str>,
    /// What the index says of the project, where that is not that it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<StatusEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requires_python: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) licence: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) authors: Vec<Person>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<LinkEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dependencies: Vec<DependencyGroup>,
    /// Why core metadata, and with it what is above, is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata_missing: Option<String>,
    pub(crate) install: Vec<InstallLine>,
    /// Of the version that is shown.
    pub(crate) files: Vec<ListedFile>,
    /// Files that are left off.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) further_files: usize,
    /// The newest first.
    pub(crate) versions: Vec<ReleaseEntry>,
    /// Versions that are left off.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) further_versions: usize,
    /// As it is written, for the JSON alone: the page has it rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<DescriptionText>,
    /// Whether the address names a version.
    #[serde(skip)]
    pub(crate) is_version_page: bool,
    /// Whether rules decide about files.
    #[serde(skip)]
    pub(crate) has_rules: bool,
    #[serde(skip)]
    pub(crate) place: Place,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with this shape")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The description of a version, or its beginning.
#[derive(Debug, Serialize)]
pub(crate) struct DescriptionText {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    pub(crate) text: String,
}

/// The status of a project (PEP 792).
#[derive(Debug, Serialize)]
pub(crate) struct StatusEntry {
    pub(crate) status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// One command to copy.
#[derive(Debug, Serialize)]
pub(crate) struct InstallLine {
    pub(crate) tool: &'static str,
    pub(crate) line: String,
}

/// A person or a group.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Person {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// An address that may stand in a `mailto:` link as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
}

/// A link of the project, `http` or `https`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LinkEntry {
    pub(crate) label: String,
    pub(crate) url: String,
}

/// What a version needs, in any case or for one of its extras.
#[derive(Debug, Serialize)]
pub(crate) struct DependencyGroup {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extra: Option<String>,
    pub(crate) requires: Vec<DependencyEntry>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DependencyEntry {
    pub(crate) project: String,
    /// Extras and versions, as they are written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) versions: String,
    /// When it is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) marker: Option<String>,
}

/// What a rule decides against a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RefusalEntry {
    pub(crate) rule: String,
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<String>,
    /// What people can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

/// A version.
#[derive(Debug, Serialize)]
pub(crate) struct ReleaseEntry {
    pub(crate) version: String,
    /// The version as one segment of an address.
    #[serde(skip)]
    pub(crate) segment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uploaded: Option<String>,
    /// How many there are.
    pub(crate) files: usize,
    /// Whether installers take it only when they are asked for pre-releases.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_prerelease: bool,
    /// Whether it is the one that an installer would choose.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_newest: bool,
    /// The reason, which may be empty, where all files are yanked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) yanked: Option<String>,
    /// Why the first of the refused files is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<RefusalEntry>,
    /// How many files are refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) refused_files: usize,
}

/// A file.
#[derive(Debug, Serialize)]
pub(crate) struct ListedFile {
    pub(crate) file: String,
    /// `wheel`, `sdist` or `other`.
    pub(crate) kind: &'static str,
    /// Where it can be installed, in words.
    pub(crate) words: String,
    /// Below the address of the index.
    pub(crate) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uploaded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requires_python: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    /// Whether it is stored here.
    pub(crate) cached: bool,
    /// The reason, which may be empty, where it is yanked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) yanked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<RefusalEntry>,
    /// The exception that lifts the rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exception: Option<String>,
    /// Rules that only look.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) audited: Vec<String>,
    /// Advisories that name a vulnerability of its version. They block nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) vulnerabilities: Vec<String>,
    /// The date from which its age counts for rules, and where that is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dated: Option<String>,
}

/// Whether a text is a link that browsers may be given.
pub(crate) fn is_web_address(text: &str) -> bool {
    let is_web = |url: url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    url::Url::parse(text).is_ok_and(is_web) || sabotaged("project-link-schemes")
}

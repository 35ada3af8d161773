//! The model of one project's page: everything the index says about the project's files.
//!
//! One record, two formats: `parse` reads it from upstream's HTML or JSON, `render` writes either format. Keys that the
//! model does not know travel along in `extra`, so that nothing is lost between JSON in and JSON out.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::digest::Hashes;
use crate::extra::Extra;
use crate::filename::{FileName, VersionSegment};
use crate::name::ProjectName;

/// The status of a project whose files must not be offered.
const QUARANTINED: &str = "quarantined";

/// The address of a file below a project's page: `{project}/{version}/{file}`, CodeArtifact's own layout.
///
/// A client can fetch it without the page, and it stays the same as long as the file exists.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileAddress {
    pub project: ProjectName,
    /// The middle component, usually the version.
    pub version: VersionSegment,
    pub file: FileName,
}

/// One project's page (PEP 503, 691, 700).
///
/// The serde form is for a page on disk. It is not the JSON of the simple API, which `render` writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    pub name: ProjectName,
    /// The `meta.api-version` upstream declared, as (major, minor); (1, 0) if it declared none.
    pub api_version: (u16, u16),
    /// The versions upstream listed (PEP 700), in its order; `None` if it listed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Vec<String>>,
    /// Every file, in upstream's order. File names are unique: the first entry of a name wins.
    pub files: Vec<File>,
    /// The project's status (PEP 792).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ProjectStatus>,
    /// Unknown keys of `meta`.
    #[serde(default, skip_serializing_if = "Extra::is_empty")]
    pub meta_extra: Extra,
    /// Unknown keys of the page itself.
    #[serde(default, skip_serializing_if = "Extra::is_empty")]
    pub extra: Extra,
}

/// One file of a page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    pub name: FileName,
    /// The middle component of the file's address here.
    pub version: VersionSegment,
    /// Upstream's address of the file, unless that is `{version}/{file}` below the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Box<Url>>,
    pub hashes: Hashes,
    /// `requires-python`, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_python: Option<String>,
    /// The size in bytes (PEP 700).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The upload time (PEP 700), only if it is a valid `yyyy-mm-ddThh:mm:ss[.ffffff]Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_time: Option<String>,
    /// The yank mark (PEP 592).
    #[serde(default, skip_serializing_if = "Yanked::is_no")]
    pub yanked: Yanked,
    /// What upstream says about the file's core metadata (PEP 658, 714).
    #[serde(default, skip_serializing_if = "CoreMetadata::is_absent")]
    pub core_metadata: CoreMetadata,
    /// Whether upstream says that a detached signature exists (PEP 503).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpg_sig: Option<bool>,
    /// The provenance URL (PEP 740), or an explicit null.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "explicit_null")]
    pub provenance: Option<Option<String>>,
    /// Unknown keys of a JSON file entry, or unknown `data-` attributes of an HTML anchor under their full names.
    #[serde(default, skip_serializing_if = "Extra::is_empty")]
    pub extra: Extra,
}

/// The yank mark of a file (PEP 592).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Yanked {
    #[default]
    No,
    /// Without a reason.
    Yes,
    /// With a reason, never empty.
    Because(String),
}

impl Yanked {
    pub fn is_no(&self) -> bool {
        *self == Self::No
    }
}

/// What the index announces about a file's core metadata (PEP 658, 714).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoreMetadata {
    #[default]
    Absent,
    /// A client can fetch it; its digest is unknown.
    Available,
    /// A client can fetch it, and it has these digests.
    Hashed(Hashes),
}

impl CoreMetadata {
    pub fn is_absent(&self) -> bool {
        *self == Self::Absent
    }
}

/// The status of a project (PEP 792).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectStatus {
    /// `active`, `archived`, `quarantined`, `deprecated`, or a future one.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl ProjectStatus {
    /// None of the project's files may be offered.
    pub fn quarantined(reason: String) -> Self {
        Self { status: QUARANTINED.to_owned(), reason: Some(reason) }
    }
}

/// The project list (PEP 503 root page, PEP 691).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectList {
    /// In ascending order.
    pub projects: Vec<ProjectName>,
}

impl Page {
    pub fn empty(name: ProjectName) -> Self {
        Self {
            name,
            api_version: (1, 1),
            versions: None,
            files: Vec::new(),
            status: None,
            meta_extra: Extra::default(),
            extra: Extra::default(),
        }
    }

    /// Whether the project's files must not be offered, whatever the page lists (PEP 792).
    pub fn is_quarantined(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.status == QUARANTINED)
    }

    /// The position in `files` of every file name.
    pub fn index(&self) -> HashMap<FileName, usize, RandomState> {
        self.files.iter().enumerate().map(|(position, file)| (file.name.clone(), position)).collect()
    }
}

/// Keeps `null` and absence apart.
mod explicit_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::ref_option, clippy::option_option, reason = "serde calls it with this shape")]
    pub(super) fn serialize<S: Serializer>(value: &Option<Option<String>>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(serializer)
    }

    #[allow(clippy::option_option, reason = "the outer level says that the key was there")]
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
        Option::<String>::deserialize(deserializer).map(Some)
    }
}

//! The nouns of the emulated service, as they are kept in memory and in the JSON files on disk.
//!
//! Plain data: no I/O and no clock here. Both planes read these records; only the store changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use super::keys::DomainKey;
use wheelport_index::{FileName, ProjectName, Sha256, Yanked};

/// The one external connection there is for this format.
pub(crate) const PUBLIC_CONNECTION: &str = "public:pypi";

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Timestamp(pub u64);

impl Timestamp {
    /// Seconds since the epoch, as the control plane writes times.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into 52 bits")]
    pub(crate) fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// `yyyy-mm-ddThh:mm:ss.ffffffZ`, as the simple index writes times (PEP 700).
    pub(crate) fn rfc3339(self) -> String {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.0);
        humantime::format_rfc3339_micros(time).to_string()
    }
}

/// A resource policy document with the revision that optimistic updates name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResourcePolicy {
    /// Changes with every put.
    pub revision: String,
    /// The JSON text as it was given, at most 7168 bytes.
    pub document: String,
}

/// A domain without its repositories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Domain {
    pub key: DomainKey,
    /// The ARN of the key that encrypts it.
    pub encryption_key: String,
    pub created: Timestamp,
    #[serde(default)]
    pub policy: Option<ResourcePolicy>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// A repository without its packages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Repository {
    /// The name within its domain.
    pub name: String,
    /// The account that manages it.
    pub administrator_account: String,
    #[serde(default)]
    pub description: Option<String>,
    pub created: Timestamp,
    /// Upstream repositories of the same domain in order of priority, at most ten.
    #[serde(default)]
    pub upstreams: Vec<String>,
    /// `public:pypi`, never together with upstreams.
    #[serde(default)]
    pub external_connection: Option<String>,
    #[serde(default)]
    pub policy: Option<ResourcePolicy>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum OriginRestriction {
    Allow,
    Block,
}

impl OriginRestriction {
    /// `ALLOW` or `BLOCK`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Block => "BLOCK",
        }
    }
}

impl FromStr for OriginRestriction {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "ALLOW" => Ok(Self::Allow),
            "BLOCK" => Ok(Self::Block),
            _ => Err(UnknownWord),
        }
    }
}

/// A word outside an enumeration of the service model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of the words allowed here")]
pub(crate) struct UnknownWord;

/// A package's origin controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OriginRestrictions {
    /// May versions be published directly?
    pub publish: OriginRestriction,
    /// May versions come from upstreams and the external connection?
    pub upstream: OriginRestriction,
}

impl OriginRestrictions {
    /// What a package gets whose first version was published.
    pub(crate) const PUBLISHED: Self = Self { publish: OriginRestriction::Allow, upstream: OriginRestriction::Block };
    /// What a package gets whose first version was imported.
    pub(crate) const IMPORTED: Self = Self { publish: OriginRestriction::Block, upstream: OriginRestriction::Allow };
}

/// A package in one repository, with every version that is retained there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Package {
    #[serde(with = "project_name")]
    pub name: ProjectName,
    pub restrictions: OriginRestrictions,
    /// Versions by their spelling; may be empty when only the controls were set.
    #[serde(default)]
    pub versions: BTreeMap<String, PackageVersion>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum VersionStatus {
    /// Both listed and downloadable.
    Published,
    /// Incomplete; the `pypi` format never has it.
    Unfinished,
    /// Not listed, still downloadable.
    Unlisted,
    /// Neither listed nor downloadable; may come back.
    Archived,
    /// The bytes are gone for good.
    Disposed,
    /// Never stored, only returned: the version is gone and may be published again.
    Deleted,
}

impl VersionStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Published => "Published",
            Self::Unfinished => "Unfinished",
            Self::Unlisted => "Unlisted",
            Self::Archived => "Archived",
            Self::Disposed => "Disposed",
            Self::Deleted => "Deleted",
        }
    }

    /// Whether the version's files are on the project's page.
    pub(crate) fn is_listed(self) -> bool {
        self == Self::Published
    }

    /// Whether the version's files can be downloaded.
    pub(crate) fn is_downloadable(self) -> bool {
        matches!(self, Self::Published | Self::Unlisted)
    }
}

impl FromStr for VersionStatus {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Published, Self::Unfinished, Self::Unlisted, Self::Archived, Self::Disposed, Self::Deleted]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(UnknownWord)
    }
}

/// Where a version came into the domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VersionOrigin {
    /// Published directly to this repository (`originType` INTERNAL).
    Internal { repository: String },
    /// Imported through this external connection (`originType` EXTERNAL).
    External {
        /// Always `public:pypi` in this emulator.
        connection: String,
    },
}

impl VersionOrigin {
    /// `INTERNAL` or `EXTERNAL`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Internal { .. } => "INTERNAL",
            Self::External { .. } => "EXTERNAL",
        }
    }
}

/// The core metadata of a version, as far as the service returns it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionMetadata {
    #[serde(default)]
    pub summary: Option<String>,
    #[serde(default)]
    pub home_page: Option<String>,
    /// The source repository among the project URLs.
    #[serde(default)]
    pub source_repository: Option<String>,
    /// License expressions or names.
    #[serde(default)]
    pub licenses: Vec<String>,
    /// `Description`: the readme.
    #[serde(default)]
    pub description: Option<String>,
    /// `Requires-Dist`, verbatim and in order.
    #[serde(default)]
    pub requires_dist: Vec<String>,
}

/// One version of a package in one repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PackageVersion {
    /// As the publisher spelled it.
    pub version: String,
    /// Changes with every change of the assets.
    pub revision: String,
    pub status: VersionStatus,
    /// When it was published here or imported.
    pub published: Timestamp,
    /// Where it came from.
    pub origin: VersionOrigin,
    /// The core metadata; empty for imported versions whose bytes were never fetched.
    #[serde(default)]
    pub metadata: VersionMetadata,
    /// Its files by name.
    pub assets: BTreeMap<FileName, Asset>,
}

impl PackageVersion {
    /// Computes the revision from the names and digests of the assets; call it after every change of `assets`.
    pub(crate) fn renew_revision(&mut self) {
        use std::fmt::Write as _;
        let mut text = format!("{}\n", self.version);
        for asset in self.assets.values() {
            let _ = writeln!(text, "{} {:?}", asset.name, asset.hashes.sha256);
        }
        let mut revision = Sha256::of(text.as_bytes()).to_string().to_uppercase();
        revision.truncate(44);
        self.revision = revision;
    }
}

/// The digests of an asset, lower-case hexadecimal. An imported asset whose bytes have not been fetched yet has only
/// those that the public index named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AssetHashes {
    #[serde(default)]
    pub md5: Option<String>,
    #[serde(default)]
    pub sha1: Option<String>,
    #[serde(default)]
    pub sha256: Option<String>,
    #[serde(default)]
    pub sha512: Option<String>,
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asset {
    /// The file name, as uploaded.
    pub name: FileName,
    /// Size in bytes, where known.
    pub size: Option<u64>,
    pub hashes: AssetHashes,
    /// When this record was made; lags count from it.
    pub recorded: Timestamp,
    /// Upload time as PEP 700 writes it: here for hosted files, at the public index for imported ones.
    #[serde(default)]
    pub upload_time: Option<String>,
    #[serde(default)]
    pub requires_python: Option<String>,
    /// The yank mark; only imported files can have one.
    #[serde(default)]
    pub yanked: Yanked,
    /// Where the bytes can be fetched, for imported files.
    #[serde(default)]
    pub source: Option<Url>,
    /// Whether the bytes are on disk (at `hashes.sha256`).
    pub stored: bool,
}

impl Asset {
    /// The address of the bytes in the blob store, if they are there.
    pub(crate) fn blob(&self) -> Option<Sha256> {
        self.stored.then(|| self.hashes.sha256.as_deref()?.parse().ok()).flatten()
    }
}

/// The actions that a principal may perform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllowedActions {
    /// Every action is allowed.
    All,
    /// These actions, such as `codeartifact:ReadFromRepository`; a final `*` matches any rest.
    Only(BTreeSet<String>),
}

impl AllowedActions {
    /// Whether an action, such as `codeartifact:PublishPackageVersion`, is allowed.
    pub fn allows(&self, action: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(actions) => actions.iter().any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) => action.starts_with(prefix),
                None => allowed == action,
            }),
        }
    }
}

mod project_name {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use wheelport_index::ProjectName;

    pub(super) fn serialize<S: Serializer>(name: &ProjectName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ProjectName, D::Error> {
        let text = String::deserialize(deserializer)?;
        ProjectName::parse(&text).map_err(serde::de::Error::custom)
    }
}

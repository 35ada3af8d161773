//! The nouns of the emulated service, as they are kept in memory and in the JSON files on disk.
//!
//! Plain data: no I/O and no clock here. Both planes read these records; only the store changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use super::keys::DomainKey;
use wheelport_index::{FileName, ProjectName, Sha256, Yanked};

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Seconds since the epoch, as the control plane writes times.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into 52 bits")]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// `yyyy-mm-ddThh:mm:ss.ffffffZ`, as the simple index writes times (PEP 700).
    pub fn rfc3339(self) -> String {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.0);
        humantime::format_rfc3339_micros(time).to_string()
    }
}

/// A resource policy document with the revision that optimistic updates name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Changes with every put.
    pub revision: String,
    /// The JSON text as it was given, at most 7168 bytes.
    pub document: String,
}

/// A domain without its repositories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// Owner and name.
    pub key: DomainKey,
    /// The ARN of the key that encrypts it.
    pub encryption_key: String,
    /// When it was created.
    pub created: Timestamp,
    /// Its permissions policy.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// A repository without its packages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repository {
    /// The name within its domain.
    pub name: String,
    /// The account that manages it.
    pub administrator_account: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// When it was created.
    pub created: Timestamp,
    /// Upstream repositories of the same domain in order of priority, at most ten.
    #[serde(default)]
    pub upstreams: Vec<String>,
    /// `public:pypi`, never together with upstreams.
    #[serde(default)]
    pub external_connection: Option<String>,
    /// Its permissions policy.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// One origin restriction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Restriction {
    /// May come this way.
    Allow,
    /// May not.
    Block,
}

impl Restriction {
    /// `ALLOW` or `BLOCK`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Block => "BLOCK",
        }
    }
}

impl FromStr for Restriction {
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
pub struct UnknownWord;

/// A package's origin controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restrictions {
    /// May versions be published directly?
    pub publish: Restriction,
    /// May versions come from upstreams and the external connection?
    pub upstream: Restriction,
}

impl Restrictions {
    /// What a package gets whose first version was published.
    pub const PUBLISHED: Self = Self { publish: Restriction::Allow, upstream: Restriction::Block };
    /// What a package gets whose first version was imported.
    pub const IMPORTED: Self = Self { publish: Restriction::Block, upstream: Restriction::Allow };
}

/// A package in one repository, with every version that is retained there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Package {
    /// The normalised name.
    #[serde(with = "project_name")]
    pub name: ProjectName,
    /// The origin controls.
    pub restrictions: Restrictions,
    /// Versions by their spelling; may be empty when only the controls were set.
    #[serde(default)]
    pub versions: BTreeMap<String, Version>,
}

/// A version's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VersionStatus {
    /// Listed and downloadable.
    Published,
    /// In the making; not for the `pypi` format.
    Unfinished,
    /// Not listed, still downloadable.
    Unlisted,
    /// Neither listed nor downloadable; may come back.
    Archived,
    /// Bytes gone; final.
    Disposed,
    /// Only ever an answer: the version is gone and may be published again.
    Deleted,
}

impl VersionStatus {
    /// The service model's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "Published",
            Self::Unfinished => "Unfinished",
            Self::Unlisted => "Unlisted",
            Self::Archived => "Archived",
            Self::Disposed => "Disposed",
            Self::Deleted => "Deleted",
        }
    }

    /// Whether the version's files stand on the project's page.
    pub fn is_listed(self) -> bool {
        self == Self::Published
    }

    /// Whether the version's files can be downloaded.
    pub fn is_downloadable(self) -> bool {
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
pub enum Origin {
    /// Published directly to this repository (`originType` INTERNAL).
    Internal {
        /// The repository's name.
        repository: String,
    },
    /// Imported through this external connection (`originType` EXTERNAL).
    External {
        /// `public:pypi`
        connection: String,
    },
}

impl Origin {
    /// `INTERNAL` or `EXTERNAL`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Internal { .. } => "INTERNAL",
            Self::External { .. } => "EXTERNAL",
        }
    }
}

/// What a version's core metadata says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionMetadata {
    /// `Summary`
    #[serde(default)]
    pub summary: Option<String>,
    /// `Home-page`
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
pub struct Version {
    /// As the publisher spelled it.
    pub version: String,
    /// Changes with every change of the assets.
    pub revision: String,
    /// The state.
    pub status: VersionStatus,
    /// When it was published here or imported.
    pub published: Timestamp,
    /// Where it came from.
    pub origin: Origin,
    /// What its metadata says; empty for imported versions whose bytes never came.
    #[serde(default)]
    pub metadata: VersionMetadata,
    /// Its files by name.
    pub assets: BTreeMap<FileName, Asset>,
}

impl Version {
    /// Computes the revision anew from the assets' names and digests; call after every change of `assets`.
    pub fn renew_revision(&mut self) {
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
pub struct AssetHashes {
    /// MD5
    #[serde(default)]
    pub md5: Option<String>,
    /// SHA-1
    #[serde(default)]
    pub sha1: Option<String>,
    /// SHA-256
    #[serde(default)]
    pub sha256: Option<String>,
    /// SHA-512
    #[serde(default)]
    pub sha512: Option<String>,
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// The file name, as uploaded.
    pub name: FileName,
    /// Size in bytes, where known.
    pub size: Option<u64>,
    /// The digests known.
    pub hashes: AssetHashes,
    /// When this record was made; lags count from it.
    pub recorded: Timestamp,
    /// Upload time as PEP 700 writes it: here for hosted files, at the public index for imported ones.
    #[serde(default)]
    pub upload_time: Option<String>,
    /// `requires-python`
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
    pub fn blob(&self) -> Option<Sha256> {
        self.stored.then(|| self.hashes.sha256.as_deref()?.parse().ok()).flatten()
    }
}

/// Which actions a principal may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allowed {
    /// Everything.
    All,
    /// These actions, such as `codeartifact:ReadFromRepository`; a final `*` matches any rest.
    Only(BTreeSet<String>),
}

impl Allowed {
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

    pub fn serialize<S: Serializer>(name: &ProjectName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ProjectName, D::Error> {
        let text = String::deserialize(deserializer)?;
        ProjectName::parse(&text).map_err(serde::de::Error::custom)
    }
}

//! The tables of the configuration as a person writes them.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use wheelport_runtime::one_or_many;

use super::claims::ClaimConditions;

/// An `[[issuer]]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerTable {
    /// What `[[identity]]` tables call it.
    pub(super) name: String,
    /// The `iss` of its tokens, below which its discovery document is.
    pub(super) url: String,
    /// The `aud` of tokens for this server.
    pub(super) audience: String,
    /// Its keys, where they cannot be fetched.
    pub(super) keys_file: Option<PathBuf>,
}

/// An `[[identity]]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityTable {
    /// What logs call it; `{claim}` stands for the value of a claim.
    pub(super) name: String,
    /// Whose tokens it is about.
    pub(super) issuer: Option<String>,
    /// What the claims of the token have to be.
    #[serde(default)]
    pub(super) claims: ClaimConditions,
    /// The SHA-256 of a static token, in hexadecimal.
    pub(super) token_sha256: Option<String>,
    /// Names in the certificate that a client shows.
    #[serde(default, deserialize_with = "texts")]
    pub(super) client_certificate: Vec<String>,
    /// Routes it may read.
    #[serde(default)]
    pub(super) read: Vec<String>,
    /// Routes it may publish through.
    #[serde(default)]
    pub(super) publish: Vec<String>,
    /// Projects it may publish: names, in which `*` stands for any characters. All, if not given.
    pub(super) projects: Option<Vec<String>>,
    /// Uploads in a minute.
    pub(super) uploads_per_minute: Option<NonZeroU32>,
    /// Files downloaded in a minute.
    pub(super) downloads_per_minute: Option<NonZeroU32>,
}

/// A `[[publisher]]` table, the short form of an identity with a static token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherTable {
    /// What the audit line calls the bearer.
    pub(super) name: String,
    /// The SHA-256 of the token, in hexadecimal.
    pub(super) token_sha256: String,
    /// Projects it may publish: names, in which `*` stands for any characters. All, if not given.
    pub(super) projects: Option<Vec<String>>,
    /// Routes it may publish through. All that take tokens, if not given.
    pub(super) routes: Option<Vec<String>>,
    /// Routes it may read.
    #[serde(default)]
    pub(super) read: Vec<String>,
}

/// The `[tokens]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenTable {
    /// Files of the keys that sign minted tokens: the first one signs, all of them verify.
    #[serde(deserialize_with = "texts")]
    pub key_file: Vec<PathBuf>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct IdentityTables {
    pub issuers: Vec<IssuerTable>,
    pub identities: Vec<IdentityTable>,
    pub publishers: Vec<PublisherTable>,
}

fn texts<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    one_or_many(deserializer, "a text, or a list of texts")
}

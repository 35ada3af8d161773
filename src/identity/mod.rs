//! Who is asking, and what they may do.
//!
//! Pure rules over tokens and claims, and two drivers: the cache of issuers' keys, and the service that turns a token
//! into an identity. The only room that knows what a token looks like. It knows no HTTP status and no address of ours:
//! `web` asks it who presents a token, and compares the grants with what the request is about.
//!
//! No token and no claim reaches a log from here; the name of an identity does, made of what its rule names.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

mod burnt;
mod certified;
mod claims;
mod credentials;
mod fault;
mod grants;
mod id_token;
mod issuer;
mod key_cache;
mod keys;
mod metrics;
mod minted;
mod name_template;
mod rates;
mod rules;
mod secret_digest;
mod service;
mod tables;
mod wildcard;

pub use burnt::BurnListener;
pub use certified::ShownCertificate;
pub use credentials::presented_token;
pub use fault::{MintRefusal, NotSettled, TokenFault};
pub use grants::Grants;
pub use issuer::Issuer;
pub use key_cache::{FetchDocument, IssuerDocument, KeyState};
pub use keys::{InvalidKeySet, KeySet};
pub use metrics::IdentityMetrics;
pub use minted::{MintedToken, SigningKeys, TokenId};
pub use rates::{Limited, RateCaps};
pub use rules::IdentityRules;
pub use secret_digest::SecretDigest;
pub use service::{Identities, IssuerReport, Recognition, UnsettledToken};
pub use tables::{IdentityTable, IdentityTables, IssuerTable, PublisherTable, TokenTable};

/// Somebody who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// How logs name it.
    pub name: Arc<str>,
    pub kind: IdentityKind,
    pub grants: Grants,
    pub caps: RateCaps,
}

/// What shows who a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    StaticToken,
    IdToken,
    Minted,
    Certificate,
}

impl IdentityKind {
    /// All kinds, in their order.
    const ALL: [Self; 4] = [Self::StaticToken, Self::IdToken, Self::Minted, Self::Certificate];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StaticToken => "static-token",
            Self::IdToken => "id-token",
            Self::Minted => "minted-token",
            Self::Certificate => "certificate",
        }
    }
}

/// Base64 as tokens and keys use it: for addresses, without padding.
fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Bytes that cannot be guessed.
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
    filled.expect("the system gives random bytes");
    bytes
}

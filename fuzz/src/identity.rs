//! Tokens, key sets and the tables that say who is known. The files of `identity` that are pure are compiled into this
//! crate; what they name of the room besides stands here.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

#[path = "../../src/identity/certified.rs"]
mod certified;
#[path = "../../src/identity/claims.rs"]
mod claims;
#[path = "../../src/identity/credentials.rs"]
mod credentials;
#[path = "../../src/identity/fault.rs"]
mod fault;
#[path = "../../src/identity/grants.rs"]
mod grants;
#[path = "../../src/identity/id_token.rs"]
mod id_token;
#[path = "../../src/identity/issuer.rs"]
mod issuer;
#[path = "../../src/identity/keys.rs"]
mod keys;
#[path = "../../src/identity/minted.rs"]
mod minted;
#[path = "../../src/identity/name_template.rs"]
mod name_template;
#[path = "../../src/identity/rules.rs"]
mod rules;
#[path = "../../src/identity/secret_digest.rs"]
mod secret_digest;
#[path = "../../src/identity/tables.rs"]
mod tables;
#[path = "../../src/identity/wildcard.rs"]
mod wildcard;

pub(crate) use credentials::presented_token;
pub(crate) use fault::{MintRefusal, TokenFault};
pub(crate) use grants::Grants;
pub(crate) use keys::KeySet;
pub(crate) use minted::SigningKeys;
pub(crate) use rules::IdentityRules;
pub(crate) use secret_digest::SecretDigest;
pub(crate) use tables::{IdentityTable, IdentityTables, IssuerTable, PublisherTable, TokenTable};

use crate::split;
use id_token::IdToken;

/// As in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
    pub(crate) kind: IdentityKind,
    pub(crate) grants: Grants,
    pub(crate) caps: RateCaps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentityKind {
    StaticToken,
    IdToken,
    Minted,
    Certificate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RateCaps {
    pub(crate) uploads: Option<NonZeroU32>,
    pub(crate) downloads: Option<NonZeroU32>,
}

impl RateCaps {
    pub(crate) fn widen(&mut self, _: Self) {}
}

fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The same every time, so that a finding can be repeated.
fn random_bytes<const N: usize>() -> [u8; N] {
    [7; N]
}

const TABLES: &str = "[[issuer]]\nname = \"ci\"\nurl = \"https://ci.invalid\"\naudience = \"wheelport\"\n\
                      [[identity]]\nname = \"ci:{project_path}@{/a/b}\"\nissuer = \"ci\"\n\
                      claims = { project_path = \"acme/*\", \"/a/b\" = [\"x*\", \"*y\"] }\nread = [\"*\"]\n";

#[derive(serde::Deserialize)]
struct Known {
    issuer: Vec<IssuerTable>,
    identity: Vec<IdentityTable>,
}

fn known() -> IdentityRules {
    let Known { issuer, identity } = toml::from_str(TABLES).expect("our own tables");
    IdentityRules::new(IdentityTables { issuers: issuer, identities: identity, publishers: Vec::new() })
        .expect("tables that make sense")
}

/// One byte for the kind. A key set and, behind a line feed, a token; header and claims of a token in JSON; a minted
/// token; a header with credentials. No signature of a fuzzer is good, so nothing that it writes is believed.
pub fn tokens(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let (first, second) = split(bytes, b'\n');
    match kind % 4 {
        0 => verify(first, second),
        1 => read(&format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(first), URL_SAFE_NO_PAD.encode(second))),
        2 => {
            let keys = SigningKeys::new(&["0".repeat(32)]).expect("a key");
            assert!(keys.open(bytes, 0).is_err(), "a forged token");
            let prefixed = [b"wheelport-1.".as_slice(), bytes].concat();
            assert!(keys.open(&prefixed, 0).is_err(), "a forged token");
        }
        _ => {
            let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
            let headers: HeaderMap = [(AUTHORIZATION, value)].into_iter().collect();
            assert!(presented_token(&headers).is_none_or(|token| !token.is_empty() && token.len() <= bytes.len()));
        }
    }
}

fn verify(keys: &[u8], token: &[u8]) {
    let Ok(keys) = KeySet::parse(keys) else { return };
    let Ok(token) = std::str::from_utf8(token) else { return };
    let Ok(token) = IdToken::read(token) else { return };
    let Some(key) = keys.find(token.key_id.as_deref()).and_then(|position| keys.at(position)) else { return };
    // Whoever writes the key set can sign, but not by chance.
    let _ = token.verify(key);
}

fn read(token: &str) {
    let Ok(token) = IdToken::read(token) else { return };
    let rules = known();
    let Some(issuer) = token.claimed_issuer().and_then(|claimed| rules.issuer(claimed)) else { return };
    let identity = rules.claimant(issuer, token.claims());
    assert!(identity.name.chars().count() <= name_template::LONGEST_NAME, "{:?}", identity.name);
    assert!(
        !identity.name.contains(char::is_control) && !identity.name.contains(['"', '\\', ' ']),
        "{:?}",
        identity.name
    );
    let minted = SigningKeys::new(&["0".repeat(32)]).expect("a key").mint(&identity, 0);
    assert!(minted.is_some(), "a name of bounded length fits into a token");
}

//! Tokens of our own: stateless, for a quarter of an hour, with everything inside that they are good for.
//!
//! `wheelport-1.PAYLOAD.MAC`: the MAC is HMAC-SHA-256 over what stands before it. Every replica that shares a key
//! accepts what another one minted; during a rotation all of the keys verify and the first one signs.

use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use wheelport_runtime::sabotaged;

use super::fault::TokenFault;
use super::grants::Grants;
use super::{Identity, IdentityKind, RateCaps, base64url, random_bytes};

/// What minted tokens begin with.
const PREFIX: &str = "wheelport-1.";
/// How long a minted token is good for, in seconds. Clients may rely on no less, and nothing may last longer.
const LIFETIME: u64 = 15 * 60;
/// The least that a key has to have, in bytes.
const SHORTEST_KEY: usize = 32;
/// The longest minted token; what has more rights than fit cannot be minted.
const LONGEST: usize = 8 << 10;

/// The id of a minted token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub [u8; 16]);

/// The keys that sign minted tokens: the first one signs, all of them verify.
#[derive(Clone)]
pub struct SigningKeys {
    keys: Arc<[SecretSlice<u8>]>,
    /// Made for this process, so that no other replica and no later process accepts its tokens.
    is_random: bool,
}

/// A token that was minted.
pub struct MintedToken {
    pub token: secrecy::SecretString,
    /// When it expires, in seconds since the epoch.
    pub expires: u64,
}

/// What a minted token turns out to be.
pub(super) struct Presented {
    pub(super) id: TokenId,
    pub(super) identity: Identity,
    pub(super) expires: u64,
}

#[derive(Serialize, Deserialize)]
struct MintedPayload {
    #[serde(rename = "i")]
    id: String,
    #[serde(rename = "n")]
    name: String,
    #[serde(rename = "e")]
    expires: u64,
    #[serde(rename = "g")]
    grants: Grants,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    uploads: Option<NonZeroU32>,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    downloads: Option<NonZeroU32>,
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeys").field("number", &self.keys.len()).field("is_random", &self.is_random).finish()
    }
}

impl Default for SigningKeys {
    fn default() -> Self {
        Self { keys: Arc::new([SecretSlice::from(random_bytes::<32>().to_vec())]), is_random: true }
    }
}

impl SigningKeys {
    /// The keys in the texts of files, without the space around them; a random one if there are none.
    pub fn new(texts: &[String]) -> Result<Self, String> {
        let read = |text: &String| {
            let key = text.trim().as_bytes();
            (key.len() >= SHORTEST_KEY).then(|| SecretSlice::from(key.to_vec()))
        };
        let keys: Option<Arc<[_]>> = texts.iter().map(read).collect();
        match keys {
            Some(keys) if keys.is_empty() => Ok(Self::default()),
            Some(keys) => Ok(Self { keys, is_random: false }),
            None => Err(format!(
                "[tokens] key_file: a key has at least {SHORTEST_KEY} characters; make one with: openssl rand -hex 32"
            )),
        }
    }

    pub fn is_random(&self) -> bool {
        self.is_random
    }

    pub(super) fn is_minted(token: &[u8]) -> bool {
        token.starts_with(PREFIX.as_bytes())
    }

    /// A token with the rights of this identity; `None` if they do not fit into one.
    pub(super) fn mint(&self, identity: &Identity, now: u64) -> Option<MintedToken> {
        let expires = now + LIFETIME;
        let payload = MintedPayload {
            id: const_hex(&random_bytes::<16>()),
            name: identity.name.to_string(),
            expires,
            grants: identity.grants.clone(),
            uploads: identity.caps.uploads,
            downloads: identity.caps.downloads,
        };
        let payload = serde_json::to_vec(&payload).ok()?;
        let signed = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(payload));
        let mac = mac(self.keys.first()?, signed.as_bytes()).finalize().into_bytes();
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
        (token.len() <= LONGEST).then(|| MintedToken { token: token.into(), expires })
    }

    /// What a token turns out to be that one of the keys signed.
    pub(super) fn open(&self, token: &[u8], now: u64) -> Result<Presented, TokenFault> {
        if token.len() > LONGEST {
            return Err(TokenFault::TooLong);
        }
        let token = std::str::from_utf8(token).map_err(|_| TokenFault::Malformed)?;
        let (signed, mac_text) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let shown = base64url(mac_text).ok_or(TokenFault::Malformed)?;
        let is_ours = |key| mac(key, signed.as_bytes()).verify_slice(&shown).is_ok();
        if !self.keys.iter().any(is_ours) && !sabotaged("minted-signature") {
            return Err(TokenFault::Signature);
        }
        let payload = signed.strip_prefix(PREFIX).and_then(base64url).ok_or(TokenFault::Malformed)?;
        let payload: MintedPayload = serde_json::from_slice(&payload).map_err(|_| TokenFault::Malformed)?;
        if now >= payload.expires && !sabotaged("minted-expiry") {
            return Err(TokenFault::Expired);
        }
        let id = TokenId(id_bytes(&payload.id).ok_or(TokenFault::Malformed)?);
        let caps = RateCaps { uploads: payload.uploads, downloads: payload.downloads };
        let (name, grants) = (payload.name.into(), payload.grants);
        let identity = Identity { name, kind: IdentityKind::Minted, grants, caps };
        Ok(Presented { id, identity, expires: payload.expires })
    }
}

fn mac(key: &SecretSlice<u8>, signed: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret()).expect("HMAC takes keys of any length");
    mac.update(signed);
    mac
}

fn const_hex(bytes: &[u8]) -> String {
    wheelport_index::hex(bytes)
}

fn id_bytes(text: &str) -> Option<[u8; 16]> {
    let value = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::grants::RouteSet;
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn identity() -> Identity {
        let grants = Grants { read: RouteSet::new(vec!["main".to_owned()]), publish: Vec::new() };
        let caps = RateCaps { uploads: NonZeroU32::new(3), downloads: None };
        Identity { name: "ci:acme/x@main".into(), kind: IdentityKind::IdToken, grants, caps }
    }

    fn keys(texts: &[&str]) -> Result<SigningKeys, String> {
        SigningKeys::new(&texts.iter().map(|text| text.repeat(32)).collect::<Vec<_>>())
    }

    #[test]
    fn a_minted_token_is_good_with_its_key_for_a_quarter_of_an_hour() -> Outcome {
        let minted = keys(&["a"])?.mint(&identity(), 1000).ok_or("not minted")?;
        assert_eq!(minted.expires, 1900);
        let token = minted.token.expose_secret();
        let opened = |texts: &[&str], token: &str, now| keys(texts).map(|keys| keys.open(token.as_bytes(), now).err());
        assert_eq!(opened(&["a"], token, 1899)?, None);
        assert_eq!(opened(&["b", "a"], token, 1000)?, None, "the previous key verifies");
        assert_eq!(opened(&["a"], token, 1900)?, Some(TokenFault::Expired));
        assert_eq!(opened(&["b"], token, 1000)?, Some(TokenFault::Signature));
        let Presented { identity: opened, .. } = keys(&["a"])?.open(token.as_bytes(), 1000).map_err(|_| "refused")?;
        assert_eq!((&*opened.name, opened.kind), ("ci:acme/x@main", IdentityKind::Minted));
        assert_eq!((opened.grants, opened.caps.uploads), (identity().grants, NonZeroU32::new(3)));
        Ok(())
    }

    #[test]
    fn no_byte_of_a_minted_token_may_change() -> Outcome {
        let keys = keys(&["a"])?;
        let minted = keys.mint(&identity(), 1000).ok_or("not minted")?;
        let token = minted.token.expose_secret().as_bytes();
        for at in 0..token.len() {
            let mut changed = token.to_vec();
            changed[at] ^= 1;
            assert!(keys.open(&changed, 1000).is_err(), "byte {at}");
        }
        Ok(())
    }

    #[test]
    fn keys_have_a_least_length_and_processes_without_one_differ() -> Outcome {
        assert!(SigningKeys::new(&["short".to_owned()]).err().is_some_and(|text| text.contains("openssl rand")));
        let (one, other) = (SigningKeys::new(&[])?, SigningKeys::new(&[])?);
        assert!(one.is_random() && !keys(&["a"])?.is_random());
        let minted = one.mint(&identity(), 1000).ok_or("not minted")?;
        let token = minted.token.expose_secret().as_bytes();
        assert!(one.open(token, 1000).is_ok() && other.open(token, 1000).is_err());
        Ok(())
    }
}

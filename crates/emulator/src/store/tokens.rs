//! Authorization tokens: issued for a limited time, checked against the emulator's clock, remembered across restarts.
//!
//! A token looks like the service's: five base64url segments, of which the first is a clear JSON header with `exp`.
//! Only its SHA-256 is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::disk::{FileChange, StoreLayout};
use super::error::StoreError;
use super::keys::DomainKey;
use super::model::AllowedActions;
use wheelport_index::Sha256;

const DOCUMENT: &str = "tokens.json";
/// How long an expired token is remembered in seconds, so that it counts as expired and not as unknown.
const REMEMBER_ENDED: u64 = 24 * 3600;

/// The rights that a token conveys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenGrant {
    pub domain: DomainKey,
    /// The ARN of the principal it was issued to.
    pub principal: String,
    pub allowed: AllowedActions,
    /// When it expires, in seconds since the epoch.
    pub expires: u64,
}

/// A token to issue. That the domain exists and the lifetime is allowed is checked before.
pub(super) struct NewToken {
    pub(super) domain: DomainKey,
    pub(super) principal: String,
    pub(super) allowed: AllowedActions,
    pub(super) lifetime: Duration,
}

/// A token as the service returns it. The emulator keeps only its digest.
pub struct IssuedToken {
    /// The text that clients present.
    pub token: SecretString,
    /// When it expires, in seconds since the epoch.
    pub expires: u64,
}

/// Whether a token text is valid now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenVerdict {
    Valid(TokenGrant),
    Expired,
    Unknown,
}

/// The tokens issued, by the SHA-256 of their text.
pub(super) struct TokenTable {
    grants: RwLock<BTreeMap<String, TokenGrant>>,
}

impl TokenTable {
    pub(super) fn load(layout: &StoreLayout) -> Result<Self, StoreError> {
        Ok(Self { grants: RwLock::new(layout.read_top(DOCUMENT)?.unwrap_or_default()) })
    }

    /// Issues a token, and returns the change that records it on disk.
    pub(super) fn issue(&self, layout: &StoreLayout, new: NewToken, now: u64) -> (IssuedToken, FileChange) {
        let NewToken { domain, principal, allowed, lifetime } = new;
        let expires = now + lifetime.as_secs();
        let text = token_text(now, expires);
        let grant = TokenGrant { domain, principal, allowed, expires };
        let mut grants = self.grants.write();
        grants.retain(|_, grant| grant.expires + REMEMBER_ENDED > now);
        grants.insert(Sha256::of(text.as_bytes()).to_string(), grant);
        (IssuedToken { token: text.into(), expires }, layout.top(DOCUMENT, &*grants))
    }

    pub(super) fn verify(&self, text: &str, now: u64) -> TokenVerdict {
        match self.grants.read().get(&Sha256::of(text.as_bytes()).to_string()) {
            None => TokenVerdict::Unknown,
            Some(grant) if grant.expires <= now => TokenVerdict::Expired,
            Some(grant) => TokenVerdict::Valid(grant.clone()),
        }
    }

    /// Forgets all tokens, and returns the change that records it on disk.
    pub(super) fn revoke_all(&self, layout: &StoreLayout) -> FileChange {
        let mut grants = self.grants.write();
        grants.clear();
        layout.top(DOCUMENT, &*grants)
    }
}

/// `header.key.iv.ciphertext.tag` with random contents, 1.5 to 2.5 KiB long.
fn token_text(issued: u64, expires: u64) -> String {
    let header = format!(
        r#"{{"ver":1,"isu":{issued},"enc":"A128GCM","tag":"{}","exp":{expires},"alg":"A128GCMKW","iv":"{}"}}"#,
        random_text(22),
        random_text(16),
    );
    let ciphertext = random_text(fastrand::usize(1400..=2000));
    let (key, iv, tag) = (random_text(22), random_text(16), random_text(22));
    format!("{}.{key}.{iv}.{ciphertext}.{tag}", URL_SAFE_NO_PAD.encode(header))
}

/// Random characters of the base64url alphabet, from a generator that an attacker cannot predict.
fn random_text(length: usize) -> String {
    let mut bytes = vec![0; length];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the operating system has randomness");
    let mut text = URL_SAFE_NO_PAD.encode(bytes);
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_looks_like_the_services() {
        let text = token_text(1_603_644_440, 1_603_687_640);
        assert!((1500..=2560).contains(&text.len()), "{}", text.len());
        assert_eq!(text.split('.').count(), 5);
        assert!(
            text.starts_with(&URL_SAFE_NO_PAD.encode(br#"{"ver":1,"isu":1603644440,"enc":"A128GCM","tag":""#)[..60])
        );
    }
}

//! Authorization tokens: issued with an end, checked against the emulator's clock, remembered across restarts.
//!
//! A token looks like the service's: five base64url segments, of which the first is a clear JSON header with `exp`.
//! Only its SHA-256 is kept.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::disk::Layout;
use super::error::StoreError;
use super::keys::DomainKey;
use super::model::Allowed;
use super::{Store, blocking, lock};
use wheelport_index::Sha256;

const DOCUMENT: &str = "tokens.json";
/// How long an ended token is remembered, so that it is called expired and not unknown.
const REMEMBER_ENDED: u64 = 24 * 3600;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The domain it opens.
    pub domain: DomainKey,
    /// The ARN of the principal it was issued to.
    pub principal: String,
    /// What that principal may do.
    pub allowed: Allowed,
    /// Its end, in seconds since the epoch.
    pub expires: u64,
}

/// A token as it leaves the service, once.
pub struct Issued {
    /// Its text.
    pub token: SecretString,
    /// Its end, in seconds since the epoch.
    pub expires: u64,
}

/// What a token text is worth now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stands for this.
    Valid(Grant),
    /// It did once.
    Expired,
    /// Never issued here.
    Unknown,
}

pub(super) struct Tokens {
    grants: RwLock<BTreeMap<String, Grant>>,
}

impl Tokens {
    pub(super) fn load(layout: &Layout) -> Result<Self, StoreError> {
        Ok(Self { grants: RwLock::new(layout.read_top(DOCUMENT)?.unwrap_or_default()) })
    }
}

impl Store {
    /// Issues a token for a domain; whether the domain exists and the lifetime is allowed is the caller's question.
    pub async fn issue_token(
        &self,
        domain: DomainKey,
        principal: String,
        allowed: Allowed,
        lifetime: Duration,
    ) -> Result<Issued, StoreError> {
        let store = self.clone();
        blocking(move || {
            let _writer = lock(&store.inner.writer);
            let now = store.clock().unix_seconds();
            let expires = now + lifetime.as_secs();
            let text = token_text(now, expires);
            let grant = Grant { domain, principal, allowed, expires };
            let document = {
                let mut grants = store.inner.tokens.grants.write().unwrap_or_else(PoisonError::into_inner);
                grants.retain(|_, grant| grant.expires + REMEMBER_ENDED > now);
                grants.insert(Sha256::of(text.as_bytes()).to_string(), grant);
                store.inner.layout.top(DOCUMENT, &*grants)
            };
            document.store()?;
            Ok(Issued { token: text.into(), expires })
        })
        .await
    }

    /// What a token text is worth by the store's clock.
    pub fn verify_token(&self, text: &str) -> Verdict {
        let grants = self.inner.tokens.grants.read().unwrap_or_else(PoisonError::into_inner);
        match grants.get(&Sha256::of(text.as_bytes()).to_string()) {
            None => Verdict::Unknown,
            Some(grant) if grant.expires <= self.clock().unix_seconds() => Verdict::Expired,
            Some(grant) => Verdict::Valid(grant.clone()),
        }
    }

    /// Makes every token issued so far unknown, as if the principal's rights had been withdrawn.
    pub async fn revoke_tokens(&self) -> Result<(), StoreError> {
        let store = self.clone();
        blocking(move || {
            let _writer = lock(&store.inner.writer);
            let document = {
                let mut grants = store.inner.tokens.grants.write().unwrap_or_else(PoisonError::into_inner);
                grants.clear();
                store.inner.layout.top(DOCUMENT, &*grants)
            };
            document.store()
        })
        .await
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
    format!("{}.{key}.{iv}.{ciphertext}.{tag}", base64url(header.as_bytes()))
}

/// Random characters of the base64url alphabet, from a generator that an attacker cannot predict.
fn random_text(length: usize) -> String {
    let mut bytes = vec![0; length];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the operating system has randomness");
    bytes.into_iter().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// base64url without padding (RFC 4648 section 5).
pub fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for position in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * position)) & 0x3f;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_the_standards() {
        for (plain, coded) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{3ff}?", "z78_")]
        {
            assert_eq!(base64url(plain.as_bytes()), coded, "{plain}");
        }
    }

    #[test]
    fn a_token_looks_like_the_services() {
        let text = token_text(1_603_644_440, 1_603_687_640);
        assert!((1500..=2560).contains(&text.len()), "{}", text.len());
        assert_eq!(text.split('.').count(), 5);
        assert!(text.starts_with(&base64url(br#"{"ver":1,"isu":1603644440,"enc":"A128GCM","tag":""#)[..60]));
    }
}

//! The secrets that sign notices: a line of a file each, so that a receiver can change from one to the next.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

/// The least that a secret has to have, in bytes.
const SHORTEST: usize = 24;
/// Secrets at the same time: one, and its successor.
const MOST: usize = 4;
/// What a secret begins with whose rest is base64.
const PREFIX: &str = "whsec_";

/// Why a text holds no secrets. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWebhookSecret {
    #[error("it holds no secret; make one with: echo \"whsec_$(openssl rand -base64 32)\"")]
    Empty,
    #[error("a secret has at least {SHORTEST} bytes")]
    Short,
    #[error("what follows `{PREFIX}` is not base64")]
    Encoding,
    #[error("it holds more than {MOST} secrets, one a line")]
    Many,
}

/// The secrets: each of them signs.
#[derive(Clone)]
pub struct WebhookSecrets(Arc<[SecretSlice<u8>]>);

impl WebhookSecrets {
    /// One secret a line: `whsec_` and base64, or any text, whose bytes are the key.
    pub fn parse(text: &str) -> Result<Self, InvalidWebhookSecret> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let read = |line: &str| {
            let key = match line.strip_prefix(PREFIX) {
                Some(encoded) => STANDARD.decode(encoded).map_err(|_| InvalidWebhookSecret::Encoding)?,
                None => line.as_bytes().to_vec(),
            };
            if key.len() < SHORTEST { Err(InvalidWebhookSecret::Short) } else { Ok(SecretSlice::from(key)) }
        };
        let keys = lines.map(read).collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            0 => Err(InvalidWebhookSecret::Empty),
            1..=MOST => Ok(Self(keys.into())),
            _ => Err(InvalidWebhookSecret::Many),
        }
    }

    /// `v1,` and the HMAC-SHA-256 in base64, for each of the secrets.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> String {
        let signatures = self.0.iter().map(|key| {
            let mac = Hmac::<Sha256>::new_from_slice(key.expose_secret());
            let mut mac = mac.expect("HMAC takes keys of any length");
            for part in parts {
                mac.update(part);
            }
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

impl std::fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WebhookSecrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_line_of_enough_bytes() {
        let text = "x".repeat(SHORTEST);
        let encoded = format!("{PREFIX}{}", STANDARD.encode([7; SHORTEST]));
        for (file, outcome) in [
            (format!("{text}\n"), Ok(1)),
            (format!("\n {encoded} \n{text}\n"), Ok(2)),
            (String::new(), Err(InvalidWebhookSecret::Empty)),
            (" \n".to_owned(), Err(InvalidWebhookSecret::Empty)),
            (text[1..].to_owned(), Err(InvalidWebhookSecret::Short)),
            (format!("{PREFIX}{}", STANDARD.encode([7; SHORTEST - 1])), Err(InvalidWebhookSecret::Short)),
            (format!("{PREFIX}~~~"), Err(InvalidWebhookSecret::Encoding)),
            (format!("{text}\n").repeat(MOST + 1), Err(InvalidWebhookSecret::Many)),
        ] {
            assert_eq!(WebhookSecrets::parse(&file).map(|secrets| secrets.0.len()), outcome, "{file:?}");
        }
    }
}

//! The public keys of an issuer, out of its key set document (RFC 7517).
//!
//! A key says which algorithm it is for; what a token says of that is only compared. Secret keys, keys for encryption
//! and algorithms that are not on the list are passed over as if they were not there.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::base64url;

/// The most keys that are looked at.
const MAX_KEYS: usize = 100;
/// Bytes in the modulus of an RSA key.
const RSA_MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// A key that tokens may be signed with.
pub(super) struct VerificationKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The keys of an issuer.
#[derive(Default)]
pub struct KeySet(Vec<VerificationKey>);

/// Why a document is no key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    #[error("it is not a JSON Web Key Set: an object with a list `keys`")]
    Malformed,
    #[error("it holds no RS256, ES256 or EdDSA key")]
    Empty,
}

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct WebKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidKeySet> {
        let document: KeySetDocument = serde_json::from_slice(bytes).map_err(|_| InvalidKeySet::Malformed)?;
        let read = |value| serde_json::from_value::<WebKey>(value).ok().and_then(VerificationKey::read);
        let keys: Vec<_> = document.keys.into_iter().take(MAX_KEYS).filter_map(read).collect();
        if keys.is_empty() { Err(InvalidKeySet::Empty) } else { Ok(Self(keys)) }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The position of the key with this id. A token without one can only mean the only key there is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<usize> {
        match (id, self.0.as_slice()) {
            (Some(id), keys) => keys.iter().position(|key| key.id.as_deref() == Some(id)),
            (None, [_]) => Some(0),
            (None, _) => None,
        }
    }

    pub(super) fn at(&self, position: usize) -> Option<&VerificationKey> {
        self.0.get(position)
    }
}

impl VerificationKey {
    fn read(key: WebKey) -> Option<Self> {
        let verifies = key.usage.as_deref().is_none_or(|usage| usage == "sig")
            && key.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if !verifies {
            return None;
        }
        let bytes = |text: &Option<String>| base64url(text.as_ref()?);
        let (algorithm, name, decoding) = match (key.kty.as_str(), key.crv.as_deref()) {
            ("RSA", _) => {
                let (modulus, exponent) = (bytes(&key.n)?, bytes(&key.e)?);
                let usable = RSA_MODULUS.contains(&modulus.len()) && (1..=8).contains(&exponent.len());
                let decoding = usable.then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))?;
                (Algorithm::RS256, "RS256", decoding)
            }
            ("EC", Some("P-256")) => {
                let point = [&[4], bytes(&key.x)?.as_slice(), bytes(&key.y)?.as_slice()].concat();
                (Algorithm::ES256, "ES256", (point.len() == 65).then(|| DecodingKey::from_ec_der(&point))?)
            }
            ("OKP", Some("Ed25519")) => {
                let point = bytes(&key.x)?;
                (Algorithm::EdDSA, "EdDSA", (point.len() == 32).then(|| DecodingKey::from_ed_der(&point))?)
            }
            _ => return None,
        };
        // RFC 9864 gives EdDSA with this curve a name of its own.
        let fits = |named: &str| named == name || (name == "EdDSA" && named == "Ed25519");
        key.alg.as_deref().is_none_or(fits).then_some(Self { id: key.kid, algorithm, key: decoding })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(keys: &Value) -> Result<usize, InvalidKeySet> {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).map(|set| set.len())
    }

    #[test]
    fn only_public_keys_of_the_listed_algorithms_count() {
        let long = "A".repeat(342);
        let x = "A".repeat(43);
        for (key, expected) in [
            (json!({"kty": "RSA", "n": long, "e": "AQAB"}), true),
            (json!({"kty": "RSA", "n": long, "e": "AQAB", "alg": "RS256", "use": "sig"}), true),
            (json!({"kty": "RSA", "n": long, "e": "AQAB", "key_ops": ["verify"]}), true),
            (json!({"kty": "RSA", "n": long, "e": "AQAB", "alg": "HS256"}), false),
            (json!({"kty": "RSA", "n": long, "e": "AQAB", "alg": "RS512"}), false),
            (json!({"kty": "RSA", "n": long, "e": "AQAB", "use": "enc"}), false),
            (json!({"kty": "RSA", "n": long, "e": "AQAB", "key_ops": ["encrypt"]}), false),
            (json!({"kty": "RSA", "n": "A".repeat(171), "e": "AQAB"}), false),
            (json!({"kty": "RSA", "n": "A".repeat(1400), "e": "AQAB"}), false),
            (json!({"kty": "RSA", "n": "!", "e": "AQAB"}), false),
            (json!({"kty": "RSA", "e": "AQAB"}), false),
            (json!({"kty": "EC", "crv": "P-256", "x": x, "y": x}), true),
            (json!({"kty": "EC", "crv": "P-384", "x": x, "y": x}), false),
            (json!({"kty": "EC", "crv": "P-256", "x": x, "y": "AA"}), false),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": x}), true),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "Ed25519"}), true),
            (json!({"kty": "OKP", "crv": "X25519", "x": x}), false),
            (json!({"kty": "oct", "k": long, "alg": "HS256"}), false),
            (json!({"kty": 1}), false),
            (json!("x"), false),
        ] {
            assert_eq!(parse(&json!([key])), if expected { Ok(1) } else { Err(InvalidKeySet::Empty) }, "{key}");
        }
        assert_eq!(KeySet::parse(b"[]").err(), Some(InvalidKeySet::Malformed));
        assert_eq!(KeySet::parse(b"{\"keys\": 1}").err(), Some(InvalidKeySet::Malformed));
    }

    #[test]
    fn a_token_without_a_key_id_means_the_only_key() -> Result<(), InvalidKeySet> {
        let key = |id: &str| json!({"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43), "kid": id});
        let one = KeySet::parse(json!({"keys": [key("a")]}).to_string().as_bytes())?;
        let two = KeySet::parse(json!({"keys": [key("a"), key("b")]}).to_string().as_bytes())?;
        assert_eq!((one.find(None), one.find(Some("a")), one.find(Some("b"))), (Some(0), Some(0), None));
        assert_eq!((two.find(None), two.find(Some("b"))), (None, Some(1)));
        Ok(())
    }
}

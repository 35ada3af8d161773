//! An issuer of ID tokens: real keys, real signatures, and the two documents by which others find the keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use wheelport_runtime::Clock;

use super::scripted::{Reply, Scripted};

const DISCOVERY: &str = "GET /.well-known/openid-configuration";
/// How tests name a request for the keys.
pub(crate) const KEYS: &str = "GET /keys";
/// What tokens for the server under test have as `aud`.
pub(crate) const AUDIENCE: &str = "wheelport";

/// A key that signs tokens.
pub(crate) struct TokenKey {
    pub id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Value,
}

impl TokenKey {
    fn new(id: &'static str, algorithm: Algorithm, key: EncodingKey) -> Self {
        let public = Jwk::from_encoding_key(&key, algorithm).and_then(|jwk| Ok(serde_json::to_value(jwk)?));
        Self { id, algorithm, key, public: public.unwrap_or_default() }
    }

    pub(crate) fn rsa(id: &'static str) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
        // Behind the header of PKCS #8, which has the same length for every key of this size.
        let key = EncodingKey::from_rsa_der(&pair.serialized_der()[26..]);
        Self::new(id, Algorithm::RS256, key)
    }

    pub(crate) fn ec(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        Self::new(id, Algorithm::ES256, EncodingKey::from_ec_der(pair.serialized_der()))
    }

    pub(crate) fn ed(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        let public = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x});
        Self { public, ..Self::new(id, Algorithm::EdDSA, EncodingKey::from_ed_der(pair.serialized_der())) }
    }

    /// The public half, as a key set has it.
    pub(crate) fn public(&self) -> Value {
        let mut public = self.public.clone();
        public["kid"] = self.id.into();
        public
    }

    /// A token that says this.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).expect("a token")
    }
}

/// An issuer on loopback.
pub(crate) struct TokenIssuer {
    pub server: Scripted,
}

impl TokenIssuer {
    pub(crate) async fn start(keys: &[&TokenKey]) -> Self {
        let issuer = Self { server: Scripted::start().await };
        let document = json!({"issuer": issuer.url(), "jwks_uri": format!("{}/keys", issuer.url())});
        issuer.server.on(DISCOVERY, Reply::ok(document.to_string()));
        issuer.publish(keys);
        issuer
    }

    /// Its `iss`.
    pub(crate) fn url(&self) -> String {
        self.server.url("").trim_end_matches('/').to_owned()
    }

    /// Publishes these keys instead of those before.
    pub(crate) fn publish(&self, keys: &[&TokenKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
        self.server.on(KEYS, Reply::ok(json!({ "keys": keys }).to_string()));
    }

    /// What a pipeline's token says, with these claims besides or instead.
    pub(crate) fn claims(&self, more: &Value) -> Value {
        let now = Clock::system().unix_seconds();
        let mut claims = json!({
            "iss": self.url(),
            "aud": AUDIENCE,
            "exp": now + 300,
            "nbf": now - 5,
            "iat": now,
            "sub": "project_path:acme/tools:ref_type:branch:ref:main",
            "project_path": "acme/tools",
            "ref": "main",
            "user_email": "somebody@acme.invalid",
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        claims
    }
}

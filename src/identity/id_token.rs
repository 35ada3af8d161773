//! ID tokens (RFC 7519): read, verified, checked. Pure; keys and the time are given.
//!
//! Nothing that a token says is believed before its signature was verified, but which issuer and which key to verify it
//! with. The algorithm is the key's.

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;
use wheelport_runtime::sabotaged;

use super::base64url;
use super::claims::Claims;
use super::fault::TokenFault;
use super::issuer::Issuer;
use super::keys::VerificationKey;

/// The longest token, in bytes.
pub(super) const LONGEST_TOKEN: usize = 16 << 10;
/// How far clocks may be apart, in seconds.
const CLOCK_SKEW: u64 = 60;

/// A token that could be read. What it says is not believed yet.
pub(super) struct IdToken {
    /// What is signed: header and claims as they came.
    message: String,
    signature: String,
    algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    claims: Claims,
}

#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    kid: Option<String>,
    /// Extensions that have to be understood; none is.
    crit: Option<Box<RawValue>>,
}

impl IdToken {
    /// Whether this looks like an ID token at all.
    pub(super) fn is_one(token: &[u8]) -> bool {
        token.starts_with(b"eyJ") && token.split(|byte| *byte == b'.').count() == 3
    }

    pub(super) fn read(token: &str) -> Result<Self, TokenFault> {
        if token.len() > LONGEST_TOKEN && !sabotaged("token-size") {
            return Err(TokenFault::TooLong);
        }
        let malformed = || TokenFault::Malformed;
        let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = message.split_once('.').ok_or_else(malformed)?;
        let decode = |part| base64url(part).ok_or_else(malformed);
        let header: TokenHeader = serde_json::from_slice(&decode(header)?).map_err(|_| malformed())?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| malformed())?;
        if header.crit.is_some() || header.kid.as_ref().is_some_and(|kid| kid.len() > 512) {
            return Err(TokenFault::Malformed);
        }
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            "EdDSA" | "Ed25519" => Algorithm::EdDSA,
            _ => return Err(TokenFault::Algorithm),
        };
        let (message, signature) = (message.to_owned(), signature.to_owned());
        Ok(Self { message, signature, algorithm, key_id: header.kid, claims })
    }

    /// The issuer that it claims to be of.
    pub(super) fn claimed_issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    /// What it says, verified or not.
    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Verifies the signature. Takes tens of microseconds of CPU, with large keys hundreds.
    pub(super) fn verify(self, key: &VerificationKey) -> Result<SignedToken, TokenFault> {
        if self.algorithm != key.algorithm {
            return Err(TokenFault::Algorithm);
        }
        let verified = jsonwebtoken::crypto::verify(&self.signature, self.message.as_bytes(), &key.key, key.algorithm);
        if verified.unwrap_or(false) || sabotaged("token-signature") {
            Ok(SignedToken { claims: self.claims })
        } else {
            Err(TokenFault::Signature)
        }
    }
}

/// A token whose signature is good.
pub(super) struct SignedToken {
    pub(super) claims: Claims,
}

impl SignedToken {
    /// Whether it is for this server and for now; until when, in seconds since the epoch.
    pub(super) fn check(&self, issuer: &Issuer, now: u64) -> Result<u64, TokenFault> {
        if !self.claims.is_for(&issuer.audience) && !sabotaged("token-audience") {
            return Err(TokenFault::Audience { expected: issuer.audience.clone() });
        }
        let malformed = |()| TokenFault::Malformed;
        let expires = self.claims.seconds("exp").ok_or(TokenFault::Malformed)?.map_err(malformed)?;
        let until = expires.saturating_add(CLOCK_SKEW);
        if now >= until && !sabotaged("token-expiry") {
            return Err(TokenFault::Expired);
        }
        let begins = self.claims.seconds("nbf").transpose().map_err(malformed)?.unwrap_or(0);
        if begins > now.saturating_add(CLOCK_SKEW) && !sabotaged("token-not-before") {
            return Err(TokenFault::NotYetValid);
        }
        Ok(until)
    }
}

//! AWS Signature Version 4, from the service's side: reads which access key a request claims, and checks the signature.
//!
//! Written from AWS's description of the algorithm and independent of the SDK's signer, so that a mistake in one is not
//! hidden by the same mistake in the other. Pure: knows no principals, reads no clock, writes no response;
//! `control::authentication` adds these and turns a [`SignatureError`] into the service's error.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::calendar;
use wheelport_index::hex;

/// How far a signer's clock may be off, in seconds.
pub(crate) const TOLERANCE: u64 = 300;
/// The longest lifetime of a presigned request, in seconds.
const LONGEST_PRESIGNED: u64 = 7 * 86_400;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// Encodes all but the characters that a canonical path or query keeps as they are.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Why a request is not signed as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Neither header nor query carries a signature.
    #[error("Missing Authentication Token")]
    Missing,
    /// Parts of the signature are missing or malformed.
    #[error("{0}")]
    Incomplete(String),
    /// The signature, or the digest of the body, does not match.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
    /// The scope names another day, region or service.
    #[error("Credential should be scoped to {0}")]
    Scope(String),
    /// Signed too long ago.
    #[error("Signature expired: {signed} is now earlier than {earliest} ({now} - {minutes} min.)")]
    Expired {
        /// The stamp of the signature.
        signed: String,
        /// The oldest stamp that is still valid.
        earliest: String,
        /// The stamp of this moment.
        now: String,
        minutes: u64,
    },
    /// Signed in the future.
    #[error("Signature not yet current: {signed} is still later than {latest} ({now} + {minutes} min.)")]
    NotYet {
        /// The stamp of the signature.
        signed: String,
        /// The newest stamp that is already valid.
        latest: String,
        /// The stamp of this moment.
        now: String,
        minutes: u64,
    },
}

/// What a request says about its signature; nothing of it is proven before [`SignatureClaim::verify`].
#[derive(Debug, Clone)]
pub(crate) struct SignatureClaim {
    /// The access key that the request names.
    pub access_key: String,
    /// The session token that the request carries.
    pub session_token: Option<String>,
    /// The region of the scope.
    pub region: String,
    /// The service of the scope.
    pub service: String,
    day: String,
    stamp: String,
    signed_at: u64,
    /// Lifetime of a signature in the query; a signature in a header lives for [`TOLERANCE`].
    presigned_for: Option<u64>,
    signed_headers: Vec<String>,
    signature: String,
}

impl SignatureClaim {
    /// Reads the claim from the `Authorization` header or, for a presigned request, from the query.
    pub(crate) fn read(parts: &Parts) -> Result<Self, SignatureError> {
        match header(parts, "authorization") {
            Some(authorization) => Self::from_header(parts, &authorization),
            None => Self::from_query(parts),
        }
    }

    fn from_header(parts: &Parts, authorization: &str) -> Result<Self, SignatureError> {
        let Some(fields) = authorization.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' ')) else {
            return Err(SignatureError::Incomplete("Unsupported AWS 'algorithm' in Authorization".to_owned()));
        };
        let field = |name: &str| {
            let found = fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
            found.filter(|value| !value.is_empty()).map(str::to_owned).ok_or_else(|| missing(name))
        };
        let stamp = header(parts, "x-amz-date").ok_or_else(|| missing("X-Amz-Date"))?;
        let session_token = header(parts, "x-amz-security-token");
        Self::assemble(&field("Credential")?, stamp, &field("SignedHeaders")?, field("Signature")?, session_token, None)
    }

    fn from_query(parts: &Parts) -> Result<Self, SignatureError> {
        let pairs = query_pairs(parts);
        let field = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            found.filter(|value| !value.is_empty())
        };
        let required = |name: &str| field(name).ok_or_else(|| missing(name));
        match field("X-Amz-Algorithm") {
            None => return Err(SignatureError::Missing),
            Some(algorithm) if algorithm != ALGORITHM => {
                return Err(SignatureError::Incomplete("Unsupported X-Amz-Algorithm".to_owned()));
            }
            Some(_) => {}
        }
        let seconds = required("X-Amz-Expires")?.parse().ok().filter(|seconds| *seconds <= LONGEST_PRESIGNED);
        let seconds = seconds.ok_or_else(|| missing("X-Amz-Expires"))?;
        Self::assemble(
            &required("X-Amz-Credential")?,
            required("X-Amz-Date")?,
            &required("X-Amz-SignedHeaders")?,
            required("X-Amz-Signature")?,
            field("X-Amz-Security-Token"),
            Some(seconds),
        )
    }

    fn assemble(
        credential: &str,
        stamp: String,
        signed_headers: &str,
        signature: String,
        session_token: Option<String>,
        presigned_for: Option<u64>,
    ) -> Result<Self, SignatureError> {
        let malformed = || {
            SignatureError::Incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term"
                    .to_owned(),
            )
        };
        let scope: Vec<&str> = credential.split('/').collect();
        let [access_key, day, region, service, "aws4_request"] = scope[..] else { return Err(malformed()) };
        if [access_key, day, region, service].contains(&"") {
            return Err(malformed());
        }
        let signed_at = calendar::parse_stamp(&stamp)
            .ok_or_else(|| SignatureError::Incomplete("Date must be in ISO-8601 'basic format'".to_owned()))?;
        if !stamp.starts_with(day) {
            return Err(SignatureError::Scope(format!("a valid date: '{}'", &stamp[..8])));
        }
        Ok(Self {
            access_key: access_key.to_owned(),
            session_token,
            region: region.to_owned(),
            service: service.to_owned(),
            day: day.to_owned(),
            signed_at,
            presigned_for,
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature,
            stamp,
        })
    }

    /// Checks the moment of signing against `now`, both in seconds since the epoch.
    pub(crate) fn check_time(&self, now: u64) -> Result<(), SignatureError> {
        let life = self.presigned_for.unwrap_or(TOLERANCE);
        if self.signed_at + life < now {
            return Err(SignatureError::Expired {
                signed: self.stamp.clone(),
                earliest: calendar::stamp(now - life),
                now: calendar::stamp(now),
                minutes: life / 60,
            });
        }
        if self.signed_at > now + TOLERANCE {
            return Err(SignatureError::NotYet {
                signed: self.stamp.clone(),
                latest: calendar::stamp(now + TOLERANCE),
                now: calendar::stamp(now),
                minutes: TOLERANCE / 60,
            });
        }
        Ok(())
    }

    /// Proves that the holder of `secret` signed this request with this body.
    pub(crate) fn verify(&self, parts: &Parts, body: &[u8], secret: &SecretString) -> Result<(), SignatureError> {
        if !self.signed_headers.iter().any(|name| name == "host") {
            return Err(SignatureError::Incomplete(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
            ));
        }
        let canonical = self.canonical_request(parts, &payload_digest(parts, body)?);
        let scope = format!("{}/{}/{}/aws4_request", self.day, self.region, self.service);
        let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{}", self.stamp, hex(&Sha256::digest(canonical.as_bytes())));
        let expected = hex(&mac(&self.signing_key(secret), &to_sign));
        if bool::from(expected.as_bytes().ct_eq(self.signature.as_bytes())) {
            Ok(())
        } else {
            Err(SignatureError::Mismatch)
        }
    }

    fn signing_key(&self, secret: &SecretString) -> Vec<u8> {
        let key = mac(format!("AWS4{}", secret.expose_secret()).as_bytes(), &self.day);
        let key = mac(&key, &self.region);
        let key = mac(&key, &self.service);
        mac(&key, "aws4_request")
    }

    fn canonical_request(&self, parts: &Parts, payload: &str) -> String {
        let path = utf8_percent_encode(parts.uri.path(), RESERVED_IN_PATH);
        let headers = self.signed_headers.iter().fold(String::new(), |mut headers, name| {
            headers.extend([name, ":", &canonical_header(parts, name).unwrap_or_default(), "\n"]);
            headers
        });
        format!(
            "{}\n{path}\n{}\n{headers}\n{}\n{payload}",
            parts.method,
            canonical_query(parts),
            self.signed_headers.join(";")
        )
    }
}

fn missing(name: &str) -> SignatureError {
    SignatureError::Incomplete(format!("Authorization header requires '{name}' parameter."))
}

fn header(parts: &Parts, name: &str) -> Option<String> {
    parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// All values of a header, trimmed, each run of white space as one space, joined by commas.
fn canonical_header(parts: &Parts, name: &str) -> Option<String> {
    let values: Vec<String> = parts
        .headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).split_ascii_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// The pairs of the query, decoded. A plus sign stands for itself here, as in every AWS signer.
pub(crate) fn query_pairs(parts: &Parts) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn canonical_query(parts: &Parts) -> String {
    let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let mut pairs: Vec<(String, String)> = query_pairs(parts)
        .iter()
        .filter(|(key, _)| key != "X-Amz-Signature")
        .map(|(key, value)| (encode(key), encode(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
}

/// The body's digest as it was signed; a digest in the headers must be the true one.
fn payload_digest(parts: &Parts, body: &[u8]) -> Result<String, SignatureError> {
    let actual = hex(&Sha256::digest(body));
    match header(parts, "x-amz-content-sha256") {
        None => Ok(actual),
        Some(announced) if announced == UNSIGNED || announced == actual => Ok(announced),
        Some(_) => Err(SignatureError::Mismatch),
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const SIGNED_AT: u64 = 1_440_938_160;

    /// A request of the published signature test suite.
    fn request(target: &str, signature: &str) -> Parts {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={signature}"
        );
        let request = http::Request::get(target)
            .header("host", "example.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z")
            .header("authorization", authorization)
            .body(());
        request.expect("a well-formed request").into_parts().0
    }

    fn verify(parts: &Parts, body: &[u8]) -> Result<(), SignatureError> {
        SignatureClaim::read(parts)?.verify(parts, body, &SECRET.into())
    }

    #[test]
    fn the_published_vectors_verify_and_nothing_else_does() {
        for (target, signature) in [
            ("/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ] {
            let parts = request(target, signature);
            assert_eq!(verify(&parts, b""), Ok(()), "{target}");
            assert_eq!(verify(&parts, b"other"), Err(SignatureError::Mismatch), "{target}");
            let claim = SignatureClaim::read(&parts).expect("the claim is complete");
            assert_eq!(claim.verify(&parts, b"", &"wrong".into()), Err(SignatureError::Mismatch));
        }
    }

    #[test]
    fn the_clock_may_be_off_by_five_minutes_either_way() {
        let claim = SignatureClaim::read(&request("/", "00")).expect("the claim is complete");
        for now in [SIGNED_AT - TOLERANCE, SIGNED_AT, SIGNED_AT + TOLERANCE] {
            assert_eq!(claim.check_time(now), Ok(()));
        }
        let late = claim.check_time(SIGNED_AT + TOLERANCE + 1).map_err(|error| error.to_string());
        assert_eq!(
            late,
            Err("Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
                .to_owned())
        );
        let early = claim.check_time(SIGNED_AT - TOLERANCE - 1);
        assert!(matches!(early, Err(SignatureError::NotYet { .. })), "{early:?}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let bare = http::Request::get("/").body(()).expect("a well-formed request").into_parts().0;
        assert_eq!(SignatureClaim::read(&bare).map(|_| ()), Err(SignatureError::Missing));

        let mut parts = request("/", "");
        let error = SignatureClaim::read(&parts).expect_err("an empty signature").to_string();
        assert!(error.contains("'Signature'"), "{error}");

        parts.headers.remove("x-amz-date");
        parts.headers.insert(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=A, SignedHeaders=host, Signature=00".parse().expect("a header"),
        );
        let error = SignatureClaim::read(&parts).expect_err("no date").to_string();
        assert!(error.contains("'X-Amz-Date'"), "{error}");

        parts.headers.insert("x-amz-date", "20150830T123600Z".parse().expect("a header"));
        let error = SignatureClaim::read(&parts).expect_err("a short credential").to_string();
        assert!(error.contains("5 slash-delimited"), "{error}");
    }

    #[test]
    fn an_announced_digest_must_be_true_unless_the_body_is_unsigned() {
        let mut parts = request("/", "00");
        parts.headers.insert("x-amz-content-sha256", UNSIGNED.parse().expect("a header"));
        assert_eq!(payload_digest(&parts, b"any"), Ok(UNSIGNED.to_owned()));
        parts.headers.insert("x-amz-content-sha256", "00".parse().expect("a header"));
        assert_eq!(payload_digest(&parts, b"any"), Err(SignatureError::Mismatch));
    }
}

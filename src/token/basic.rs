//! The `Authorization` value of HTTP Basic (RFC 7617), built in memory that is overwritten when it is released.

use bytes::Bytes;
use http::HeaderValue;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const SCHEME: &[u8] = b"Basic ";

/// `Basic base64(user ":" secret)`, marked sensitive.
pub(super) fn header(user: &str, secret: &SecretString) -> HeaderValue {
    let secret = secret.expose_secret();
    let mut plain = Zeroizing::new(Vec::with_capacity(user.len() + 1 + secret.len()));
    plain.extend_from_slice(user.as_bytes());
    plain.push(b':');
    plain.extend_from_slice(secret.as_bytes());
    // Exactly as long as needed: growing would leave a copy behind in memory that is never overwritten.
    let mut value = Zeroizing::new(Vec::with_capacity(SCHEME.len() + plain.len().div_ceil(3) * 4));
    value.extend_from_slice(SCHEME);
    encode(&plain, &mut value);
    let mut header =
        HeaderValue::from_maybe_shared(Bytes::from_owner(value)).expect("base64 consists of visible ASCII characters");
    header.set_sensitive(true);
    header
}

/// Standard base64 with padding (RFC 4648, section 4).
fn encode(plain: &[u8], into: &mut Vec<u8>) {
    for chunk in plain.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for position in 0..4 {
            let letter = ALPHABET[((bits >> (18 - 6 * position)) & 63) as usize];
            into.push(if position <= chunk.len() { letter } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_the_rfc() {
        for (plain, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut encoded = Vec::new();
            encode(plain.as_bytes(), &mut encoded);
            assert_eq!(String::from_utf8_lossy(&encoded), expected, "{plain}");
        }
    }

    #[test]
    fn the_header_is_sensitive_and_right() {
        let header = header("aws", &SecretString::from("s3cr3t"));
        assert_eq!(header.as_bytes(), b"Basic YXdzOnMzY3IzdA==");
        assert!(header.is_sensitive());
        assert_eq!(format!("{header:?}"), "Sensitive");
    }
}

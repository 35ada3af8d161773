//! The token that a request presents, in whichever way its client has of presenting one.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::zeroize::Zeroizing;

/// The token of a request: a bearer token, or the password of basic authentication, whatever the user name is.
pub fn presented_token(headers: &HeaderMap) -> Option<Zeroizing<Vec<u8>>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return token(rest.trim().as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = Zeroizing::new(BASE64.decode(rest.trim()).ok()?);
    let colon = pair.iter().position(|byte| *byte == b':')?;
    token(&pair[colon + 1..])
}

fn token(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    (!bytes.is_empty()).then(|| Zeroizing::new(bytes.to_vec()))
}

/// Standard base64 (RFC 4648, section 4), with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_recognised_as_password_and_as_bearer() {
        // `__token__:one`, `x:one`, `:one`, and `a:t:wo`, whose token holds a colon.
        for (value, expected) in [
            ("Bearer one", Some("one")),
            ("bearer  one ", Some("one")),
            ("Basic X190b2tlbl9fOm9uZQ==", Some("one")),
            ("basic eDpvbmU=", Some("one")),
            ("Basic Om9uZQ", Some("one")),
            ("Basic YTp0Ondv", Some("t:wo")),
            ("Bearer ", None),
            ("Basic Og==", None),
            ("Basic !!", None),
            ("Digest one", None),
            ("one", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            let found = presented_token(&headers);
            assert_eq!(found.as_deref().map(Vec::as_slice), expected.map(str::as_bytes), "{value}");
            headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer one"));
            assert!(presented_token(&headers).is_none(), "two are none");
        }
        assert!(presented_token(&HeaderMap::new()).is_none());
    }
}

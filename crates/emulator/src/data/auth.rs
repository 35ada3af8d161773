//! Which token a client presents in an `Authorization` header, as Basic with user `aws` or as Bearer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::store::{DomainKey, Store, TokenGrant, TokenVerdict};

/// Whether a request carries a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenCheck {
    Granted(TokenGrant),
    /// The request has no credentials.
    Missing,
    /// The token is unknown, expired, or for another domain.
    Bad,
}

/// Checks the credentials of a request for a domain.
pub(super) fn admit(store: &Store, headers: &HeaderMap, domain: &DomainKey) -> TokenCheck {
    let Some(value) = headers.get(AUTHORIZATION) else { return TokenCheck::Missing };
    let Some(token) = value.to_str().ok().and_then(presented) else { return TokenCheck::Bad };
    match store.verify_token(&token) {
        TokenVerdict::Valid(grant) if grant.domain == *domain => TokenCheck::Granted(grant),
        TokenVerdict::Valid(_) | TokenVerdict::Expired | TokenVerdict::Unknown => TokenCheck::Bad,
    }
}

fn presented(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(rest.trim()).ok()?).ok()?;
    let (user, token) = pair.split_once(':')?;
    (user == "aws").then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_present_a_token_and_only_for_the_user_aws() {
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair));
        assert_eq!(presented(&basic("aws:a.b.c")), Some("a.b.c".to_owned()));
        assert_eq!(presented("bearer a.b.c"), Some("a.b.c".to_owned()));
        assert_eq!(presented(&basic("bob:a.b.c")), None);
        assert_eq!(presented("Digest a"), None);
        assert_eq!(presented("Basic %%%"), None);
    }
}

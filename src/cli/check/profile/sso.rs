//! Single sign-on profiles: whether they are complete, and whether there is a sign-on to use.

use std::time::Duration;

use serde::Deserialize;

use super::finding::ProfileFinding;
use super::ini::{ProfileSection, TextFile};
use super::{mistakes, time};

/// Any of these keys makes a profile one that uses single sign-on.
const KEYS: [&str; 4] = [SESSION, START_URL, "sso_account_id", "sso_role_name"];
const SESSION: &str = "sso_session";
const START_URL: &str = "sso_start_url";

pub(super) fn is_used(profile: &ProfileSection) -> bool {
    KEYS.iter().any(|key| profile.has(key))
}

/// The first mistake of a profile that uses single sign-on; `session` is what its `sso_session` names, if it exists.
pub(super) fn check(
    profile: &ProfileSection,
    session: Option<&ProfileSection>,
    cache: &[TextFile],
    now: Duration,
) -> Option<ProfileFinding> {
    let named = profile.get(SESSION);
    let source = match (named, session) {
        (Some(name), None) => return Some(mistakes::SSO_SESSION_MISSING.at(profile, SESSION, name)),
        (Some(_), Some(session)) => session,
        (None, _) => profile,
    };
    for (section, key) in
        [(source, START_URL), (source, "sso_region"), (profile, "sso_account_id"), (profile, "sso_role_name")]
    {
        if !section.has(key) {
            return Some(mistakes::SSO_INCOMPLETE.at(profile, key, key));
        }
    }
    let url = source.get(START_URL).unwrap_or_default();
    let mistake = match sign_on(url, cache, now) {
        SignOn::Usable | SignOn::Renewable => return None,
        SignOn::Missing => mistakes::SSO_SIGNED_OUT,
        SignOn::Expired => mistakes::SSO_EXPIRED,
    };
    let key = if named.is_some() { SESSION } else { START_URL };
    Some(mistake.at(profile, key, url))
}

/// What the AWS CLI leaves in its cache after a sign-on. Whether tokens are there counts, not what they are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CachedSignOn {
    start_url: Option<String>,
    access_token: Option<serde::de::IgnoredAny>,
    refresh_token: Option<serde::de::IgnoredAny>,
    expires_at: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SignOn {
    Usable,
    /// Expired, but the SDK can renew it by itself.
    Renewable,
    Expired,
    Missing,
}

fn sign_on(url: &str, cache: &[TextFile], now: Duration) -> SignOn {
    let mut best = SignOn::Missing;
    for file in cache {
        let Ok(cached) = serde_json::from_str::<CachedSignOn>(&file.text) else { continue };
        let same = cached.start_url.as_deref().is_some_and(|found| is_same_url(found, url));
        if !same || cached.access_token.is_none() {
            continue;
        }
        match cached.expires_at.as_deref().and_then(time::parse) {
            Some(expires) if expires > now => return SignOn::Usable,
            _ if cached.refresh_token.is_some() => best = SignOn::Renewable,
            _ if best == SignOn::Missing => best = SignOn::Expired,
            _ => {}
        }
    }
    best
}

fn is_same_url(left: &str, right: &str) -> bool {
    let without_end = |url: &str| url.trim_end_matches(['/', '#']).to_owned();
    without_end(left) == without_end(right)
}

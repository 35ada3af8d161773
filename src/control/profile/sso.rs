//! Single sign-on profiles: are they complete, and is there a session to use.

use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;

use super::Severity;
use super::ini::Section;
use super::walk::{Say, Walk};

const OTHERS: &str = "every tool needs the same sign-on";

/// What the AWS CLI leaves in its cache after a sign-on. Tokens are only looked at for being there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    start_url: Option<String>,
    access_token: Option<serde::de::IgnoredAny>,
    refresh_token: Option<serde::de::IgnoredAny>,
    expires_at: Option<String>,
}

pub(super) fn check(walk: &mut Walk<'_>, profile: &Section) {
    let session = profile.get("sso_session");
    let source = match session {
        Some(name) => {
            let Some(section) = walk.files.sessions.get(name) else {
                let what = format!("sso_session `{name}`, named by profile `{}`, does not exist", profile.name);
                let remedy = "add `[sso-session NAME]` with sso_start_url and sso_region, or run `aws configure sso`";
                return refuse(walk, profile, "sso_session", "sso_session_missing", what, remedy);
            };
            section
        }
        None => profile,
    };
    for (section, key) in
        [(source, "sso_start_url"), (source, "sso_region"), (profile, "sso_account_id"), (profile, "sso_role_name")]
    {
        if !section.has(key) {
            let what = format!("profile `{}` uses single sign-on but {key} is missing", profile.name);
            return refuse(walk, profile, key, "sso_incomplete", what, "run `aws configure sso`, or write the key");
        }
    }
    let url = source.get("sso_start_url").unwrap_or_default();
    let verdict = cached(walk, url);
    let (severity, state) = match verdict {
        Session::Usable | Session::Renewable => return,
        Session::Missing => (Severity::Error, "there is no sign-on"),
        Session::Over => (Severity::Error, "the sign-on is over"),
    };
    let login = session.map_or_else(
        || format!("aws sso login --profile {}", profile.name),
        |session| format!("aws sso login --sso-session {session}"),
    );
    let remedy = format!("run `{login}`; for a server use a role instead, sign-ons end within hours");
    let say = Say {
        severity,
        code: if verdict == Session::Over { "sso_expired" } else { "sso_signed_out" },
        what: format!("profile `{}` uses single sign-on, but {state} for {url}", profile.name),
        others: OTHERS,
        remedy: &remedy,
    };
    let key = if session.is_some() { "sso_session" } else { "sso_start_url" };
    walk.add(profile, profile.place_of(key), say);
}

fn refuse(walk: &mut Walk<'_>, profile: &Section, key: &str, code: &'static str, what: String, remedy: &str) {
    let say = Say { severity: Severity::Error, code, what, others: "every tool refuses this", remedy };
    walk.add(profile, profile.place_of(key), say);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Session {
    Usable,
    /// Over, but the SDK can renew it by itself.
    Renewable,
    Over,
    Missing,
}

fn cached(walk: &Walk<'_>, url: &str) -> Session {
    let mut best = Session::Missing;
    for file in &walk.inspection.sso_cache {
        let Ok(cached) = serde_json::from_str::<Cached>(&file.text) else { continue };
        let same = cached.start_url.as_deref().is_some_and(|found| same_url(found, url));
        if !same || cached.access_token.is_none() {
            continue;
        }
        match cached.expires_at.as_deref().and_then(moment) {
            Some(ends) if ends > walk.inspection.now => return Session::Usable,
            _ if cached.refresh_token.is_some() => best = Session::Renewable,
            _ if best == Session::Missing => best = Session::Over,
            _ => {}
        }
    }
    best
}

fn same_url(left: &str, right: &str) -> bool {
    let plain = |url: &str| url.trim_end_matches(['/', '#']).to_owned();
    plain(left) == plain(right)
}

/// A moment as the various tools write it, since the Unix epoch.
pub(super) fn moment(text: &str) -> Option<Duration> {
    let text = text.trim().replace("UTC", "Z").replace("+00:00", "Z");
    let time = humantime::parse_rfc3339_weak(&text).ok()?;
    time.duration_since(UNIX_EPOCH).ok()
}

//! From the selected profile to the profile that holds credentials, with every mistake between them.
//!
//! The steps are the SDK's own: `role_arn` leads on to `source_profile`, everything else ends the walk, and static
//! keys end it at every profile but the first.

use std::collections::BTreeSet;
use std::time::Duration;

use super::finding::{Mistake, ProfileFinding};
use super::ini::{Location, ProfileSection, Profiles};
use super::inspection::Inspection;
use super::{mistakes, sso, time};

const KEY_ID: &str = "aws_access_key_id";
const SECRET: &str = "aws_secret_access_key";
const SESSION: &str = "aws_session_token";
const ROLE: &str = "role_arn";
const SOURCE: &str = "source_profile";
const NAMED_SOURCE: &str = "credential_source";
const MFA: &str = "mfa_serial";
const WEB_IDENTITY: &str = "web_identity_token_file";
const PROCESS: &str = "credential_process";
const LOGIN: &str = "login_session";
/// Helpers that write session keys also write when these expire, each under its own name.
const EXPIRATIONS: [&str; 4] = ["expiration", "aws_expiration", "x_security_token_expires", "aws_session_expiration"];

/// All mistakes between the selected profile and its credentials.
pub(super) fn follow(inspection: &Inspection, profiles: &Profiles, selected: &str) -> Vec<ProfileFinding> {
    let mut walk = Walk { inspection, profiles, findings: Vec::new() };
    walk.follow(selected);
    walk.findings
}

/// The walk so far.
struct Walk<'a> {
    inspection: &'a Inspection,
    profiles: &'a Profiles,
    findings: Vec<ProfileFinding>,
}

impl<'a> Walk<'a> {
    fn add(&mut self, mistake: &Mistake, profile: &ProfileSection, key: &str, value: &str) {
        self.findings.push(mistake.at(profile, key, value));
    }

    fn follow(&mut self, selected: &str) {
        let Some(mut profile) = self.profiles.get(selected) else {
            self.selected_missing(selected);
            return;
        };
        let mut visited = BTreeSet::new();
        loop {
            let first = visited.is_empty();
            visited.insert(profile.name.as_str());
            let keys = self.keys(profile);
            // Static keys end the walk at every profile but the first, where a role comes before them.
            let is_role = profile.has(ROLE) && !profile.has(WEB_IDENTITY);
            if !is_role || (!first && keys) {
                self.base(profile, keys, first);
                return;
            }
            let Some(next) = self.role(profile, keys) else { return };
            if visited.contains(next.name.as_str()) {
                self.add(&mistakes::PROFILE_LOOP, profile, SOURCE, &next.name);
                return;
            }
            profile = next;
        }
    }

    /// The SDK does without a default profile.
    fn selected_missing(&mut self, selected: &str) {
        if selected == "default" {
            return;
        }
        let file = self.inspection.config.as_ref().or(self.inspection.credentials.as_ref());
        let location = Location { file: file.map_or("", |file| file.path.as_str()).into(), line: 0 };
        self.findings.push(mistakes::PROFILE_MISSING.found(Some(selected), &location, ""));
    }

    /// A profile that assumes a role; gives the profile whose credentials it uses, if the walk continues there.
    fn role(&mut self, profile: &'a ProfileSection, keys: bool) -> Option<&'a ProfileSection> {
        if profile.has(MFA) {
            self.add(&mistakes::MFA_WITH_ROLE, profile, MFA, "");
        }
        match (profile.get(SOURCE), profile.get(NAMED_SOURCE)) {
            (Some(own), None) if own == profile.name => self.base(profile, keys, false),
            (Some(name), None) => return self.source(profile, name),
            (None, Some(source)) => self.named_source(profile, source),
            (Some(_), Some(_)) => self.add(&mistakes::TWO_SOURCES, profile, NAMED_SOURCE, ""),
            (None, None) => self.add(&mistakes::ROLE_WITHOUT_SOURCE, profile, ROLE, ""),
        }
        None
    }

    fn source(&mut self, profile: &ProfileSection, name: &str) -> Option<&'a ProfileSection> {
        let next = self.profiles.get(name);
        if next.is_none() {
            self.add(&mistakes::SOURCE_MISSING, profile, SOURCE, name);
        }
        next
    }

    fn named_source(&mut self, profile: &ProfileSection, source: &str) {
        if !matches!(source, "Environment" | "Ec2InstanceMetadata" | "EcsContainer") {
            self.add(&mistakes::UNKNOWN_SOURCE, profile, NAMED_SOURCE, source);
        }
    }

    /// A profile that has to hold credentials itself.
    fn base(&mut self, profile: &ProfileSection, keys: bool, first: bool) {
        let uses_sso = sso::is_used(profile);
        let web_identity = profile.has(WEB_IDENTITY) && profile.has(ROLE);
        let partial = !keys && [KEY_ID, SECRET, SESSION].iter().any(|key| profile.has(key));
        let other =
            uses_sso || web_identity || partial || [PROCESS, LOGIN, NAMED_SOURCE].iter().any(|key| profile.has(key));
        if profile.has(WEB_IDENTITY) && !profile.has(ROLE) {
            self.add(&mistakes::WEB_IDENTITY_WITHOUT_ROLE, profile, WEB_IDENTITY, "");
        }
        if profile.has(ROLE) && !web_identity {
            // A role that names itself, or one hidden behind keys: nothing below applies.
            if !keys && !other {
                self.no_credentials(profile, false);
            }
            return;
        }
        if profile.has(SOURCE) {
            let covered = keys || other;
            let mistake = if covered { mistakes::SOURCE_BESIDE_CREDENTIALS } else { mistakes::SOURCE_WITHOUT_ROLE };
            self.add(&mistake, profile, SOURCE, "");
        } else if let Some(source) = profile.get(NAMED_SOURCE) {
            self.named_source(profile, source);
            self.add(&mistakes::NAMED_SOURCE_WITHOUT_ROLE, profile, NAMED_SOURCE, "");
        } else if !keys && !other && !profile.has(WEB_IDENTITY) {
            self.no_credentials(profile, first);
        }
        if profile.has(MFA) {
            self.mfa_without_role(profile, keys);
        }
        if uses_sso {
            let session = profile.get("sso_session").and_then(|name| self.profiles.session(name));
            self.findings.extend(sso::check(profile, session, &self.inspection.sso_cache, self.inspection.now));
        }
    }

    fn mfa_without_role(&mut self, profile: &ProfileSection, keys: bool) {
        let mistake = match (keys, profile.has(SESSION)) {
            (true, true) => mistakes::MFA_BESIDE_SESSION_KEYS,
            (true, false) => mistakes::MFA_BESIDE_LONG_LIVED_KEYS,
            (false, _) => mistakes::MFA_WITHOUT_KEYS,
        };
        self.add(&mistake, profile, MFA, "");
    }

    /// Blames the profile as a whole, so no key.
    fn no_credentials(&mut self, profile: &ProfileSection, first: bool) {
        let mistake = if first { mistakes::NO_CREDENTIALS } else { mistakes::SOURCE_WITHOUT_CREDENTIALS };
        self.add(&mistake, profile, "", "");
    }

    /// Whether the profile has static keys; adds a finding about half a pair and about expired keys.
    fn keys(&mut self, profile: &ProfileSection) -> bool {
        let (id, secret, session) = (profile.has(KEY_ID), profile.has(SECRET), profile.has(SESSION));
        let half = match (id, secret, session) {
            (true, false, _) => Some((KEY_ID, SECRET)),
            (false, true, _) => Some((SECRET, KEY_ID)),
            (false, false, true) => Some((SESSION, KEY_ID)),
            (true, true, _) | (false, false, false) => None,
        };
        if let Some((present, missing)) = half {
            self.add(&mistakes::PARTIAL_KEYS, profile, present, &format!("{present} but no {missing}"));
            return false;
        }
        if id && !session && profile.get(KEY_ID).is_some_and(|id| id.starts_with("ASIA")) {
            self.add(&mistakes::SESSION_TOKEN_MISSING, profile, KEY_ID, "");
        }
        if id {
            self.expired_keys(profile, self.inspection.now);
        }
        id
    }

    fn expired_keys(&mut self, profile: &ProfileSection, now: Duration) {
        for key in EXPIRATIONS {
            if profile.get(key).and_then(time::parse).is_some_and(|expires| expires <= now) {
                self.add(&mistakes::KEYS_EXPIRED, profile, key, "");
            }
        }
    }
}

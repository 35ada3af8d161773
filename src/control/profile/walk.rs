//! From the selected profile to where credentials come from, and every mistake on the way.
//!
//! The steps are the SDK's own: `role_arn` leads on to `source_profile`, everything else ends the walk, and static
//! keys end it at every profile but the first.

use std::collections::BTreeSet;

use super::ini::{Files, Place, Section};
use super::{Inspection, ProfileFinding, Severity, sso};

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

const EVERYWHERE: &str = "every tool refuses this";
const MFA_REMEDY: &str = "this program cannot ask for a code: mint session keys first, or use credential_process or \
                          single sign-on";

/// All mistakes between the selected profile and its credentials.
pub(super) fn follow(inspection: &Inspection, files: &Files, selected: &str) -> Vec<ProfileFinding> {
    let mut walk = Walk { inspection, files, findings: Vec::new() };
    walk.follow(selected);
    walk.findings
}

/// The walk so far.
pub(super) struct Walk<'a> {
    pub(super) inspection: &'a Inspection,
    pub(super) files: &'a Files,
    findings: Vec<ProfileFinding>,
}

/// A finding without its place and profile.
pub(super) struct Say<'a> {
    pub(super) severity: Severity,
    pub(super) code: &'static str,
    pub(super) what: String,
    pub(super) others: &'a str,
    pub(super) remedy: &'a str,
}

impl<'a> Walk<'a> {
    pub(super) fn add(&mut self, profile: &Section, place: &Place, say: Say<'_>) {
        self.findings.push(ProfileFinding {
            severity: say.severity,
            code: say.code,
            profile: Some(profile.name.clone()),
            file: place.file.to_string(),
            line: place.line,
            what: say.what,
            others: say.others.to_owned(),
            remedy: say.remedy.to_owned(),
        });
    }

    fn follow(&mut self, selected: &str) {
        let Some(mut profile) = self.files.profiles.get(selected) else {
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
                let say = Say {
                    severity: Severity::Error,
                    code: "profile_loop",
                    what: format!("profiles `{}` and `{}` lead to each other", profile.name, next.name),
                    others: EVERYWHERE,
                    remedy: "let one of them hold credentials",
                };
                self.add(profile, profile.place_of(SOURCE), say);
                return;
            }
            profile = next;
        }
    }

    fn selected_missing(&mut self, selected: &str) {
        if selected == "default" {
            return;
        }
        let path = self.inspection.config.as_ref().or(self.inspection.credentials.as_ref());
        self.findings.push(ProfileFinding {
            severity: Severity::Error,
            code: "profile_missing",
            profile: Some(selected.to_owned()),
            file: path.map(|file| file.path.clone()).unwrap_or_default(),
            line: 0,
            what: format!("the selected profile `{selected}` does not exist"),
            others: "boto3 and the AWS CLI: `The config profile could not be found`".to_owned(),
            remedy: format!(
                "add `[profile {selected}]` to the configuration file or `[{selected}]` to the credentials file, or \
                 correct AWS_PROFILE or `profile`"
            ),
        });
    }

    /// A profile that assumes a role; gives the profile whose credentials it uses, if the walk goes on.
    fn role(&mut self, profile: &'a Section, keys: bool) -> Option<&'a Section> {
        if profile.has(MFA) {
            self.mfa_of_role(profile);
        }
        match (profile.get(SOURCE), profile.get(NAMED_SOURCE)) {
            (Some(own), None) if own == profile.name => self.base(profile, keys, false),
            (Some(name), None) => return self.source(profile, name),
            (None, Some(source)) => self.named_source(profile, source),
            (Some(_), Some(_)) => {
                let say = Say {
                    severity: Severity::Error,
                    code: "two_sources",
                    what: format!("profile `{}` has both source_profile and credential_source", profile.name),
                    others: EVERYWHERE,
                    remedy: "keep one of the two",
                };
                self.add(profile, profile.place_of(NAMED_SOURCE), say);
            }
            (None, None) => {
                let say = Say {
                    severity: Severity::Error,
                    code: "role_without_source",
                    what: format!(
                        "profile `{}` has role_arn but neither source_profile nor credential_source",
                        profile.name
                    ),
                    others: "every tool refuses this; boto3: `Partial credentials found in assume-role`",
                    remedy: "add source_profile, or credential_source (Environment, Ec2InstanceMetadata, EcsContainer)",
                };
                self.add(profile, profile.place_of(ROLE), say);
            }
        }
        None
    }

    fn mfa_of_role(&mut self, profile: &Section) {
        let say = Say {
            severity: Severity::Error,
            code: "mfa_unsupported",
            what: format!(
                "profile `{}` assumes a role with mfa_serial; this program never reads mfa_serial, so AWS denies the \
                 role if its trust policy asks for MFA",
                profile.name
            ),
            others: "boto3 and the AWS CLI ask for a code and fail without a terminal; Go-based tools fail unless the \
                     tool can ask",
            remedy: MFA_REMEDY,
        };
        self.add(profile, profile.place_of(MFA), say);
    }

    fn source(&mut self, profile: &Section, name: &str) -> Option<&'a Section> {
        let next = self.files.profiles.get(name);
        if next.is_none() {
            let say = Say {
                severity: Severity::Error,
                code: "source_missing",
                what: format!("source_profile `{name}`, named by profile `{}`, does not exist", profile.name),
                others: EVERYWHERE,
                remedy: "correct the name, or add that profile",
            };
            self.add(profile, profile.place_of(SOURCE), say);
        }
        next
    }

    fn named_source(&mut self, profile: &Section, source: &str) {
        if matches!(source, "Environment" | "Ec2InstanceMetadata" | "EcsContainer") {
            return;
        }
        let say = Say {
            severity: Severity::Error,
            code: "unknown_source",
            what: format!("credential_source `{source}` of profile `{}` is none that exists", profile.name),
            others: EVERYWHERE,
            remedy: "write Environment, Ec2InstanceMetadata or EcsContainer, exactly so",
        };
        self.add(profile, profile.place_of(NAMED_SOURCE), say);
    }

    /// A profile that has to hold credentials itself.
    fn base(&mut self, profile: &Section, keys: bool, first: bool) {
        let uses_sso =
            ["sso_session", "sso_start_url", "sso_account_id", "sso_role_name"].iter().any(|key| profile.has(key));
        let web_identity = profile.has(WEB_IDENTITY) && profile.has(ROLE);
        let partial = !keys && (profile.has(KEY_ID) || profile.has(SECRET) || profile.has(SESSION));
        let other =
            uses_sso || web_identity || partial || [PROCESS, LOGIN, NAMED_SOURCE].iter().any(|key| profile.has(key));
        if profile.has(WEB_IDENTITY) && !profile.has(ROLE) {
            let say = Say {
                severity: Severity::Error,
                code: "web_identity_without_role",
                what: format!("profile `{}` has web_identity_token_file but no role_arn", profile.name),
                others: EVERYWHERE,
                remedy: "add role_arn",
            };
            self.add(profile, profile.place_of(WEB_IDENTITY), say);
        }
        if profile.has(ROLE) && !web_identity {
            // A role that names itself, or one hidden behind keys: nothing below applies.
            if !keys && !other {
                self.no_credentials(profile, false);
            }
            return;
        }
        if profile.has(SOURCE) {
            self.source_without_role(profile, keys, other);
        } else if let Some(source) = profile.get(NAMED_SOURCE) {
            self.named_source(profile, source);
            self.named_source_without_role(profile);
        } else if !keys && !other && !profile.has(WEB_IDENTITY) {
            self.no_credentials(profile, first);
        }
        if profile.has(MFA) {
            self.mfa_without_role(profile, keys);
        }
        if uses_sso {
            sso::check(self, profile);
        }
    }

    /// The family of `credential type source_profile requires role_arn, profile mfa`.
    fn source_without_role(&mut self, profile: &Section, keys: bool, other: bool) {
        let go = format!(
            "Go-based tools stop with `credential type source_profile requires role_arn, profile {}`",
            profile.name
        );
        let name = &profile.name;
        let (severity, what, others) = if keys || other {
            (
                Severity::Warning,
                format!(
                    "profile `{name}` has source_profile but no role_arn; this program ignores source_profile and \
                     uses the credentials beside it"
                ),
                format!("{go}; boto3 and the AWS CLI use the credentials too"),
            )
        } else {
            (
                Severity::Error,
                format!(
                    "profile `{name}` has source_profile but no role_arn; this program ignores source_profile and so \
                     finds no credentials"
                ),
                format!("{go}; boto3 and the AWS CLI silently find no credentials"),
            )
        };
        let say = Say {
            severity,
            code: "source_without_role",
            what,
            others: &others,
            remedy: "add role_arn; or delete source_profile (MFA helpers leave it behind); or use another profile or \
                     keys in the environment",
        };
        self.add(profile, profile.place_of(SOURCE), say);
    }

    fn named_source_without_role(&mut self, profile: &Section) {
        let others = format!(
            "Go-based tools stop with `credential type credential_source requires role_arn, profile {}`",
            profile.name
        );
        let say = Say {
            severity: Severity::Warning,
            code: "named_source_without_role",
            what: format!(
                "profile `{}` has credential_source but no role_arn; this program uses that source as it is",
                profile.name
            ),
            others: &others,
            remedy: "add role_arn, or delete the key",
        };
        self.add(profile, profile.place_of(NAMED_SOURCE), say);
    }

    fn mfa_without_role(&mut self, profile: &Section, keys: bool) {
        let session = keys && profile.has(SESSION);
        let (severity, effect) = if session {
            (Severity::Note, "the session keys beside it are used as they are")
        } else if keys {
            (Severity::Warning, "the keys beside it are used without MFA, so policies that ask for MFA deny them")
        } else {
            (Severity::Error, "no session keys are made from it")
        };
        let say = Say {
            severity,
            code: "mfa_ignored",
            what: format!("profile `{}` has mfa_serial, which this program never reads: {effect}", profile.name),
            others: "boto3 and the AWS CLI use mfa_serial only together with role_arn",
            remedy: MFA_REMEDY,
        };
        self.add(profile, profile.place_of(MFA), say);
    }

    fn no_credentials(&mut self, profile: &Section, first: bool) {
        let (severity, code, what, others) = if first {
            (
                Severity::Note,
                "no_credentials",
                format!("profile `{}` holds no credentials; the chain goes on without it", profile.name),
                "",
            )
        } else {
            (
                Severity::Error,
                "source_without_credentials",
                format!("profile `{}` has to provide credentials for a role, but holds none", profile.name),
                "boto3: `The source profile must have credentials`",
            )
        };
        let remedy = "add keys, credential_process or single sign-on to it, or name another profile";
        self.add(profile, &profile.place, Say { severity, code, what, others, remedy });
    }

    /// Whether the profile has static keys; complains about halves and about keys that are over.
    fn keys(&mut self, profile: &Section) -> bool {
        let (id, secret, session) = (profile.has(KEY_ID), profile.has(SECRET), profile.has(SESSION));
        if id != secret || (session && !id) {
            let missing = if id { SECRET } else { KEY_ID };
            let present = if id {
                KEY_ID
            } else if secret {
                SECRET
            } else {
                SESSION
            };
            let say = Say {
                severity: Severity::Error,
                code: "partial_keys",
                what: format!("profile `{}` has {present} but no {missing}", profile.name),
                others: EVERYWHERE,
                remedy: "write both keys, and the session token if the keys are temporary, or delete all of them",
            };
            self.add(profile, profile.place_of(present), say);
            return false;
        }
        if id && profile.get(KEY_ID).is_some_and(|id| id.starts_with("ASIA")) && !session {
            let say = Say {
                severity: Severity::Error,
                code: "session_token_missing",
                what: format!("profile `{}` has temporary keys without aws_session_token", profile.name),
                others: "AWS refuses them everywhere",
                remedy: "write the session token beside the keys",
            };
            self.add(profile, profile.place_of(KEY_ID), say);
        }
        if id {
            self.expired_keys(profile);
        }
        id
    }

    /// Helpers that write session keys also write when they end, each under its own name.
    fn expired_keys(&mut self, profile: &Section) {
        for key in ["expiration", "aws_expiration", "x_security_token_expires", "aws_session_expiration"] {
            let Some(ends) = profile.get(key).and_then(sso::moment) else { continue };
            if ends > self.inspection.now {
                continue;
            }
            let say = Say {
                severity: Severity::Error,
                code: "keys_expired",
                what: format!("the session keys of profile `{}` are over", profile.name),
                others: "AWS refuses them everywhere",
                remedy: "run the helper that wrote them again; for a server use a role that renews itself",
            };
            self.add(profile, profile.place_of(key), say);
        }
    }
}

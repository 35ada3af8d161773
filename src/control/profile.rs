//! What people get wrong in AWS profiles, found by reading the files.
//!
//! Pure: files go in as text, findings come out with file and line. The SDK ignores several of these mistakes or
//! names neither profile nor cause, and other tools react differently to the same file, so each finding also says
//! what they do. The walk follows the SDK's own: `role_arn` leads on to `source_profile`, everything else ends it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

mod ini;
mod sso;
#[cfg(test)]
mod tests;

pub use ini::ConfigFile;
use ini::{Files, Flaw, Place, Section};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Works here, but not everywhere or not for long.
    Warning,
    /// Does not work.
    Error,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProfileFinding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name for scripts.
    pub code: &'static str,
    /// The profile it is about, if it is about one.
    pub profile: Option<String>,
    /// The file.
    pub file: String,
    /// The line, from 1; 0 if no line is to blame.
    pub line: usize,
    /// What is there, and what this program makes of it.
    pub what: String,
    /// What other tools make of it; empty if the same.
    pub others: String,
    /// What to do.
    pub remedy: String,
}

/// All that an inspection looks at.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// `~/.aws/config` or `AWS_CONFIG_FILE`.
    pub config: Option<ConfigFile>,
    /// `~/.aws/credentials` or `AWS_SHARED_CREDENTIALS_FILE`.
    pub credentials: Option<ConfigFile>,
    /// The profile that is asked for; `None` for `default`.
    pub selected: Option<String>,
    /// The files of `~/.aws/sso/cache`.
    pub sso_cache: Vec<ConfigFile>,
    /// Since the Unix epoch.
    pub now: Duration,
}

/// Looks at the shape of both files and at every profile that the selected one leads to.
pub fn inspect(inspection: &Inspection) -> Vec<ProfileFinding> {
    let files = ini::read(inspection.config.as_ref(), inspection.credentials.as_ref());
    let mut walk = Walk { inspection, files: &files, findings: Vec::new() };
    walk.follow(inspection.selected.as_deref().unwrap_or("default"));
    let selected = inspection.selected.as_deref().unwrap_or("default");
    let mut findings = walk.findings;
    findings.extend(files.flaws.iter().map(|flaw| of_flaw(flaw, selected)));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

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

const MFA_REMEDY: &str = "this program cannot ask for a code: mint session keys first, or use credential_process or \
                          single sign-on";

struct Walk<'a> {
    inspection: &'a Inspection,
    files: &'a Files,
    findings: Vec<ProfileFinding>,
}

/// A finding without its place and profile.
struct Say<'a> {
    severity: Severity,
    code: &'static str,
    what: String,
    others: &'a str,
    remedy: &'a str,
}

impl<'a> Walk<'a> {
    fn add(&mut self, profile: &Section, place: &Place, say: Say<'_>) {
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
                    others: "every tool refuses this",
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
            let say = Say {
                severity: Severity::Error,
                code: "mfa_unsupported",
                what: format!(
                    "profile `{}` assumes a role with mfa_serial; this program never reads mfa_serial, so AWS denies \
                     the role if its trust policy asks for MFA",
                    profile.name
                ),
                others: "boto3 and the AWS CLI ask for a code and fail without a terminal; Go-based tools fail unless \
                         the tool can ask",
                remedy: MFA_REMEDY,
            };
            self.add(profile, profile.place_of(MFA), say);
        }
        match (profile.get(SOURCE), profile.get(NAMED_SOURCE)) {
            (Some(_), Some(_)) => {
                let say = Say {
                    severity: Severity::Error,
                    code: "two_sources",
                    what: format!("profile `{}` has both source_profile and credential_source", profile.name),
                    others: "every tool refuses this",
                    remedy: "keep one of the two",
                };
                self.add(profile, profile.place_of(NAMED_SOURCE), say);
                None
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
                None
            }
            (Some(own), None) if own == profile.name => {
                self.base(profile, keys, false);
                None
            }
            (Some(name), None) => {
                let next = self.files.profiles.get(name);
                if next.is_none() {
                    let what = format!(
                        "source_profile `{name}`, named by profile `{}`, does not exist",
                        profile.name
                    );
                    let say = Say {
                        severity: Severity::Error,
                        code: "source_missing",
                        what,
                        others: "every tool refuses this",
                        remedy: "correct the name, or add that profile",
                    };
                    self.add(profile, profile.place_of(SOURCE), say);
                }
                next
            }
            (None, Some(source)) => {
                self.named_source(profile, source);
                None
            }
        }
    }

    fn named_source(&mut self, profile: &Section, source: &str) {
        if matches!(source, "Environment" | "Ec2InstanceMetadata" | "EcsContainer") {
            return;
        }
        let say = Say {
            severity: Severity::Error,
            code: "unknown_source",
            what: format!("credential_source `{source}` of profile `{}` is none that exists", profile.name),
            others: "every tool refuses this",
            remedy: "write Environment, Ec2InstanceMetadata or EcsContainer, exactly so",
        };
        self.add(profile, profile.place_of(NAMED_SOURCE), say);
    }

    /// A profile that has to hold credentials itself.
    fn base(&mut self, profile: &Section, keys: bool, first: bool) {
        let uses_sso = ["sso_session", "sso_start_url", "sso_account_id", "sso_role_name"]
            .iter()
            .any(|key| profile.has(key));
        let web_identity = profile.has(WEB_IDENTITY) && profile.has(ROLE);
        let partial = !keys && (profile.has(KEY_ID) || profile.has(SECRET) || profile.has(SESSION));
        let other = uses_sso
            || web_identity
            || partial
            || [PROCESS, LOGIN, NAMED_SOURCE].iter().any(|key| profile.has(key));
        if profile.has(WEB_IDENTITY) && !profile.has(ROLE) {
            let say = Say {
                severity: Severity::Error,
                code: "web_identity_without_role",
                what: format!("profile `{}` has web_identity_token_file but no role_arn", profile.name),
                others: "every tool refuses this",
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
            (
                Severity::Warning,
                "the keys beside it are used without MFA, so policies that ask for MFA deny them",
            )
        } else {
            (Severity::Error, "no session keys are made from it")
        };
        let say = Say {
            severity,
            code: "mfa_ignored",
            what: format!(
                "profile `{}` has mfa_serial, which this program never reads: {effect}",
                profile.name
            ),
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
                others: "every tool refuses this",
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

/// A flaw counts double if it hides the selected profile.
fn of_flaw(flaw: &Flaw, selected: &str) -> ProfileFinding {
    let weight = |name: &str| if name == selected { Severity::Error } else { Severity::Note };
    let (severity, code, profile, place, what, others, remedy) = match flaw {
        Flaw::Line(place) => (
            Severity::Error,
            "bad_line",
            None,
            place,
            "this line is neither a section nor `key = value`; this program refuses the whole file"
                .to_owned(),
            "the AWS CLI refuses the file too",
            "correct or delete the line",
        ),
        Flaw::NoPrefix(name, place) => (
            weight(name),
            "prefix_missing",
            Some(name.clone()),
            place,
            format!(
                "section `[{name}]` of the configuration file is ignored: its name lacks the word `profile`"
            ),
            "boto3 and the AWS CLI ignore it too",
            "write `[profile NAME]`; only the credentials file goes without the word",
        ),
        Flaw::Prefix(name, place) => (
            weight(name),
            "prefix_too_much",
            Some(name.clone()),
            place,
            format!("section `[profile {name}]` of the credentials file is ignored"),
            "boto3 and the AWS CLI know it under the name with the word `profile`, if at all",
            "write `[NAME]`; only the configuration file wants the word `profile`",
        ),
        Flaw::Twice { name, first, again } => (
            Severity::Warning,
            "section_twice",
            Some(name.clone()),
            again,
            format!("section `{name}` is there twice (first in line {}); both are merged", first.line),
            "boto3 and the AWS CLI refuse the file",
            "merge the two",
        ),
        Flaw::DefaultIgnored(place) => (
            Severity::Warning,
            "default_ignored",
            Some("default".to_owned()),
            place,
            "`[default]` is ignored because `[profile default]` is there too".to_owned(),
            "",
            "keep one of the two",
        ),
    };
    ProfileFinding {
        severity,
        code,
        profile,
        file: place.file.to_string(),
        line: place.line,
        what,
        others: others.to_owned(),
        remedy: remedy.to_owned(),
    }
}

//! The table of mistakes: how bad each one is, its code for scripts, and what people read about it.
//!
//! Codes are stable. The texts say what this program does, then what other tools do, then what to do about it.

use super::finding::{Mistake, ProfileFinding, Severity};
use super::ini::Flaw;

const REFUSED_EVERYWHERE: &str = "every tool refuses this";
const AWS_REFUSES: &str = "AWS refuses them everywhere";
const SIGN_ON_EVERYWHERE: &str = "every tool needs the same sign-on";
const MFA_ONLY_WITH_ROLE: &str = "boto3 and the AWS CLI use mfa_serial only together with role_arn";
const MFA_REMEDY: &str = "this program cannot ask for a code: mint session keys first, or use credential_process or \
                          single sign-on";
const SOURCE_REMEDY: &str = "add role_arn; or delete source_profile (MFA helpers leave it behind); or use another \
                             profile or keys in the environment";
const CREDENTIALS_REMEDY: &str = "add keys, credential_process or single sign-on to it, or name another profile";
const SIGN_ON_REMEDY: &str =
    "run `aws sso login --profile {profile}`; for a server use a role instead, sign-ons end within hours";

// The selected profile and the profiles it leads to.

pub(super) const PROFILE_MISSING: Mistake = Mistake {
    severity: Severity::Error,
    code: "profile_missing",
    what: "the selected profile `{profile}` does not exist",
    others: "boto3 and the AWS CLI: `The config profile could not be found`",
    remedy: "add `[profile {profile}]` to the configuration file or `[{profile}]` to the credentials file, or correct \
             AWS_PROFILE or `profile`",
};
pub(super) const PROFILE_LOOP: Mistake = Mistake {
    severity: Severity::Error,
    code: "profile_loop",
    what: "profiles `{profile}` and `{value}` lead to each other",
    others: REFUSED_EVERYWHERE,
    remedy: "let one of them hold credentials",
};
pub(super) const TWO_SOURCES: Mistake = Mistake {
    severity: Severity::Error,
    code: "two_sources",
    what: "profile `{profile}` has both source_profile and credential_source",
    others: REFUSED_EVERYWHERE,
    remedy: "keep one of the two",
};
pub(super) const ROLE_WITHOUT_SOURCE: Mistake = Mistake {
    severity: Severity::Error,
    code: "role_without_source",
    what: "profile `{profile}` has role_arn but neither source_profile nor credential_source",
    others: "every tool refuses this; boto3: `Partial credentials found in assume-role`",
    remedy: "add source_profile, or credential_source (Environment, Ec2InstanceMetadata, EcsContainer)",
};
pub(super) const SOURCE_MISSING: Mistake = Mistake {
    severity: Severity::Error,
    code: "source_missing",
    what: "source_profile `{value}`, named by profile `{profile}`, does not exist",
    others: REFUSED_EVERYWHERE,
    remedy: "correct the name, or add that profile",
};
pub(super) const UNKNOWN_SOURCE: Mistake = Mistake {
    severity: Severity::Error,
    code: "unknown_source",
    what: "profile `{profile}` has the unknown credential_source `{value}`",
    others: REFUSED_EVERYWHERE,
    remedy: "write Environment, Ec2InstanceMetadata or EcsContainer, exactly so",
};
pub(super) const WEB_IDENTITY_WITHOUT_ROLE: Mistake = Mistake {
    severity: Severity::Error,
    code: "web_identity_without_role",
    what: "profile `{profile}` has web_identity_token_file but no role_arn",
    others: REFUSED_EVERYWHERE,
    remedy: "add role_arn",
};

// `credential type source_profile requires role_arn, profile mfa` and its family.

pub(super) const SOURCE_WITHOUT_ROLE: Mistake = Mistake {
    severity: Severity::Error,
    code: "source_without_role",
    what: "profile `{profile}` has source_profile but no role_arn; this program ignores source_profile and so finds \
           no credentials",
    others: "Go-based tools stop with `credential type source_profile requires role_arn, profile {profile}`; boto3 and \
             the AWS CLI silently find no credentials",
    remedy: SOURCE_REMEDY,
};
pub(super) const SOURCE_BESIDE_CREDENTIALS: Mistake = Mistake {
    severity: Severity::Warning,
    code: "source_without_role",
    what: "profile `{profile}` has source_profile but no role_arn; this program ignores source_profile and uses the \
           credentials beside it",
    others: "Go-based tools stop with `credential type source_profile requires role_arn, profile {profile}`; boto3 and \
             the AWS CLI use the credentials too",
    remedy: SOURCE_REMEDY,
};
pub(super) const NAMED_SOURCE_WITHOUT_ROLE: Mistake = Mistake {
    severity: Severity::Warning,
    code: "named_source_without_role",
    what: "profile `{profile}` has credential_source but no role_arn; this program uses that source as it is",
    others: "Go-based tools stop with `credential type credential_source requires role_arn, profile {profile}`",
    remedy: "add role_arn, or delete the key",
};

// MFA.

pub(super) const MFA_WITH_ROLE: Mistake = Mistake {
    severity: Severity::Error,
    code: "mfa_unsupported",
    what: "profile `{profile}` assumes a role with mfa_serial; this program never reads mfa_serial, so AWS denies the \
           role if its trust policy asks for MFA",
    others: "boto3 and the AWS CLI ask for a code and fail without a terminal; Go-based tools fail unless the tool can \
             ask",
    remedy: MFA_REMEDY,
};
pub(super) const MFA_WITHOUT_KEYS: Mistake = Mistake {
    severity: Severity::Error,
    code: "mfa_ignored",
    what: "profile `{profile}` has mfa_serial, which this program never reads: no session keys are made from it",
    others: MFA_ONLY_WITH_ROLE,
    remedy: MFA_REMEDY,
};
pub(super) const MFA_BESIDE_LONG_LIVED_KEYS: Mistake = Mistake {
    severity: Severity::Warning,
    code: "mfa_ignored",
    what: "profile `{profile}` has mfa_serial, which this program never reads: the keys beside it are used without \
           MFA, so policies that ask for MFA deny them",
    others: MFA_ONLY_WITH_ROLE,
    remedy: MFA_REMEDY,
};
pub(super) const MFA_BESIDE_SESSION_KEYS: Mistake = Mistake {
    severity: Severity::Note,
    code: "mfa_ignored",
    what: "profile `{profile}` has mfa_serial, which this program never reads: the session keys beside it are used as \
           they are",
    others: MFA_ONLY_WITH_ROLE,
    remedy: MFA_REMEDY,
};

// Keys.

pub(super) const NO_CREDENTIALS: Mistake = Mistake {
    severity: Severity::Note,
    code: "no_credentials",
    what: "profile `{profile}` holds no credentials; the chain continues without it",
    others: "",
    remedy: CREDENTIALS_REMEDY,
};
pub(super) const SOURCE_WITHOUT_CREDENTIALS: Mistake = Mistake {
    severity: Severity::Error,
    code: "source_without_credentials",
    what: "profile `{profile}` has to provide credentials for a role, but holds none",
    others: "boto3: `The source profile must have credentials`",
    remedy: CREDENTIALS_REMEDY,
};
pub(super) const PARTIAL_KEYS: Mistake = Mistake {
    severity: Severity::Error,
    code: "partial_keys",
    what: "profile `{profile}` has {value}",
    others: REFUSED_EVERYWHERE,
    remedy: "write both keys, and the session token if the keys are temporary, or delete all of them",
};
pub(super) const SESSION_TOKEN_MISSING: Mistake = Mistake {
    severity: Severity::Error,
    code: "session_token_missing",
    what: "profile `{profile}` has temporary keys without aws_session_token",
    others: AWS_REFUSES,
    remedy: "write the session token beside the keys",
};
pub(super) const KEYS_EXPIRED: Mistake = Mistake {
    severity: Severity::Error,
    code: "keys_expired",
    what: "the session keys of profile `{profile}` have expired",
    others: AWS_REFUSES,
    remedy: "run the helper that wrote them again; for a server use a role that renews itself",
};

// Single sign-on.

pub(super) const SSO_SESSION_MISSING: Mistake = Mistake {
    severity: Severity::Error,
    code: "sso_session_missing",
    what: "sso_session `{value}`, named by profile `{profile}`, does not exist",
    others: REFUSED_EVERYWHERE,
    remedy: "add `[sso-session NAME]` with sso_start_url and sso_region, or run `aws configure sso`",
};
pub(super) const SSO_INCOMPLETE: Mistake = Mistake {
    severity: Severity::Error,
    code: "sso_incomplete",
    what: "profile `{profile}` uses single sign-on but {value} is missing",
    others: REFUSED_EVERYWHERE,
    remedy: "run `aws configure sso`, or write the key",
};
pub(super) const SSO_SIGNED_OUT: Mistake = Mistake {
    severity: Severity::Error,
    code: "sso_signed_out",
    what: "profile `{profile}` uses single sign-on, but there is no sign-on for {value}",
    others: SIGN_ON_EVERYWHERE,
    remedy: SIGN_ON_REMEDY,
};
pub(super) const SSO_EXPIRED: Mistake = Mistake {
    severity: Severity::Error,
    code: "sso_expired",
    what: "profile `{profile}` uses single sign-on, but the sign-on for {value} has expired",
    others: SIGN_ON_EVERYWHERE,
    remedy: SIGN_ON_REMEDY,
};

// The shape of the files.

const BAD_LINE: Mistake = Mistake {
    severity: Severity::Error,
    code: "bad_line",
    what: "this line is neither a section nor `key = value`; this program refuses the whole file",
    others: "the AWS CLI refuses the file too",
    remedy: "correct or delete the line",
};
const PREFIX_MISSING: Mistake = Mistake {
    severity: Severity::Note,
    code: "prefix_missing",
    what: "section `[{profile}]` of the configuration file is ignored: its name lacks the word `profile`",
    others: "boto3 and the AWS CLI ignore it too",
    remedy: "write `[profile NAME]`; only the credentials file does without the word",
};
const PREFIX_TOO_MUCH: Mistake = Mistake {
    severity: Severity::Note,
    code: "prefix_too_much",
    what: "section `[profile {profile}]` of the credentials file is ignored",
    others: "boto3 and the AWS CLI know it under the name with the word `profile`, if at all",
    remedy: "write `[NAME]`; only the configuration file wants the word `profile`",
};
const SECTION_TWICE: Mistake = Mistake {
    severity: Severity::Warning,
    code: "section_twice",
    what: "section `{profile}` appears twice (first in line {value}); both are merged",
    others: "boto3 and the AWS CLI refuse the file",
    remedy: "merge the two",
};
const DEFAULT_IGNORED: Mistake = Mistake {
    severity: Severity::Warning,
    code: "default_ignored",
    what: "`[default]` is ignored because the file has `[profile default]` too",
    others: "",
    remedy: "keep one of the two",
};

/// The finding about a flaw; an ignored section is an error if it hides the selected profile.
pub(super) fn of_flaw(flaw: &Flaw, selected: &str) -> ProfileFinding {
    let ignored = |mistake: Mistake, name: &str| {
        let severity = if name == selected { Severity::Error } else { mistake.severity };
        Mistake { severity, ..mistake }
    };
    match flaw {
        Flaw::BadLine(location) => BAD_LINE.found(None, location, ""),
        Flaw::NoPrefix(name, location) => ignored(PREFIX_MISSING, name).found(Some(name), location, ""),
        Flaw::Prefix(name, location) => ignored(PREFIX_TOO_MUCH, name).found(Some(name), location, ""),
        Flaw::Twice { name, first, again } => SECTION_TWICE.found(Some(name), again, &first.line.to_string()),
        Flaw::DefaultIgnored(location) => DEFAULT_IGNORED.found(Some("default"), location, ""),
    }
}

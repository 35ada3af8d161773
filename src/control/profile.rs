//! What people get wrong in AWS profiles, found by reading the files.
//!
//! Pure: files go in as text, findings come out with file and line. The SDK ignores several of these mistakes or
//! names neither profile nor cause, and other tools react differently to the same file, so each finding also says
//! what they do. The walk follows the SDK's own: `role_arn` leads on to `source_profile`, everything else ends it.

use std::time::Duration;

use serde::Serialize;

mod ini;
mod sso;
#[cfg(test)]
mod tests;
mod walk;

pub use ini::ConfigFile;
use ini::Flaw;

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
    let selected = inspection.selected.as_deref().unwrap_or("default");
    let mut findings = walk::follow(inspection, &files, selected);
    findings.extend(files.flaws.iter().map(|flaw| of_flaw(flaw, selected)));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
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
            "this line is neither a section nor `key = value`; this program refuses the whole file".to_owned(),
            "the AWS CLI refuses the file too",
            "correct or delete the line",
        ),
        Flaw::NoPrefix(name, place) => (
            weight(name),
            "prefix_missing",
            Some(name.clone()),
            place,
            format!("section `[{name}]` of the configuration file is ignored: its name lacks the word `profile`"),
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

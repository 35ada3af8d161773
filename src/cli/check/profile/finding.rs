//! What an inspection finds, and how a kind of mistake becomes a finding about one place.

use serde::Serialize;

use super::ini::{Location, ProfileSection};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Worth knowing.
    Note,
    /// Works here, but not in every tool, or not for long.
    Warning,
    Error,
}

/// One mistake in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ProfileFinding {
    pub(crate) severity: Severity,
    /// A stable name for scripts.
    pub(crate) code: &'static str,
    /// The profile it is about, if it is about one.
    pub(crate) profile: Option<String>,
    pub(crate) file: String,
    /// From 1; 0 if the finding is about no single line.
    pub(crate) line: usize,
    /// What is there, and what this program makes of it.
    pub(crate) what: String,
    /// What other tools make of it; empty if the same.
    pub(crate) others: String,
    pub(crate) remedy: String,
}

/// A kind of mistake. Its texts may contain `{profile}` and `{value}`, which a finding fills in.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) severity: Severity,
    pub(super) code: &'static str,
    pub(super) what: &'static str,
    pub(super) others: &'static str,
    pub(super) remedy: &'static str,
}

impl Mistake {
    /// The mistake at a key of a profile, or at the beginning of the profile if it lacks the key.
    pub(super) fn at(&self, profile: &ProfileSection, key: &str, value: &str) -> ProfileFinding {
        self.found(Some(&profile.name), profile.location_of(key), value)
    }

    pub(super) fn found(&self, profile: Option<&str>, location: &Location, value: &str) -> ProfileFinding {
        let fill = |text: &str| filled(text, profile.unwrap_or_default(), value);
        ProfileFinding {
            severity: self.severity,
            code: self.code,
            profile: profile.map(str::to_owned),
            file: location.file.to_string(),
            line: location.line,
            what: fill(self.what),
            others: fill(self.others),
            remedy: fill(self.remedy),
        }
    }
}

/// Fills in both words in one pass, so that a profile may be called `{value}`.
fn filled(text: &str, profile: &str, value: &str) -> String {
    let parts: Vec<String> = text.split("{profile}").map(|part| part.replace("{value}", value)).collect();
    parts.join(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_and_value_are_filled_in_once() {
        for (text, profile, value, expected) in [
            ("plain", "p", "v", "plain"),
            ("`{profile}` and `{value}` in `{profile}`", "p", "v", "`p` and `v` in `p`"),
            ("{profile} {value}", "{value}", "{profile}", "{value} {profile}"),
        ] {
            assert_eq!(filled(text, profile, value), expected);
        }
    }
}

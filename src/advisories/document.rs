//! One advisory as its document says it: as much as decides what it is about. Pure, and read from bytes of outsiders.

use std::fmt;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde_json::Value;

use super::affected::{AffectedVersions, OsvRange};
use wheelport_index::ProjectName;
use wheelport_runtime::sabotaged;

/// The longest id, in bytes.
const LONGEST_ID: usize = 100;
/// With what ids of malicious packages begin.
const MALWARE: &str = "MAL-";
/// The weakness that is an intention (CWE).
const EMBEDDED_MALICIOUS_CODE: &str = "CWE-506";
/// The ecosystem that is ours.
const ECOSYSTEM: &str = "PyPI";

/// What an advisory says of what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvisoryKind {
    /// It was made to do harm.
    Malware,
    /// It has a flaw.
    Vulnerability,
    /// It was taken back, and says nothing.
    Withdrawn,
}

/// An advisory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsvDocument {
    pub id: String,
    pub kind: AdvisoryKind,
    /// When it was last changed, in seconds since the epoch; 0 where it does not say.
    pub modified: u32,
    /// What it is about; nothing where it was withdrawn.
    pub affected: Vec<(ProjectName, AffectedVersions)>,
}

/// Why a document is not read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAdvisory {
    #[error("it is no OSV document: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("its id cannot be one")]
    Id,
}

impl AdvisoryKind {
    /// The word in responses and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malware => "malware",
            Self::Vulnerability => "vulnerability",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl fmt::Display for AdvisoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Deserialize)]
struct Raw {
    id: String,
    modified: Option<String>,
    withdrawn: Option<String>,
    affected: Option<Vec<RawAffected>>,
    database_specific: Option<Value>,
}

#[derive(Deserialize)]
struct RawAffected {
    package: Option<AffectedPackage>,
    versions: Option<Vec<String>>,
    ranges: Option<Vec<OsvRange>>,
    database_specific: Option<Value>,
}

#[derive(Deserialize)]
struct AffectedPackage {
    #[serde(default)]
    ecosystem: String,
    #[serde(default)]
    name: String,
}

/// Whether this can be the id of an advisory: it stands in addresses, logs and refusals.
pub(super) fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with('.')
}

impl OsvDocument {
    /// Reads a document. What it says of other ecosystems is passed over.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidAdvisory> {
        let raw: Raw = serde_json::from_slice(bytes)?;
        if !is_id(&raw.id) {
            return Err(InvalidAdvisory::Id);
        }
        let modified = raw.modified.as_deref().map_or(0, seconds);
        if raw.withdrawn.is_some() && !sabotaged("advisory-withdrawn") {
            let (id, kind) = (raw.id, AdvisoryKind::Withdrawn);
            return Ok(Self { id, kind, modified, affected: Vec::new() });
        }
        let of_us = raw.affected.unwrap_or_default();
        let of_us: Vec<RawAffected> = of_us.into_iter().filter(RawAffected::is_ours).collect();
        let marks = raw.database_specific.iter().chain(of_us.iter().filter_map(|of| of.database_specific.as_ref()));
        let is_malware = is_marked(&raw.id, marks);
        let kind = if is_malware { AdvisoryKind::Malware } else { AdvisoryKind::Vulnerability };
        let affected = of_us.into_iter().filter_map(RawAffected::read).collect();
        Ok(Self { id: raw.id, kind, modified, affected })
    }
}

/// A time as OSV writes it.
fn seconds(time: &str) -> u32 {
    let since = humantime::parse_rfc3339(time).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u32::try_from(since.as_secs()).ok()).unwrap_or(0)
}

fn is_marked<'a>(id: &str, mut marks: impl Iterator<Item = &'a Value>) -> bool {
    id.starts_with(MALWARE)
        || marks.any(|mark| {
            let weaknesses = mark["cwe_ids"].as_array().into_iter().chain(mark["cwes"].as_array()).flatten();
            let named = |weakness: &Value| weakness.as_str().or(weakness["cweId"].as_str()).map(str::to_owned);
            mark.get("malicious-packages-origins").is_some()
                || weaknesses.filter_map(named).any(|weakness| weakness == EMBEDDED_MALICIOUS_CODE)
        })
}

impl RawAffected {
    fn is_ours(&self) -> bool {
        self.package.as_ref().is_some_and(|package| package.ecosystem.split(':').next() == Some(ECOSYSTEM))
    }

    fn read(self) -> Option<(ProjectName, AffectedVersions)> {
        let project = ProjectName::parse(&self.package?.name).ok()?;
        let affected = AffectedVersions::of(&self.versions.unwrap_or_default(), &self.ranges.unwrap_or_default());
        (!affected.is_empty()).then_some((project, affected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(document: &Value) -> OsvDocument {
        OsvDocument::parse(document.to_string().as_bytes()).expect("a document")
    }

    fn of_everything(id: &str, package: &Value) -> Value {
        json!({"id": id, "affected": [{
            "package": package, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
        }]})
    }

    #[test]
    fn names_are_normalised_and_other_ecosystems_are_passed_over() {
        let found = parsed(&of_everything("MAL-2024-1", &json!({"ecosystem": "PyPI", "name": "Evil_Thing.Py"})));
        assert_eq!(found.kind, AdvisoryKind::Malware);
        assert_eq!(found.affected[0].0.as_str(), "evil-thing-py");
        for package in
            [json!({"ecosystem": "npm", "name": "evil"}), json!({"ecosystem": "PyPI", "name": "a b"}), json!({})]
        {
            assert_eq!(parsed(&of_everything("MAL-2024-1", &package)).affected, []);
        }
    }

    #[test]
    fn malware_is_what_says_so() {
        let package = json!({"ecosystem": "PyPI", "name": "evil"});
        let plain = of_everything("GHSA-aaaa-bbbb-cccc", &package);
        assert_eq!(parsed(&plain).kind, AdvisoryKind::Vulnerability);
        for mark in [
            json!({"cwe_ids": ["CWE-79", "CWE-506"]}),
            json!({"cwes": [{"cweId": "CWE-506"}]}),
            json!({"malicious-packages-origins": []}),
        ] {
            let (mut whole, mut part) = (plain.clone(), plain.clone());
            whole["database_specific"] = mark.clone();
            part["affected"][0]["database_specific"] = mark;
            assert_eq!((parsed(&whole).kind, parsed(&part).kind), (AdvisoryKind::Malware, AdvisoryKind::Malware));
        }
        let mut other = plain;
        other["database_specific"] = json!({"cwe_ids": ["CWE-5060"], "severity": "HIGH"});
        assert_eq!(parsed(&other).kind, AdvisoryKind::Vulnerability);
    }

    #[test]
    fn what_was_withdrawn_says_nothing() {
        let mut document = of_everything("MAL-2024-1", &json!({"ecosystem": "PyPI", "name": "evil"}));
        document["withdrawn"] = json!("2024-05-01T00:00:00Z");
        let found = parsed(&document);
        assert_eq!((found.kind, found.affected), (AdvisoryKind::Withdrawn, Vec::new()));
    }

    #[test]
    fn what_is_no_document_is_refused_and_nulls_are_nothing() {
        for text in ["", "{", "[]", "{}", r#"{"id": 1}"#, r#"{"id": "../x"}"#, r#"{"id": ""}"#, r#"{"id": "a b"}"#] {
            assert!(OsvDocument::parse(text.as_bytes()).is_err(), "{text}");
        }
        let nulls = json!({"id": "A-1", "affected": null, "withdrawn": null, "database_specific": null});
        assert_eq!(parsed(&nulls).kind, AdvisoryKind::Vulnerability);
    }
}

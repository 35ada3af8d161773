//! What is decided about a file, in the words that people and programs read.

use std::sync::Arc;

use serde::Serialize;

use crate::policy::{Assessment, FileFacts, Moment, PackageOrigin};
use wheelport_index::File;

/// What is decided about a file, and why.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    pub file: String,
    pub version: String,
    /// `allow`, `explain` or `hide`.
    pub ruling: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// What people can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<Arc<str>>,
    /// The advisory that reports it as malware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advisory: Option<Arc<str>>,
    /// Vulnerabilities that advisories report of the version; they refuse nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vulnerabilities: Vec<Arc<str>>,
    /// What lifts the rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<Arc<str>>,
    /// The rules that only look.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audited: Vec<Arc<str>>,
    /// The date from which its age counts, and where that is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<Moment>,
    pub date_from: &'static str,
    /// Where it comes from, where that was asked for and is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<PackageOrigin>,
}

impl FileReport {
    pub(super) fn new(file: &File, facts: &FileFacts<'_>, assessment: Assessment) -> Self {
        let grounds = assessment.ruling.grounds();
        Self {
            file: file.name.to_string(),
            version: file.version.to_string(),
            ruling: assessment.ruling.as_str(),
            rule: grounds.map(|grounds| Arc::clone(&grounds.rule)),
            reason: grounds.map(|grounds| Arc::clone(&grounds.reason)),
            until: grounds.and_then(|grounds| grounds.until),
            help: grounds.and_then(|grounds| grounds.help.clone()),
            advisory: grounds.and_then(|grounds| grounds.advisory.clone()),
            vulnerabilities: Vec::new(),
            date: facts.date(),
            date_from: date_from(facts),
            origin: facts.origin,
            audited: assessment.audited,
            exception: assessment.exception,
        }
    }
}

/// Where the date is from.
fn date_from(facts: &FileFacts<'_>) -> &'static str {
    if facts.uploaded.is_some() {
        "upload-time"
    } else if facts.date().is_none() {
        "none is known"
    } else if facts.date() == facts.known_since {
        "first seen here"
    } else {
        "in the repository since then"
    }
}

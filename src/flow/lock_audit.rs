//! What is the matter with the files that a lock names: refused, malicious, vulnerable. The same decisions as for a
//! client; nothing is fetched but pages.

use std::sync::Arc;

use serde::Serialize;

use super::advisories::Advisories;
use super::file_report::FileReport;
use super::warm::{WarmDigest, repeated};
use super::{Error, Flow, Route};
use crate::advisories::{AdvisoryKind, OsvQuestion};
use wheelport_index::{File, FileAddress, FileName, ProjectName, VersionSegment, read_version};
use wheelport_runtime::sabotaged;

/// What a lock file names: a file, whatever has one of the digests, or all files of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditItem {
    pub project: ProjectName,
    pub file: Option<FileName>,
    pub version: Option<VersionSegment>,
    pub digests: Vec<WarmDigest>,
}

/// What is the matter with a file.
#[derive(Debug, Clone, Serialize)]
pub struct AuditedFile {
    pub project: ProjectName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub verdict: AuditVerdict,
    /// What refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// Why, or why nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The advisories about its version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advisories: Vec<NamedAdvisory>,
}

/// What comes of an audit of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditVerdict {
    Fine,
    Vulnerable,
    /// A rule refuses it.
    Refused,
    Malware,
    /// The index names other bytes.
    Changed,
    /// The index does not list it, and nothing is known of its version.
    Unlisted,
    /// The index cannot be asked.
    Unknown,
}

/// An advisory, and what it is about in a sentence, where it says so.
#[derive(Debug, Clone, Serialize)]
pub struct NamedAdvisory {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

impl Flow {
    /// Says of each thing that a lock names of a project what is the matter with it.
    pub async fn audit(&self, route: &Arc<Route>, project: &ProjectName, items: &[AuditItem]) -> Vec<AuditedFile> {
        let page = repeated(|| self.pages.get(route, project).wait()).await;
        let reports = match &page {
            Ok(page) => {
                let judge = self.pages.judge();
                judge.report(route, &page.shown.content, judge.policy().rules()).await
            }
            Err(error) => Err(error.clone()),
        };
        let mut audited = Vec::with_capacity(items.len());
        for item in items {
            let listed = match (&page, &reports) {
                (Ok(page), Ok(reports)) => {
                    let files: Vec<_> = page.shown.content.page.files.iter().zip(reports).collect();
                    let of = |is_meant: fn(&AuditItem, &File) -> bool| -> Vec<_> {
                        files.iter().copied().filter(|(file, _)| is_meant(item, file)).collect()
                    };
                    let named = of(AuditItem::names);
                    // Files of its version that have none of the digests are other bytes.
                    if named.is_empty() && !sabotaged("other-digests") { of(AuditItem::is_of_version) } else { named }
                }
                _ => Vec::new(),
            };
            if listed.is_empty() {
                audited.push(self.unlisted(route, item, reports.as_ref().err()).await);
            }
            for (file, report) in listed {
                audited.push(self.listed(item, file, report).await);
            }
        }
        audited
    }

    async fn listed(&self, item: &AuditItem, file: &File, report: &FileReport) -> AuditedFile {
        let verdicts: Vec<bool> = item.digests.iter().filter_map(|digest| digest.agrees_with(&file.hashes)).collect();
        let is_other = !verdicts.is_empty() && !verdicts.contains(&true);
        let advisories = self.advisories().named(&item.project, file.version.as_str()).await;
        let (verdict, reason) = match (&report.advisory, report.ruling) {
            (Some(_), _) => (AuditVerdict::Malware, report.reason.as_deref().map(str::to_owned)),
            (None, "explain" | "hide") => (AuditVerdict::Refused, report.reason.as_deref().map(str::to_owned)),
            _ if is_other => {
                (AuditVerdict::Changed, Some("the index names another digest than the lock file".to_owned()))
            }
            _ if report.vulnerabilities.is_empty() => (AuditVerdict::Fine, None),
            _ => (AuditVerdict::Vulnerable, None),
        };
        AuditedFile {
            project: item.project.clone(),
            file: Some(report.file.clone()),
            version: Some(report.version.clone()),
            verdict,
            rule: report.rule.clone(),
            reason,
            advisories,
        }
    }

    /// What is not on a page is decided by its name, as for a client that asks for it.
    async fn unlisted(&self, route: &Arc<Route>, item: &AuditItem, error: Option<&Error>) -> AuditedFile {
        let of_name = item.file.as_ref().and_then(|file| file.version_of(&item.project));
        let version =
            item.version.as_ref().map(|version| version.as_str().to_owned()).or_else(|| of_name.map(str::to_owned));
        let advisories = match &version {
            Some(version) => self.advisories().named(&item.project, version).await,
            None => Vec::new(),
        };
        let segment = version.as_deref().and_then(|version| VersionSegment::parse(version).ok());
        let blocked = match (&item.file, segment) {
            (Some(file), Some(version)) => {
                let address = FileAddress { project: item.project.clone(), version, file: file.clone() };
                self.pages.judge().admit(route, &address, None, None, None).await.err()
            }
            _ => None,
        };
        let malware = item.file.is_none() && self.advisories().is_malware(&item.project, version.as_deref());
        let (verdict, rule, reason) = match (blocked, error) {
            (Some(Error::Blocked { blocked }), _) => {
                let is_malware = blocked.grounds.advisory.is_some();
                let verdict = if is_malware { AuditVerdict::Malware } else { AuditVerdict::Refused };
                (verdict, Some(Arc::clone(&blocked.grounds.rule)), Some(blocked.grounds.reason.to_string()))
            }
            _ if malware => (AuditVerdict::Malware, None, None),
            _ if !advisories.is_empty() => (AuditVerdict::Vulnerable, None, None),
            (_, Some(Error::NoSuchProject { .. }) | None) => (AuditVerdict::Unlisted, None, None),
            (_, Some(error)) => (AuditVerdict::Unknown, None, Some(error.to_string())),
        };
        let file = item.file.as_ref().map(ToString::to_string);
        AuditedFile { project: item.project.clone(), file, version, verdict, rule, reason, advisories }
    }
}

impl AuditedFile {
    /// Whether there is anything to say of it.
    pub fn is_remarkable(&self) -> bool {
        self.verdict != AuditVerdict::Fine || !self.advisories.is_empty()
    }
}

impl AuditItem {
    fn names(&self, file: &File) -> bool {
        match (&self.file, &self.version) {
            (Some(name), _) => file.name == *name,
            (None, Some(_)) if self.digests.is_empty() => self.is_of_version(file),
            (None, _) => self.digests.iter().any(|digest| digest.agrees_with(&file.hashes) == Some(true)),
        }
    }

    fn is_of_version(&self, file: &File) -> bool {
        let version = self.version.as_ref().filter(|_| self.file.is_none());
        version.is_some_and(|version| takes(version.as_str(), file.version.as_str()))
    }
}

/// Whether an installer takes `listed` for a requirement of `==pinned`: it may be spelled with other zeros, and be a
/// local build of it.
fn takes(pinned: &str, listed: &str) -> bool {
    match (read_version(pinned), read_version(listed)) {
        (Some(pinned), Some(listed)) if !sabotaged("pinned-version") => {
            listed == pinned || !pinned.is_local() && listed.without_local() == pinned
        }
        _ => pinned == listed,
    }
}

impl Advisories {
    /// The advisories about a version, with what they are about.
    async fn named(&self, project: &ProjectName, version: &str) -> Vec<NamedAdvisory> {
        let question = OsvQuestion::Project { project: project.clone(), version: Some(version.to_owned()) };
        let mut named = Vec::new();
        let listed = self.list(vec![question]).await.ok().flatten().unwrap_or_default();
        for listed in listed.into_iter().flatten() {
            let document = self.document(listed.id.clone()).await.ok().flatten();
            let document = document.and_then(|document| serde_json::from_slice::<serde_json::Value>(&document).ok());
            let summary = document.and_then(|document| Some(document["summary"].as_str()?.to_owned()));
            named.push(NamedAdvisory { id: listed.id, summary });
        }
        named
    }

    fn is_malware(&self, project: &ProjectName, version: Option<&str>) -> bool {
        let table = Arc::clone(&self.current().table);
        table.of_project(project).iter().any(|advisory| {
            let affected = &advisory.versions;
            advisory.kind == AdvisoryKind::Malware
                && (affected.is_everything() || version.is_some_and(|version| affected.contains_text(version)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_means_every_version_that_an_installer_takes_for_it() {
        for (pinned, listed, expected) in [
            ("2.0", "2.0.0", true),
            ("v2", "2.0", true),
            ("2.0", "2.0+cpu", true),
            ("2.0+cpu", "2.0+CPU", true),
            ("2.0+cpu", "2.0", false),
            ("2.0", "2.0.post1", false),
            ("2.0", "2.0.1", false),
            ("2004d", "2004d", true),
            ("2004d", "2004", false),
        ] {
            assert_eq!(takes(pinned, listed), expected, "{pinned} {listed}");
        }
    }
}

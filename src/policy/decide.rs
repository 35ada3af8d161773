//! The decision about a file: the guard of private names, then exceptions, then malware, then the rules in their order.
//! An exception lifts malware only if it names the advisory. Pure.
//!
//! What is not known never lets a file through that a rule may be meant for, and never lifts a rule: a date that is
//! missing is no proof of age, and an origin that is not known counts as external. A moment at which a file was there
//! already proves that it is at least that old.

use std::fmt;
use std::sync::Arc;

use super::facts::{FileFacts, PackageOrigin};
use super::moment::Moment;
use super::rules::{Exemption, ProjectRules, Rule};
use super::tables::RuleMode;
use super::{MALWARE, PRIVATE_NAMES};
use crate::advisories::Malware;
use wheelport_runtime::sabotaged;

/// What becomes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    Allow,
    /// The page lists it as yanked, with the reason, and it is refused.
    Explain(Grounds),
    /// The page does not list it, and it is refused.
    Hide(Grounds),
}

/// Why a file is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grounds {
    /// The name of the rule.
    pub rule: Arc<str>,
    pub reason: Arc<str>,
    /// When this rule no longer holds, where that is known.
    pub until: Option<Moment>,
    /// What people can do.
    pub help: Option<Arc<str>>,
    /// The advisory that reports it as malware.
    pub advisory: Option<Arc<str>>,
}

/// A decision, and what it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    pub ruling: Ruling,
    /// The rules that only look.
    pub audited: Vec<Arc<str>>,
    /// What lifted the rules, if something did.
    pub exception: Option<Arc<str>>,
    /// When another decision may be due, if nothing changes but the time.
    pub next_change: Option<Moment>,
}

impl Ruling {
    /// Why the file is refused, if it is.
    pub fn grounds(&self) -> Option<&Grounds> {
        match self {
            Self::Allow => None,
            Self::Explain(grounds) | Self::Hide(grounds) => Some(grounds),
        }
    }

    /// The log and metric label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Explain(_) => "explain",
            Self::Hide(_) => "hide",
        }
    }
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [rule {}", self.reason, self.rule)?;
        if let Some(until) = self.until {
            write!(f, ", until {until}")?;
        }
        f.write_str("]")
    }
}

/// Whether a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    No,
    /// Until that moment, where it ends.
    Until(Option<Moment>),
}

impl Grounds {
    fn malware(malware: &Malware) -> Self {
        Self {
            rule: MALWARE.into(),
            reason: format!("{} reports this version as malicious.", malware.id).into(),
            until: None,
            help: None,
            advisory: Some(Arc::clone(&malware.id)),
        }
    }
}

impl Assessment {
    const fn refusing(grounds: Grounds) -> Self {
        Self { ruling: Ruling::Explain(grounds), audited: Vec::new(), exception: None, next_change: None }
    }
}

impl ProjectRules<'_> {
    /// Decides about a file of the project.
    pub fn decide(&self, facts: &FileFacts<'_>, now: Moment) -> Assessment {
        let mut assessment =
            Assessment { ruling: Ruling::Allow, audited: Vec::new(), exception: None, next_change: None };
        if self.is_private && facts.origin != Some(PackageOrigin::Internal) && !sabotaged("private-names") {
            return Assessment::refusing(Grounds {
                rule: PRIVATE_NAMES.into(),
                reason: "This name is private here, and this file comes from outside.".into(),
                until: None,
                help: None,
                advisory: None,
            });
        }
        for malware in self.malware.iter().filter(|malware| facts.versions.are_affected(&malware.versions)) {
            let Some(exemption) = self.exemption_from(malware, facts, now) else {
                return Assessment::refusing(Grounds::malware(malware));
            };
            assessment.exception = Some(Arc::clone(&exemption.label));
            assessment.next_change = assessment.next_change.into_iter().chain([exemption.expires]).min();
        }
        if let Some(exemption) = self.exemptions(facts, now).max_by_key(|exemption| exemption.expires) {
            assessment.exception = Some(Arc::clone(&exemption.label));
            assessment.next_change = assessment.next_change.into_iter().chain([exemption.expires]).min();
            return assessment;
        }
        for rule in &self.rules {
            let Match::Until(until) = self.matches(rule, facts, now) else { continue };
            assessment.next_change = assessment.next_change.into_iter().chain(until).min();
            let grounds = || Grounds {
                rule: Arc::clone(&rule.name),
                reason: Arc::clone(&rule.reason),
                until,
                help: rule.help.clone(),
                advisory: None,
            };
            match rule.mode {
                RuleMode::Audit => {
                    assessment.audited.push(Arc::clone(&rule.name));
                    continue;
                }
                RuleMode::Allow => {}
                RuleMode::Explain => assessment.ruling = Ruling::Explain(grounds()),
                RuleMode::Hide => assessment.ruling = Ruling::Hide(grounds()),
            }
            break;
        }
        assessment
    }

    /// The exceptions that hold for a file.
    fn exemptions(&self, facts: &FileFacts<'_>, now: Moment) -> impl Iterator<Item = &Exemption> {
        let holds = move |exemption: &&Exemption| {
            let of_version =
                exemption.versions.as_ref().is_none_or(|range| facts.versions.all(|version| range.contains(version)));
            of_version && (now < exemption.expires || sabotaged("exception-expiry"))
        };
        self.exceptions.iter().copied().filter(holds)
    }

    /// The exception that lifts this advisory for longest.
    fn exemption_from(&self, malware: &Malware, facts: &FileFacts<'_>, now: Moment) -> Option<&Exemption> {
        let names = |exemption: &&Exemption| {
            exemption.advisory.as_deref() == Some(&*malware.id) || sabotaged("advisory-exception")
        };
        self.exemptions(facts, now).filter(names).max_by_key(|exemption| exemption.expires)
    }

    fn matches(&self, rule: &Rule, facts: &FileFacts<'_>, now: Moment) -> Match {
        if rule.kind.is_some_and(|kind| !kind.is(facts.kind)) {
            return Match::No;
        }
        let lifts = rule.mode == RuleMode::Allow;
        let of_version = rule.versions.as_ref().is_none_or(|range| {
            let contains = |version: &pep440_rs::Version| range.contains(version);
            if lifts { facts.versions.all(contains) } else { facts.versions.any(contains) }
        });
        let of_bytes =
            rule.sha256.as_ref().is_none_or(|known| facts.sha256.is_some_and(|sha256| known.contains(&sha256)));
        let of_licence = rule.licences.as_ref().is_none_or(|licences| {
            facts.licence.is_some_and(|expression| super::globs::names_licence(licences, expression))
        });
        let is_meant = of_version
            && of_bytes
            && of_licence
            && rule.origin.is_none_or(|origin| of_origin(origin, facts.origin, lifts))
            && of_dates(rule, facts, lifts);
        if is_meant { self.of_age(rule, facts, now, lifts) } else { Match::No }
    }

    /// Whether the rules of age match.
    fn of_age(&self, rule: &Rule, facts: &FileFacts<'_>, now: Moment, lifts: bool) -> Match {
        let is_of_age = rule.younger_than.is_some() || rule.late_upload.is_some();
        if is_of_age && (self.is_private || facts.origin == Some(PackageOrigin::Internal)) {
            return Match::No;
        }
        if let Some(limit) = rule.late_upload
            && !facts.came_after(limit.0)
        {
            return Match::No;
        }
        let Some(limit) = rule.younger_than else { return Match::Until(None) };
        match if lifts { facts.uploaded } else { facts.date() } {
            Some(date) => {
                let old_enough = date.after(limit.0);
                if now < old_enough { Match::Until(Some(old_enough)) } else { Match::No }
            }
            // Never "no date, so allowed".
            None if lifts || sabotaged("undated") => Match::No,
            None => Match::Until(None),
        }
    }
}

fn of_origin(wanted: PackageOrigin, known: Option<PackageOrigin>, lifts: bool) -> bool {
    match known {
        Some(known) => known == wanted,
        None => wanted == PackageOrigin::External && !lifts,
    }
}

/// Whether the dates of a rule match.
fn of_dates(rule: &Rule, facts: &FileFacts<'_>, lifts: bool) -> bool {
    // What was there at a moment was uploaded before it, and perhaps long before.
    let after = if lifts { facts.uploaded } else { facts.date() };
    rule.uploaded_before.is_none_or(|moment| facts.date().is_some_and(|date| date < moment))
        && rule.uploaded_after.is_none_or(|moment| after.map_or(!lifts, |date| date >= moment))
}

impl FileFacts<'_> {
    /// Whether it was added so long after the first file of its release.
    fn came_after(&self, limit: std::time::Duration) -> bool {
        let came = self.uploaded.or(self.known_since.filter(|_| self.came_later));
        came.zip(self.release_began).is_some_and(|(came, began)| came > began.after(limit))
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

//! The steps about what decisions ask of the control plane: where versions come from, and when the repository took them
//! in. Whether the role may ask each of it, and which names have versions of both sides.
//!
//! Only what the configuration uses is asked, and only of names that rules or freshness depend on, and of the first of
//! those. Where no such name is listed, a name that need not exist is asked about: a missing right is refused first.

use super::aws::remedy;
use super::report::Finding;
use super::target::{CheckTarget, SOME_PROJECT};
use crate::control::{ControlError, ControlPlane, DomainId};
use crate::policy::RuleSet;
use crate::token::MintErrorKind;
use wheelport_index::ProjectName;
use wheelport_runtime::sabotaged;

const ORIGINS: &str = "origins";
const AGES: &str = "ages";
/// Names that are looked at.
const MOST: usize = 20;
/// What is asked about where no listed name matters.
const SOME_VERSION: &str = "0";

/// Nothing of what the configuration does not use.
pub(super) async fn steps(
    control: &ControlPlane,
    target: &CheckTarget,
    domain: &DomainId,
    listed: &[String],
) -> Vec<Finding> {
    let asking = Asking { control, target, domain, listed };
    [asking.origins().await, asking.ages().await].into_iter().flatten().collect()
}

struct Asking<'a> {
    control: &'a ControlPlane,
    target: &'a CheckTarget,
    domain: &'a DomainId,
    /// The first names of the repository.
    listed: &'a [String],
}

impl Asking<'_> {
    /// Where versions come from.
    async fn origins(&self) -> Option<Finding> {
        let is_ruled = |rules: &RuleSet, name: &ProjectName| rules.of_project(&self.target.route, name).needs_origin();
        let names: Vec<ProjectName> = self
            .names()
            .filter(|name| self.target.asks_for_origins || self.rules().is_some_and(|rules| is_ruled(rules, name)))
            .take(MOST)
            .collect();
        if names.is_empty() {
            let is_needed = |rules: &RuleSet| rules.may_need_origin(&self.target.route);
            let is_asked = self.target.asks_for_origins || self.rules().is_some_and(is_needed);
            return if is_asked { Some(self.unlisted_origins().await) } else { None };
        }
        let mut both = Vec::new();
        for name in &names {
            match self.control.package_origins(self.domain, &self.target.repository, name.as_str(), true).await {
                Ok(origins) if origins.is_on_both_sides() => both.push(name.to_string()),
                Ok(_) => {}
                Err(error) => return Some(Finding::fail(ORIGINS, &*error.message, allow(&error, ORIGIN_RIGHTS))),
            }
        }
        let number = names.len();
        if both.is_empty() {
            let summary = format!("known, of the first {number} names that rules or freshness depend on");
            return Some(Finding::ok(ORIGINS, summary));
        }
        let summary = format!("{} of the first {number} names that matter may have versions of both sides", both.len());
        let remedy = "block `upstream` in the origin controls of names that are yours";
        Some(Finding::warn(ORIGINS, summary, remedy).with_details(both))
    }

    /// The same without a name that matters. A role that may ask about some names only is refused here, too.
    async fn unlisted_origins(&self) -> Finding {
        let (domain, repository) = (self.domain, &self.target.repository);
        let asked = match self.control.package_origins(domain, repository, SOME_PROJECT, true).await {
            Ok(_) => self.control.version_names(domain, repository, SOME_PROJECT).await.map(drop),
            Err(error) => Err(error),
        };
        match asked {
            Ok(()) => Finding::ok(ORIGINS, "may be asked; no listed name depends on them"),
            Err(error) => Finding::warn(ORIGINS, &*error.message, allow(&error, ORIGIN_RIGHTS)),
        }
    }

    /// When the repository took versions in, which is the age of files that have no date.
    async fn ages(&self) -> Option<Finding> {
        let rules =
            self.rules().filter(|rules| rules.may_need_intake(&self.target.route) && !sabotaged("ages-right"))?;
        let (domain, repository) = (self.domain, &self.target.repository);
        let is_ruled = |name: &ProjectName| rules.of_project(&self.target.route, name).needs_intake();
        let listed = self.names().find(is_ruled);
        let name = listed.as_ref().map_or(SOME_PROJECT, ProjectName::as_str);
        let refused = |error: &ControlError, right| {
            let finding = if listed.is_some() { Finding::fail } else { Finding::warn };
            Some(finding(AGES, error.message.clone(), allow(error, right)))
        };
        let versions = match self.control.version_names(domain, repository, name).await {
            Ok(versions) => versions,
            Err(error) => return refused(&error, "codeartifact:ListPackageVersions"),
        };
        let version = versions.first().map_or(SOME_VERSION, String::as_str);
        match self.control.published_time(domain, repository, name, version).await {
            Ok(Some(_)) => Some(Finding::ok(AGES, format!("known of files without a date, as of {name} {version}"))),
            Ok(None) => Some(Finding::ok(AGES, "may be asked for files without a date")),
            Err(error) => refused(&error, "codeartifact:DescribePackageVersion"),
        }
    }

    fn rules(&self) -> Option<&RuleSet> {
        self.target.rules.as_deref()
    }

    fn names(&self) -> impl Iterator<Item = ProjectName> {
        self.listed.iter().filter_map(|name| ProjectName::parse(name).ok())
    }
}

const ORIGIN_RIGHTS: &str = "codeartifact:DescribePackage and codeartifact:ListPackageVersions";

fn allow(error: &ControlError, rights: &str) -> String {
    match error.kind {
        MintErrorKind::Denied => {
            format!("allow {rights} on the repository's packages: `wheelport iam-policy origins`")
        }
        other => remedy(other).to_owned(),
    }
}

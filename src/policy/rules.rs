//! Rules, exceptions and named dates, with what advisories say, checked against each other and compiled. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use globset::GlobSet;
use toml::Spanned;

use super::by_project::ByProject;
use super::duration::AgeLimit;
use super::facts::PackageOrigin;
use super::globs::{self, ProjectGlob};
use super::granted::GrantedException;
use super::moment::Moment;
use super::tables::{ExceptionTable, FreezeTable, RuleKind, RuleMode, RuleTable, VersionRange};
use crate::advisories::{AdvisoryTable, Malware};
use wheelport_index::{ProjectName, Sha256};

/// Rules, exceptions and named dates at most, each.
const MOST: usize = 10_000;

/// All that decides what may be served, at one revision.
#[derive(Debug, Clone)]
pub struct RuleSet {
    /// Counts the sets of this process.
    pub(super) revision: u64,
    /// Of all that the set was made from.
    pub(super) digest: Sha256,
    rules: Vec<Rule>,
    of_rules: ByProject,
    exceptions: Vec<Exemption>,
    of_exceptions: ByProject,
    private: GlobSet,
    freezes: BTreeMap<String, Moment>,
    advisories: Arc<AdvisoryTable>,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub name: Arc<str>,
    routes: Option<Vec<String>>,
    pub versions: Option<VersionRange>,
    pub kind: Option<RuleKind>,
    pub origin: Option<PackageOrigin>,
    pub sha256: Option<HashSet<Sha256>>,
    pub younger_than: Option<AgeLimit>,
    pub late_upload: Option<AgeLimit>,
    pub uploaded_before: Option<Moment>,
    pub uploaded_after: Option<Moment>,
    pub licences: Option<GlobSet>,
    pub mode: RuleMode,
    pub reason: Arc<str>,
    pub help: Option<Arc<str>>,
}

/// What rules are lifted for, for a while.
#[derive(Debug, Clone)]
pub(super) struct Exemption {
    routes: Option<Vec<String>>,
    pub versions: Option<VersionRange>,
    pub expires: Moment,
    /// The advisory that it lifts too.
    pub advisory: Option<Arc<str>>,
    /// How logs and commands call it.
    pub label: Arc<str>,
}

/// What applies to the files of one project on one route.
#[derive(Debug, Clone)]
pub struct ProjectRules<'a> {
    pub(super) rules: Vec<&'a Rule>,
    pub(super) exceptions: Vec<&'a Exemption>,
    pub(super) is_private: bool,
    /// What makes versions of it malware.
    pub(super) malware: Vec<Malware>,
}

/// What does not fit, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub at: Option<usize>,
    pub text: String,
}

impl Misfit {
    fn new(at: usize, text: String) -> Self {
        Self { at: Some(at), text }
    }
}

/// Gathers the tables of several texts.
#[derive(Debug)]
pub(super) struct RuleSetBuilder<'a> {
    routes: &'a [Arc<str>],
    rules: Vec<(Rule, Option<Vec<ProjectGlob>>)>,
    names: HashSet<String>,
    exceptions: Vec<(Exemption, Vec<ProjectGlob>)>,
    freezes: BTreeMap<String, Moment>,
}

impl<'a> RuleSetBuilder<'a> {
    pub(super) fn new(routes: &'a [Arc<str>]) -> Self {
        let (rules, exceptions) = (Vec::new(), Vec::new());
        Self { routes, rules, names: HashSet::new(), exceptions, freezes: BTreeMap::new() }
    }

    pub(super) fn rule(&mut self, table: RuleTable) -> Result<(), Misfit> {
        let (at, name) = (table.name.span().start, table.name.into_inner().0);
        if self.rules.len() >= MOST {
            return Err(Misfit::new(at, format!("there are more than {MOST} rules")));
        }
        if !self.names.insert(name.clone()) {
            return Err(Misfit::new(at, format!("two rules have the name `{name}`")));
        }
        let routes = self.known_routes(table.routes)?;
        let licences = table.licence.map(|licences| globs::set(licences.iter().map(|licence| &licence.0)));
        let reason = table.reason.map_or_else(|| default_reason(&name), |reason| reason.0);
        let rule = Rule {
            routes,
            versions: table.versions,
            kind: table.kind,
            origin: table.origin,
            sha256: table.sha256.map(|digests| digests.into_iter().map(|digest| digest.0).collect()),
            younger_than: table.younger_than,
            late_upload: table.late_upload,
            uploaded_before: table.uploaded_before,
            uploaded_after: table.uploaded_after,
            licences: licences.transpose().map_err(|text| Misfit::new(at, text))?,
            mode: table.mode,
            reason: reason.into(),
            help: table.help.map(|help| help.0.into()),
            name: name.into(),
        };
        self.rules.push((rule, table.projects));
        Ok(())
    }

    pub(super) fn exception(&mut self, table: ExceptionTable) -> Result<(), Misfit> {
        if self.exceptions.len() >= MOST {
            return Err(Misfit { at: None, text: format!("there are more than {MOST} exceptions") });
        }
        let routes = self.known_routes(table.routes)?;
        let advisory: Option<Arc<str>> = table.advisory.map(|advisory| advisory.0.into());
        let lifted = advisory.as_ref().map(|advisory| format!(", {advisory}")).unwrap_or_default();
        let label = format!("{} ({}{lifted})", table.reason.0, table.by.0).into();
        let exemption = Exemption { routes, versions: table.versions, expires: table.expires.0, advisory, label };
        self.exceptions.push((exemption, table.projects));
        Ok(())
    }

    /// An exception that an operator has granted in the running process.
    pub(super) fn granted(&mut self, granted: &GrantedException) -> Result<(), Misfit> {
        let misfit = |text: String| Misfit { at: None, text };
        let versions = granted.versions.as_deref().map(VersionRange::parse).transpose().map_err(misfit)?;
        let projects = vec![ProjectGlob::parse(&granted.project).map_err(misfit)?];
        let advisory = granted.advisory.as_deref().map(Into::into);
        let lifted = granted.advisory.as_ref().map(|advisory| format!(", {advisory}")).unwrap_or_default();
        let label = format!("{} ({}, {}{lifted})", granted.reason, granted.by, granted.id).into();
        let exemption = Exemption { routes: None, versions, expires: granted.expires, advisory, label };
        self.exceptions.push((exemption, projects));
        Ok(())
    }

    pub(super) fn freeze(&mut self, table: FreezeTable) -> Result<(), Misfit> {
        let (at, name) = (table.name.span().start, table.name.into_inner().0);
        if Moment::parse(&name).is_ok() {
            return Err(Misfit::new(at, format!("`{name}` is a date; choose a name")));
        }
        match self.freezes.insert(name.clone(), table.at.cut_to_minute()) {
            Some(_) => Err(Misfit::new(at, format!("two dates have the name `{name}`"))),
            None => Ok(()),
        }
    }

    fn known_routes(&self, named: Option<Vec<Spanned<String>>>) -> Result<Option<Vec<String>>, Misfit> {
        for route in named.iter().flatten() {
            if self.routes.iter().all(|known| **known != **route.get_ref()) {
                let text = format!("there is no route `{}`", route.get_ref());
                return Err(Misfit::new(route.span().start, text));
            }
        }
        Ok(named.map(|named| named.into_iter().map(Spanned::into_inner).collect()))
    }

    pub(super) fn build(self, private: &[ProjectGlob], digest: Sha256) -> Result<RuleSet, Misfit> {
        let misfit = |text: String| Misfit { at: None, text };
        let (rules, of_rules): (Vec<_>, Vec<_>) = self.rules.into_iter().unzip();
        let (exceptions, of_exceptions): (Vec<_>, Vec<_>) =
            self.exceptions.into_iter().map(|(exemption, projects)| (exemption, Some(projects))).unzip();
        Ok(RuleSet {
            revision: 0,
            digest,
            rules,
            of_rules: ByProject::new(&of_rules).map_err(misfit)?,
            exceptions,
            of_exceptions: ByProject::new(&of_exceptions).map_err(misfit)?,
            private: globs::set(private.iter().map(|glob| &glob.0)).map_err(misfit)?,
            freezes: self.freezes,
            advisories: Arc::default(),
        })
    }
}

fn default_reason(name: &str) -> String {
    format!("The rule '{name}' does not let this file through.")
}

impl RuleSet {
    /// Tells the sets of this process apart.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    #[must_use]
    pub(super) fn with_revision(self, revision: u64) -> Self {
        Self { revision, ..self }
    }

    /// The same with what these advisories say.
    #[must_use]
    pub(super) fn with_advisories(self, advisories: Arc<AdvisoryTable>) -> Self {
        Self { advisories, ..self }
    }

    /// The same after a restart, and in other processes.
    pub fn digest(&self) -> Sha256 {
        if self.advisories.is_empty() {
            return self.digest;
        }
        Sha256::of(&[self.digest.0, self.advisories.digest().0].concat())
    }

    /// What advisories say.
    pub fn advisories(&self) -> &Arc<AdvisoryTable> {
        &self.advisories
    }

    /// Whether every file is let through.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.private.is_empty() && self.advisories.malware() == 0
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// How many exceptions hold at a moment.
    pub fn exceptions_at(&self, now: Moment) -> usize {
        self.exceptions.iter().filter(|exemption| now < exemption.expires).count()
    }

    /// The moment that a name stands for.
    pub fn freeze(&self, name: &str) -> Option<Moment> {
        self.freezes.get(name).copied()
    }

    /// Whether a name is never served from an external origin.
    pub fn is_private(&self, project: &ProjectName) -> bool {
        self.private.is_match(project.as_str())
    }

    /// Whether a decision on a route may depend on where files come from.
    pub fn may_need_origin(&self, route: &str) -> bool {
        !self.private.is_empty() || self.of_route(route).any(Rule::needs_origin)
    }

    /// Whether a decision on a route, or an index as of a named date, may depend on when the repository took versions
    /// in.
    pub fn may_need_intake(&self, route: &str) -> bool {
        !self.freezes.is_empty() || self.of_route(route).any(Rule::needs_intake)
    }

    fn of_route(&self, route: &str) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| is_of(route, rule.routes.as_deref()))
    }

    /// What applies to the files of a project on a route.
    pub fn of_project(&self, route: &str, project: &ProjectName) -> ProjectRules<'_> {
        let rules = self.of_rules.find(project).into_iter().map(|at| &self.rules[at]);
        let exceptions = self.of_exceptions.find(project).into_iter().map(|at| &self.exceptions[at]);
        ProjectRules {
            rules: rules.filter(|rule| is_of(route, rule.routes.as_deref())).collect(),
            exceptions: exceptions.filter(|exemption| is_of(route, exemption.routes.as_deref())).collect(),
            is_private: self.is_private(project),
            malware: self.advisories.malware_of(project),
        }
    }
}

/// Whether what names these routes, or none, is for this one.
fn is_of(route: &str, routes: Option<&[String]>) -> bool {
    routes.is_none_or(|routes| routes.iter().any(|of| of == route))
}

impl Rule {
    /// Private names and what comes from the domain are exempt from rules of age.
    fn needs_origin(&self) -> bool {
        self.origin.is_some() || self.younger_than.is_some() || self.late_upload.is_some()
    }

    fn needs_intake(&self) -> bool {
        self.younger_than.is_some() || self.uploaded_before.is_some() || self.uploaded_after.is_some()
    }
}

impl ProjectRules<'_> {
    /// Whether every file of the project is let through.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.is_private && self.malware.is_empty()
    }

    /// Whether the name is never served from an external origin.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// Whether a decision depends on where files come from.
    pub fn needs_origin(&self) -> bool {
        self.is_private || self.rules.iter().any(|rule| rule.needs_origin())
    }

    /// Whether a decision may depend on when the repository took versions in.
    pub fn needs_intake(&self) -> bool {
        !self.is_private && self.rules.iter().any(|rule| rule.needs_intake())
    }

    /// Whether a decision may be another one if a file that is known since then turns out to be older.
    pub fn may_depend_on_age(&self, known_since: Moment, now: Moment) -> bool {
        let is_open = |rule: &&Rule| {
            rule.younger_than.is_some_and(|limit| now < known_since.after(limit.0))
                || [rule.uploaded_before, rule.uploaded_after].into_iter().flatten().any(|date| known_since >= date)
        };
        !self.is_private && self.rules.iter().any(is_open)
    }

    /// Whether a decision depends on digests.
    pub fn needs_digest(&self) -> bool {
        self.rules.iter().any(|rule| rule.sha256.is_some())
    }

    /// Whether a decision depends on versions.
    pub fn needs_versions(&self) -> bool {
        !self.exceptions.is_empty() || !self.malware.is_empty() || self.rules.iter().any(|rule| rule.versions.is_some())
    }

    /// Whether a decision depends on when a release began.
    pub fn needs_release_dates(&self) -> bool {
        self.rules.iter().any(|rule| rule.late_upload.is_some())
    }

    /// Whether a decision depends on licences.
    pub fn needs_licence(&self) -> bool {
        self.rules.iter().any(|rule| rule.licences.is_some())
    }
}

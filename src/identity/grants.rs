//! What an identity may do: which routes it may read, and which projects it may publish through which routes.
//!
//! Pure values; the same form stands in the configuration, in memory and inside minted tokens.

use serde::{Deserialize, Serialize};
use wheelport_index::ProjectName;

use super::wildcard::Wildcard;

/// Names of routes; `*` is all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RouteSet(Vec<String>);

/// A right to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PublishGrant {
    #[serde(rename = "r")]
    pub(super) routes: RouteSet,
    /// All projects, if not given.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(super) projects: Option<Vec<Wildcard>>,
}

/// Rights, which add up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grants {
    #[serde(rename = "r")]
    pub(super) read: RouteSet,
    #[serde(rename = "w")]
    pub(super) publish: Vec<PublishGrant>,
}

impl RouteSet {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    pub(super) fn all() -> Self {
        Self(vec!["*".to_owned()])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn covers(&self, route: &str) -> bool {
        self.0.iter().any(|name| name == "*" || name == route)
    }

    /// The routes that are named one by one.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).filter(|name| *name != "*")
    }

    fn add(&mut self, more: &Self) {
        for name in &more.0 {
            if !self.0.contains(name) {
                self.0.push(name.clone());
            }
        }
    }
}

impl Grants {
    pub fn may_read(&self, route: &str) -> bool {
        self.read.covers(route)
    }

    /// Whether anything may be published through this route.
    pub fn may_publish_through(&self, route: &str) -> bool {
        self.publish.iter().any(|grant| grant.routes.covers(route))
    }

    pub fn may_publish(&self, route: &str, project: &ProjectName) -> bool {
        let covers = |projects: &Vec<Wildcard>| projects.iter().any(|pattern| pattern.covers(project.as_str()));
        self.publish.iter().any(|grant| grant.routes.covers(route) && grant.projects.as_ref().is_none_or(covers))
    }

    /// Whether anything may be published anywhere.
    pub fn may_publish_something(&self) -> bool {
        self.publish.iter().any(|grant| !grant.routes.is_empty())
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.read.add(&more.read);
        for grant in &more.publish {
            if !self.publish.contains(grant) {
                self.publish.push(grant.clone());
            }
        }
    }

    /// Every route that is named.
    pub(super) fn routes(&self) -> impl Iterator<Item = &str> {
        self.read.named().chain(self.publish.iter().flat_map(|grant| grant.routes.named()))
    }

    /// What is granted, for people.
    pub fn describe(&self) -> Vec<String> {
        let list = |set: &RouteSet| if set.covers("*") { "every route".to_owned() } else { set.0.join(", ") };
        let mut lines = Vec::new();
        if !self.read.is_empty() {
            lines.push(format!("read: {}", list(&self.read)));
        }
        for grant in self.publish.iter().filter(|grant| !grant.routes.is_empty()) {
            let projects = grant.projects.as_ref().map_or_else(
                || "every project".to_owned(),
                |projects| projects.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            );
            lines.push(format!("publish: {projects} through {}", list(&grant.routes)));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(routes: &[&str], projects: Option<&[&str]>) -> Grants {
        let routes = RouteSet::new(routes.iter().map(ToString::to_string).collect());
        let projects = projects.map(|raw| raw.iter().filter_map(|raw| Wildcard::project(raw)).collect());
        Grants { read: RouteSet::default(), publish: vec![PublishGrant { routes, projects }] }
    }

    #[test]
    fn grants_add_up_and_do_not_mix() -> Result<(), Box<dyn std::error::Error>> {
        let mut grants = publish(&["main"], Some(&["acme-*"]));
        grants.add(&publish(&["data"], None));
        grants.add(&Grants { read: RouteSet::all(), publish: Vec::new() });
        for (route, project, expected) in [
            ("main", "acme-x", true),
            ("main", "ACME_x", true),
            ("main", "other", false),
            ("data", "other", true),
            ("else", "acme-x", false),
        ] {
            assert_eq!(grants.may_publish(route, &ProjectName::parse(project)?), expected, "{route} {project}");
        }
        assert!(grants.may_read("anything"));
        assert!(!grants.may_publish_through("else") && grants.may_publish_through("data"));
        assert!(!Grants::default().may_read("main") && !Grants::default().may_publish_something());
        let text = serde_json::to_string(&grants)?;
        assert_eq!(serde_json::from_str::<Grants>(&text)?, grants);
        Ok(())
    }
}

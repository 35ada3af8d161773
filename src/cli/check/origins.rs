//! The step about where versions come from: whether the role may ask, and which names have versions of both sides.
//! Looks only at names that rules or freshness depend on, and only at the first of those.

use super::report::Finding;
use super::target::CheckTarget;
use crate::control::{ControlPlane, DomainId};
use wheelport_index::ProjectName;

const STEP: &str = "origins";
/// Names that are looked at.
const MOST: usize = 20;

/// `None` where nothing asks about a listed name.
pub(super) async fn step(
    control: &ControlPlane,
    target: &CheckTarget,
    domain: &DomainId,
    listed: &[String],
) -> Option<Finding> {
    let is_ruled = |name: &ProjectName| {
        target.rules.as_ref().is_some_and(|rules| rules.of_project(&target.route, name).needs_origin())
    };
    let is_asked_about = |name: &ProjectName| target.asks_for_origins || is_ruled(name);
    let names = listed.iter().filter_map(|name| ProjectName::parse(name).ok());
    let names: Vec<ProjectName> = names.filter(is_asked_about).take(MOST).collect();
    let mut both = Vec::new();
    for name in &names {
        match control.package_origins(domain, &target.repository, name.as_str(), true).await {
            Ok(origins) if origins.is_on_both_sides() => both.push(name.to_string()),
            Ok(_) => {}
            Err(error) => {
                let remedy = "allow codeartifact:DescribePackage and codeartifact:ListPackageVersions on the \
                              repository's packages: `wheelport iam-policy origins`";
                return Some(Finding::fail(STEP, error.message, remedy));
            }
        }
    }
    let number = names.len();
    match both.len() {
        _ if names.is_empty() => None,
        0 => Some(Finding::ok(STEP, format!("known, of the first {number} names that rules or freshness depend on"))),
        some => {
            let summary = format!("{some} of the first {number} names that matter may have versions of both sides");
            let remedy = "block `upstream` in the origin controls of names that are yours";
            Some(Finding::warn(STEP, summary, remedy).with_details(both))
        }
    }
}

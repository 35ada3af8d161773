//! The step about repositories upstream, where events are read: whether the role may follow them. It walks them as the
//! server does.

use super::aws::remedy;
use super::report::Finding;
use super::target::CheckTarget;
use crate::app::{Reach, reach};
use crate::control::{ControlPlane, DomainId};
use crate::token::MintErrorKind;

const STEP: &str = "upstreams";

/// `None` where nothing follows them.
pub(super) async fn step(control: &ControlPlane, target: &CheckTarget, domain: &DomainId) -> Option<Finding> {
    if !target.follows_upstreams {
        return None;
    }
    let describe = |name| async move { control.describe_repository(domain, &name).await };
    Some(match reach(&target.repository, describe).await {
        Ok(Reach::Repositories { names, .. }) => {
            let names: Vec<String> = names.into_iter().collect();
            Finding::ok(STEP, format!("events of these repositories are about this route: {}", names.join(", ")))
        }
        Ok(Reach::Domain) => Finding::ok(STEP, "too many to follow; every event of the domain is about this route"),
        Err(error) => {
            let remedy = match error.kind {
                MintErrorKind::Denied => {
                    "allow codeartifact:DescribeRepository on the domain's repositories: `wheelport iam-policy fleet`; \
                     without it every event of the domain counts for every route"
                }
                other => remedy(other),
            };
            Finding::warn(STEP, error.message, remedy)
        }
    })
}

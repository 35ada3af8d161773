//! What decisions about a page depend on and only the repository knows: asked for before they are made, and kept by
//! `origins.rs` and `intake.rs`. Decides nothing.

use std::sync::Arc;

use super::Route;
use super::error::Error;
use super::intake::{Intake, ProjectIntake};
use super::origins::{Origins, ProjectOrigins};
use super::page_facts::PageFacts;
use crate::cache::PageContent;
use crate::policy::{Moment, PackageOrigin, RuleSet};
use wheelport_runtime::sabotaged;

/// How long decisions hold that were made before the origin of a project was known, in seconds.
const WITHOUT_ORIGIN: u64 = 15;
/// The same for the time at which the repository took its versions in.
const WITHOUT_INTAKE: u64 = 5;
/// How long decisions hold that depend on licences, in seconds: core metadata may have come meanwhile.
const WITH_LICENCES: u64 = 30;

/// How long decisions hold that depend on digests which the page does not name, in seconds: a file may have been
/// fetched meanwhile.
const WITHOUT_DIGESTS: u64 = 30;

/// What was asked of the repository about a project.
#[derive(Default)]
pub(super) struct AskedFacts {
    pub origins: Option<Arc<ProjectOrigins>>,
    pub intake: Option<Arc<ProjectIntake>>,
    /// When it has to be looked at again.
    pub again: Option<Moment>,
}

impl AskedFacts {
    /// Asks for what decisions about a page depend on.
    pub(super) async fn gather(
        origins: &Origins,
        intake: &Intake,
        route: &Arc<Route>,
        content: &PageContent,
        rules: &RuleSet,
        now: Moment,
    ) -> Result<Self, Error> {
        let project = &content.page.name;
        let of_project = rules.of_project(&route.name, project);
        let mut asked = Self::default();
        if of_project.needs_origin() {
            asked.origins = origins.get(route, project, of_project.is_private()).await?;
            let renewed = |origins: &Arc<ProjectOrigins>| origins.renewed_at(now);
            asked.look_again(asked.origins.as_ref().map_or(Moment(now.0 + WITHOUT_ORIGIN), renewed));
        }
        if of_project.needs_licence() && !sabotaged("licence-again") {
            asked.look_again(Moment(now.0 + WITH_LICENCES));
        }
        if of_project.needs_digest() && content.lacks_digests() && !sabotaged("digest-again") {
            asked.look_again(Moment(now.0 + WITHOUT_DIGESTS));
        }
        let mut versions = PageFacts::wanting_intake(content, &of_project, route.as_of, now);
        if route.as_of.is_none() {
            // Those of the domain are exempt from rules of age.
            let origins = asked.origins.as_ref();
            versions.retain(|version| origins.and_then(|origins| origins.of(version)) != Some(PackageOrigin::Internal));
        }
        if !versions.is_empty() {
            let known = intake.get(route, project, &versions).await;
            if known.is_waiting {
                asked.look_again(Moment(now.0 + WITHOUT_INTAKE));
            }
            asked.intake = Some(known.intake);
        }
        Ok(asked)
    }

    fn look_again(&mut self, at: Moment) {
        self.again = self.again.into_iter().chain([at]).min();
    }
}

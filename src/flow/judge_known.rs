//! What is decided about a page as far as that is known without asking anyone: for views of many projects at once,
//! which must not lead to a request for each.

use std::sync::Arc;

use super::Route;
use super::asked_facts::AskedFacts;
use super::intake::ProjectIntake;
use super::judge::{Judge, Judged};
use super::shown::{Rulings, ShownPage};
use crate::cache::PageContent;
use crate::policy::PackageOrigin;
use wheelport_index::{ProjectName, VersionSegment};

impl Judge {
    /// When the repository took the versions of a project in, as far as that is known.
    pub(super) async fn intake_known(&self, route: &Route, project: &ProjectName) -> Arc<ProjectIntake> {
        self.inner.intake.known(&route.key(project)).await
    }

    /// A page as a route shows it, from what is known. What is not known counts as in any decision. Blocking.
    pub(super) fn show_known(&self, route: &Route, content: Arc<PageContent>, intake: Arc<ProjectIntake>) -> ShownPage {
        let rulings = match self.look(route, &content) {
            Judged::Free => None,
            Judged::Held(rulings) => Some(rulings),
            Judged::Unknown => {
                let rules = self.policy().rules();
                let name = &content.page.name;
                let origins = self.origins().known(&route.key(name));
                let asked = AskedFacts { origins, intake: Some(intake), again: None };
                let of_project = rules.of_project(&route.name, name);
                let (files, _) = self.judge(route, &content, &of_project, &asked, self.policy().now());
                Some(Arc::new(Rulings::new(&content, files, rules.revision(), route.as_of.is_some())))
            }
        };
        ShownPage { content, rulings }
    }

    /// Where a version of a project comes from, as far as that is known. Blocking.
    pub(super) fn known_origin(
        &self,
        route: &Route,
        project: &ProjectName,
        version: Option<&VersionSegment>,
    ) -> Option<PackageOrigin> {
        let known = self.origins().known(&route.key(project));
        known.zip(version).and_then(|(origins, version)| origins.of(version)).or_else(|| self.declared_origin(project))
    }

    /// Where a project has to come from.
    pub(super) fn declared_origin(&self, project: &ProjectName) -> Option<PackageOrigin> {
        self.policy().rules().is_private(project).then_some(PackageOrigin::Internal)
    }

    /// The same, asked for where it is not known. Not to get to know it is no failure.
    pub(super) async fn ask_origin(
        &self,
        route: &Arc<Route>,
        project: &ProjectName,
        version: Option<&VersionSegment>,
    ) -> Option<PackageOrigin> {
        let origins = self.origins().get(route, project, false).await.ok().flatten();
        origins
            .zip(version)
            .and_then(|(origins, version)| origins.of(version))
            .or_else(|| self.declared_origin(project))
    }
}

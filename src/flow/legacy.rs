//! The legacy JSON form of a project, which pip-tools and some scripts ask for; from the same page model.

use std::sync::Arc;

use super::{Flow, Route, Served, blocking};
use crate::cache::{Coding, Rendering};
use crate::error::Error;
use wheelport_index::{ProjectName, VersionSegment, render};

impl Flow {
    /// The legacy JSON document of a project, or of one version; `files_base` is the address of the project's page as the
    /// client reaches it. Rendered per request: nothing asks for it often.
    pub async fn legacy_json(
        &self,
        route: &Arc<Route>,
        project: &ProjectName,
        version: Option<&VersionSegment>,
        files_base: String,
    ) -> Result<(Rendering, Served), Error> {
        let answer = self.page(route, project).await?;
        let content = Arc::clone(&answer.record.content);
        let wanted = version.cloned();
        let body = blocking(move || {
            render::legacy_json(&content.page, wanted.as_ref().map(VersionSegment::as_str), &files_base)
        });
        match (body.await?, version) {
            (Some(body), _) => Ok((super::list::code(body.into(), Coding::Identity)?, answer.served)),
            (None, Some(version)) => Err(Error::NoSuchVersion { project: project.clone(), version: version.clone() }),
            (None, None) => Err(Error::NoSuchProject { route: Arc::clone(&route.name), project: project.clone() }),
        }
    }
}

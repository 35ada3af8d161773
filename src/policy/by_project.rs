//! Finds which of many rules or exceptions are for a project, in one go. Pure.

use globset::{Glob, GlobSet};

use super::globs::{self, ProjectGlob};
use wheelport_index::ProjectName;

/// Which of many things are for a project, found out in one go.
#[derive(Debug, Clone)]
pub(super) struct ByProject {
    globs: GlobSet,
    /// The position of the thing that each glob belongs to.
    owners: Vec<usize>,
    /// Those that are for every project.
    unlimited: Vec<usize>,
}

impl ByProject {
    pub(super) fn new(things: &[Option<Vec<ProjectGlob>>]) -> Result<Self, String> {
        let (mut limited, mut owners, mut unlimited): (Vec<&Glob>, _, _) = (Vec::new(), Vec::new(), Vec::new());
        for (position, projects) in things.iter().enumerate() {
            match projects {
                Some(projects) if projects.iter().all(|glob| glob.0.glob() != "*") => {
                    limited.extend(projects.iter().map(|glob| &glob.0));
                    owners.resize(limited.len(), position);
                }
                _ => unlimited.push(position),
            }
        }
        Ok(Self { globs: globs::set(limited)?, owners, unlimited })
    }

    /// The positions of what is for a project, in order.
    pub(super) fn find(&self, project: &ProjectName) -> Vec<usize> {
        let matched = self.globs.matches(project.as_str());
        let mut found: Vec<usize> = matched.into_iter().map(|glob| self.owners[glob]).collect();
        found.extend(&self.unlimited);
        found.sort_unstable();
        found.dedup();
        found
    }
}

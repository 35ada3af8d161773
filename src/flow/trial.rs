//! What other rules would change, over the pages that are cached. Nothing of it is applied.

use std::sync::Arc;

use serde::Serialize;

use super::file_report::FileReport;
use super::pages::PageService;
use super::{Error, Route};
use crate::policy::{RuleFileError, RuleSet};
use wheelport_runtime::blocking;

/// Projects that are looked at.
const PROJECTS: usize = 5000;
/// Changes that are listed; the others are counted.
const LISTED: usize = 500;

/// What would change.
#[derive(Debug, Default, Serialize)]
pub struct RuleTrial {
    /// Projects that were looked at.
    pub projects: usize,
    pub newly_refused: usize,
    pub newly_allowed: usize,
    /// The first of both.
    pub files: Vec<TrialFile>,
}

/// A file of which something else would be decided.
#[derive(Debug, Serialize)]
pub struct TrialFile {
    pub project: String,
    pub before: &'static str,
    #[serde(flatten)]
    pub after: FileReport,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Rules(#[from] RuleFileError),
    #[error(transparent)]
    Failed(#[from] Error),
}

impl PageService {
    /// Compares what is decided with what these rules would decide, in place of those of the directory.
    pub async fn try_rules(&self, route: &Arc<Route>, text: String) -> Result<RuleTrial, TrialError> {
        let policy = self.judge().policy().clone();
        let candidate = Arc::new(blocking(move || policy.candidate(&text)).await.map_err(Error::from)??);
        let current = self.judge().policy().rules();
        let mut trial = RuleTrial::default();
        for project in self.cached_projects(route, PROJECTS).await {
            let Some(held) = self.held(route, &project).await else { continue };
            trial.projects += 1;
            let report = |rules: &Arc<RuleSet>| self.judge().report(route, &held.content, Arc::clone(rules));
            let (before, after) = (report(&current).await?, report(&candidate).await?);
            for (before, after) in before.into_iter().zip(after) {
                trial.note(project.as_str(), &before, after);
            }
        }
        Ok(trial)
    }
}

impl RuleTrial {
    fn note(&mut self, project: &str, before: &FileReport, after: FileReport) {
        let is_refused = |report: &FileReport| report.ruling != "allow";
        match (is_refused(before), is_refused(&after)) {
            (false, true) => self.newly_refused += 1,
            (true, false) => self.newly_allowed += 1,
            (true, true) | (false, false) => return,
        }
        if self.files.len() < LISTED {
            self.files.push(TrialFile { project: project.to_owned(), before: before.ruling, after });
        }
    }
}

//! What the steps found, for people and for scripts.

use std::fmt::Write as _;

use serde::Serialize;

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepStatus {
    /// As it should be.
    Ok,
    /// Skipped, because an earlier step failed.
    Skip,
    /// Works with a caveat, or cannot be proven to work.
    Warn,
    Fail,
}

impl StepStatus {
    /// The text for people; JSON has the same.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a step found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The step's stable name.
    pub(super) step: &'static str,
    /// `None` for what all routes share.
    pub(super) route: Option<String>,
    pub(super) status: StepStatus,
    /// One sentence.
    pub(super) summary: String,
    pub(super) remedy: Option<String>,
    /// Further lines of detail.
    pub(super) details: Vec<String>,
}

impl Finding {
    pub(super) fn new(step: &'static str, status: StepStatus, summary: impl Into<String>) -> Self {
        Self { step, route: None, status, summary: summary.into(), remedy: None, details: Vec::new() }
    }

    pub(super) fn ok(step: &'static str, summary: impl Into<String>) -> Self {
        Self::new(step, StepStatus::Ok, summary)
    }

    pub(super) fn warn(step: &'static str, summary: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(step, StepStatus::Warn, summary) }
    }

    pub(super) fn fail(step: &'static str, summary: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(step, StepStatus::Fail, summary) }
    }

    pub(super) fn skip(step: &'static str, because: &str) -> Self {
        Self::new(step, StepStatus::Skip, format!("not looked at, because {because}"))
    }

    pub(super) fn with_details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    pub(super) fn of_route(self, route: &str) -> Self {
        Self { route: Some(route.to_owned()), ..self }
    }
}

/// Everything that was found, in order.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// Nothing failed.
    pub(super) ok: bool,
    /// One per step.
    pub(super) findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self { ok: findings.iter().all(|finding| finding.status != StepStatus::Fail), findings }
    }

    /// The report for a configuration that cannot be read.
    pub(super) fn of_bad_configuration(problem: &str) -> Self {
        let remedy = "correct the setting that is named; the README lists them all";
        Self::new(vec![Finding::fail("configuration", problem, remedy)])
    }

    /// For a person at a terminal.
    pub(super) fn human(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let route = finding.route.as_ref().map(|route| format!(" [{route}]")).unwrap_or_default();
            let _ = writeln!(text, "{:<4}  {}{route}: {}", finding.status.as_str(), finding.step, finding.summary);
            for detail in &finding.details {
                let _ = writeln!(text, "        {detail}");
            }
            if let Some(remedy) = &finding.remedy {
                let _ = writeln!(text, "        -> {remedy}");
            }
        }
        let count = |status| self.findings.iter().filter(|finding| finding.status == status).count();
        let (failed, warned) = (count(StepStatus::Fail), count(StepStatus::Warn));
        let _ = writeln!(text, "\n{failed} failed, {warned} to look at, {} fine", count(StepStatus::Ok));
        text
    }

    /// For scripts: `{"ok": …, "findings": [{"step", "route", "status", "summary", "remedy", "details"}]}`.
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

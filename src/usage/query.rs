//! What a person wants to know, from the parameters of a request.

use serde::{Deserialize, Serialize};

use super::day::{InvalidDay, UsageDay};
use wheelport_index::{InvalidName, ProjectName};

/// Rows of a report, where nothing else is said.
const ROWS: usize = 500;
/// The most rows of a report.
const MOST_ROWS: usize = 10_000;
/// The longest parameter, in bytes.
const LONGEST: usize = 1024;

/// The parameters as they are written; an empty one counts as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsageParams {
    pub route: String,
    /// The project, or `PROJECT==VERSION`.
    pub project: String,
    pub version: String,
    pub identity: String,
    pub since: String,
    pub until: String,
    pub limit: String,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    pub route: Option<String>,
    pub project: Option<ProjectName>,
    pub version: Option<String>,
    pub identity: Option<String>,
    /// The first day.
    pub since: UsageDay,
    /// The last day.
    pub until: UsageDay,
    /// The most rows.
    pub limit: usize,
}

/// What a row of a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UsageGrouping {
    Project,
    Version,
    Identity,
}

/// Parameters that say nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUsageQuery {
    #[error("`project` is no name of a project: {0}")]
    Project(#[from] InvalidName),
    #[error("`{0}` is {1}")]
    Date(&'static str, InvalidDay),
    #[error("`since` is after `until`")]
    Order,
    #[error("nothing is kept of these days: records begin at {0}, and end today")]
    Outside(UsageDay),
    #[error("`version` needs a `project`")]
    VersionAlone,
    #[error("`limit` is a number from 1 to {MOST_ROWS}")]
    Limit,
    #[error("a parameter is too long")]
    TooLong,
}

impl UsageParams {
    /// The query. Records go back to `kept`, and today is the last day that there is.
    pub fn parse(&self, kept: UsageDay, today: UsageDay) -> Result<UsageQuery, InvalidUsageQuery> {
        let Self { route, project, version, identity, since, until, limit } = self;
        if [route, project, version, identity, since, until, limit].iter().any(|text| text.len() > LONGEST) {
            return Err(InvalidUsageQuery::TooLong);
        }
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let (project, of_project) = match project.split_once("==") {
            Some((project, version)) => (given(project), given(version)),
            None => (given(project), None),
        };
        let date = |name, text: &str, default| match given(text) {
            Some(text) => text.parse().map_err(|invalid| InvalidUsageQuery::Date(name, invalid)),
            None => Ok(default),
        };
        let version = given(version).or(of_project);
        if version.is_some() && project.is_none() {
            return Err(InvalidUsageQuery::VersionAlone);
        }
        let (since, until) = (date("since", since, kept)?, date("until", until, today)?);
        if since > until {
            return Err(InvalidUsageQuery::Order);
        }
        if until < kept || since > today {
            return Err(InvalidUsageQuery::Outside(kept));
        }
        let limit = given(limit).map_or(Ok(ROWS), |limit| limit.parse()).map_err(|_| InvalidUsageQuery::Limit)?;
        if !(1..=MOST_ROWS).contains(&limit) {
            return Err(InvalidUsageQuery::Limit);
        }
        Ok(UsageQuery {
            route: given(route),
            project: project.map(|project| ProjectName::parse(&project)).transpose()?,
            version,
            identity: given(identity),
            // What is older is about to be removed, and not the same on all replicas.
            since: since.max(kept),
            until: until.min(today),
            limit,
        })
    }
}

impl UsageQuery {
    /// What its rows are about.
    pub fn grouping(&self) -> UsageGrouping {
        match (&self.project, &self.version) {
            (None, _) => UsageGrouping::Project,
            (Some(_), None) => UsageGrouping::Version,
            (Some(_), Some(_)) => UsageGrouping::Identity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(params: &UsageParams) -> Result<UsageQuery, InvalidUsageQuery> {
        let day = |text: &str| text.parse::<UsageDay>().expect("a day");
        params.parse(day("2026-01-10"), day("2026-11-28"))
    }

    #[test]
    fn names_are_normalised_and_days_are_those_that_are_kept() {
        let params =
            UsageParams { project: " My.Project==1.0 ".into(), since: "2020-01-01".into(), ..Default::default() };
        let query = parse(&params).expect("a query");
        assert_eq!(query.project.as_ref().map(ProjectName::as_str), Some("my-project"));
        assert_eq!((query.version.as_deref(), query.grouping()), (Some("1.0"), UsageGrouping::Identity));
        assert_eq!((query.since.to_string(), query.until.to_string()), ("2026-01-10".into(), "2026-11-28".into()));
        let all = parse(&UsageParams::default()).expect("a query");
        assert_eq!((all.grouping(), all.limit, all.route), (UsageGrouping::Project, ROWS, None));
    }

    #[test]
    fn what_says_nothing_is_refused_with_the_parameter() {
        let of = |set: fn(&mut UsageParams)| {
            let mut params = UsageParams::default();
            set(&mut params);
            parse(&params).expect_err("no query").to_string()
        };
        assert!(of(|params| params.project = "../x".into()).contains("`project`"));
        assert!(of(|params| params.since = "yesterday".into()).contains("`since`"));
        assert!(of(|params| params.until = "2026-13-01".into()).contains("`until`"));
        assert!(of(|params| params.version = "1".into()).contains("`project`"));
        assert!(of(|params| params.limit = "0".into()).contains("`limit`"));
        assert!(of(|params| params.limit = "10001".into()).contains("`limit`"));
        assert!(of(|params| params.route = "x".repeat(2000)).contains("too long"));
        let both = |params: &mut UsageParams| (params.since, params.until) = ("2026-02-02".into(), "2026-02-01".into());
        assert!(of(both).contains("after"));
        let early =
            |params: &mut UsageParams| (params.since, params.until) = ("2020-01-01".into(), "2020-02-01".into());
        assert!(of(early).contains("nothing is kept of these days: records begin at 2026-01-10"));
        assert!(
            of(|params| (params.since, params.until) = ("2027-01-01".into(), "2027-02-01".into())).contains("kept")
        );
    }
}

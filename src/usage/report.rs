//! A report: records of many days and replicas, added up by what is wanted.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use foldhash::quality::RandomState;
use serde::{Serialize, Serializer};

use super::day::UsageDay;
use super::query::{UsageGrouping, UsageQuery};
use super::record::{DayRecord, RecordRow};
use super::tally::{Taker, Tally};

/// Rows, and identities in them, that are held while a report is made; downloads beyond them are counted together.
const MOST_HELD: usize = 200_000;

/// Why a report may not be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageNote {
    /// Others may have counted more.
    StoreAway,
    /// Not all was read in time.
    TimedOut,
    /// So many records were damaged, or of another version.
    Unreadable(u64),
    /// There were more rows than a report holds.
    TooMany,
}

/// What a row is about, whichever it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportRow {
    pub route: Arc<str>,
    /// A project, a version, or an identity; none where no identity is known.
    pub name: Option<Arc<str>>,
    /// Whether it stands for identities that were counted together.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub others: bool,
    pub downloads: u64,
    /// How many identities are known, where the row is about a project or a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identities: Option<usize>,
    #[serde(serialize_with = "time")]
    pub first: u64,
    #[serde(serialize_with = "time")]
    pub last: u64,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct UsageReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    pub since: UsageDay,
    pub until: UsageDay,
    /// What a row is about.
    pub by: UsageGrouping,
    /// Downloads in all rows, shown or not.
    pub downloads: u64,
    pub rows: Vec<ReportRow>,
    /// How many rows are not shown.
    pub left_off: usize,
    /// Downloads of which only the route is known, because there was no counter for them; some may belong here.
    pub unattributed: u64,
    /// Whether nothing is known to be missing.
    pub complete: bool,
    /// Why something may be missing.
    pub notes: Vec<UsageNote>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GroupKey {
    route: Arc<str>,
    name: Taker<Arc<str>>,
}

struct Group {
    tally: Tally,
    identities: HashSet<Arc<str>, RandomState>,
}

/// Adds records up.
pub struct UsageCollector {
    query: UsageQuery,
    version: VersionFilter,
    groups: HashMap<GroupKey, Group, RandomState>,
    held: usize,
    unattributed: u64,
    notes: HashSet<UsageNote>,
    unreadable: u64,
}

/// Which spellings of a version are meant: `1.0` is also `1.0.0`.
enum VersionFilter {
    Any,
    Text(String),
    Equal(pep440_rs::Version),
}

impl VersionFilter {
    fn of(version: Option<&str>) -> Self {
        version.map_or(Self::Any, |text| match pep440_rs::Version::from_str(text) {
            Ok(version) => Self::Equal(version),
            Err(_) => Self::Text(text.to_owned()),
        })
    }

    fn admits(&self, version: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(text) => text == version,
            Self::Equal(wanted) => pep440_rs::Version::from_str(version).is_ok_and(|version| version == *wanted),
        }
    }
}

impl UsageCollector {
    pub fn new(query: UsageQuery) -> Self {
        let version = VersionFilter::of(query.version.as_deref());
        let (groups, notes) = (HashMap::default(), HashSet::new());
        Self { query, version, groups, held: 0, unattributed: 0, notes, unreadable: 0 }
    }

    pub fn query(&self) -> &UsageQuery {
        &self.query
    }

    /// Takes in a record.
    pub fn add(&mut self, record: &DayRecord) {
        if !(self.query.since..=self.query.until).contains(&record.day()) {
            return;
        }
        let routes = |query: &UsageQuery, route: &str| query.route.as_deref().is_none_or(|wanted| wanted == route);
        for row in record.rows() {
            if routes(&self.query, row.route) && self.wants(&row) {
                self.add_row(&row);
            }
        }
        let others = record.others().filter(|(route, _)| routes(&self.query, route)).map(|(_, tally)| tally.count);
        self.unattributed = others.fold(self.unattributed, u64::saturating_add);
    }

    fn wants(&self, row: &RecordRow<'_>) -> bool {
        let UsageQuery { project, identity, .. } = &self.query;
        let is_taker = |wanted: &str| matches!(row.taker, Taker::Named(name) if **name == *wanted);
        project.as_ref().is_none_or(|wanted| wanted.as_str() == &**row.project)
            && identity.as_deref().is_none_or(is_taker)
            && self.version.admits(row.version)
    }

    fn add_row(&mut self, row: &RecordRow<'_>) {
        let grouping = self.query.grouping();
        let name = match grouping {
            UsageGrouping::Project => Taker::Named(Arc::clone(row.project)),
            UsageGrouping::Version => Taker::Named(Arc::clone(row.version)),
            UsageGrouping::Identity => row.taker.map(Arc::clone),
        };
        let is_full = self.held >= MOST_HELD;
        let key = GroupKey { route: Arc::clone(row.route), name };
        if is_full && !self.groups.contains_key(&key) {
            self.notes.insert(UsageNote::TooMany);
            self.unattributed = self.unattributed.saturating_add(row.tally.count);
            return;
        }
        let held = &mut self.held;
        let group = self.groups.entry(key).and_modify(|group| group.tally.add(row.tally)).or_insert_with(|| {
            *held += 1;
            Group { tally: row.tally, identities: HashSet::default() }
        });
        if let (Taker::Named(identity), false) = (row.taker, grouping == UsageGrouping::Identity)
            && !group.identities.contains(identity)
        {
            if is_full {
                self.notes.insert(UsageNote::TooMany);
            } else {
                group.identities.insert(Arc::clone(identity));
                *held += 1;
            }
        }
    }

    /// A record could not be read.
    pub fn unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// Something may be missing.
    pub fn note(&mut self, note: UsageNote) {
        self.notes.insert(note);
    }

    /// What was found. What was used most comes first; of identities, what was there last.
    pub fn report(self) -> UsageReport {
        let by = self.query.grouping();
        let downloads = self.groups.values().map(|group| group.tally.count).fold(0, u64::saturating_add);
        let mut rows: Vec<ReportRow> = self.groups.into_iter().map(|(key, group)| row(key, &group, by)).collect();
        rows.sort_unstable_by(|one, other| {
            let by_use = || other.downloads.cmp(&one.downloads);
            let by_time = || other.last.cmp(&one.last);
            let first =
                if by == UsageGrouping::Project { by_use().then_with(by_time) } else { by_time().then_with(by_use) };
            first.then_with(|| (&one.route, &one.name, one.others).cmp(&(&other.route, &other.name, other.others)))
        });
        let left_off = rows.len().saturating_sub(self.query.limit);
        rows.truncate(self.query.limit);
        let unreadable = (self.unreadable > 0).then_some(UsageNote::Unreadable(self.unreadable));
        let mut notes: Vec<UsageNote> = self.notes.into_iter().chain(unreadable).collect();
        notes.sort_unstable();
        let UsageQuery { route, project, version, identity, since, until, .. } = self.query;
        let (project, unattributed) = (project.map(|project| project.as_str().to_owned()), self.unattributed);
        let complete = notes.is_empty() && unattributed == 0;
        UsageReport {
            route,
            project,
            version,
            identity,
            since,
            until,
            by,
            downloads,
            rows,
            left_off,
            unattributed,
            complete,
            notes,
        }
    }
}

fn row(key: GroupKey, group: &Group, by: UsageGrouping) -> ReportRow {
    let others = key.name == Taker::Others;
    let name = match key.name {
        Taker::Named(name) => Some(name),
        Taker::Unknown | Taker::Others => None,
    };
    let identities = (by != UsageGrouping::Identity).then_some(group.identities.len());
    let Tally { count, first, last } = group.tally;
    ReportRow { route: key.route, name, others, downloads: count, identities, first, last }
}

impl ReportRow {
    /// A moment as it is shown.
    pub fn shown(unix_seconds: u64) -> String {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix_seconds)).to_string()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn time<S: Serializer>(unix_seconds: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&ReportRow::shown(*unix_seconds))
}

impl fmt::Display for UsageNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StoreAway => f.write_str(
                "the store that replicas share cannot be read now: what only other replicas know is missing",
            ),
            Self::TimedOut => f.write_str("not all records were read in time; ask for fewer days"),
            Self::Unreadable(count) => {
                write!(f, "{count} records are damaged or of another version, and are missing; the log names them")
            }
            Self::TooMany => f.write_str("there are more rows than a report holds; ask for less"),
        }
    }
}

impl Serialize for UsageNote {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::day::DAY;
    use super::super::query::UsageParams;
    use super::*;

    type Counted<'a> = (&'a str, &'a str, &'a str, Taker<&'a str>, u64, u64);

    /// A record of a day from route, project, version, taker, number and second of the day.
    fn record(day: u64, counted: &[Counted<'_>]) -> DayRecord {
        let names = |(route, project, version, ..): &Counted<'_>| [*route, *project, *version].map(Arc::<str>::from);
        let named: Vec<[Arc<str>; 3]> = counted.iter().map(names).collect();
        let rows = counted.iter().zip(&named).map(|((.., taker, count, at), names)| {
            let at = day * DAY + at;
            (names.each_ref(), taker.map(Arc::from), Tally { count: *count, first: at, last: at })
        });
        DayRecord::new(UsageDay::of(day * DAY), rows, std::iter::empty())
    }

    fn collected(params: &UsageParams, records: &[DayRecord]) -> UsageReport {
        let query = params.parse(UsageDay::of(0), UsageDay::of(100 * DAY)).expect("a query");
        let mut collector = UsageCollector::new(query);
        for record in records {
            collector.add(record);
        }
        collector.report()
    }

    fn names(report: &UsageReport) -> Vec<(Option<&str>, u64)> {
        report.rows.iter().map(|row| (row.name.as_deref(), row.downloads)).collect()
    }

    fn two_days() -> [DayRecord; 2] {
        let (web, api) = (Taker::Named("ci:web"), Taker::Named("ci:api"));
        [
            record(
                1,
                &[("main", "a", "1.0", web, 2, 10), ("main", "a", "1.0", api, 1, 20), ("main", "b", "1", web, 9, 1)],
            ),
            record(
                2,
                &[
                    ("main", "a", "1.0.0", web, 3, 5),
                    ("main", "a", "2", api, 1, 6),
                    ("x", "a", "1", Taker::Unknown, 4, 7),
                ],
            ),
        ]
    }

    #[test]
    fn who_has_a_version_and_when_last_is_one_question() {
        let report = collected(&UsageParams { project: "A==1".into(), ..Default::default() }, &two_days());
        assert_eq!(names(&report), [(None, 4), (Some("ci:web"), 5), (Some("ci:api"), 1)]);
        let web = &report.rows[1];
        assert_eq!((web.first, web.last, &*web.route), (DAY + 10, 2 * DAY + 5, "main"));
        assert_eq!((report.downloads, report.complete, report.by), (10, true, UsageGrouping::Identity));
        let json = serde_json::to_value(&report).expect("a document");
        assert_eq!(json["rows"][1]["last"], "1970-01-03T00:00:05Z");
    }

    #[test]
    fn a_project_is_told_by_version_and_all_by_project() {
        let one =
            collected(&UsageParams { project: "a".into(), route: "main".into(), ..Default::default() }, &two_days());
        assert_eq!(names(&one), [(Some("2"), 1), (Some("1.0.0"), 3), (Some("1.0"), 3)]);
        assert_eq!(one.rows.iter().map(|row| row.identities).collect::<Vec<_>>(), [Some(1), Some(1), Some(2)]);
        let all = collected(&UsageParams { limit: "1".into(), ..Default::default() }, &two_days());
        assert_eq!((names(&all), all.left_off, all.downloads), (vec![(Some("b"), 9)], 2, 20));
        let of = collected(&UsageParams { identity: "ci:api".into(), ..Default::default() }, &two_days());
        assert_eq!(names(&of), [(Some("a"), 2)]);
        let day = collected(&UsageParams { until: "1970-01-02".into(), ..Default::default() }, &two_days());
        assert_eq!(day.downloads, 12);
    }

    #[test]
    fn what_may_be_missing_is_said() {
        let query = UsageParams::default().parse(UsageDay::of(0), UsageDay::of(DAY)).expect("a query");
        let mut collector = UsageCollector::new(query);
        collector.unreadable();
        collector.note(UsageNote::StoreAway);
        collector.note(UsageNote::StoreAway);
        let report = collector.report();
        assert_eq!((report.complete, report.notes), (false, vec![UsageNote::StoreAway, UsageNote::Unreadable(1)]));
    }

    #[test]
    fn a_report_is_bounded() {
        let mut collector =
            UsageCollector::new(UsageParams::default().parse(UsageDay::of(0), UsageDay::of(DAY)).expect("a query"));
        let many: Vec<String> = (0..MOST_HELD + 5).map(|number| format!("p-{number}")).collect();
        let counted: Vec<Counted<'_>> = many.iter().map(|name| ("main", &**name, "1", Taker::Unknown, 1, 0)).collect();
        collector.add(&record(0, &counted));
        let report = collector.report();
        assert_eq!((report.unattributed, report.notes), (5, vec![UsageNote::TooMany]));
    }
}

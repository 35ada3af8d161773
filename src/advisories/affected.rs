//! Which versions an advisory is about, as OSV says it and in the order of PEP 440. Pure.
//!
//! In memory it is a short text, because most are never looked at; what a list says that the ranges say too is left
//! out of it.

use std::cmp::Ordering;
use std::str::FromStr as _;

use pep440_rs::Version;
use serde::Deserialize;
use wheelport_index::read_version;
use wheelport_runtime::sabotaged;

/// The longest version that is read, in bytes.
const LONGEST_VERSION: usize = 128;
/// What stands for the beginning of all versions.
const BEGINNING: &str = "0";

/// A range as a document writes it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct OsvRange {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub events: Vec<OsvEvent>,
}

/// A point at which versions begin or end to be affected.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct OsvEvent {
    pub introduced: Option<String>,
    pub fixed: Option<String>,
    pub last_affected: Option<String>,
}

/// The versions that an advisory is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AffectedVersions {
    exact: Vec<Version>,
    /// Versions outside PEP 440.
    odd: Vec<String>,
    spans: Vec<VersionSpan>,
}

/// Versions from one to another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct VersionSpan {
    /// `None` from the beginning.
    from: Option<Version>,
    to: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Open,
    Before(Version),
    With(Version),
}

/// What an event does; the order is that of events at the same version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Fixed,
    Introduced,
    LastAffected,
}

impl VersionSpan {
    fn contains(&self, version: &Version) -> bool {
        self.from.as_ref().is_none_or(|from| version >= from)
            && match &self.to {
                End::Open => true,
                End::Before(end) => version < end,
                End::With(end) => version <= end || is_build_of(version, end),
            }
    }

    const fn is_everything(&self) -> bool {
        self.from.is_none() && matches!(self.to, End::Open)
    }
}

/// Whether a version is a local build of another one, as in `1.0+cpu` of `1.0`.
fn is_build_of(version: &Version, public: &Version) -> bool {
    version.is_local() && !public.is_local() && version.clone().without_local() == *public
}

impl AffectedVersions {
    /// What a list and ranges say together. A range that cannot be read says nothing.
    pub(super) fn of(versions: &[String], ranges: &[OsvRange]) -> Self {
        let of_ecosystem = ranges.iter().filter(|range| range.kind == "ECOSYSTEM");
        let mut affected =
            Self { spans: of_ecosystem.flat_map(|range| spans(&range.events)).collect(), ..Self::default() };
        if let Some(everything) = affected.spans.iter().find(|span| span.is_everything()).cloned() {
            affected.spans = vec![everything];
            return affected;
        }
        for text in versions.iter().filter(|text| is_plain(text)) {
            match read_version(text) {
                Some(version) if affected.spans.iter().any(|span| span.contains(&version)) => {}
                Some(version) => affected.exact.push(version),
                None => affected.odd.push(text.clone()),
            }
        }
        affected
    }

    /// Whether no version is affected.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.odd.is_empty() && self.spans.is_empty()
    }

    /// Whether every version is affected, also one of which nothing is known.
    pub fn is_everything(&self) -> bool {
        self.spans.iter().any(VersionSpan::is_everything)
    }

    pub fn contains(&self, version: &Version) -> bool {
        self.spans.iter().any(|span| span.contains(version))
            || self.exact.iter().any(|exact| version == exact || is_build_of(version, exact))
    }

    /// Whether a version outside PEP 440 is affected.
    pub fn contains_odd(&self, text: &str) -> bool {
        self.is_everything() || self.odd.iter().any(|odd| odd == text)
    }

    /// The same for a version of which only the text is known.
    pub fn contains_text(&self, text: &str) -> bool {
        match read_version(text) {
            Some(version) => self.contains(&version),
            None => self.contains_odd(text),
        }
    }

    /// A text that [`Self::read`] understands.
    pub(super) fn written(&self) -> String {
        let spans = self.spans.iter().map(|span| {
            let from = span.from.as_ref().map(ToString::to_string).unwrap_or_default();
            match &span.to {
                End::Open => format!("{from}.."),
                End::Before(end) => format!("{from}..<{end}"),
                End::With(end) => format!("{from}..={end}"),
            }
        });
        let exact = self.exact.iter().map(|version| format!("={version}"));
        let odd = self.odd.iter().map(|odd| format!("?{odd}"));
        spans.chain(exact).chain(odd).collect::<Vec<_>>().join("\n")
    }

    /// Reads what [`Self::written`] made.
    pub(super) fn read(text: &str) -> Self {
        let mut affected = Self::default();
        let version = |text: &str| Version::from_str(text).ok();
        for part in text.lines() {
            if let Some(exact) = part.strip_prefix('=') {
                affected.exact.extend(version(exact));
            } else if let Some(odd) = part.strip_prefix('?') {
                affected.odd.push(odd.to_owned());
            } else if let Some((from, to)) = part.split_once("..") {
                let to = match (to.strip_prefix('<'), to.strip_prefix('=')) {
                    (Some(end), _) => version(end).map(End::Before),
                    (_, Some(end)) => version(end).map(End::With),
                    _ => Some(End::Open),
                };
                affected.spans.extend(to.map(|to| VersionSpan { from: version(from), to }));
            }
        }
        affected
    }
}

fn is_plain(version: &str) -> bool {
    (1..=LONGEST_VERSION).contains(&version.len()) && !version.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// What the events of a range come to. They may stand in any order.
fn spans(events: &[OsvEvent]) -> Vec<VersionSpan> {
    let mut edges: Vec<(Option<Version>, Edge)> = Vec::new();
    for event in events {
        let named = [
            (&event.introduced, Edge::Introduced),
            (&event.fixed, Edge::Fixed),
            (&event.last_affected, Edge::LastAffected),
        ];
        for (text, edge) in named {
            match text.as_deref() {
                None => {}
                Some(BEGINNING) if edge == Edge::Introduced => edges.push((None, edge)),
                Some(text) => match read_version(text) {
                    Some(version) => edges.push((Some(version), edge)),
                    None => return Vec::new(),
                },
            }
        }
    }
    if !sabotaged("advisory-range-order") {
        // `None` comes before every version.
        edges.sort_by(|(one, first), (other, second)| match one.cmp(other) {
            Ordering::Equal => first.cmp(second),
            order => order,
        });
    }
    let (mut spans, mut open) = (Vec::new(), None::<Option<Version>>);
    for (version, edge) in edges {
        match (edge, version, open.take()) {
            (Edge::Introduced, version, None) => open = Some(version),
            (Edge::Introduced, _, already) => open = already,
            (Edge::Fixed, Some(end), Some(from)) => spans.push(VersionSpan { from, to: End::Before(end) }),
            (Edge::LastAffected, Some(end), Some(from)) => spans.push(VersionSpan { from, to: End::With(end) }),
            (Edge::Fixed | Edge::LastAffected, _, _) => {}
        }
    }
    spans.extend(open.map(|from| VersionSpan { from, to: End::Open }));
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn affected(versions: &[&str], events: &Value) -> AffectedVersions {
        let ranges: Vec<OsvRange> =
            serde_json::from_value(json!([{"type": "ECOSYSTEM", "events": events}])).expect("ranges");
        let versions: Vec<String> = versions.iter().map(|text| (*text).to_owned()).collect();
        let affected = AffectedVersions::of(&versions, &ranges);
        assert_eq!(AffectedVersions::read(&affected.written()), affected, "it comes back from its text");
        affected
    }

    fn check(versions: &[&str], events: &Value, inside: &[&str], outside: &[&str]) {
        let affected = affected(versions, events);
        for version in inside {
            assert!(affected.contains_text(version), "{version} in {events}");
        }
        for version in outside {
            assert!(!affected.contains_text(version), "{version} not in {events}");
        }
    }

    #[test]
    fn ranges_follow_the_order_of_pep_440() {
        check(
            &[],
            &json!([{"introduced": "1.0"}, {"fixed": "1.10"}]),
            &["1.0", "1.0.0", "1.9", "v1.9", "1.10rc1", "1.10.dev1", "1.0+cpu", "1.0.post1"],
            &["0.9", "1.0rc1", "1.10", "1.10+cpu", "2.0", "1!1.5", "odd!"],
        );
        check(
            &[],
            &json!([{"introduced": "0"}, {"last_affected": "2.0"}]),
            &["0.0.1.dev0", "2.0", "2", "2.0+local"],
            &["2.0.post1", "2.0.1"],
        );
        check(&[], &json!([{"introduced": "2.0"}, {"last_affected": "2.0"}]), &["2.0"], &["1.9", "2.0.1"]);
    }

    #[test]
    fn events_may_stand_in_any_order() {
        check(
            &[],
            &json!([{"fixed": "3.2"}, {"introduced": "3.0"}, {"fixed": "1.2"}, {"introduced": "1.0"}]),
            &["1.0", "1.1", "3.0", "3.1"],
            &["0.9", "1.2", "2.0", "2.9", "3.2", "4.0"],
        );
        check(
            &[],
            &json!([{"introduced": "2.0"}, {"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "3.0"}]),
            &["0.1", "2.0", "2.5", "99"],
            &["1.0", "1.9"],
        );
    }

    #[test]
    fn everything_is_everything_also_what_is_no_version() {
        check(&["1.0"], &json!([{"introduced": "0"}]), &["0.0.0.dev0", "99!9", "odd!", "-"], &[]);
        assert!(affected(&[], &json!([{"introduced": "0"}])).is_everything());
        assert!(!affected(&["1.0"], &json!([])).is_everything());
        assert!(affected(&[], &json!([])).is_empty());
    }

    #[test]
    fn lists_count_besides_ranges_and_what_both_say_is_kept_once() {
        let both = affected(&["1.0", "1.1", "5.0", "2004d"], &json!([{"introduced": "1.0"}, {"fixed": "2.0"}]));
        assert_eq!(both.written(), "1.0..<2.0\n=5.0\n?2004d");
        check(&["5.0", "2004d"], &json!([]), &["5.0", "5.0.0", "5.0+cpu", "2004d"], &["5.0.1", "2004e"]);
        let huge = "99999999999999999999";
        check(&[], &json!([{"introduced": "1.0"}]), &[huge], &["0.9", "odd!"]);
        check(&[huge], &json!([]), &[huge], &["5.0"]);
        check(&["5.0+cpu"], &json!([]), &["5.0+cpu"], &["5.0", "5.0+gpu"]);
    }

    #[test]
    fn a_range_of_another_kind_or_with_what_is_no_version_says_nothing() {
        check(&["1.0"], &json!([{"introduced": "0"}, {"fixed": "not a version"}]), &["1.0"], &["2.0"]);
        let git = json!([{"type": "GIT", "events": [{"introduced": "0"}]}]);
        let ranges: Vec<OsvRange> = serde_json::from_value(git).expect("ranges");
        assert!(AffectedVersions::of(&[], &ranges).is_empty());
    }
}

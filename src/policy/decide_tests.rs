use std::borrow::Cow;
use std::time::Duration;

use super::super::facts::NamedVersions;
use super::super::rules::RuleSet;
use super::super::sources::{PolicySettings, tests::compiled};
use super::*;
use wheelport_index::{FileKind, ProjectName, Sha256};

const DAY: u64 = 86_400;
const NOW: Moment = Moment(1_000 * DAY);

fn rules(text: &str) -> RuleSet {
    let settings = PolicySettings { routes: vec!["main".into(), "data".into()], ..PolicySettings::default() };
    compiled(&settings, text).expect("rules")
}

fn private(text: &str, glob: &str) -> RuleSet {
    let table = toml::from_str(&format!("private = [\"{glob}\"]")).expect("a table");
    let settings = PolicySettings { table, routes: vec!["main".into()], ..PolicySettings::default() };
    compiled(&settings, text).expect("rules")
}

fn named<'a>(versions: impl IntoIterator<Item = &'a str>) -> Cow<'static, NamedVersions> {
    Cow::Owned(NamedVersions::of(versions))
}

/// An external wheel of version 2.0, uploaded a hundred days ago.
fn facts() -> FileFacts<'static> {
    FileFacts {
        versions: named(["2.0"]),
        kind: FileKind::Wheel,
        origin: Some(PackageOrigin::External),
        sha256: Some(Sha256::of(b"x")),
        uploaded: Some(Moment(900 * DAY)),
        taken_in: None,
        known_since: None,
        came_later: false,
        release_began: Some(Moment(900 * DAY)),
        licence: Some("MIT"),
    }
}

fn decide(set: &RuleSet, facts: &FileFacts<'_>) -> Assessment {
    set.of_project("main", &ProjectName::parse("hello").expect("a name")).decide(facts, NOW)
}

#[test]
fn a_file_is_as_old_as_the_earliest_moment_at_which_it_is_known_to_have_been_there() {
    let set = rules("[[rule]]\nname = \"r\"\nyounger_than = \"7 days\"");
    let day = |day: u64| Some(Moment(day * DAY));
    for (uploaded, known_since, taken_in, is_refused) in [
        (None, day(999), None, true),
        (None, day(999), day(900), false),
        (None, day(900), day(999), false),
        (None, None, day(900), false),
        (None, day(999), day(998), true),
        // What the index says counts more than what is merely proven.
        (day(999), None, day(900), true),
    ] {
        let facts = FileFacts { uploaded, known_since, taken_in, ..facts() };
        assert_eq!(refused_by(&set, &facts).is_some(), is_refused, "{uploaded:?} {known_since:?} {taken_in:?}");
    }
}

#[test]
fn rules_that_are_found_by_file_decide_as_all_of_them_do() {
    let exception = |versions: &str| {
        let until = "expires = 2999-01-01T00:00:00Z\nreason = \"r\"\nby = \"b\"\nprojects = [\"hello\"]";
        format!("[[exception]]\nversions = \"{versions}\"\n{until}\n")
    };
    let rule = |number: usize, about: String| format!("[[rule]]\nname = \"rule-{number}\"\n{about}\n");
    let named = [
        format!("sha256 = [\"{}\"]", Sha256::of(b"x")),
        format!("sha256 = [\"{}\"]", Sha256::of(b"y")),
        format!("sha256 = [\"{}\"]\nversions = \"==2.1\"", Sha256::of(b"z")),
        "versions = \"==2.1\"".to_owned(),
        "versions = \"==2.2+b\"".to_owned(),
        "kind = \"sdist\"".to_owned(),
    ];
    let ranged =
        ["mode = \"audit\"\nversions = \"<2\"", "mode = \"allow\"\nversions = \"==2.*\"", "versions = \">=3\""];
    let ranged = ranged.map(str::to_owned);
    // With and without what depends on each version.
    let of_all = [ranged[..1].to_vec(), named.to_vec(), ranged[1..].to_vec()].concat();
    for (rules_of, exceptions) in [
        (of_all, exception("==3.1") + &exception(">=3.2,<3.3")),
        (named.to_vec(), exception("==3.1")),
        (named[..4].to_vec(), String::new()),
    ] {
        let text: String = rules_of.into_iter().enumerate().map(|(number, about)| rule(number, about)).collect();
        let set = rules(&(text + &exceptions));
        let all = set.of_project("main", &ProjectName::parse("hello").expect("a name"));
        let by_file = all.by_file();
        let versions = ["1.0", "2.0", "2.1", "2.1.0", "2.1+c", "2.2", "2.2+b", "3.0", "3.1", "3.1+d", "3.2", "odd!"];
        for first in versions {
            let pairs = versions.iter().map(|second| NamedVersions::of([first, second]));
            for (versions, bytes) in pairs.flat_map(|pair| ["", "x", "z", "0"].map(|bytes| (pair.clone(), bytes))) {
                let sha256 = Some(bytes).filter(|bytes| !bytes.is_empty()).map(|bytes| Sha256::of(bytes.as_bytes()));
                for kind in [FileKind::Wheel, FileKind::Sdist, FileKind::Other] {
                    let found = by_file.about(&versions, sha256, kind);
                    assert!(found.rules.len() < all.rules.len());
                    let facts = FileFacts { versions: Cow::Borrowed(&versions), sha256, kind, ..facts() };
                    assert_eq!(found.decide(&facts, NOW), all.decide(&facts, NOW), "{versions:?} {bytes} {kind:?}");
                }
            }
        }
    }
}

/// The rule that refuses the file, if one does.
fn refused_by(set: &RuleSet, facts: &FileFacts<'_>) -> Option<String> {
    decide(set, facts).ruling.grounds().map(|grounds| grounds.rule.to_string())
}

#[test]
fn every_matcher_matches_what_it_says_and_nothing_else() {
    let digest = Sha256::of(b"x");
    let other = Sha256::of(b"y");
    for (matcher, expected) in [
        ("", true),
        ("routes = [\"main\"]", true),
        ("routes = [\"data\"]", false),
        ("projects = [\"HELLO\"]", true),
        ("projects = [\"other\", \"hel*\"]", true),
        ("projects = [\"other\"]", false),
        ("versions = \">=2\"", true),
        ("versions = \"==2.0.*, !=2.0.1\"", true),
        ("versions = \"<2\"", false),
        ("kind = \"wheel\"", true),
        ("kind = \"sdist\"", false),
        ("kind = \"other\"", false),
        ("origin = \"external\"", true),
        ("origin = \"internal\"", false),
        (&format!("sha256 = [\"{other}\", \"{digest}\"]"), true),
        (&format!("sha256 = [\"{other}\"]"), false),
        ("younger_than = \"101 days\"", true),
        ("younger_than = \"P100D\"", false),
        ("uploaded_before = 1972-06-20", true),
        ("uploaded_before = 1972-06-19", false),
        ("uploaded_after = 1972-06-19", true),
        ("uploaded_after = \"1972-06-20T00:00:00Z\"", false),
        ("licence = [\"GPL-*\", \"mit\"]", true),
        ("licence = [\"GPL-*\"]", false),
        ("kind = \"wheel\"\nversions = \"<2\"", false),
    ] {
        let set = rules(&format!("[[rule]]\nname = \"r\"\n{matcher}"));
        assert_eq!(refused_by(&set, &facts()).is_some(), expected, "{matcher}");
    }
}

#[test]
fn the_first_rule_that_decides_decides_and_audit_goes_on() {
    let set = rules(
        "[[rule]]\nname = \"look\"\nmode = \"audit\"\n\
         [[rule]]\nname = \"good\"\nmode = \"allow\"\nversions = \"==2.0\"\n\
         [[rule]]\nname = \"gone\"\nmode = \"hide\"\nversions = \"==3.0\"\n\
         [[rule]]\nname = \"all\"\nreason = \"No.\"\nhelp = \"ask\"",
    );
    let assessment = decide(&set, &facts());
    assert_eq!((assessment.ruling, assessment.audited), (Ruling::Allow, vec!["look".into()]));
    let other = |version| FileFacts { versions: named([version]), ..facts() };
    assert_eq!(decide(&set, &other("3.0")).ruling.as_str(), "hide");
    let explained = decide(&set, &other("1.0"));
    let grounds = explained.ruling.grounds().expect("refused");
    assert_eq!((&*grounds.rule, &*grounds.reason, grounds.help.as_deref()), ("all", "No.", Some("ask")));
    assert_eq!(grounds.to_string(), "No. [rule all]");
    assert_eq!(explained.audited.len(), 1);
}

#[test]
fn age_ends_at_a_known_moment_and_no_date_is_no_proof_of_it() {
    let set = rules("[[rule]]\nname = \"cooldown\"\nyounger_than = \"7 days\"");
    for (uploaded, known_since, expected) in [
        (Some(999), None, Some(Some(1006))),
        (Some(993), None, None),
        (Some(994), None, Some(Some(1001))),
        (Some(2000), None, Some(Some(2007))),
        // What the index says counts, and what was seen only where it says nothing.
        (Some(999), Some(1), Some(Some(1006))),
        (None, Some(993), None),
        (None, Some(998), Some(Some(1005))),
        (None, None, Some(None)),
    ] {
        let moment = |days: u64| Moment(days * DAY);
        let facts = FileFacts { uploaded: uploaded.map(moment), known_since: known_since.map(moment), ..facts() };
        let assessment = decide(&set, &facts);
        let until = assessment.ruling.grounds().map(|grounds| grounds.until);
        assert_eq!(until, expected.map(|until| until.map(moment)), "{uploaded:?} {known_since:?}");
        assert_eq!(assessment.next_change, until.flatten());
        let rules = set.of_project("main", &ProjectName::parse("hello").expect("a name"));
        if let Some(until) = until.flatten() {
            assert_ne!(rules.decide(&facts, Moment(until.0 - 1)).ruling, Ruling::Allow);
            assert_eq!(rules.decide(&facts, until).ruling, Ruling::Allow, "to the second");
        }
    }
}

#[test]
fn a_file_that_is_added_to_an_old_release_is_late() {
    let set = rules("[[rule]]\nname = \"late\"\nlate_upload = \"14 days\"");
    let day = |days: u64| Some(Moment(days * DAY));
    for (uploaded, known_since, came_later, expected) in [
        (day(914), None, false, false),
        (day(915), None, false, true),
        (None, day(950), true, true),
        (None, day(950), false, false),
        (None, None, false, false),
    ] {
        let facts = FileFacts { uploaded, known_since, came_later, ..facts() };
        assert_eq!(refused_by(&set, &facts).is_some(), expected, "{uploaded:?} {known_since:?} {came_later}");
    }
    assert_eq!(decide(&set, &FileFacts { uploaded: day(915), ..facts() }).next_change, None, "that does not pass");
}

#[test]
fn exceptions_lift_rules_until_they_expire() {
    let set = rules(
        "[[rule]]\nname = \"all\"\n\
         [[exception]]\nprojects = [\"hello\"]\nversions = \"==2.0\"\nreason = \"a fix\"\nby = \"sec\"\n\
         expires = 1972-09-27T00:00:01Z\n\
         [[exception]]\nprojects = [\"hello\"]\nversions = \"==3.0\"\nreason = \"late\"\nby = \"sec\"\n\
         expires = 1972-09-27T00:00:00Z",
    );
    let assessment = decide(&set, &facts());
    assert_eq!((assessment.ruling, assessment.next_change), (Ruling::Allow, Some(Moment(NOW.0 + 1))));
    assert_eq!(assessment.exception.as_deref(), Some("a fix (sec)"));
    assert_eq!(set.exceptions_at(NOW), 1);
    let expired = FileFacts { versions: named(["3.0"]), ..facts() };
    assert_eq!(refused_by(&set, &expired).as_deref(), Some("all"));
    let other = FileFacts { versions: named(["2.0", "2.1"]), ..facts() };
    assert_eq!(refused_by(&set, &other).as_deref(), Some("all"), "every version it may have has to be meant");
}

#[test]
fn a_private_name_never_comes_from_outside_and_has_no_cooldown() {
    let text = "[[rule]]\nname = \"cooldown\"\nyounger_than = \"200 days\"\n\
                [[exception]]\nprojects = [\"*\"]\nreason = \"all\"\nby = \"me\"\nexpires = 2100-01-01";
    let set = private(text, "hel*");
    for (origin, expected) in [
        (Some(PackageOrigin::External), Some(PRIVATE_NAMES)),
        (None, Some(PRIVATE_NAMES)),
        (Some(PackageOrigin::Internal), None),
    ] {
        assert_eq!(refused_by(&set, &FileFacts { origin, ..facts() }).as_deref(), expected, "{origin:?}");
    }
    let set = rules("[[rule]]\nname = \"cooldown\"\nyounger_than = \"200 days\"");
    for (origin, expected) in
        [(Some(PackageOrigin::External), true), (None, true), (Some(PackageOrigin::Internal), false)]
    {
        assert_eq!(refused_by(&set, &FileFacts { origin, ..facts() }).is_some(), expected, "{origin:?}");
    }
}

#[test]
fn what_is_not_known_lifts_nothing() {
    for matcher in [
        "versions = \"==2.0\"",
        "origin = \"internal\"",
        "origin = \"external\"",
        "licence = [\"*\"]",
        "uploaded_before = 2000-01-01",
        "uploaded_after = 1970-01-01",
        "younger_than = \"1000 days\"",
    ] {
        let set = rules(&format!("[[rule]]\nname = \"a\"\nmode = \"allow\"\n{matcher}\n[[rule]]\nname = \"b\""));
        let unknown = FileFacts {
            versions: named(["odd!"]),
            origin: None,
            sha256: None,
            uploaded: None,
            known_since: None,
            release_began: None,
            licence: None,
            ..facts()
        };
        assert_eq!(refused_by(&set, &unknown).as_deref(), Some("b"), "{matcher}");
    }
    let either = rules("[[rule]]\nname = \"b\"\nversions = \"==2.0\"");
    let named = FileFacts { versions: named(["9.9", "2.0"]), ..facts() };
    assert!(refused_by(&either, &named).is_some(), "a client cannot choose a version to get round a rule");
}

#[test]
fn a_thousand_rules_are_compiled_and_asked_in_no_time() {
    let rule =
        |n| format!("[[rule]]\nname = \"r{n}\"\nprojects = [\"project-{n}\", \"p{n}-*\"]\nversions = \">={n}\"\n");
    let text = (0..1000).map(rule).collect::<Vec<_>>().concat();
    let began = tokio::time::Instant::now();
    let set = rules(&text);
    let compiled = began.elapsed();
    assert_eq!(set.len(), 1000);
    let began = tokio::time::Instant::now();
    let project = ProjectName::parse("p7-x").expect("a name");
    let of_project = set.of_project("main", &project);
    assert_eq!(of_project.rules.len(), 1);
    for _ in 0..4000 {
        of_project.decide(&facts(), NOW);
    }
    // An order of magnitude above what an unoptimised build takes.
    assert!(compiled < Duration::from_secs(10) && began.elapsed() < Duration::from_secs(2), "{compiled:?}");
}

/// Rules with what these documents report.
fn reported(text: &str, documents: &serde_json::Value) -> RuleSet {
    use crate::advisories::{AdvisoryTable, CopyHeader, CopyWriter, read_export};
    let export = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(export.path(), documents.to_string()).expect("a file");
    let mut copy = CopyWriter::new(std::io::sink(), &CopyHeader::default()).expect("a copy");
    read_export(export.path(), &AdvisoryTable::default(), &mut copy).expect("documents");
    rules(text).with_advisories(copy.finish().expect("a copy").1.into())
}

fn advisory(id: &str, versions: &[&str]) -> serde_json::Value {
    let package = serde_json::json!({"ecosystem": "PyPI", "name": "Hello"});
    serde_json::json!({"id": id, "affected": [{"package": package, "versions": versions}]})
}

#[test]
fn malware_comes_before_rules_and_only_its_own_exception_lifts_it() {
    let exception = |advisory: &str| {
        format!("[[exception]]\nprojects = [\"hello\"]\nreason = \"x\"\nby = \"y\"\nexpires = 2100-01-01\n{advisory}")
    };
    let allow = "[[rule]]\nname = \"all\"\nmode = \"allow\"\n";
    let documents = serde_json::json!([advisory("MAL-1", &["2.0"]), advisory("GHSA-1", &["2.0", "3.0"])]);
    for (text, expected) in [
        (String::new(), Some("malware")),
        (allow.to_owned(), Some("malware")),
        (exception(""), Some("malware")),
        (exception("advisory = \"MAL-2\""), Some("malware")),
        (exception("advisory = \"MAL-1\""), None),
        (exception("advisory = \"MAL-1\"\nversions = \"==3.0\""), Some("malware")),
    ] {
        assert_eq!(refused_by(&reported(&text, &documents), &facts()).as_deref(), expected, "{text}");
    }
    let set = reported("", &documents);
    let of = |versions: &[&str]| FileFacts { versions: named(versions.iter().copied()), ..facts() };
    for (versions, expected) in [
        (&["3.0"][..], None),
        (&["3.0", "2.0"], Some("malware")),
        (&["2.0+cpu"], Some("malware")),
        (&["2.0.0"], Some("malware")),
        (&["odd!"], None),
        (&[], None),
    ] {
        assert_eq!(refused_by(&set, &of(versions)).as_deref(), expected, "{versions:?}");
    }
    let grounds = decide(&set, &facts()).ruling;
    assert_eq!(grounds.grounds().and_then(|grounds| grounds.advisory.as_deref()), Some("MAL-1"));
    assert!(!set.is_empty() && reported("", &serde_json::json!([advisory("GHSA-1", &["2.0"])])).is_empty());
}

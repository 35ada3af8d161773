//! Pages of projects whose texts are hostile, and what is shown of rules.

use super::super::catalog::Place;
use super::super::project_model::{
    DependencyEntry, DependencyGroup, InstallLine, LinkEntry, ListedFile, RefusalEntry, is_web_address,
};
use super::*;

const HOSTILE: &str = "<i onclick=x>&\"'</i>";

fn refused(help: &str) -> RefusalEntry {
    let text = || HOSTILE.to_owned();
    RefusalEntry {
        rule: text(),
        reason: text(),
        until: Some("2026-12-31T00:00:00Z".to_owned()),
        help: Some(help.to_owned()),
    }
}

fn hostile() -> ProjectModel {
    let text = || HOSTILE.to_owned();
    let release = ReleaseEntry {
        version: text(),
        segment: "1.0%3Ci%3E".to_owned(),
        uploaded: Some(text()),
        files: 2,
        is_prerelease: true,
        is_newest: false,
        yanked: Some(text()),
        refused: Some(refused(HOSTILE)),
        refused_files: 1,
    };
    let file = ListedFile {
        file: text(),
        kind: "wheel",
        words: text(),
        path: "simple/a/1.0/a.whl".to_owned(),
        size: Some(1),
        uploaded: Some(text()),
        requires_python: Some(text()),
        sha256: Some(text()),
        cached: true,
        yanked: Some(text()),
        refused: Some(refused("https://wiki.example/?a=\"b")),
        exception: Some(text()),
        audited: vec![text()],
        vulnerabilities: vec![text()],
        dated: Some(text()),
    };
    let needed = || DependencyEntry { project: "b".to_owned(), versions: HOSTILE.to_owned(), marker: Some(text()) };
    ProjectModel {
        route: text(),
        as_of: Some(text()),
        project: text(),
        version: Some(text()),
        summary: Some(text()),
        origin: Some("private"),
        status: Some(StatusEntry { status: text(), reason: Some(text()) }),
        requires_python: Some(">=3".to_owned()),
        licence: Some(text()),
        authors: vec![Person { name: Some(text()), email: Some("a@b.example".to_owned()) }],
        links: vec![LinkEntry { label: text(), url: "https://x.example/?\"".to_owned() }],
        dependencies: vec![
            DependencyGroup { extra: None, requires: vec![needed()] },
            DependencyGroup { extra: Some(text()), requires: vec![needed()] },
        ],
        metadata_missing: Some(text()),
        install: vec![InstallLine { tool: "pip", line: text() }],
        files: vec![file],
        further_files: 3,
        versions: vec![release],
        further_versions: 4,
        description: None,
        is_version_page: true,
        has_rules: true,
        place: Place { start: "../../../".to_owned(), index: "../../../".to_owned() },
    }
}

#[test]
fn everything_from_outside_is_escaped() {
    let page = project(&hostile(), None);
    assert!(!page.contains("<i") && !page.contains("</i>") && !page.contains("&\"'"), "{page}");
    assert!(page.contains("href=\"../1.0%3Ci%3E/\"") && page.contains("href=\"../../../projects/b/\""));
}

#[test]
fn a_refusal_says_why_until_when_and_whom_to_ask() {
    let page = project(&hostile(), None);
    assert!(page.contains("Partly blocked.") && page.contains("until <time datetime=\"2026-12-31T00:00:00Z\">"));
    assert!(
        page.contains(
            "<a href=\"https://wiki.example/?a=&quot;b\" rel=\"noopener noreferrer\">Ask for an exception</a>"
        )
    );
    assert!(page.contains("For an exception: "), "what is no link is text");
    assert!(!page.contains("href=\"../../../simple/a/1.0/a.whl\""), "a file that is refused is not linked");
}

#[test]
fn only_web_addresses_are_links() {
    for good in ["https://a.example", "http://a.example/b?c#d", "HTTPS://A.example"] {
        assert!(is_web_address(good), "{good}");
    }
    for bad in
        ["javascript:alert(1)", "data:text/html,x", "//a.example", "/x", "ftp://a.example", "mailto:a@b.example", ""]
    {
        assert!(!is_web_address(bad), "{bad}");
    }
}

#[test]
fn the_json_has_no_more_than_is_known() {
    let json = serde_json::to_value(hostile()).expect("a model is JSON");
    assert_eq!(json["files"][0]["refused"]["until"], "2026-12-31T00:00:00Z");
    assert!(json.get("place").is_none() && json["versions"][0].get("segment").is_none());
}

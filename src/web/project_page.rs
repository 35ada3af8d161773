//! From the view of a project to what its page says. Texts from outside are bounded here, and what would be a link but
//! leads nowhere on the web is left out. Pure.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::browse_request::{BrowseRequest, origin_word, shown};
use crate::flow::{FileReport, FileView, Grounds, MetadataView, ProjectOverview, ReleaseView};
use crate::ui::{
    DependencyEntry, DependencyGroup, LinkEntry, ListedFile, Person, ProjectModel, RefusalEntry, ReleaseEntry,
    StatusEntry, install_commands, is_web_address,
};
use wheelport_index::wheel::{CoreFields, metadata_headers};
use wheelport_index::{FileKind, Requirement, Yanked, described};
use wheelport_runtime::sabotaged;

/// Dependencies that are listed.
const MOST_DEPENDENCIES: usize = 500;
/// Links and persons that are listed, each.
const MOST_LINKS: usize = 40;
/// Parts of a field that are looked at, of which some may be none, or the same.
const MOST_PARTS: usize = 200;
/// The longest address that is a link, in bytes.
const LONGEST_LINK: usize = 2000;
/// The longest mail address, in bytes; mail knows no longer ones.
const LONGEST_EMAIL: usize = 254;

pub(super) fn project_model(
    request: &BrowseRequest,
    view: &ProjectOverview,
    is_version_page: bool,
    has_rules: bool,
) -> ProjectModel {
    let fields = match &view.metadata {
        MetadataView::Known(metadata) => metadata_headers(&metadata.bytes),
        MetadataView::NoWheel | MetadataView::Refused | MetadataView::Unavailable(_) => CoreFields::default(),
    };
    let chosen = view.chosen.map(|chosen| &view.releases[chosen]);
    let version = chosen.map(|release| release.version.as_str());
    let of_file = || view.files.iter().find_map(|file| file.file.requires_python.clone());
    ProjectModel {
        route: request.route.to_string(),
        as_of: request.as_of.as_deref().map(str::to_owned),
        project: view.project.to_string(),
        version: version.map(shown),
        summary: meant(fields.summary.as_deref()),
        origin: view.origin.map(origin_word),
        status: view
            .status
            .as_ref()
            .filter(|status| status.status != "active")
            .map(|status| StatusEntry { status: shown(&status.status), reason: status.reason.as_deref().map(shown) }),
        requires_python: fields
            .requires_python
            .clone()
            .or_else(of_file)
            .as_deref()
            .and_then(|python| meant(Some(python))),
        licence: licence(&fields),
        authors: authors(&fields),
        links: links(&fields),
        dependencies: dependencies(&fields.requires_dist),
        metadata_missing: missing(&view.metadata, chosen.is_some()),
        install: if view.files.iter().any(|file| file.refused.is_none()) {
            install_commands(&request.index, view.project.as_str(), version.filter(|_| is_version_page))
        } else {
            Vec::new()
        },
        files: view.files.iter().map(file_entry).collect(),
        further_files: view.further_files,
        versions: view.releases.iter().map(|release| release_entry(release, view.newest.as_deref())).collect(),
        further_versions: view.further_releases,
        description: None,
        is_version_page,
        has_rules,
        place: request.place.clone(),
    }
}

/// A field of core metadata, unless it says that there is none.
fn meant(text: Option<&str>) -> Option<String> {
    let line = text?.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(shown(&line)).filter(|line| !line.is_empty() && line != "UNKNOWN")
}

fn missing(metadata: &MetadataView, has_release: bool) -> Option<String> {
    let text = match metadata {
        MetadataView::Known(_) => return None,
        MetadataView::NoWheel if !has_release => return None,
        MetadataView::NoWheel => {
            "This version has no wheel, and only wheels say more about themselves here.".to_owned()
        }
        MetadataView::Refused => "Its wheels are blocked, so what they say about themselves is not read.".to_owned(),
        MetadataView::Unavailable(error) => format!("What its wheels say about themselves cannot be had now. {error}"),
    };
    Some(text)
}

/// The licence expression, or the older field as far as it is a name and not the licence's whole text.
fn licence(fields: &CoreFields) -> Option<String> {
    let name = fields.license.as_deref().filter(|text| text.lines().count() <= 2 && text.len() <= 200);
    meant(fields.license_expression.as_deref()).or_else(|| meant(name))
}

/// Who made it: names, and addresses as in mail headers.
fn authors(fields: &CoreFields) -> Vec<Person> {
    let mut people: Vec<Person> = Vec::new();
    let names = [&fields.author, &fields.maintainer];
    let addresses = [&fields.author_email, &fields.maintainer_email];
    for (name, addresses) in names.into_iter().zip(addresses) {
        let mut found: Vec<Person> =
            addresses.iter().flat_map(|addresses| addresses.split(',').take(most_parts())).map(person).collect();
        let name = meant(name.as_deref());
        match &mut found[..] {
            // A name and an address in two fields belong together.
            [Person { name: without @ None, .. }] => *without = name,
            _ => found.extend(name.map(|name| Person { name: Some(name), email: None })),
        }
        for person in found {
            let is_known = people.iter().any(|known| known.name == person.name || *known == person);
            let has_room = people.len() < MOST_LINKS || sabotaged("person-count");
            if (person.name.is_some() || person.email.is_some()) && !is_known && has_room {
                people.push(person);
            }
        }
    }
    people
}

fn most_parts() -> usize {
    if sabotaged("part-count") { usize::MAX } else { MOST_PARTS }
}

/// `Name <address>`, or either.
fn person(text: &str) -> Person {
    let (name, email) = match text.split_once('<') {
        Some((name, rest)) => (name, rest.trim().trim_end_matches('>')),
        None if text.contains('@') => ("", text.trim()),
        None => (text, ""),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '@');
    let fits = email.len() <= LONGEST_EMAIL || sabotaged("email-length");
    let is_address = fits && email.matches('@').count() == 1 && email.chars().all(is_plain);
    Person {
        name: meant(Some(name.trim().trim_matches('"'))),
        // A percent sign would begin an escape in the link.
        email: Some(email.to_owned()).filter(|email| is_address && !email.contains('%')),
    }
}

/// The links that are web addresses, each once.
fn links(fields: &CoreFields) -> Vec<LinkEntry> {
    let home = fields.home_page.iter().map(|page| ("Home page", page.as_str()));
    let others = fields.project_urls.iter().filter_map(|entry| entry.split_once(','));
    let mut links: Vec<LinkEntry> = Vec::new();
    for (label, address) in others.take(most_parts()).chain(home) {
        let url = address.trim().to_owned();
        let is_new = links.iter().all(|known| known.url != url);
        let fits = url.len() <= LONGEST_LINK || sabotaged("link-length");
        let has_room = links.len() < MOST_LINKS || sabotaged("link-count");
        if fits && has_room && is_new && is_web_address(&url) {
            links.push(LinkEntry { label: meant(Some(label)).unwrap_or_else(|| shown(&url)), url });
        }
    }
    links
}

/// What is needed in any case first, then by extra.
fn dependencies(requires: &[String]) -> Vec<DependencyGroup> {
    let mut groups = vec![DependencyGroup { extra: None, requires: Vec::new() }];
    for needed in requires.iter().take(MOST_DEPENDENCIES).filter_map(|raw| Requirement::parse(raw)) {
        let Requirement { project, rest, marker, extra } = needed;
        let entry = DependencyEntry {
            project: project.to_string(),
            versions: shown(&rest),
            marker: marker.as_deref().map(shown),
        };
        let extra = extra.as_deref().map(shown);
        match groups.iter_mut().find(|group| group.extra == extra) {
            Some(group) => group.requires.push(entry),
            None => groups.push(DependencyGroup { extra, requires: vec![entry] }),
        }
    }
    groups.retain(|group| !group.requires.is_empty());
    groups
}

fn decision(grounds: &Grounds) -> RefusalEntry {
    RefusalEntry {
        rule: shown(&grounds.rule),
        reason: shown(&grounds.reason),
        until: grounds.until.map(|until| until.to_string()),
        help: grounds.help.as_deref().map(shown),
    }
}

/// The reason, which may be empty, if it is yanked.
fn yanked(mark: &Yanked) -> Option<String> {
    match mark {
        Yanked::No => None,
        Yanked::Yes => Some(String::new()),
        Yanked::Because(reason) => Some(shown(reason)),
    }
}

fn release_entry(release: &ReleaseView, newest: Option<&str>) -> ReleaseEntry {
    ReleaseEntry {
        version: shown(&release.version),
        segment: utf8_percent_encode(&release.version, NON_ALPHANUMERIC).to_string(),
        uploaded: release.uploaded.clone(),
        files: release.files,
        is_prerelease: !release.is_final,
        is_newest: newest == Some(release.version.as_str()),
        yanked: release.yanked.as_ref().and_then(yanked),
        refused: release.refused.as_ref().map(decision),
        refused_files: release.refused_files,
    }
}

fn file_entry(view: &FileView) -> ListedFile {
    let FileView { file, path, is_stored, refused, report } = view;
    let report = report.as_ref();
    ListedFile {
        file: shown(file.name.as_str()),
        kind: match file.name.kind() {
            FileKind::Wheel => "wheel",
            FileKind::Sdist => "sdist",
            FileKind::Other => "other",
        },
        words: shown(&described(&file.name)),
        path: format!("simple/{path}"),
        size: file.size,
        uploaded: file.upload_time.clone(),
        requires_python: meant(file.requires_python.as_deref()),
        sha256: file.hashes.sha256().map(|sha256| sha256.to_string()),
        cached: *is_stored,
        yanked: yanked(&file.yanked),
        refused: refused.as_ref().map(decision),
        exception: report.and_then(|report| report.exception.as_deref()).map(shown),
        audited: report.map(|report| report.audited.iter().map(|rule| shown(rule)).collect()).unwrap_or_default(),
        vulnerabilities: report.map(vulnerabilities).unwrap_or_default(),
        dated: report.and_then(dated),
    }
}

fn vulnerabilities(report: &FileReport) -> Vec<String> {
    report.vulnerabilities.iter().map(|id| shown(id)).collect()
}

/// The date from which the age of a file counts, and where that is from.
fn dated(report: &FileReport) -> Option<String> {
    report.date.map(|date| format!("{date} ({})", report.date_from))
}

#[cfg(test)]
mod tests {
    use super::super::browse_request::LONGEST_TEXT;
    use super::*;

    fn fields(metadata: &str) -> CoreFields {
        metadata_headers(metadata.as_bytes())
    }

    #[test]
    fn only_web_addresses_become_links_and_each_once() {
        let links = links(&fields(
            "Project-URL: Docs, https://docs.example/\nProject-URL: Evil, javascript:alert(1)\n\
             Project-URL: Data, data:text/html,x\nHome-page: https://docs.example/\nProject-URL: x\n\
             Project-URL: \u{202e}Source, http://src.example\nProject-URL: , https://nameless.example\n",
        ));
        let found: Vec<_> = links.iter().map(|link| (link.label.as_str(), link.url.as_str())).collect();
        assert_eq!(
            found,
            [
                ("Docs", "https://docs.example/"),
                ("Source", "http://src.example"),
                ("https://nameless.example", "https://nameless.example")
            ]
        );
    }

    #[test]
    fn people_are_named_with_addresses_that_are_plain() {
        let people = |metadata: &str| {
            let people = authors(&fields(metadata)).into_iter();
            people.map(|person| (person.name.unwrap_or_default(), person.email.unwrap_or_default())).collect::<Vec<_>>()
        };
        let expect =
            |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        assert_eq!(people("Author: A\nAuthor-email: a@x.example\n"), expect(&[("A", "a@x.example")]));
        assert_eq!(
            people("Author-email: \"A B\" <a@x.example>, b@x.example\nMaintainer: A B\n"),
            expect(&[("A B", "a@x.example"), ("", "b@x.example")])
        );
        assert_eq!(people("Author-email: A <a@x.example?cc=b%40y>\nAuthor: UNKNOWN\n"), expect(&[("A", "")]));
        assert_eq!(people("Name: a\n"), expect(&[]));
    }

    #[test]
    fn what_a_project_says_of_its_people_is_bounded() {
        let list = |range: std::ops::Range<usize>| {
            range.map(|number| format!("P{number} <p{number}@x.example>")).collect::<Vec<_>>().join(", ")
        };
        let people = authors(&fields(&format!("Author-email: {}\nMaintainer: Last\n", list(0..MOST_LINKS + 5))));
        assert_eq!(people.len(), MOST_LINKS);
        assert_eq!(people[MOST_LINKS - 1].name.as_deref(), Some("P39"), "the first ones are named");
        // A field that says nothing again and again is not read to its end.
        let nothing = ",".repeat(MOST_PARTS);
        assert_eq!(authors(&fields(&format!("Author-email: {nothing}a@x.example\n"))).len(), 0);
        assert_eq!(authors(&fields(&format!("Author-email: {}a@x.example\n", &nothing[1..]))).len(), 1);
        let long = "n".repeat(5000);
        let people = authors(&fields(&format!("Author-email: {long} <a@x.example>, B <{long}@x.example>\n")));
        let name = people[0].name.as_deref().unwrap_or_default();
        assert_eq!((people.len(), name.chars().count()), (2, LONGEST_TEXT + 1), "the last one says that it is cut");
        assert_eq!((people[1].name.as_deref(), people[1].email.as_deref()), (Some("B"), None));
        let longest = format!("{}@x.example", "n".repeat(LONGEST_EMAIL - "@x.example".len()));
        let email = |text: &str| authors(&fields(&format!("Author-email: {text}\n"))).pop().and_then(|one| one.email);
        assert_eq!((email(&longest), email(&format!("n{longest}"))), (Some(longest.clone()), None));
    }

    #[test]
    fn the_links_of_a_project_are_bounded() {
        let entry = |number: usize| format!("Project-URL: L{number}, https://x.example/{number}\n");
        let many: String = (0..MOST_LINKS + 5).map(entry).collect();
        let found = links(&fields(&format!("{many}Home-page: https://home.example\n")));
        assert_eq!((found.len(), found[MOST_LINKS - 1].label.as_str()), (MOST_LINKS, "L39"));
        let nothing = "Project-URL: x, y\n".repeat(MOST_PARTS);
        assert_eq!(links(&fields(&format!("{nothing}{}", entry(1)))).len(), 0);
        let address = |length: usize| format!("https://x.example/{}", "p".repeat(length - "https://x.example/".len()));
        let of_length = |length| links(&fields(&format!("Project-URL: Docs, {}\n", address(length)))).len();
        assert_eq!((of_length(LONGEST_LINK), of_length(LONGEST_LINK + 1)), (1, 0));
        let label = "l".repeat(5000);
        let found = links(&fields(&format!("Project-URL: {label}, https://x.example\n")));
        assert_eq!(found[0].label.chars().count(), LONGEST_TEXT + 1);
    }

    #[test]
    fn dependencies_are_grouped_by_extra() {
        let requires =
            ["b>=1", "c; extra == 'x'", "d; os_name == 'nt' and extra == 'x'", "<script>"].map(str::to_owned);
        let groups = dependencies(&requires);
        let found: Vec<_> = groups
            .iter()
            .map(|group| {
                let names: Vec<_> = group.requires.iter().map(|needed| needed.project.as_str()).collect();
                (group.extra.as_deref(), names)
            })
            .collect();
        assert_eq!(found, [(None, vec!["b"]), (Some("x"), vec!["c", "d"])]);
        assert_eq!(groups[1].requires[1].marker.as_deref(), Some("os_name == 'nt'"));
    }

    #[test]
    fn a_licence_is_a_name_and_no_text() {
        assert_eq!(licence(&fields("License: MIT License\n")).as_deref(), Some("MIT License"));
        assert_eq!(licence(&fields("License: Long\n\tline\n\tline\n\tline\n")), None);
        assert_eq!(licence(&fields("License: x\nLicense-Expression: MIT\n")).as_deref(), Some("MIT"));
        assert_eq!(licence(&fields("License: UNKNOWN\n")), None);
    }
}

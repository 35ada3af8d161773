//! The addresses of pages for people, below a route: what the segments mean. Pure.
//!
//! | path | what it is |
//! | --- | --- |
//! | `projects/`, `search` | the projects, or those that a query finds |
//! | `projects/{project}/` | a project |
//! | `projects/{project}/{version}/` | one of its versions |
//! | `projects.json`, `search.json`, `projects/{project}.json`, `projects/{project}/{version}.json` | their JSON |
//!
//! `projects/json` and `projects/{version}/json` without a slash at the end stay the legacy JSON of a project that is
//! called projects, which tools request that way; with it they are pages for people. A page for people ends in a slash,
//! and every link to one has it.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::refusal::AddressFault;
use wheelport_index::{ProjectName, VersionSegment};

/// The form of a page for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum BrowseForm {
    Html,
    Json,
}

/// What a page for people is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum BrowseTarget {
    /// The projects that a query finds.
    Projects,
    Project {
        project: ProjectName,
        /// The newest one where none is named.
        version: Option<VersionSegment>,
    },
}

/// A page for people, and where a request for another spelling of it belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BrowseAddress {
    pub target: BrowseTarget,
    pub form: BrowseForm,
    pub redirect: Option<String>,
}

const JSON: &str = ".json";

/// Whether the first segment is one of these shapes.
pub(super) fn begins(first: &str) -> bool {
    matches!(first, "projects" | "projects.json" | "search" | "search.json")
}

/// What the segments behind a route mean; none where they are no page for people. `slashes` counts those at the end of
/// the path.
pub(super) fn parse(rest: &[Cow<'_, str>], slashes: usize) -> Option<Result<BrowseAddress, AddressFault>> {
    let segments: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
    match segments[..] {
        ["projects"] => Some(Ok(projects(BrowseForm::Html, (slashes == 0).then(|| "projects/".to_owned())))),
        ["search"] => Some(Ok(projects(BrowseForm::Html, (slashes > 0).then(|| format!("{}search", up(slashes)))))),
        ["projects.json" | "search.json"] if slashes == 0 => Some(Ok(projects(BrowseForm::Json, None))),
        ["projects", .., "json"] if slashes == 0 => None,
        ["projects", spelling] => Some(project(spelling, slashes)),
        ["projects", spelling, version] => Some(version_of(spelling, version, slashes)),
        _ => None,
    }
}

fn up(levels: usize) -> String {
    "../".repeat(levels)
}

fn projects(form: BrowseForm, redirect: Option<String>) -> BrowseAddress {
    BrowseAddress { target: BrowseTarget::Projects, form, redirect }
}

fn project(spelling: &str, slashes: usize) -> Result<BrowseAddress, AddressFault> {
    let (spelling, form) = split(spelling, slashes);
    let project = ProjectName::parse(spelling)?;
    let is_proper = project.as_str() == spelling && (slashes > 0 || form == BrowseForm::Json);
    let redirect = (!is_proper).then(|| match form {
        BrowseForm::Html => format!("{}{project}/", up(slashes)),
        BrowseForm::Json => format!("{project}{JSON}"),
    });
    Ok(BrowseAddress { target: BrowseTarget::Project { project, version: None }, form, redirect })
}

fn version_of(spelling: &str, version: &str, slashes: usize) -> Result<BrowseAddress, AddressFault> {
    let (version, form) = split(version, slashes);
    let (project, version) = (ProjectName::parse(spelling)?, VersionSegment::parse(version)?);
    let is_proper = project.as_str() == spelling && (slashes > 0 || form == BrowseForm::Json);
    let redirect = (!is_proper).then(|| {
        let ending = if form == BrowseForm::Json { JSON } else { "/" };
        let segment = utf8_percent_encode(version.as_str(), NON_ALPHANUMERIC);
        format!("{}{project}/{segment}{ending}", up(slashes + 1))
    });
    Ok(BrowseAddress { target: BrowseTarget::Project { project, version: Some(version) }, form, redirect })
}

/// The last segment without what asks for JSON.
fn split(last: &str, slashes: usize) -> (&str, BrowseForm) {
    match last.strip_suffix(JSON) {
        Some(stem) if slashes == 0 && !stem.is_empty() => (stem, BrowseForm::Json),
        _ => (last, BrowseForm::Html),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Option<BrowseAddress> {
        let segments: Vec<Cow<'_, str>> = path.split('/').filter(|part| !part.is_empty()).map(Cow::from).collect();
        let slashes = path.len() - path.trim_end_matches('/').len();
        parse(&segments, slashes).map(|parsed| parsed.expect("an address"))
    }

    fn address(target: BrowseTarget, form: BrowseForm, redirect: Option<&str>) -> BrowseAddress {
        BrowseAddress { target, form, redirect: redirect.map(str::to_owned) }
    }

    #[test]
    fn pages_for_people_have_json_beside_them() {
        use BrowseForm::{Html, Json};
        let project = |name: &str, version: Option<&str>| BrowseTarget::Project {
            project: ProjectName::parse(name).expect("a name"),
            version: version.map(|version| VersionSegment::parse(version).expect("a version")),
        };
        let all = || BrowseTarget::Projects;
        for (path, expected) in [
            ("projects/", Some(address(all(), Html, None))),
            ("projects", Some(address(all(), Html, Some("projects/")))),
            ("search", Some(address(all(), Html, None))),
            ("search//", Some(address(all(), Html, Some("../../search")))),
            ("projects.json", Some(address(all(), Json, None))),
            ("search.json", Some(address(all(), Json, None))),
            ("projects/a-b/", Some(address(project("a-b", None), Html, None))),
            ("projects/a-b", Some(address(project("a-b", None), Html, Some("a-b/")))),
            ("projects/A_b/", Some(address(project("a-b", None), Html, Some("../a-b/")))),
            ("projects/a-b.json", Some(address(project("a-b", None), Json, None))),
            ("projects/A.b.json", Some(address(project("a-b", None), Json, Some("a-b.json")))),
            ("projects/a-b.json/", Some(address(project("a-b-json", None), Html, Some("../a-b-json/")))),
            ("projects/a-b/1.0/", Some(address(project("a-b", Some("1.0")), Html, None))),
            ("projects/A_b/1.0+x", Some(address(project("a-b", Some("1.0+x")), Html, Some("../a-b/1%2E0%2Bx/")))),
            ("projects/A_b/1.0/", Some(address(project("a-b", Some("1.0")), Html, Some("../../a-b/1%2E0/")))),
            ("projects/a-b/1.0.json", Some(address(project("a-b", Some("1.0")), Json, None))),
            // A project called json has a page; the legacy JSON of a project called projects is where it was.
            ("projects/json/", Some(address(project("json", None), Html, None))),
            ("projects/json.json", Some(address(project("json", None), Json, None))),
            ("projects/json", None),
            ("projects/1.0/json", None),
            ("search/json", None),
            ("projects/a/1/b/", None),
        ] {
            assert_eq!(parsed(path), expected, "{path}");
        }
    }
}

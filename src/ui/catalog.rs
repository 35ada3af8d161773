//! The projects of a route, with a search: rendered here, and the same model as JSON.

use maud::{Markup, html};
use serde::Serialize;

use super::layout::{Frame, NavigationLink, document};
use super::words::number;

/// The longest query that is looked for, in characters.
pub(crate) const LONGEST_QUERY: usize = 100;

/// One page of the projects that a query finds.
#[derive(Debug, Serialize)]
pub(crate) struct CatalogModel {
    pub(crate) route: String,
    /// The date of the index, as it stands in the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<String>,
    pub(crate) query: String,
    /// The first is 1.
    pub(crate) page: usize,
    pub(crate) pages: usize,
    /// Projects that were found, on all pages.
    pub(crate) found: usize,
    /// All projects there are.
    pub(crate) total: usize,
    /// Why the names are only those that the cache knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) incomplete: Option<String>,
    pub(crate) projects: Vec<CatalogEntry>,
    /// The project that the query names, where that is not among them.
    #[serde(skip)]
    pub(crate) unlisted: Option<String>,
    #[serde(skip)]
    pub(crate) place: Place,
}

/// One project.
#[derive(Debug, Serialize)]
pub(crate) struct CatalogEntry {
    pub(crate) name: String,
    /// Of the newest version that an installer would choose, as are those that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uploaded: Option<String>,
    /// `private` or `external`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<&'static str>,
    /// Whether a file of it is stored here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cached: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) yanked: bool,
    /// Whether rules refuse it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) refused: bool,
}

/// Where a page is: relative references to others, each with its slash.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// The start page.
    pub(crate) start: String,
    /// What stands before `projects/` and `simple/`.
    pub(crate) index: String,
}

impl Place {
    pub(super) fn projects(&self) -> String {
        format!("{}projects/", self.index)
    }
}

/// The whole page.
pub(crate) fn catalog(model: &CatalogModel) -> String {
    let projects = model.place.projects();
    let navigation = [
        NavigationLink { text: "Start", href: &model.place.start, is_current: false },
        NavigationLink { text: "Projects", href: &projects, is_current: true },
    ];
    let main = html! {
        div.title {
            h1 { "Projects" }
            span.mark.plain { (model.route) }
            @if let Some(date) = &model.as_of { span.mark.amber { "as of " (date) } }
        }
        @if let Some(reason) = &model.incomplete {
            p.note.amber { (reason) " These are the projects that this server has pages of." }
        }
        div.search {
            form action=(projects) method="get" role="search" data-live="count found" {
                input type="search" name="q" value=(model.query) maxlength=(LONGEST_QUERY) autocomplete="off"
                    autocapitalize="off" spellcheck="false" aria-label="Search projects by name"
                    placeholder="Search by name";
                button type="submit" { "Search" }
            }
        }
        p.count #count role="status" { (count(model)) }
        div #found { (found(model)) }
    };
    let title = if model.query.is_empty() { "Projects".to_owned() } else { format!("{} in projects", model.query) };
    document(&Frame { title: &title, navigation: &navigation, main })
}

fn count(model: &CatalogModel) -> String {
    let words = |count: usize| number(i64::try_from(count).unwrap_or(i64::MAX));
    let (found, total) = (words(model.found), words(model.total));
    let of_pages = match model.pages {
        0 | 1 => String::new(),
        pages => format!(", page {} of {}", model.page, words(pages)),
    };
    match (model.query.is_empty(), model.found) {
        (true, 1) => "1 project".to_owned(),
        (true, _) => format!("{total} projects{of_pages}"),
        (false, _) => format!("{found} of {total} projects{of_pages}"),
    }
}

fn found(model: &CatalogModel) -> Markup {
    html! {
        @if model.projects.is_empty() {
            p.soft {
                @if model.query.is_empty() { "There are no projects yet." }
                @else { "No project of the list is called that." }
            }
        } @else {
            ul.projects {
                @for project in &model.projects { (entry(model, project)) }
            }
        }
        @if let Some(name) = &model.unlisted {
            p.soft {
                "A repository lists an external project only once it was installed from there. "
                a href={ (model.place.projects()) (name) "/" } { "Look for “" (name) "” itself" }
                "."
            }
        }
        @if model.pages > 1 {
            nav.pager aria-label="Pages" {
                @if model.page > 1 { a href=(page_link(model, model.page - 1)) rel="prev" { "← Previous" } }
                @if model.page < model.pages { a href=(page_link(model, model.page + 1)) rel="next" { "Next →" } }
            }
        }
    }
}

fn entry(model: &CatalogModel, project: &CatalogEntry) -> Markup {
    html! {
        li {
            div.name {
                a href={ (model.place.projects()) (project.name) "/" } { (project.name) }
                span.marks {
                    @match project.origin {
                        Some("private") => span.mark.violet { "private" },
                        Some(origin) => span.mark.plain { (origin) },
                        None => {},
                    }
                    @if project.cached == Some(true) { span.mark { "cached" } }
                    @if project.refused { span.mark.red { "blocked" } }
                    @else if project.yanked { span.mark.amber { "yanked" } }
                }
            }
            @if let Some(summary) = &project.summary { p.about { bdi { (summary) } } }
            @if let Some(version) = &project.version {
                div.newest {
                    span.mono { bdi { (version) } } " "
                    @if let Some(uploaded) = &project.uploaded { (date(uploaded)) }
                }
            }
        }
    }
}

/// The day of a time that the index gives.
pub(super) fn date(time: &str) -> Markup {
    html! { time datetime=(time) { (time.get(..10).unwrap_or(time)) } }
}

fn page_link(model: &CatalogModel, page: usize) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if !model.query.is_empty() {
        query.append_pair("q", &model.query);
    }
    query.append_pair("page", &page.to_string());
    format!("{}?{}", model.place.projects(), query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(query: &str, names: &[&str]) -> CatalogModel {
        let entry = |name: &&str| CatalogEntry {
            name: (*name).to_owned(),
            summary: Some("<i>\"'&".to_owned()),
            version: Some("<b>".to_owned()),
            uploaded: Some("2026-01-02T03:04:05.000000Z".to_owned()),
            origin: Some("private"),
            cached: Some(true),
            yanked: false,
            refused: false,
        };
        CatalogModel {
            route: "python".to_owned(),
            as_of: None,
            query: query.to_owned(),
            page: 2,
            pages: 3,
            found: 1234,
            total: 1_234_567,
            incomplete: None,
            unlisted: Some("x-y".to_owned()),
            projects: names.iter().map(entry).collect(),
            place: Place { start: "../".to_owned(), index: "../".to_owned() },
        }
    }

    #[test]
    fn what_is_found_is_escaped_and_linked() {
        let page = catalog(&model("\"><script>", &["a-b"]));
        assert!(!page.contains("<i>") && !page.contains("<b>") && !page.contains("\"><script>alert"));
        assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;\""));
        assert!(page.contains("<a href=\"../projects/a-b/\">a-b</a>"));
        assert!(page.contains("href=\"../projects/?q=%22%3E%3Cscript%3E&amp;page=3\""));
        assert!(page.contains("1,234 of 1,234,567 projects, page 2 of 3"));
        assert!(page.contains(">2026-01-02</time>"));
        assert!(page.contains("<a href=\"../projects/x-y/\">Look for"));
    }

    #[test]
    fn an_empty_list_says_so() {
        assert!(catalog(&model("", &[])).contains("no projects yet"));
        assert!(catalog(&model("x", &[])).contains("No project of the list"));
    }
}

//! The page that says who has what: a form, and a table of what was found.

use maud::{Markup, html};

use super::layout::{Frame, document};
use super::operations::navigation;

/// What the page shows.
pub(crate) struct UsagePage<'a> {
    pub(crate) form: UsageForm<'a>,
    /// What went wrong, in place of a table.
    pub(crate) error: Option<&'a str>,
    /// What was found, in a sentence.
    pub(crate) summary: &'a str,
    /// What rows are about: a project, a version, an identity.
    pub(crate) subject: &'a str,
    pub(crate) rows: &'a [UsageRow],
    /// Why something may be missing, in sentences.
    pub(crate) notes: &'a [String],
    /// The address of the same as JSON.
    pub(crate) json: &'a str,
}

/// The form as it was sent.
pub(crate) struct UsageForm<'a> {
    /// The routes to choose from.
    pub(crate) routes: &'a [&'a str],
    pub(crate) route: &'a str,
    pub(crate) project: &'a str,
    pub(crate) version: &'a str,
    pub(crate) identity: &'a str,
    pub(crate) since: &'a str,
    pub(crate) until: &'a str,
}

/// A row of the table.
pub(crate) struct UsageRow {
    pub(crate) route: String,
    pub(crate) name: String,
    /// Where more is said of it.
    pub(crate) href: Option<String>,
    pub(crate) downloads: u64,
    /// How many identities, where the row is about a project or a version.
    pub(crate) identities: Option<usize>,
    /// RFC 3339.
    pub(crate) first: String,
    pub(crate) last: String,
}

/// The whole document.
pub(crate) fn usage_page(page: &UsagePage<'_>) -> String {
    let main = html! {
        h1 { "Usage" }
        p.lead { "Which project, which version, by whom, and when last. Days are those of UTC." }
        (form(&page.form))
        @if let Some(error) = page.error {
            p.note role="alert" { (error) }
        } @else {
            p.found role="status" { (page.summary) }
            @for note in page.notes {
                p.note { (note) }
            }
            @if !page.rows.is_empty() {
                (table(page))
            }
            p { small { a href=(page.json) { "The same as JSON" } } }
        }
    };
    document(&Frame { title: "Usage", navigation: &navigation("usage"), main })
}

fn form(form: &UsageForm<'_>) -> Markup {
    let field = |name: &str, label: &str, value: &str, kind: &str| {
        html! {
            label { (label) input type=(kind) name=(name) value=(value) autocomplete="off" spellcheck="false"; }
        }
    };
    html! {
        form.fields method="get" action="/usage" {
            (field("project", "Project", form.project, "text"))
            (field("version", "Version", form.version, "text"))
            (field("identity", "Identity", form.identity, "text"))
            label {
                "Route"
                select name="route" {
                    option value="" selected[form.route.is_empty()] { "all" }
                    @for route in form.routes {
                        option value=(route) selected[*route == form.route] { (route) }
                    }
                }
            }
            (field("since", "From", form.since, "date"))
            (field("until", "To", form.until, "date"))
            button type="submit" { "Show" }
        }
    }
}

fn table(page: &UsagePage<'_>) -> Markup {
    let has_identities = page.rows.iter().any(|row| row.identities.is_some());
    html! {
        div.table role="region" aria-label="What was found" tabindex="0" {
            table {
                thead {
                    tr {
                        th scope="col" { (page.subject) }
                        th scope="col" { "Route" }
                        th.number scope="col" { "Downloads" }
                        @if has_identities { th.number scope="col" { "Identities" } }
                        th scope="col" { "Last" }
                        th scope="col" { "First" }
                    }
                }
                tbody {
                    @for row in page.rows {
                        tr {
                            th scope="row" {
                                @match &row.href {
                                    Some(href) => a href=(href) { bdi { (row.name) } },
                                    None => (row.name),
                                }
                            }
                            td { (row.route) }
                            td.number { (row.downloads) }
                            @if let Some(identities) = row.identities { td.number { (identities) } }
                            td { (moment(&row.last)) }
                            td { (moment(&row.first)) }
                        }
                    }
                }
            }
        }
    }
}

/// A moment as people read it, to the minute.
fn moment(text: &str) -> Markup {
    let shown = text.get(..16).unwrap_or(text).replace('T', " ");
    html! { time datetime=(text) { (shown) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[UsageRow], error: Option<&str>) -> String {
        let form = UsageForm {
            routes: &["main", "o\"ther"],
            route: "o\"ther",
            project: "<b>",
            version: "\"><script>",
            identity: "",
            since: "2026-01-01",
            until: "",
        };
        usage_page(&UsagePage {
            form,
            error,
            summary: "2 <i>",
            subject: "Identity",
            rows,
            notes: &["a <u>".to_owned()],
            json: "/usage?project=a&format=json",
        })
    }

    fn row(name: &str) -> UsageRow {
        UsageRow {
            route: "main".to_owned(),
            name: name.to_owned(),
            href: Some("/usage?identity=%22".to_owned()),
            downloads: 7,
            identities: None,
            first: "2026-11-02T10:00:07Z".to_owned(),
            last: "2026-11-28T09:30:00Z".to_owned(),
        }
    }

    #[test]
    fn every_text_is_escaped() {
        let shown = page(&[row("ci:<img src=x>")], None);
        for raw in ["<b>", "\"><script>", "<i>", "<u>", "<img"] {
            assert!(!shown.contains(raw), "{raw}: {shown}");
        }
        assert!(shown.contains("<option value=\"o&quot;ther\" selected>"), "{shown}");
        assert!(shown.contains("<time datetime=\"2026-11-28T09:30:00Z\">2026-11-28 09:30</time>"), "{shown}");
    }

    #[test]
    fn an_error_stands_in_place_of_the_table() {
        let shown = page(&[row("ci")], Some("`since` is after `until`"));
        assert!(shown.contains("role=\"alert\"") && !shown.contains("<table"), "{shown}");
        assert!(!page(&[], None).contains("<table"));
    }
}

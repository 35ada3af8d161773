//! The pages of the listener for operations: status and savings.

use maud::{Markup, html};

use super::layout::{Frame, NavigationLink, document};
use super::plot::{Plot, plots};
use super::table::{Cell, Mark, Table, table};
use super::words;

/// The page that tells how the server is.
pub(crate) struct StatusPage {
    pub(crate) state: Mark,
    /// The state in a sentence.
    pub(crate) summary: String,
    pub(crate) version: &'static str,
    pub(crate) uptime_seconds: u64,
    /// When this was true.
    pub(crate) now: String,
    /// Whether the browser asks for it again by itself.
    pub(crate) is_live: bool,
    pub(crate) plots: Vec<Plot>,
    pub(crate) tables: Vec<Table>,
}

/// The page that tells what CodeArtifact was spared.
pub(crate) struct SavingsPage {
    pub(crate) now: String,
    /// The figure that counts, and what it is.
    pub(crate) headline: (String, String),
    /// What was counted, since when, and what is not.
    pub(crate) notes: Vec<String>,
    /// Something that a person has to know first.
    pub(crate) warning: Option<String>,
    pub(crate) tables: Vec<Table>,
}

/// The pages of operators, with the one that is shown marked.
pub(super) fn navigation(current: &str) -> [NavigationLink<'static>; 3] {
    [("Status", "status"), ("Savings", "savings"), ("Usage", "usage")].map(|(text, href)| NavigationLink {
        text,
        href,
        is_current: href == current,
    })
}

/// The whole document.
pub(crate) fn status(page: &StatusPage) -> String {
    let main = html! {
        h1 { "Status" }
        p.lead {
            (Cell::State(page.state, page.summary.clone()).render())
            " Version " (page.version) ", up for " (words::duration(page.uptime_seconds)) "."
        }
        (as_of(&page.now, "status", Some(page.is_live)))
        section {
            h2 { "The last hour and the last day" }
            (plots(&page.plots))
        }
        @for shown in &page.tables { (table(shown)) }
    };
    document(&Frame { title: "Status", navigation: &navigation("status"), main })
}

/// The whole document.
pub(crate) fn savings(page: &SavingsPage) -> String {
    let (figure, what) = &page.headline;
    let main = html! {
        h1 { "Savings" }
        p.lead { strong.headline { (figure) } " " (what) }
        (as_of(&page.now, "savings", None))
        @if let Some(warning) = &page.warning { p.note { (warning) } }
        @for shown in &page.tables { (table(shown)) }
        section.panel {
            h2 { "How it is counted" }
            ul { @for note in &page.notes { li { (note) } } }
        }
    };
    document(&Frame { title: "Savings", navigation: &navigation("savings"), main })
}

/// When the page was true, and how to have it again. It can be `live`, without a script.
fn as_of(now: &str, address: &str, live: Option<bool>) -> Markup {
    html! {
        p.as-of {
            "As of " (Cell::Time(now.to_owned()).render()) ". "
            a href=(address) { @if live == Some(true) { "Stop refreshing" } @else { "Refresh" } }
            @if live == Some(false) { " · " a href={ (address) "?refresh=30" } { "Refresh every 30 seconds" } }
            " · " a href={ (address) ".json" } { "JSON" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(is_live: bool) -> String {
        status(&StatusPage {
            state: Mark::Warning,
            summary: "</span><script>".to_owned(),
            version: "1.0",
            uptime_seconds: 3700,
            now: "2026-11-28T15:00:00Z".to_owned(),
            is_live,
            plots: Vec::new(),
            tables: Vec::new(),
        })
    }

    #[test]
    fn a_page_says_where_it_is_and_lets_nothing_out_of_its_place() {
        let page = page(false);
        assert!(page.contains("<a href=\"status\" aria-current=\"page\">Status</a><a href=\"savings\">Savings</a>"));
        assert!(page.contains("&lt;/span&gt;&lt;script&gt;</span> Version 1.0, up for 1 h 1 min."), "{page}");
    }

    #[test]
    fn refreshing_is_a_link() {
        assert!(page(false).contains("href=\"status?refresh=30\""));
        assert!(!page(true).contains("refresh=30") && page(true).contains("<a href=\"status\">Stop refreshing</a>"));
    }
}

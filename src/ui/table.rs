//! Tables of pages for operators: a title, columns, and cells of a few kinds.

use maud::{Markup, html};

use super::plot::{self, Unit};

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Good,
    /// It works, and a person should look at it.
    Warning,
    Bad,
}

impl Mark {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "state good",
            Self::Warning => "state warning",
            Self::Bad => "state bad",
        }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    /// What a person may copy: an id, a path.
    Code(String),
    /// A number, to be read against those above and below it.
    Figure(String),
    State(Mark, String),
    /// The same, and more about it.
    Explained(Mark, String, String),
    /// What may be long, and may be broken anywhere.
    Path(String),
    /// How much of a bound is used.
    Usage {
        used: f64,
        bound: f64,
        unit: Unit,
    },
    /// A moment, as RFC 3339 writes it.
    Time(String),
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    const fn class(&self) -> Option<&'static str> {
        match self {
            Self::Figure(_) => Some("figure"),
            _ => None,
        }
    }

    pub(super) fn render(&self) -> Markup {
        html! {
            @match self {
                Self::Text(text) | Self::Figure(text) => (text),
                Self::Code(text) => code { (text) },
                Self::Path(text) => code.path { (text) },
                Self::State(mark, text) => span class=(mark.class()) { (text) },
                Self::Explained(mark, text, more) => {
                    span class=(mark.class()) { (text) }
                    span.more { (more) }
                },
                Self::Usage { used, bound, unit } => {
                    span.amount { (unit.of(*used, *bound)) }
                    (plot::bar(*used, *bound))
                },
                Self::Time(moment) => time datetime=(moment) { (spoken(moment)) },
            }
        }
    }
}

/// A moment without the letters of its standard.
fn spoken(moment: &str) -> String {
    moment.replacen('T', " ", 1).replacen('Z', " UTC", 1)
}

/// A table, or a sentence where it has no rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    pub(crate) title: &'static str,
    /// What it shows, in a sentence; may be empty.
    pub(crate) about: String,
    pub(crate) columns: &'static [&'static str],
    /// The first cell of a row names it.
    pub(crate) rows: Vec<Vec<Cell>>,
    /// What is said in place of no rows.
    pub(crate) empty: &'static str,
}

/// A section of a page.
pub(super) fn table(table: &Table) -> Markup {
    html! {
        section.panel {
            h2 { (table.title) }
            @if !table.about.is_empty() { p.about { (table.about) } }
            @if table.rows.is_empty() {
                p.about { (table.empty) }
            } @else {
                // What scrolls has to be reached with the keyboard.
                div.table tabindex="0" role="region" aria-label=(table.title) {
                    table {
                        thead { tr { @for column in table.columns { th scope="col" { (column) } } } }
                        tbody { @for row in &table.rows { (line(row)) } }
                    }
                }
            }
        }
    }
}

fn line(row: &[Cell]) -> Markup {
    html! {
        tr {
            @for (number, cell) in row.iter().enumerate() {
                @if number == 0 {
                    th scope="row" { (cell.render()) }
                } @else {
                    td class=[cell.class()] { (cell.render()) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_cell_is_escaped() {
        let hostile = "<script>\"'&";
        let rows = vec![vec![
            Cell::text(hostile),
            Cell::Code(hostile.to_owned()),
            Cell::Figure(hostile.to_owned()),
            Cell::State(Mark::Bad, hostile.to_owned()),
            Cell::Explained(Mark::Bad, hostile.to_owned(), hostile.to_owned()),
            Cell::Path(hostile.to_owned()),
            Cell::Time(hostile.to_owned()),
        ]];
        let shown = Table { title: "T", about: hostile.to_owned(), columns: &["a"], rows, empty: "" };
        let page = table(&shown).into_string();
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;").count(), 10, "{page}");
    }

    #[test]
    fn a_bound_says_how_much_of_it_is_used_and_a_time_reads_well() {
        let cell = Cell::Usage { used: 512.0 * 1024.0, bound: 1024.0 * 1024.0, unit: Unit::Bytes };
        assert!(cell.render().into_string().contains("512 KiB of 1 MiB (50 %)"));
        let time = Cell::Time("2026-11-28T15:00:00Z".to_owned()).render().into_string();
        assert_eq!(time, "<time datetime=\"2026-11-28T15:00:00Z\">2026-11-28 15:00:00 UTC</time>");
    }

    #[test]
    fn no_rows_are_a_sentence() {
        let shown = Table { title: "T", about: String::new(), columns: &["a"], rows: Vec::new(), empty: "Nothing." };
        let page = table(&shown).into_string();
        assert!(page.contains("<p class=\"about\">Nothing.</p>") && !page.contains("<table"), "{page}");
    }
}

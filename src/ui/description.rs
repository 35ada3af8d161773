//! Descriptions of projects, which strangers wrote: Markdown becomes HTML, everything else is shown as text, and what
//! comes of it is sanitised.
//!
//! reStructuredText is shown as text: a renderer that stands hostile input is not there yet. Pictures become links,
//! because a page asks no other host for anything.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use comrak::{Options, markdown_to_html};
use maud::{Markup, PreEscaped, Render, html};
use wheelport_runtime::sabotaged;

/// The longest description that is rendered, in bytes.
const LONGEST: usize = 192 << 10;
/// Opening tags of HTML in a description; with more, all of them are left out.
const MOST_TAGS: usize = 1000;
/// Marks of markup in one block of lines; what has more is shown as text. Of several blocks the squares count together,
/// because that is what they cost.
const MOST_MARKS: usize = 4000;
/// Cells of all tables together, those that short rows lack included; what has more is shown as text.
const MOST_CELLS: usize = 20_000;

const TAGS: [&str; 44] = [
    "a",
    "abbr",
    "b",
    "blockquote",
    "br",
    "code",
    "dd",
    "del",
    "details",
    "div",
    "dl",
    "dt",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "ins",
    "kbd",
    "li",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
];
const REL: &str = "nofollow noopener noreferrer";

/// A description that browsers may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    html: String,
    /// Whether its end is missing.
    pub(crate) is_shortened: bool,
}

impl Description {
    /// Renders a description. Blocking: a long one takes a while.
    pub(crate) fn new(text: &str, content_type: Option<&str>) -> Self {
        let (text, is_shortened) = beginning(text);
        let text = without_direction(text);
        let html = if is_markdown(content_type) && is_tame(&text) {
            let options = markdown_options(has_few_tags(&text));
            links_for_images(&sanitised(&markdown_to_html(&text, &options)))
        } else {
            html! { pre { (text) } }.into_string()
        };
        Self { html, is_shortened }
    }

    /// What it takes in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.html.len() + 256
    }
}

impl Render for Description {
    fn render(&self) -> Markup {
        PreEscaped(self.html.clone())
    }
}

fn markdown_options(with_html: bool) -> Options<'static> {
    let mut options = Options::default();
    options.extension.strikethrough = true;
    options.extension.table = true;
    options.extension.autolink = true;
    // HTML in Markdown is common; what of it may stay is not decided here.
    options.render.r#unsafe = with_html;
    options
}

/// As much of a description as is shown, and whether its end is missing.
pub(crate) fn beginning(text: &str) -> (&str, bool) {
    if text.len() <= LONGEST {
        return (text, false);
    }
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    let end = text[..end].rfind('\n').unwrap_or(end);
    (&text[..end], true)
}

/// Without the characters that turn the direction of text, and so show something else than what is there.
fn without_direction(text: &str) -> Cow<'_, str> {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\0');
    if text.contains(turns) && !sabotaged("text-direction") { text.replace(turns, "").into() } else { text.into() }
}

fn is_markdown(content_type: Option<&str>) -> bool {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("text/markdown")
}

/// Whether there are no more marks than a person writes: parsers take the square of their number in a block where they
/// do not fit together. Nor more cells: the rows of a table are filled up to its width.
fn is_tame(text: &str) -> bool {
    let is_mark =
        |byte: &u8| matches!(byte, b'*' | b'_' | b'[' | b']' | b'>' | b'<' | b'`' | b'~' | b'!' | b'(' | b'|' | b'&');
    let (mut cost, mut cells) = (0, 0);
    let mut block = Block::default();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            cost += block.marks * block.marks;
            cells += if block.columns > 0 { (block.columns + 1) * block.lines } else { 0 };
            block = Block::default();
        } else {
            block.lines += 1;
            block.marks += line.bytes().filter(is_mark).count();
            block.columns = block.columns.max(line.bytes().filter(|byte| *byte == b'|').count());
        }
    }
    let has_few_cells = cells <= MOST_CELLS || sabotaged("description-cells");
    cost <= MOST_MARKS * MOST_MARKS && has_few_cells
}

/// Lines without an empty one between them.
#[derive(Default)]
struct Block {
    lines: usize,
    marks: usize,
    /// The most bars in one line.
    columns: usize,
}

/// Whether there are no more tags of HTML than a person writes. Without them Markdown is rendered all the same: its own
/// tags always close, while those of a stranger may nest, which takes parsers of HTML the square of their number.
fn has_few_tags(text: &str) -> bool {
    let begins_tag = |after: &str| after.starts_with(|c: char| c.is_ascii_alphabetic());
    text.split('<').skip(1).filter(|after| begins_tag(after)).take(MOST_TAGS + 1).count() <= MOST_TAGS
}

static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::empty();
    builder
        .tags(HashSet::from(TAGS))
        .clean_content_tags(HashSet::from(["script", "style", "title", "iframe", "noscript", "textarea", "template"]))
        .tag_attributes(HashMap::from([
            ("a", HashSet::from(["href"])),
            ("img", HashSet::from(["src", "alt"])),
            ("ol", HashSet::from(["start"])),
            ("td", HashSet::from(["align", "colspan", "rowspan"])),
            ("th", HashSet::from(["align", "colspan", "rowspan"])),
        ]))
        .url_schemes(if sabotaged("link-schemes") {
            HashSet::from(["http", "https", "mailto", "javascript", "data"])
        } else {
            HashSet::from(["http", "https", "mailto"])
        })
        // They would lead into this server.
        .url_relative(UrlRelative::Deny)
        .link_rel(Some(REL))
        // What reads the outcome takes every angle bracket for one of a tag.
        .attribute_filter(|_, _, value| (!value.contains(['<', '>'])).then_some(value.into()));
    builder
});

fn sanitised(html: &str) -> String {
    if sabotaged("sanitiser") { html.to_owned() } else { SANITISER.clean(html).to_string() }
}

/// Pictures become links to them, and headings go below those of the page. Every angle bracket of what comes in belongs
/// to a tag, and every attribute stands in double quotes: that is how the sanitiser writes.
fn links_for_images(html: &str) -> String {
    let mut out = String::with_capacity(html.len() + html.len() / 8);
    let (mut rest, mut in_link) = (html, false);
    while let Some((text, from)) = rest.split_once('<') {
        out.push_str(text);
        let Some((tag, after)) = from.split_once('>') else {
            rest = "";
            break;
        };
        rest = after;
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        match name {
            "img" => out.push_str(&link_for_image(tag, in_link)),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                let level = name[1..].parse::<u8>().unwrap_or(6);
                out.push_str(if tag.starts_with('/') { "</h" } else { "<h" });
                out.push(char::from(b'0' + (level + 2).min(6)));
                out.push('>');
            }
            _ => {
                if name == "a" {
                    in_link = !tag.starts_with('/');
                }
                out.push('<');
                out.push_str(tag);
                out.push('>');
            }
        }
    }
    out.push_str(rest);
    out
}

fn link_for_image(tag: &str, in_link: bool) -> String {
    let attribute = |name: &str| tag.split_once(&format!(" {name}=\"")).and_then(|(_, value)| value.split('"').next());
    let alt = attribute("alt").map(str::trim).filter(|alt| !alt.is_empty()).unwrap_or("picture");
    match attribute("src").filter(|src| src.starts_with("http") && !in_link) {
        Some(src) => format!("<a href=\"{src}\" rel=\"{REL}\">{alt}</a>"),
        None => alt.to_owned(),
    }
}

#[cfg(test)]
#[path = "description_tests.rs"]
mod tests;

//! The HTML format (PEP 503, 592, 629, 658, 714, 740, 792) of pages and of the project list.

use std::fmt::{self, Write};
use std::io;

use super::{fragment, has_provenance, in_memory};
use crate::address::below_page;
use crate::keys;
use crate::page::{CoreMetadata, File, Page, ProjectList, Yanked};
use crate::sabotage::sabotaged;

/// A project's page as HTML, for `text/html` and `application/vnd.pypi.simple.v1+html` alike.
pub fn html(page: &Page) -> Vec<u8> {
    in_memory(|out| write_html(page, out))
}

/// Writes what [`html`] returns.
pub fn write_html(page: &Page, out: impl io::Write) -> io::Result<()> {
    written(out, |out| write_page(out, page))
}

/// Writes a project list as HTML.
pub fn write_list_html(list: &ProjectList, out: impl io::Write) -> io::Result<()> {
    written(out, |out| write_list(out, list))
}

/// Text that goes out as bytes.
struct Utf8<W> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: io::Write> Write for Utf8<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.write_all(text.as_bytes()).map_err(|error| {
            self.failed = Some(error);
            fmt::Error
        })
    }
}

fn written<W: io::Write>(out: W, write: impl FnOnce(&mut Utf8<W>) -> fmt::Result) -> io::Result<()> {
    let mut text = Utf8 { out, failed: None };
    write(&mut text).map_err(|error| text.failed.unwrap_or_else(|| io::Error::other(error)))
}

/// Escapes text for HTML, both as content and within double or single quotes. Control characters, which HTML cannot
/// represent, become blanks.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_markup = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') && !sabotaged("html-escapes");
        let special = |c: char| is_markup(c) || (c.is_control() && c != '\n' && c != '\t');
        let mut rest = self.0;
        while let Some(at) = rest.find(special) {
            let (plain, from) = rest.split_at(at);
            let mut characters = from.chars();
            f.write_str(plain)?;
            f.write_str(match characters.next() {
                Some('&') => "&amp;",
                Some('<') => "&lt;",
                Some('>') => "&gt;",
                Some('"') => "&quot;",
                Some('\'') => "&#39;",
                _ => " ",
            })?;
            rest = characters.as_str();
        }
        f.write_str(rest)
    }
}

/// The document around the links; `head` is written into it verbatim.
fn document<W: Write>(
    out: &mut W,
    title: &str,
    version: &str,
    head: impl FnOnce(&mut W) -> fmt::Result,
    body: impl FnOnce(&mut W) -> fmt::Result,
) -> fmt::Result {
    let title = Escaped(title);
    out.write_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")?;
    meta(out, "pypi:repository-version", version)?;
    head(out)?;
    writeln!(out, "<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>")?;
    body(out)?;
    out.write_str("</body>\n</html>\n")
}

fn meta(out: &mut impl Write, name: &str, content: &str) -> fmt::Result {
    writeln!(out, "<meta name=\"{name}\" content=\"{}\">", Escaped(content))
}

fn attribute(out: &mut impl Write, name: &str, value: &str) -> fmt::Result {
    write!(out, " {name}=\"{}\"", Escaped(value))
}

/// The version of the simple API that this page complies with. Version 1.1 concerns only JSON (PEP 700), and we write
/// nothing in HTML of what 1.2 added.
fn api_version(page: &Page) -> &'static str {
    if page.status.is_some() {
        "1.4"
    } else if has_provenance(page) {
        "1.3"
    } else {
        "1.0"
    }
}

fn write_page<W: Write>(out: &mut W, page: &Page) -> fmt::Result {
    let head = |out: &mut W| {
        let Some(status) = &page.status else { return Ok(()) };
        meta(out, "pypi:project-status", &status.status)?;
        status.reason.as_ref().map_or(Ok(()), |reason| meta(out, "pypi:project-status-reason", reason))
    };
    document(out, &format!("Links for {}", page.name), api_version(page), head, |out| {
        page.files.iter().try_for_each(|file| write_file(out, file))
    })
}

fn write_file(out: &mut impl Write, file: &File) -> fmt::Result {
    let mut href = below_page(&file.version, &file.name);
    if let Some(digest) = fragment(&file.hashes) {
        write!(href, "#{digest}")?;
    }
    out.write_str("<a")?;
    attribute(out, "href", &href)?;
    if let Some(requires_python) = &file.requires_python {
        attribute(out, "data-requires-python", requires_python)?;
    }
    match &file.yanked {
        Yanked::No => {}
        Yanked::Yes => attribute(out, "data-yanked", "")?,
        Yanked::Because(reason) => attribute(out, "data-yanked", reason)?,
    }
    let metadata = match &file.core_metadata {
        CoreMetadata::Absent => None,
        CoreMetadata::Available => Some("true".to_owned()),
        CoreMetadata::Hashed(hashes) => Some(fragment(hashes).unwrap_or_else(|| "true".to_owned())),
    };
    if let Some(metadata) = metadata {
        // The older spelling is for installers from before PEP 714. The two must be equal.
        attribute(out, "data-core-metadata", &metadata)?;
        attribute(out, "data-dist-info-metadata", &metadata)?;
    }
    if let Some(gpg_sig) = file.gpg_sig {
        attribute(out, "data-gpg-sig", if gpg_sig { "true" } else { "false" })?;
    }
    if let Some(upload_time) = &file.upload_time {
        attribute(out, "data-upload-time", upload_time)?;
    }
    if let Some(Some(provenance)) = &file.provenance {
        attribute(out, "data-provenance", provenance)?;
    }
    file.extra.try_for_each(|key, value| match serde_json::from_str::<String>(value.get()) {
        Ok(text) if keys::is_foreign_attribute(key) => attribute(out, key, &text),
        Ok(_) | Err(_) => Ok(()),
    })?;
    writeln!(out, ">{}</a><br>", Escaped(file.name.as_str()))
}

fn write_list<W: Write>(out: &mut W, list: &ProjectList) -> fmt::Result {
    document(
        out,
        "Simple index",
        "1.0",
        |_| Ok(()),
        |out| {
            // A normalised project name has only letters, digits and hyphens: nothing to escape.
            list.projects.iter().try_for_each(|name| writeln!(out, "<a href=\"{name}/\">{name}</a><br>"))
        },
    )
}

//! From upstream's page, JSON or HTML, to the model.
//!
//! Lenient with single fields, strict with the whole: what is ill-formed in one field is left out, so that no client
//! stumbles over it, and a file that cannot be addressed is skipped and counted; but an answer that is no index page at
//! all (a log-in page, an empty body) is an error, because an empty page would tell clients that nothing exists.
//! What this module does not know is kept, see [`Page::extra`] and [`File::extra`].

mod html;
mod json;
mod time;

use std::collections::HashSet;

use serde_json::Value;
use url::Url;

use super::digest::Hashes;
use super::filename::FileName;
use super::name::ProjectName;
use super::page::{CoreMetadata, File, Page, ProjectStatus, Yanked};

/// The most files of one page.
pub const MAX_FILES: usize = 200_000;
/// The deepest nesting of a JSON page.
pub const MAX_DEPTH: usize = 32;
/// The longest value of an HTML attribute that is read, in bytes; a longer one counts as empty.
pub const MAX_ATTRIBUTE: usize = 8 * 1024;
/// The most attributes of an HTML tag that are read; the rest is ignored.
pub const MAX_ATTRIBUTES: usize = 32;
/// The highest major version of the simple API that is understood (PEP 629).
pub const MAX_MAJOR: u16 = 1;
/// The status of a project none of whose files may be offered, whatever the page lists (PEP 792).
const QUARANTINED: &str = "quarantined";

/// The two written forms of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// PEP 691.
    Json,
    /// PEP 503.
    Html,
}

impl Form {
    /// The form's name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Html => "html",
        }
    }
}

/// Why an answer is not a page. Never quotes the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing, or only white space.
    #[error("the answer is empty")]
    Empty,
    /// Not JSON, or JSON of another shape.
    #[error("the answer is not the JSON of an index page (line {line}, column {column})")]
    Json {
        /// Where reading ended, from 1.
        line: usize,
        /// Where reading ended, from 1.
        column: usize,
    },
    /// Readable, but something else than an index page.
    #[error("the answer is not an index page: {0}")]
    NotAnIndex(&'static str),
    /// An incompatible version of the simple API.
    #[error("the index speaks version {major}.{minor} of the simple API; the highest understood is {MAX_MAJOR}.x")]
    Version {
        /// Before the dot.
        major: u16,
        /// After the dot.
        minor: u16,
    },
    /// More than [`MAX_FILES`].
    #[error("the page lists more than {MAX_FILES} files")]
    TooManyFiles,
    /// Nested more than [`MAX_DEPTH`] levels.
    #[error("the page nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// A page, and what was lost on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The page.
    pub page: Page,
    /// How many entries were left out because they name no file that can be addressed. A second entry of the same file
    /// name does not count.
    pub skipped: usize,
}

/// Reads a page. `base` is the address the answer came from, with its final slash.
pub fn page(form: Form, body: &[u8], base: &Url, name: &ProjectName) -> Result<Page, ParseError> {
    parsed(form, body, base, name).map(|parsed| parsed.page)
}

/// Reads a page as [`page`] does, and says how many entries it had to leave out.
pub fn parsed(form: Form, body: &[u8], base: &Url, name: &ProjectName) -> Result<Parsed, ParseError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ParseError::Empty);
    }
    let mut parsed = match form {
        Form::Json => json::read(body, base, name),
        Form::Html => html::read(body, base, name),
    }?;
    if parsed.page.status.as_ref().is_some_and(|status| status.status == QUARANTINED) {
        parsed.page.files.clear();
    }
    Ok(parsed)
}

/// The files read so far.
#[derive(Default)]
struct Files {
    list: Vec<File>,
    seen: HashSet<FileName>,
    skipped: usize,
    too_many: bool,
}

impl Files {
    /// Takes one entry; the first of a name wins.
    fn add(&mut self, file: Option<File>) {
        let Some(file) = file else {
            self.skipped += 1;
            return;
        };
        if self.list.len() == MAX_FILES {
            self.too_many = true;
        } else if self.seen.insert(file.name.clone()) {
            self.list.push(file);
        }
    }
}

/// The version text of PEP 629; one that says nothing counts as 1.0, as an absent one does.
fn api_version(text: &str) -> Result<(u16, u16), ParseError> {
    let (major, minor) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let Ok(major) = major.parse() else { return Ok((1, 0)) };
    let minor = minor.parse().unwrap_or(0);
    if major > MAX_MAJOR {
        return Err(ParseError::Version { major, minor });
    }
    Ok((major, minor))
}

/// A text that is there and says something.
fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The yank mark from its text; an empty one is a mark without a reason.
fn yanked(reason: &str) -> Yanked {
    non_empty(reason).map_or(Yanked::Yes, Yanked::Because)
}

/// The provenance address: clients want an absolute one.
fn provenance(text: &str) -> Option<String> {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https")).then(|| text.to_owned())
}

/// Announced core metadata with these digests, of which none may have been usable.
fn announced(hashes: Hashes) -> CoreMetadata {
    if hashes.is_empty() { CoreMetadata::Available } else { CoreMetadata::Hashed(hashes) }
}

fn project_status(status: &str, reason: Option<&str>) -> Option<ProjectStatus> {
    Some(ProjectStatus { status: non_empty(status)?, reason: reason.and_then(non_empty) })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().and_then(non_empty)
}

#[cfg(test)]
mod tests;

//! From upstream's page, JSON or HTML, to the model.
//!
//! Lenient with fields, strict with the page. An ill-formed field is left out, so that no client fails on it. An entry
//! that names no file with an address is skipped and counted ([`ParsedPage::skipped`]). A response that is not an index
//! page at all (a log-in page, an empty body) is an error, because an empty page would tell clients that nothing
//! exists. Unknown keys are kept as text up to a bound, see [`Page::extra`] and [`File::extra`].
//!
//! The memory that parsing takes is bounded by the length of the response, whatever is in it.

mod html;
mod json;
mod time;

use std::collections::HashSet;

use url::Url;

use crate::digest::Hashes;
use crate::extra::ExtraBuilder;
use crate::filename::FileName;
use crate::name::ProjectName;
use crate::page::{CoreMetadata, File, Page, ProjectStatus, Yanked};
use crate::sabotage::sabotaged;

/// The most files of one page.
const MAX_FILES: usize = 200_000;
/// The most versions of one page.
const MAX_VERSIONS: usize = 200_000;
/// What unknown keys and their values may take on one page, in bytes; the rest is left out.
const MAX_UNKNOWN: usize = 8 << 20;
/// The deepest nesting of a JSON page.
const MAX_DEPTH: usize = 32;
/// The longest text of a field, and value of an HTML attribute, in bytes; a longer one counts as empty.
const MAX_TEXT: usize = 8 * 1024;
/// The most attributes of an HTML tag; the rest is ignored.
const MAX_ATTRIBUTES: usize = 32;
/// The highest major version of the simple API that we understand (PEP 629).
const MAX_MAJOR: u16 = 1;

/// The two formats of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageFormat {
    /// PEP 691.
    Json,
    /// PEP 503.
    Html,
}

impl PageFormat {
    /// The format's name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Html => "html",
        }
    }
}

/// Why a response is not a page. Never quotes the response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing, or only white space.
    #[error("the response is empty")]
    Empty,
    /// Not JSON, or JSON of another shape.
    #[error("the response is not the JSON of an index page (line {line}, column {column})")]
    Json {
        /// Where the parser stopped, from 1.
        line: usize,
        /// Where the parser stopped, from 1.
        column: usize,
    },
    /// Readable, but not an index page.
    #[error("the response is not an index page: {0}")]
    NotAnIndex(&'static str),
    /// HTML without its end.
    #[error("the page ends in the middle")]
    Cut,
    /// An incompatible version of the simple API.
    #[error("the index speaks version {major}.{minor} of the simple API; the highest supported is {MAX_MAJOR}.x")]
    Version { major: u16, minor: u16 },
    #[error("the page lists more than {MAX_FILES} files")]
    TooManyFiles,
    #[error("the page lists more than {MAX_VERSIONS} versions")]
    TooManyVersions,
    #[error("the page nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// A page, and how much of it was lost.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedPage {
    pub page: Page,
    /// How many entries were left out because they name no file with an address. A second entry of one file name does
    /// not count. In HTML, links to something other than a file count as well.
    pub skipped: usize,
    /// How many unknown keys were left out, because those before them took all that such keys may take.
    pub unknown_left_out: usize,
}

/// Parses a page. `base` is the address the response came from, with its final slash.
pub fn page(format: PageFormat, body: &[u8], base: &Url, name: &ProjectName) -> Result<ParsedPage, ParseError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ParseError::Empty);
    }
    let mut parsed = match format {
        PageFormat::Json => json::read(body, base, name),
        PageFormat::Html => html::read(body, base, name),
    }?;
    if parsed.page.is_quarantined() && !sabotaged("quarantined-page") {
        parsed.page.files.clear();
    }
    Ok(parsed)
}

/// The files so far.
#[derive(Default)]
struct Files {
    list: Vec<File>,
    seen: HashSet<FileName>,
    skipped: usize,
    too_many: bool,
}

impl Files {
    /// Adds one entry; the first of a name wins.
    fn add(&mut self, file: Option<File>) {
        let Some(file) = file else {
            self.skipped += 1;
            return;
        };
        if self.list.len() == MAX_FILES && !sabotaged("file-count") {
            self.too_many = true;
        } else if self.seen.insert(file.name.clone()) {
            self.list.push(file);
        }
    }

    fn finished(mut self) -> Vec<File> {
        self.list.shrink_to_fit();
        self.list
    }
}

/// The unknown keys of one page, within their bound.
struct UnknownKeys {
    /// What is left of the bound, in bytes.
    left: usize,
    left_out: usize,
}

impl Default for UnknownKeys {
    fn default() -> Self {
        Self { left: MAX_UNKNOWN, left_out: 0 }
    }
}

impl UnknownKeys {
    /// Adds a key; `value` is JSON.
    fn add(&mut self, extra: &mut ExtraBuilder, key: &str, value: &str) {
        match self.left.checked_sub(ExtraBuilder::cost(key, value)) {
            Some(left) => {
                self.left = left;
                extra.add(key, value);
            }
            None if sabotaged("unknown-keys") => extra.add(key, value),
            None => self.left_out += 1,
        }
    }
}

/// Parses the version of PEP 629; one that is not a version counts as 1.0, like an absent one.
fn api_version(text: &str) -> Result<(u16, u16), ParseError> {
    let (major, minor) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let Ok(major) = major.parse() else { return Ok((1, 0)) };
    let minor = minor.parse().unwrap_or(0);
    if major > MAX_MAJOR {
        return Err(ParseError::Version { major, minor });
    }
    Ok((major, minor))
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether the text of a field can be kept.
fn is_short(text: &str) -> bool {
    text.len() <= MAX_TEXT
}

/// The yank mark from its text; an empty text is a mark without a reason.
fn yanked(reason: &str) -> Yanked {
    non_empty(reason).filter(|reason| is_short(reason)).map_or(Yanked::Yes, Yanked::Because)
}

/// The provenance address, which clients require to be absolute.
fn provenance(text: &str) -> Option<String> {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https")).then(|| text.to_owned())
}

/// Announced core metadata with these digests; there may be none.
fn announced(hashes: Hashes) -> CoreMetadata {
    if hashes.is_empty() { CoreMetadata::Available } else { CoreMetadata::Hashed(hashes) }
}

fn project_status(status: &str, reason: Option<&str>) -> Option<ProjectStatus> {
    let kept = |text: &str| non_empty(text).filter(|text| is_short(text));
    Some(ProjectStatus { status: kept(status)?, reason: reason.and_then(kept) })
}

#[cfg(test)]
mod tests;

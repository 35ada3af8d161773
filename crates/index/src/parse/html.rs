//! The HTML format (PEP 503, 592, 629, 658, 714, 740, 792), with CodeArtifact's `data-upload-time`.
//!
//! Any web page is HTML, so a page counts as an index page only if it calls itself one (title or heading `Links for …`,
//! or the version mark of PEP 629), or if it links a distribution of this project. One that ends in the middle is an
//! error: it would be taken for a page with fewer files.

use std::convert::Infallible;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};
use url::Url;

use super::{
    Files, MAX_ATTRIBUTES, MAX_TEXT, ParseError, ParsedPage, UnknownKeys, announced, api_version, non_empty,
    project_status, provenance, yanked,
};
use crate::address;
use crate::digest::Hashes;
use crate::extra::{Extra, ExtraBuilder};
use crate::filename::FileKind;
use crate::name::ProjectName;
use crate::page::{CoreMetadata, File, Page, Yanked};
use crate::sabotage::sabotaged;

/// How the title of an index page begins, in lower case.
const HEADING: &str = "links for";
/// How much of title and heading is read, in bytes.
const MAX_HEADING: usize = 256;
/// Endings of files that are neither wheels nor source distributions, but occur on indexes.
const OTHER_ENDINGS: [&str; 8] = [".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg", ".asc", ".tar"];

pub(super) fn read(body: &[u8], base: &Url, name: &ProjectName) -> Result<ParsedPage, ParseError> {
    let mut reader = HtmlReader::new(base, name);
    let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| -> Option<Infallible> {
        reader.event(&event);
        None
    });
    // Links inside scripts, styles and the title are text.
    emitter.naively_switch_states(true);
    let Ok(()) = Tokenizer::new_with_emitter(body, emitter).finish();
    reader.finish()
}

/// The tags that matter.
#[derive(Clone, Copy)]
enum Tag {
    Anchor,
    Base,
    Meta,
    Heading,
}

/// The attributes of the tag being read, at most [`MAX_ATTRIBUTES`]; the first of a name wins.
#[derive(Default)]
struct Attributes {
    list: Vec<(String, String)>,
    /// The next value belongs to an attribute beyond the bound.
    ignore_value: bool,
}

impl Attributes {
    fn clear(&mut self) {
        self.list.clear();
        self.ignore_value = true;
    }

    fn name(&mut self, name: &[u8]) {
        self.ignore_value = self.list.len() == MAX_ATTRIBUTES;
        if !self.ignore_value {
            self.list.push((String::from_utf8_lossy(name).into_owned(), String::new()));
        }
    }

    fn value(&mut self, value: &[u8]) {
        let Some((_, slot)) = self.list.last_mut().filter(|_| !self.ignore_value) else { return };
        if let (true, Ok(value)) = (value.len() <= MAX_TEXT, std::str::from_utf8(value)) {
            value.clone_into(slot);
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the tag says anything about a file beyond its address.
    fn any_data(&self) -> bool {
        self.list.iter().any(|(key, _)| key.starts_with("data-"))
    }
}

/// How far the document has come.
#[derive(Default)]
struct Progress {
    in_anchor: bool,
    /// Whether a tag said that the document begins.
    begun: bool,
    /// Whether a tag said that it ends.
    ended: bool,
}

struct HtmlReader<'a> {
    page: &'a Url,
    project: &'a ProjectName,
    /// Where relative links start from, if a `base` element says so.
    links_from: Option<Url>,
    tag: Option<Tag>,
    attributes: Attributes,
    in_heading: bool,
    heading: String,
    version: Option<Result<(u16, u16), ParseError>>,
    status: Option<String>,
    status_reason: Option<String>,
    anchors: usize,
    progress: Progress,
    files: Files,
    unknown: UnknownKeys,
}

impl<'a> HtmlReader<'a> {
    fn new(page: &'a Url, project: &'a ProjectName) -> Self {
        Self {
            page,
            project,
            links_from: None,
            tag: None,
            attributes: Attributes::default(),
            in_heading: false,
            heading: String::new(),
            version: None,
            status: None,
            status_reason: None,
            anchors: 0,
            progress: Progress::default(),
            files: Files::default(),
            unknown: UnknownKeys::default(),
        }
    }

    fn event(&mut self, event: &CallbackEvent<'_>) {
        match event {
            CallbackEvent::OpenStartTag { name } => {
                self.attributes.clear();
                self.progress.begun |= matches!(*name, b"html" | b"body");
                self.tag = match *name {
                    b"a" => Some(Tag::Anchor),
                    b"base" => Some(Tag::Base),
                    b"meta" => Some(Tag::Meta),
                    b"title" | b"h1" => Some(Tag::Heading),
                    _ => None,
                };
            }
            CallbackEvent::AttributeName { name } if self.tag.is_some() => self.attributes.name(name),
            CallbackEvent::AttributeValue { value } if self.tag.is_some() => self.attributes.value(value),
            CallbackEvent::CloseStartTag { .. } => match self.tag.take() {
                Some(Tag::Anchor) => self.anchor(),
                Some(Tag::Base) => self.base(),
                Some(Tag::Meta) => self.meta(),
                Some(Tag::Heading) => {
                    self.in_heading = true;
                    // Keeps title and heading apart.
                    self.heading.push('\n');
                }
                None => {}
            },
            CallbackEvent::EndTag { name } => {
                self.tag = None;
                match *name {
                    b"title" | b"h1" => self.in_heading = false,
                    b"a" => self.progress.in_anchor = false,
                    b"html" | b"body" => self.progress.ended = true,
                    _ => {}
                }
            }
            CallbackEvent::String { value } if self.in_heading && self.heading.len() < MAX_HEADING => {
                let value = &value[..value.len().min(MAX_HEADING)];
                self.heading.push_str(&String::from_utf8_lossy(value));
            }
            _ => {}
        }
    }

    fn base(&mut self) {
        if self.links_from.is_none() {
            let href = self.attributes.get("href").filter(|href| !href.is_empty());
            self.links_from = href.and_then(|href| address::resolve(self.page, href));
        }
    }

    fn meta(&mut self) {
        let Some(content) = self.attributes.get("content") else { return };
        match self.attributes.get("name") {
            Some("pypi:repository-version") if self.version.is_none() => {
                self.version = Some(api_version(content));
            }
            Some("pypi:project-status") if self.status.is_none() => self.status = non_empty(content),
            Some("pypi:project-status-reason") if self.status_reason.is_none() => {
                self.status_reason = non_empty(content);
            }
            _ => {}
        }
    }

    fn anchor(&mut self) {
        let attributes = std::mem::take(&mut self.attributes);
        if let Some(href) = attributes.get("href") {
            self.anchors += 1;
            self.progress.in_anchor = true;
            let file = self.file(href, &attributes);
            self.files.add(file);
        }
        self.attributes = attributes;
    }

    /// The file that an anchor links, or `None` if it links something else.
    fn file(&mut self, href: &str, attributes: &Attributes) -> Option<File> {
        let url = address::resolve(self.links_from.as_ref().unwrap_or(self.page), href)?;
        let name = address::last_component(&url)?;
        let hashes = url.fragment().map(fragment_hashes).unwrap_or_default();
        let (version, url) = address::locate(self.page, self.project, url, &name);
        // Whatever lies where the files of a version lie is a file, as on a page in JSON.
        let is_file = url.is_none()
            || name.kind() != FileKind::Other
            || !hashes.is_empty()
            || attributes.any_data()
            || OTHER_ENDINGS.iter().any(|ending| name.as_str().ends_with(ending));
        if !is_file {
            return None;
        }
        let text = |key: &str| attributes.get(key).and_then(non_empty);
        Some(File {
            name,
            version,
            url: url.map(Box::new),
            hashes,
            requires_python: text("data-requires-python"),
            size: None,
            upload_time: attributes.get("data-upload-time").and_then(super::time::upload_time),
            yanked: attributes.get("data-yanked").map_or(Yanked::No, yanked),
            core_metadata: ["data-core-metadata", "data-dist-info-metadata"]
                .iter()
                .find_map(|key| core_metadata(attributes.get(key)?))
                .unwrap_or_default(),
            gpg_sig: match attributes.get("data-gpg-sig") {
                Some("true") => Some(true),
                Some("false") => Some(false),
                _ => None,
            },
            provenance: attributes.get("data-provenance").and_then(provenance).map(Some),
            extra: extra(attributes, &mut self.unknown),
        })
    }

    /// Whether the page ends in the middle.
    fn is_cut(&self) -> bool {
        let Progress { in_anchor, begun, ended } = self.progress;
        !ended && (begun || in_anchor || self.tag.is_some())
    }

    fn finish(self) -> Result<ParsedPage, ParseError> {
        let is_cut = self.is_cut();
        let marked = self.version.is_some()
            || self.heading.lines().any(|line| {
                line.trim_start().get(..HEADING.len()).is_some_and(|start| start.eq_ignore_ascii_case(HEADING))
            });
        let api_version = self.version.unwrap_or(Ok((1, 0)))?;
        let (skipped, too_many) = (self.files.skipped, self.files.too_many);
        if too_many {
            return Err(ParseError::TooManyFiles);
        }
        let files = self.files.finished();
        if files.is_empty() && self.anchors > 0 {
            return Err(ParseError::NotAnIndex("it has links, but none of them is a file"));
        }
        if !marked && !files.iter().any(|file| file.name.belongs_to(self.project)) {
            return Err(ParseError::NotAnIndex("it neither calls itself one nor links a file of the project"));
        }
        if is_cut && !sabotaged("cut-page") {
            return Err(ParseError::Cut);
        }
        let status = self.status.and_then(|status| project_status(&status, self.status_reason.as_deref()));
        let page = Page {
            name: self.project.clone(),
            api_version,
            versions: None,
            files,
            status,
            meta_extra: Extra::default(),
            extra: Extra::default(),
        };
        Ok(ParsedPage { page, skipped, unknown_left_out: self.unknown.left_out })
    }
}

/// The digests of a link's fragment: `sha256=…`, several joined with `&`.
fn fragment_hashes(fragment: &str) -> Hashes {
    let mut hashes = Hashes::default();
    for (algorithm, digest) in fragment.split('&').filter_map(|part| part.split_once('=')) {
        hashes.insert(algorithm, digest);
    }
    hashes
}

/// `true`, or one digest as `sha256=…`; `None` for a meaningless value.
fn core_metadata(value: &str) -> Option<CoreMetadata> {
    match value {
        "" => None,
        "true" => Some(CoreMetadata::Available),
        "false" => Some(CoreMetadata::Absent),
        _ => value.contains('=').then(|| announced(fragment_hashes(value))),
    }
}

/// The `data-` attributes that the model does not know, under their full names.
fn extra(attributes: &Attributes, unknown: &mut UnknownKeys) -> Extra {
    let mut extra = ExtraBuilder::default();
    for (position, (key, value)) in attributes.list.iter().enumerate() {
        let is_first = || attributes.list[..position].iter().all(|(before, _)| before != key);
        if crate::keys::is_foreign_attribute(key) && is_first() {
            unknown.add(&mut extra, key, &serde_json::Value::from(value.as_str()).to_string());
        }
    }
    extra.finish()
}

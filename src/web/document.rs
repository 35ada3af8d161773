//! Documents of the index: rendered and compressed once per change, on a helper thread, and kept in one bounded table.
//!
//! Its key is the digest of the visible content with format and content coding: a digest covers the project's name
//! and all of its files, so equal keys have equal bytes whatever repository they come from.

use std::io;
use std::sync::Arc;

use foldhash::quality::RandomState;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Response;
use super::conditional::Precondition;
use super::context::RequestContext;
use super::headers::VARY_NEGOTIATED;
use super::negotiate::{ContentCoding, Format, Negotiated};
use super::problem::Problem;
use super::representation::{Representation, not_modified};
use super::written::Written;
use crate::flow::{Error, ListContent, Lookup, Served, ShownPage};
use wheelport_index::{Sha256, VersionSegment, render};
use wheelport_runtime::{Joined, SingleFlight, Tasks, blocking};

/// What a rendered document weighs in memory besides its bytes, in bytes.
const OVERHEAD: usize = 1024;
/// The share of the memory that documents of indexes as of a date may take, in hundredths.
const DATED_SHARE: u64 = 5;
/// Pages of more files are rendered one at a time: what is made of each takes memory that no cache counts.
const MANY_FILES: usize = 5000;
/// How long a request waits for a rendering.
const RENDER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(12);

/// A representation with its bytes.
#[derive(Debug)]
pub(super) struct Document {
    representation: Representation,
    /// The headers of a 304, which clients that have the document get most of the time.
    not_modified: HeaderMap,
    written: Written,
}

/// What documents are rendered from.
#[derive(Clone)]
pub(super) enum Content {
    Page(ShownPage),
    List(Arc<ListContent>),
}

type DocumentKey = (Sha256, Format, ContentCoding);
type RenderedDocuments = moka::sync::Cache<DocumentKey, Arc<Document>, RandomState>;

/// The rendered documents of the index.
pub(super) struct Representations {
    rendered: RenderedDocuments,
    /// Of indexes as of a date, which have a bound of their own.
    dated: RenderedDocuments,
    rendering: SingleFlight<DocumentKey, Joined<Result<Arc<Document>, Error>>>,
    /// Whose turn it is to render a large page.
    large: Arc<Semaphore>,
    tasks: Tasks,
}

impl Document {
    pub(super) fn new(representation: Representation, written: Written) -> Self {
        Self { not_modified: representation.not_modified(), representation, written }
    }

    pub(super) fn respond(&self, context: &RequestContext, served: Option<Served>) -> Result<Response, Problem> {
        let selection = match self.representation.precondition(context) {
            Precondition::NotModified => return Ok(not_modified(self.not_modified.clone(), served)),
            Precondition::Send(selection) => selection,
        };
        self.representation.clone().send(context, served, selection, |selection| {
            Ok(self.written.body(selection).map_err(|error| unwritten(&error))?)
        })
    }
}

impl Content {
    fn digest(&self) -> Sha256 {
        match self {
            Self::Page(page) => page.digest(),
            Self::List(list) => list.digest,
        }
    }

    fn render(&self, format: Format, out: &mut dyn io::Write) -> io::Result<()> {
        match (self, format) {
            (Self::Page(shown), Format::Json) => render::write_json(&shown.page(), out),
            (Self::Page(shown), Format::HtmlV1 | Format::TextHtml) => render::write_html(&shown.page(), out),
            (Self::List(content), Format::Json) => render::write_list_json(&content.list, out),
            (Self::List(content), Format::HtmlV1 | Format::TextHtml) => render::write_list_html(&content.list, out),
        }
    }

    fn is_dated(&self) -> bool {
        matches!(self, Self::Page(shown) if shown.is_dated())
    }

    fn is_large(&self) -> bool {
        match self {
            Self::Page(shown) => shown.files() > MANY_FILES,
            Self::List(_) => false,
        }
    }
}

impl Representations {
    /// Rendered documents of `memory` bytes together.
    pub(super) fn new(memory: u64, tasks: Tasks) -> Self {
        let table = |memory| {
            moka::sync::Cache::builder()
                .max_capacity(memory)
                .weigher(|_, document: &Arc<Document>| u32::try_from(weight(document)).unwrap_or(u32::MAX))
                .build_with_hasher(RandomState::default())
        };
        let dated_memory = memory / 100 * DATED_SHARE;
        let (rendered, dated) = (table(memory - dated_memory), table(dated_memory));
        let large = Arc::new(Semaphore::new(1));
        Self { rendered, dated, rendering: SingleFlight::default(), large, tasks }
    }

    /// The document in the negotiated representation.
    pub(super) fn get(&self, content: &Content, negotiated: Negotiated) -> Lookup<Arc<Document>> {
        let key = (content.digest(), negotiated.format, negotiated.coding);
        let rendered = if content.is_dated() { &self.dated } else { &self.rendered };
        if let Some(document) = rendered.get(&key) {
            return Lookup::Hit(document);
        }
        let (rendered, content) = (rendered.clone(), content.clone());
        let large = Arc::clone(&self.large);
        let (joined, _) = self.rendering.run(key, &self.tasks, "render", || async move {
            let turn = turn(large, content.is_large()).await;
            blocking(move || {
                let _turn = turn;
                let document = Arc::new(render_document(&rendered, &content, negotiated)?);
                // The table would hold a document that is too large for it until something else makes it tidy up.
                if rendered.policy().max_capacity().is_none_or(|memory| weight(&document) as u64 <= memory) {
                    rendered.insert(key, Arc::clone(&document));
                }
                Ok(document)
            })
            .await?
        });
        Lookup::Miss(Box::pin(async move { joined.within(RENDER_TIMEOUT).await? }))
    }

    /// The legacy JSON document of a page; `None` if there is no such version. Its links are absolute, so it depends on
    /// the host that was asked, and it is not kept.
    pub(super) async fn legacy(
        &self,
        shown: ShownPage,
        version: Option<VersionSegment>,
        files: String,
    ) -> Result<Option<Document>, Error> {
        let turn = turn(Arc::clone(&self.large), shown.files() > MANY_FILES).await;
        blocking(move || {
            let _turn = turn;
            let version = version.as_ref().map(VersionSegment::as_str);
            let write = |out: &mut dyn io::Write| render::write_legacy_json(&shown.page(), version, &files, out);
            let (written, exists) =
                Written::gather(ContentCoding::Identity, write).map_err(|error| unwritten(&error))?;
            let (json, host) = (HeaderValue::from_static("application/json"), HeaderValue::from_static("Host"));
            let representation = Representation::revalidated(json, &written, "", host);
            Ok(exists.then(|| Document::new(representation, written)))
        })
        .await?
    }

    /// Bytes held, for metrics.
    pub(super) fn bytes(&self) -> u64 {
        self.rendered.weighted_size() + self.dated.weighted_size()
    }
}

/// Goes with the work, which goes on when the client has left.
async fn turn(large: Arc<Semaphore>, is_large: bool) -> Option<OwnedSemaphorePermit> {
    if is_large { large.acquire_owned().await.ok() } else { None }
}

/// What a document weighs in the table, in bytes.
fn weight(document: &Document) -> usize {
    document.written.weight() + OVERHEAD
}

fn unwritten(error: &io::Error) -> Error {
    Error::internal(&format!("a document could not be written: {error}"))
}

/// Renders and compresses a document. Blocking.
fn render_document(rendered: &RenderedDocuments, content: &Content, negotiated: Negotiated) -> Result<Document, Error> {
    let Negotiated { format, coding } = negotiated;
    let held = match format {
        Format::Json => None,
        // Two names for the same bytes.
        Format::HtmlV1 => rendered.get(&(content.digest(), Format::TextHtml, coding)),
        Format::TextHtml => rendered.get(&(content.digest(), Format::HtmlV1, coding)),
    };
    let written = match held {
        Some(document) => document.written.clone(),
        None => Written::gather(coding, |out| content.render(format, out)).map_err(|error| unwritten(&error))?.0,
    };
    // Two media types are two representations, even with the same bytes.
    let suffix = if format == Format::HtmlV1 { "-v1" } else { "" };
    let representation = Representation::revalidated(format.content_type(), &written, suffix, VARY_NEGOTIATED);
    let representation = match coding.content_encoding() {
        Some(encoding) => representation.with(CONTENT_ENCODING, encoding),
        None => representation,
    };
    Ok(Document::new(representation, written))
}

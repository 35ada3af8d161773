//! Documents of the index: rendered and compressed once per change, on a helper thread, and kept in one bounded table.
//!
//! Its key is the digest of the visible content with format and content coding: a digest covers the project's name
//! and all of its files, so equal keys have equal bytes whatever repository they come from.

use std::io;
use std::sync::Arc;

use foldhash::quality::RandomState;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};

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
use wheelport_runtime::{Joined, Panicked, SingleFlight, Tasks, Turns, Waits, blocking};

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
    large: Turns,
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
        Self { rendered, dated, rendering: SingleFlight::default(), large: Turns::new(1), tasks }
    }

    /// The document in the negotiated representation.
    pub(super) fn get(&self, content: &Content, negotiated: Negotiated) -> Lookup<Arc<Document>> {
        let key = (content.digest(), negotiated.format, negotiated.coding);
        let rendered = if content.is_dated() { &self.dated } else { &self.rendered };
        if let Some(document) = rendered.get(&key) {
            return Lookup::Hit(document);
        }
        let (rendered, content) = (rendered.clone(), content.clone());
        let large = self.large.clone();
        let (joined, _) = self.rendering.run(key, &self.tasks, "render", || async move {
            in_turn(&large, content.is_large(), move || {
                let document = Arc::new(render_document(&rendered, &content, negotiated)?);
                // The table would hold a document that is too large for it until something else makes it tidy up.
                if rendered.policy().max_capacity().is_none_or(|memory| weight(&document) as u64 <= memory) {
                    rendered.insert(key, Arc::clone(&document));
                }
                Ok(document)
            })
            .await?
        });
        Lookup::Miss(Box::pin(async move { Waits::note("rendering", joined.within(RENDER_TIMEOUT)).await? }))
    }

    /// The legacy JSON document of a page; `None` if there is no such version. Its links are absolute, so it depends on
    /// the host that was asked, and it is not kept.
    pub(super) async fn legacy(
        &self,
        shown: ShownPage,
        version: Option<VersionSegment>,
        files: String,
    ) -> Result<Option<Document>, Error> {
        let writing = in_turn(&self.large, shown.files() > MANY_FILES, move || {
            let version = version.as_ref().map(VersionSegment::as_str);
            let write = |out: &mut dyn io::Write| render::write_legacy_json(&shown.page(), version, &files, out);
            let (written, exists) =
                Written::gather(ContentCoding::Identity, write).map_err(|error| unwritten(&error))?;
            let (json, host) = (HeaderValue::from_static("application/json"), HeaderValue::from_static("Host"));
            let representation = Representation::revalidated(json, &written, "", host);
            Ok(exists.then(|| Document::new(representation, written)))
        });
        Waits::note("rendering", writing).await?
    }

    /// Bytes held, for metrics.
    pub(super) fn bytes(&self) -> u64 {
        self.rendered.weighted_size() + self.dated.weighted_size()
    }
}

/// Blocking work, which waits for its turn if it is for a large page.
async fn in_turn<T: Send + 'static>(
    large: &Turns,
    is_large: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    if is_large { large.run(work).await } else { blocking(work).await }
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

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn the_turn_of_a_large_document_goes_on_with_the_work_when_the_client_has_left() {
        let documents = Representations::new(1 << 20, Tasks::new());
        let work = |is_large| {
            let (release, held) = std::sync::mpsc::channel::<()>();
            (release, Box::pin(in_turn(&documents.large, is_large, move || held.recv().is_err())))
        };
        let (_small, mut small) = work(false);
        assert!(poll!(&mut small).is_pending());
        assert_eq!(documents.large.free(), 1, "small documents wait for none");
        let (release, mut large) = work(true);
        assert!(poll!(&mut large).is_pending());
        drop(large);
        assert_eq!(documents.large.free(), 0, "its client has left, and it is still written");
        let mut next = Box::pin(in_turn(&documents.large, true, || ()));
        assert!(poll!(&mut next).is_pending());
        drop(release);
        assert_eq!(next.await, Ok(()));
    }
}

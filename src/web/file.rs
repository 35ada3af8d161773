//! Files: open, weigh conditions and ranges, stream.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, HeaderValue, IF_NONE_MATCH};

use super::body::ResponseBody;
use super::conditional::{Selection, none_match};
use super::context::RequestContext;
use super::eventual::Eventual;
use super::headers::{REVALIDATE, values};
use super::problem::Problem;
use super::representation::{ImmutableType, Representation};
use super::{Response, Site};
use crate::flow::{OpenFile, Route, Served};
use wheelport_index::{FileAddress, FileName, Sha256};
use wheelport_runtime::sabotaged;

/// An open file and what it was requested as.
pub(super) struct FoundFile {
    route: Arc<Route>,
    address: FileAddress,
    open: OpenFile,
}

impl FoundFile {
    pub(super) fn find(
        site: &Arc<Site>,
        context: &RequestContext,
        route: &Arc<Route>,
        address: FileAddress,
    ) -> Eventual<Self> {
        let route = Arc::clone(route);
        let needs_body = needs_body(context);
        let open = site.flow.files.open(&route, &address, needs_body);
        Eventual::from(open).map(|open| Self { route, address, open })
    }

    pub(super) fn served(&self) -> Served {
        match self.open {
            OpenFile::Stored(_) | OpenFile::Described { .. } => Served::Hit,
            OpenFile::Growing { served, .. } => served,
            OpenFile::Bypass { .. } => Served::Bypass,
        }
    }

    pub(super) fn respond(self, site: &Site, context: &RequestContext) -> Result<Response, Problem> {
        let (length, sha256) = match &self.open {
            OpenFile::Stored(blob) => (Some(blob.length), Some(blob.sha256)),
            OpenFile::Growing { started, sha256, .. } => (started.length, *sha256),
            OpenFile::Bypass { length, sha256, .. } => (*length, *sha256),
            OpenFile::Described { length, sha256 } => (Some(*length), Some(*sha256)),
        };
        let representation = Representation::immutable(ImmutableType::File, length, sha256)
            .with(CONTENT_DISPOSITION, disposition(&self.address.file));
        let is_mutable = self.address.file.is_mutable();
        let representation = if is_mutable { representation.with(CACHE_CONTROL, REVALIDATE) } else { representation };
        let served = self.served();
        representation.respond(context, Some(served), |selection| {
            if is_download(selection) {
                site.flow.usage.count(&self.route.name, &self.address, context.identity.shared_name());
            }
            self.body(site, selection)
        })
    }

    fn body(self, site: &Site, selection: Selection) -> Result<ResponseBody, Problem> {
        let (start, end) = match selection {
            Selection::Part { first, last } => (first, Some(last + 1)),
            Selection::Whole | Selection::NotSatisfiable => {
                if let OpenFile::Stored(blob) = &self.open
                    && let Some(bytes) = blob.small_bytes()
                {
                    return Ok(bytes.into());
                }
                (0, None)
            }
        };
        let stream = site.flow.files.read(&self.route, &self.address, self.open, start, end);
        let mut stream = stream.ok_or_else(|| Problem::internal("a file without bytes was to be sent"))?;
        Ok(match stream.rest_without_waiting() {
            Some(rest) => rest.into(),
            None => ResponseBody::stream(stream),
        })
    }
}

/// Whether a response with these bytes counts as a download: the whole file, or a part from its beginning, because
/// another part goes on with what was counted already. A response without bytes never gets here.
fn is_download(selection: Selection) -> bool {
    match selection {
        Selection::Whole => true,
        Selection::Part { first, .. } => first == 0 || sabotaged("usage-part"),
        Selection::NotSatisfiable => false,
    }
}

/// Whether the response about a file with this digest carries bytes.
fn needs_body(context: &RequestContext) -> impl Fn(Sha256) -> bool + Send + Sync + 'static {
    let is_head = context.method == Method::HEAD;
    let known: Vec<String> = values(&context.headers, &IF_NONE_MATCH).map(str::to_owned).collect();
    move |sha256| !is_head && !none_match(known.iter().map(String::as_str), &format!("\"{sha256}\""))
}

/// The name under which a browser saves the file.
fn disposition(file: &FileName) -> HeaderValue {
    let mut disposition = String::with_capacity(23 + file.as_str().len());
    disposition.push_str("attachment; filename=\"");
    if file.as_str().bytes().all(|byte| byte.is_ascii_graphic()) {
        disposition.push_str(file.as_str());
    } else {
        disposition.extend(file.as_str().split(|c: char| !c.is_ascii_graphic()));
    }
    disposition.push('"');
    HeaderValue::from_maybe_shared(Bytes::from(disposition)).unwrap_or(HeaderValue::from_static("attachment"))
}

//! Files and their core metadata: open, weigh conditions and ranges, stream.

use std::sync::Arc;

use bytes::BytesMut;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_NONE_MATCH, RANGE,
};
use http::{Method, StatusCode};

use super::account::Told;
use super::address::RouteId;
use super::body::AnswerBody;
use super::conditional::{Outcome, Selection, decide};
use super::headers::{CACHE_STATUS, IMMUTABLE, REQUEST_ID, REVALIDATE, harmless};
use super::page::cache_status;
use super::{Asking, Response, Site, body};
use crate::error::Error;
use crate::flow::{MetadataAnswer, OpenFile, Route, Served};
use wheelport_index::{FileAddress, Sha256};

/// What an open file is known to be.
struct Known {
    length: Option<u64>,
    sha256: Option<Sha256>,
    served: Served,
}

impl Known {
    fn of(open: &OpenFile) -> Self {
        match open {
            OpenFile::Stored(blob) => {
                Self { length: Some(blob.length), sha256: Some(blob.sha256), served: Served::Hit }
            }
            OpenFile::Growing { head, sha256, served, .. } => {
                Self { length: head.length, sha256: *sha256, served: *served }
            }
            OpenFile::Passing { length, sha256, .. } => {
                Self { length: *length, sha256: *sha256, served: Served::Bypass }
            }
            OpenFile::Described { length, sha256 } => {
                Self { length: Some(*length), sha256: Some(*sha256), served: Served::Hit }
            }
        }
    }

    fn tag(&self) -> Option<String> {
        self.sha256.map(|sha256| format!("\"{sha256}\""))
    }
}

/// A file.
pub(super) async fn file(
    site: &Site,
    asking: &Asking<'_>,
    route: RouteId,
    address: &FileAddress,
) -> Result<Told, Error> {
    let (method, headers) = (asking.method, asking.headers);
    let route = site.route(route);
    // What the index says may be all that the answer needs; a file that is not stored is not fetched for that.
    let describe = *method == Method::HEAD || headers.contains_key(IF_NONE_MATCH);
    let mut open = site.flow.open(route, address, describe).await?;
    let mut decision = decision(method, headers, &Known::of(&open));
    if matches!(open, OpenFile::Described { .. }) && *method != Method::HEAD && decision != Outcome::NotModified {
        open = site.flow.open(route, address, false).await?;
        decision = self::decision(method, headers, &Known::of(&open));
    }
    answer(site, asking, route, address, open, decision)
}

/// A file, if nothing has to be waited for and it is no error.
pub(super) fn file_at_hand(site: &Site, asking: &Asking<'_>, route: RouteId, address: &FileAddress) -> Option<Told> {
    let route = site.route(route);
    let open = site.flow.file_at_hand(route, address)?;
    let decision = decision(asking.method, asking.headers, &Known::of(&open));
    answer(site, asking, route, address, open, decision).ok()
}

fn answer(
    site: &Site,
    asking: &Asking<'_>,
    route: &Arc<Route>,
    address: &FileAddress,
    open: OpenFile,
    decision: Outcome,
) -> Result<Told, Error> {
    let known = Known::of(&open);
    if let (OpenFile::Stored(_), Outcome::Send(Selection::Whole), &Method::GET) = (&open, &decision, asking.method) {
        // What is asked for most.
        let head = head_of_stored(&known);
        let mut response = Response::new(body_of(site, asking, route, address, open, Selection::Whole)?);
        *response.headers_mut() = head;
        name_file(response.headers_mut(), address);
        return Ok(Told::served(response, "file", known.served));
    }
    let mut response = match decision {
        Outcome::NotModified => body::unchanged(),
        Outcome::Send(Selection::NotSatisfiable) => {
            return Err(Error::RangeNotSatisfiable { length: known.length.unwrap_or(0) });
        }
        Outcome::Send(selection) => {
            let body = body_of(site, asking, route, address, open, selection)?;
            let mut response = Response::new(body);
            if let Some(length) = known.length {
                measure(&mut response, selection, length);
            }
            response
        }
    };
    describe_file(response.headers_mut(), address, &known);
    Ok(Told::served(response, "file", known.served))
}

/// The core metadata of a wheel.
pub(super) async fn metadata(
    site: &Site,
    asking: &Asking<'_>,
    route: RouteId,
    wheel: &FileAddress,
) -> Result<Told, Error> {
    describe_metadata(asking, site.flow.core_metadata(site.route(route), wheel).await?)
}

/// The core metadata of a wheel, if nothing has to be waited for and it is no error.
pub(super) fn metadata_at_hand(site: &Site, asking: &Asking<'_>, route: RouteId, wheel: &FileAddress) -> Option<Told> {
    let held = site.flow.core_metadata_at_hand(site.route(route), wheel)?;
    let (method, headers) = (asking.method, asking.headers);
    let whole = Outcome::Send(Selection::Whole);
    let answer = MetadataAnswer { bytes: held.bytes.clone(), sha256: held.sha256, served: Served::Hit };
    let decision = || decide(method, headers, &held.tag, held.bytes.len() as u64);
    if *method != Method::GET || has_wishes(headers) && decision() != whole {
        return describe_metadata(asking, answer).ok();
    }
    // What is asked for most: the whole, whose head is worked out once.
    let head = if let Some(head) = held.head.get() {
        head
    } else {
        let mut first = describe_metadata(asking, answer).ok()?.response;
        // Its value is put in for every answer; here it keeps the place, so that no copy has to grow for it.
        first.headers_mut().insert(REQUEST_ID, HeaderValue::from_static(""));
        held.head.get_or_init(|| first.headers().clone())
    };
    let mut response = Response::new(held.bytes.clone().into());
    *response.headers_mut() = head.clone();
    Some(Told::served(response, "metadata", Served::Hit))
}

fn describe_metadata(asking: &Asking<'_>, answer: MetadataAnswer) -> Result<Told, Error> {
    let (method, headers) = (asking.method, asking.headers);
    let length = answer.bytes.len() as u64;
    let known = Known { length: Some(length), sha256: Some(answer.sha256), served: answer.served };
    let mut response = match decision(method, headers, &known) {
        Outcome::NotModified => body::unchanged(),
        Outcome::Send(Selection::NotSatisfiable) => return Err(Error::RangeNotSatisfiable { length }),
        Outcome::Send(Selection::Whole) => body::whole(answer.bytes, method),
        Outcome::Send(Selection::Part { first, last }) => {
            let part = usize::try_from(first).unwrap_or(0)..=usize::try_from(last).unwrap_or(0);
            let mut response = body::whole(answer.bytes.slice(part), method);
            partial(&mut response, first, last, length);
            response
        }
    };
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    common(fields, &known);
    Ok(Told::served(response, "metadata", known.served))
}

/// Whether a client asks for anything but the whole.
fn has_wishes(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_NONE_MATCH) || headers.contains_key(RANGE)
}

/// Conditions and ranges need a tag and a length; without them the whole file is sent.
fn decision(method: &Method, headers: &HeaderMap, known: &Known) -> Outcome {
    if !has_wishes(headers) {
        return Outcome::Send(Selection::Whole);
    }
    match (known.tag(), known.length) {
        (Some(tag), Some(length)) => decide(method, headers, &tag, length),
        _ => Outcome::Send(Selection::Whole),
    }
}

fn body_of(
    site: &Site,
    asking: &Asking<'_>,
    route: &Arc<Route>,
    address: &FileAddress,
    open: OpenFile,
    selection: Selection,
) -> Result<AnswerBody, Error> {
    if *asking.method == Method::HEAD {
        return Ok(AnswerBody::empty());
    }
    if let (OpenFile::Stored(blob), Selection::Whole) = (&open, selection)
        && let Some(bytes) = blob.small_bytes()
    {
        return Ok(bytes.into());
    }
    let (start, end) = bounds(selection);
    let mut stream = site.flow.read(route, address, open, start, end).ok_or(Error::Internal)?;
    if let Some(rest) = stream.rest_at_once() {
        return Ok(rest.into());
    }
    Ok(body::stream(stream))
}

/// Where a selection begins, and where it ends if that is not the end of the file.
fn bounds(selection: Selection) -> (u64, Option<u64>) {
    match selection {
        Selection::Part { first, last } => (first, Some(last + 1)),
        Selection::Whole | Selection::NotSatisfiable => (0, None),
    }
}

/// Says how much is sent, and which part it is.
fn measure(response: &mut Response, selection: Selection, length: u64) {
    let (start, end) = bounds(selection);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(end.unwrap_or(length) - start));
    if let Selection::Part { first, last } = selection {
        partial(response, first, last, length);
    }
}

fn partial(response: &mut Response, first: u64, last: u64, length: u64) {
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    if let Ok(range) = HeaderValue::from_str(&format!("bytes {first}-{last}/{length}")) {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
}

fn describe_file(headers: &mut HeaderMap, address: &FileAddress, known: &Known) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    name_file(headers, address);
    common(headers, known);
}

fn head_of_stored(known: &Known) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(body::HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(length) = known.length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    common(&mut headers, known);
    // Their values are put in for every answer; here they keep the places, so that no copy has to grow for them.
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(REQUEST_ID, HeaderValue::from_static(""));
    headers
}

/// The name under which a browser keeps the file.
fn name_file(headers: &mut HeaderMap, address: &FileAddress) {
    let name = address.file.as_str().as_bytes();
    let mut disposition = BytesMut::with_capacity(24 + name.len());
    disposition.extend_from_slice(b"attachment; filename=\"");
    disposition.extend(name.iter().filter(|byte| byte.is_ascii_graphic()));
    disposition.extend_from_slice(b"\"");
    if let Ok(disposition) = HeaderValue::from_maybe_shared(disposition.freeze()) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
}

/// What files and metadata have in common. Only bytes with a digest are promised to stay.
fn common(headers: &mut HeaderMap, known: &Known) {
    match known.tag().and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        Some(tag) => {
            headers.insert(ETAG, tag);
            headers.insert(CACHE_CONTROL, IMMUTABLE);
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        None => {
            headers.insert(CACHE_CONTROL, REVALIDATE);
        }
    }
    headers.insert(CACHE_STATUS, cache_status(known.served).value());
    harmless(headers);
}

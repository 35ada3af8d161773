//! Files: a complete file, or its rest from an offset, as a body that is read chunk by chunk.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use url::Url;

use super::address::{Hop, is_allowed_elsewhere};
use super::admission::RequestClass;
use super::body::BodyReader;
use super::error::{Malformed, UpstreamError};
use super::exchange::{Exchange, RangeUse, UsableResponse};
use super::{RequestKind, Upstream};
use wheelport_index::FileAddress;

const ANY_TYPE: HeaderValue = HeaderValue::from_static("*/*");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
/// The longest etag that is stored.
const LONGEST_ETAG: usize = 256;

/// A request for one file.
#[derive(Debug, Clone)]
pub struct FileRequest {
    pub address: FileAddress,
    /// The page's own link, if it leads to another address. Followed within the endpoint's origin and to allowed hosts
    /// (there without the token); any other link is ignored and the file is requested at its address.
    pub url: Option<Url>,
    /// Where to continue an earlier request.
    pub resume: Option<Resume>,
    /// The index lists the file, so a 404 may be the moment before it is imported.
    pub listed: bool,
    /// The file is small, or something short waits for it: it does not stand behind large files.
    pub brief: bool,
}

/// How to continue a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The number of bytes already received.
    pub offset: u64,
    /// The strong entity tag of the response they came from.
    pub etag: Option<String>,
}

/// A file whose headers have come.
#[derive(Debug)]
pub struct FileReply {
    /// Where the body begins: at the requested offset, or at 0.
    pub offset: u64,
    /// The length of the complete file, if upstream says it.
    pub length: Option<u64>,
    /// Whether upstream honours ranges, as it says or has shown.
    pub ranges: bool,
    /// The entity tag, if it is a strong one; it makes a later [`Resume`] safe.
    pub etag: Option<String>,
    pub body: FileBody,
}

/// The bytes of a file. Dropping it releases its permit and closes the connection.
pub struct FileBody(BodyReader);

impl FileBody {
    /// The next chunk; `None` after the last one of a complete body, or after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        self.0.next().await
    }
}

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileBody({:?} bytes)", self.0.expected())
    }
}

impl Upstream {
    /// Requests a file. The headers come within
    /// [`ClientSettings::response_timeout`](super::ClientSettings::response_timeout); the body may take longer.
    pub async fn file(&self, request: FileRequest) -> Result<FileReply, UpstreamError> {
        self.counted(RequestKind::File, self.open_file(request)).await
    }

    async fn open_file(&self, request: FileRequest) -> Result<FileReply, UpstreamError> {
        let resume = request.resume.as_ref().filter(|resume| resume.offset > 0);
        let mut headers = plain_headers();
        if let Some(resume) = resume {
            headers.extend(range_headers(resume));
        }
        let exchange = Exchange {
            upstream: self,
            kind: RequestKind::File,
            class: if request.brief { RequestClass::SmallFile } else { RequestClass::LargeFile },
            first: self.first_hop(&request),
            headers,
            usable: if resume.is_some() { &RESUMED } else { &[] },
            listed: request.listed,
            range: if resume.is_some() { RangeUse::Rest } else { RangeUse::Whole },
            deadline: self.deadline(),
        };
        self.reply(exchange.run().await?, resume)
    }

    /// A response as a file, or its rest.
    pub(super) fn reply(&self, usable: UsableResponse, resume: Option<&Resume>) -> Result<FileReply, UpstreamError> {
        let UsableResponse { response, permit, .. } = usable;
        let announced = FileHeaders::read(&response, resume)?;
        let counter = self.inner.metrics.bytes(&self.inner.label, RequestKind::File.as_str());
        let body = FileBody(BodyReader::new(response, self.settings(), counter, Some(permit)));
        let FileHeaders { offset, length, ranges, etag } = announced;
        Ok(FileReply { offset, length, ranges, etag, body })
    }

    /// Where a file is requested first, and whether with the token.
    pub(super) fn first_hop(&self, request: &FileRequest) -> Hop {
        let endpoint = &self.inner.endpoint;
        let link = request.url.as_ref().map(|url| {
            let mut url = url.clone();
            url.set_fragment(None);
            url
        });
        match link {
            Some(url) if endpoint.owns(&url) => Hop { url, with_token: true },
            Some(url) if is_allowed_elsewhere(&url, endpoint, &self.settings().redirect_hosts) => {
                Hop { url, with_token: false }
            }
            _ => Hop { url: endpoint.file(&request.address), with_token: true },
        }
    }
}

const RESUMED: [StatusCode; 2] = [StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE];

pub(super) fn plain_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, ANY_TYPE), (header::ACCEPT_ENCODING, IDENTITY)])
}

fn range_headers(resume: &Resume) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(range) = HeaderValue::try_from(format!("bytes={}-", resume.offset)) {
        headers.insert(header::RANGE, range);
    }
    // Only a strong tag may stand in If-Range (RFC 9110, section 13.1.5).
    let etag = resume.etag.as_deref().filter(|etag| etag.starts_with('"'));
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        headers.insert(header::IF_RANGE, etag);
    }
    headers
}

/// What the headers of a file's response say.
#[derive(Debug, PartialEq, Eq)]
struct FileHeaders {
    offset: u64,
    length: Option<u64>,
    ranges: bool,
    etag: Option<String>,
}

impl FileHeaders {
    fn read(response: &Response<Incoming>, resume: Option<&Resume>) -> Result<Self, UpstreamError> {
        Self::of(response.status(), response.headers(), resume)
    }

    fn of(status: StatusCode, headers: &HeaderMap, resume: Option<&Resume>) -> Result<Self, UpstreamError> {
        check_coding(headers)?;
        let etag = strong_etag(headers);
        let announced = number(headers, &header::CONTENT_LENGTH);
        match (status, resume) {
            (StatusCode::OK, _) => {
                let ranges = headers.get(header::ACCEPT_RANGES).is_some_and(|value| value == "bytes");
                Ok(Self { offset: 0, length: announced, ranges, etag })
            }
            (StatusCode::PARTIAL_CONTENT, Some(resume)) => {
                let range =
                    headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.to_str().ok()?));
                let range = range.ok_or(UpstreamError::CannotResume)?;
                let same = etag.is_none() || resume.etag.is_none() || etag == resume.etag;
                let fits =
                    announced.is_none_or(|announced| range.last.checked_sub(range.first) == announced.checked_sub(1));
                if range.first != resume.offset || !range.is_the_rest() || !fits || !same {
                    return Err(UpstreamError::CannotResume);
                }
                Ok(Self { offset: range.first, length: range.complete, ranges: true, etag })
            }
            _ => Err(UpstreamError::CannotResume),
        }
    }
}

/// A `Content-Range` of bytes (RFC 9110, section 14.4).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) complete: Option<u64>,
}

impl ContentRange {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (range, complete) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let complete = if complete == "*" { None } else { Some(complete.parse().ok()?) };
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()?, complete })
    }

    /// Whether it reaches to the end of the file; a file of unknown length does not count.
    fn is_the_rest(&self) -> bool {
        self.first <= self.last && self.complete.is_some_and(|complete| self.last.checked_add(1) == Some(complete))
    }
}

/// A file must match its digest, so no coding may have been applied to its bytes.
pub(super) fn check_coding(headers: &HeaderMap) -> Result<(), Malformed> {
    let plain = headers.get_all(header::CONTENT_ENCODING).iter().all(|coding| coding == "identity");
    if plain { Ok(()) } else { Err(Malformed::ContentEncoding) }
}

pub(super) fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(header::ETAG)?.to_str().ok()?;
    let strong = etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"') && etag.len() <= LONGEST_ETAG;
    strong.then(|| etag.to_owned())
}

fn number(headers: &HeaderMap, name: &header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn partial(pairs: &[(header::HeaderName, &'static str)], etag: Option<&str>) -> Result<FileHeaders, UpstreamError> {
        let resume = Resume { offset: 100, etag: etag.map(str::to_owned) };
        FileHeaders::of(StatusCode::PARTIAL_CONTENT, &headers(pairs), Some(&resume))
    }

    #[test]
    fn the_rest_of_a_file_must_be_exactly_that() {
        let good = (header::CONTENT_RANGE, "bytes 100-199/200");
        let announced = partial(&[good.clone(), (header::CONTENT_LENGTH, "100")], None).expect("the rest");
        assert_eq!((announced.offset, announced.length, announced.ranges), (100, Some(200), true));
        for wrong in [
            "bytes 0-199/200",
            "bytes 99-199/200",
            "bytes 100-150/200",
            "bytes 100-199/*",
            "bytes */200",
            "bytes 100-99/100",
            "items 100-199/200",
            "bytes 100-18446744073709551615/18446744073709551615",
        ] {
            let outcome = partial(&[(header::CONTENT_RANGE, wrong)], None);
            assert_eq!(outcome, Err(UpstreamError::CannotResume), "{wrong}");
        }
        for length in ["0", "99"] {
            let outcome = partial(&[good.clone(), (header::CONTENT_LENGTH, length)], None);
            assert_eq!(outcome, Err(UpstreamError::CannotResume), "{length}");
        }
        let other = partial(&[good.clone(), (header::ETAG, "\"b\"")], Some("\"a\""));
        assert_eq!(other, Err(UpstreamError::CannotResume), "the file has changed");
        assert!(partial(&[good, (header::ETAG, "\"a\"")], Some("\"a\"")).is_ok());
    }

    #[test]
    fn a_complete_file_begins_at_zero_even_when_the_rest_was_requested() {
        let resume = Resume { offset: 100, etag: None };
        let announced = FileHeaders::of(
            StatusCode::OK,
            &headers(&[(header::CONTENT_LENGTH, "200"), (header::ETAG, "W/\"weak\"")]),
            Some(&resume),
        );
        assert_eq!(announced, Ok(FileHeaders { offset: 0, length: Some(200), ranges: false, etag: None }));
        let announced = FileHeaders::of(StatusCode::RANGE_NOT_SATISFIABLE, &HeaderMap::new(), Some(&resume));
        assert_eq!(announced, Err(UpstreamError::CannotResume));
        let coded = FileHeaders::of(StatusCode::OK, &headers(&[(header::CONTENT_ENCODING, "gzip")]), None);
        assert_eq!(coded, Err(UpstreamError::Malformed(Malformed::ContentEncoding)));
    }

    #[test]
    fn only_a_strong_tag_guards_a_range() {
        let of = |etag: Option<&str>| range_headers(&Resume { offset: 7, etag: etag.map(str::to_owned) });
        assert_eq!(of(None).get(header::RANGE).map(HeaderValue::as_bytes), Some(b"bytes=7-".as_slice()));
        assert!(of(Some("\"a\"")).contains_key(header::IF_RANGE));
        assert!(!of(Some("W/\"a\"")).contains_key(header::IF_RANGE));
    }
}

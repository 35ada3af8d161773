//! Files: the whole of one, or its rest from an offset, as a body that is read piece by piece.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::timeout_at;
use url::Url;

use super::address::{Stop, is_allowed_elsewhere};
use super::body::Reader;
use super::error::{Malformed, Unavailability, UpstreamError};
use super::exchange::{Answer, Exchange};
use super::{Kind, Upstream};
use wheelport_index::FileAddress;

const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");
const AS_IT_IS: HeaderValue = HeaderValue::from_static("identity");
/// The longest entity tag that is remembered.
const LONGEST_ETAG: usize = 256;

/// Which file.
#[derive(Debug, Clone)]
pub struct FileRequest {
    /// Its address in the repository.
    pub address: FileAddress,
    /// The page's own link, where it leads somewhere else. Followed within the endpoint's origin and to allowed hosts
    /// (there without the token); any other link is left alone and the file is asked for at its address.
    pub url: Option<Url>,
    /// Where to continue.
    pub resume: Option<Resume>,
    /// The index lists the file, so a 404 may be the moment before it is imported.
    pub listed: bool,
}

/// How to continue a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The bytes already there.
    pub offset: u64,
    /// The strong entity tag of the answer they came from.
    pub etag: Option<String>,
}

/// A file on its way.
#[derive(Debug)]
pub struct FileReply {
    /// Where the body begins: at the offset asked for, or at 0.
    pub offset: u64,
    /// The length of the whole file, where upstream says it.
    pub length: Option<u64>,
    /// Upstream says or has shown that it honours ranges.
    pub ranges: bool,
    /// The entity tag, if it is a strong one; it makes a later [`Resume`] safe.
    pub etag: Option<String>,
    /// The bytes.
    pub body: FileBody,
}

/// The bytes of a file. Dropping it frees the place in the endpoint's queue and the connection.
pub struct FileBody(Reader);

impl FileBody {
    /// The next bytes; `None` after the last of a complete body. An error is the last thing that comes.
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
    /// The head of a file's answer, within
    /// [`ClientSettings::answer_timeout`](super::ClientSettings::answer_timeout); the body takes the time it takes.
    pub async fn file(&self, request: FileRequest) -> Result<FileReply, UpstreamError> {
        self.counted(Kind::File, self.open_file(request)).await
    }

    /// What upstream itself has as `{file}.metadata` (PEP 658), whole. CodeArtifact has none; other indexes may.
    pub async fn core_metadata(&self, request: &FileRequest) -> Result<Bytes, UpstreamError> {
        self.counted(Kind::Metadata, self.read_metadata(request)).await
    }

    async fn open_file(&self, request: FileRequest) -> Result<FileReply, UpstreamError> {
        let resume = request.resume.as_ref().filter(|resume| resume.offset > 0);
        let mut headers = plain_headers();
        if let Some(resume) = resume {
            headers.extend(range_headers(resume));
        }
        let exchange = Exchange {
            upstream: self,
            kind: Kind::File,
            first: self.whereabouts(&request),
            headers,
            usable: if resume.is_some() { &RESUMED } else { &[] },
            listed: request.listed,
            resuming: resume.is_some(),
            deadline: self.deadline(),
        };
        let Answer { response, held, .. } = exchange.run().await?;
        let opening = Opening::read(&response, resume)?;
        let counter = self.inner.metrics.bytes(&self.inner.label, Kind::File.as_str());
        let body = FileBody(Reader::new(response, self.settings(), counter, Some(held)));
        let Opening { offset, length, ranges, etag } = opening;
        Ok(FileReply { offset, length, ranges, etag, body })
    }

    async fn read_metadata(&self, request: &FileRequest) -> Result<Bytes, UpstreamError> {
        let mut first = self.whereabouts(request);
        let path = format!("{}.metadata", first.url.path());
        first.url.set_path(&path);
        let deadline = self.deadline();
        let exchange = Exchange {
            upstream: self,
            kind: Kind::Metadata,
            first,
            headers: plain_headers(),
            usable: &[],
            listed: false,
            resuming: false,
            deadline,
        };
        let Answer { response, held, .. } = exchange.run().await?;
        check_coding(response.headers())?;
        let limit = self.settings().max_metadata_size.bytes();
        let counter = self.inner.metrics.bytes(&self.inner.label, Kind::Metadata.as_str());
        let reading = Reader::new(response, self.settings(), counter, Some(held)).whole(limit);
        timeout_at(deadline, reading).await.unwrap_or(Err(UpstreamError::unavailable(Unavailability::Timeout)))
    }

    /// Where a file is asked for, and whether the token goes along.
    fn whereabouts(&self, request: &FileRequest) -> Stop {
        let endpoint = &self.inner.endpoint;
        let link = request.url.as_ref().map(|url| {
            let mut url = url.clone();
            url.set_fragment(None);
            url
        });
        match link {
            Some(url) if endpoint.owns(&url) => Stop { url, with_token: true },
            Some(url) if is_allowed_elsewhere(&url, endpoint, &self.settings().redirect_hosts) => {
                Stop { url, with_token: false }
            }
            _ => Stop { url: endpoint.file(&request.address), with_token: true },
        }
    }
}

const RESUMED: [StatusCode; 2] = [StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE];

fn plain_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, ANYTHING), (header::ACCEPT_ENCODING, AS_IT_IS)])
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

/// What the head of a file's answer says.
#[derive(Debug, PartialEq, Eq)]
struct Opening {
    offset: u64,
    length: Option<u64>,
    ranges: bool,
    etag: Option<String>,
}

impl Opening {
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
                let part = headers.get(header::CONTENT_RANGE).and_then(|value| Part::parse(value.to_str().ok()?));
                let part = part.ok_or(UpstreamError::CannotResume)?;
                let same = etag.is_none() || resume.etag.is_none() || etag == resume.etag;
                let fits =
                    announced.is_none_or(|announced| part.last.checked_sub(part.first) == announced.checked_sub(1));
                if part.first != resume.offset || !part.is_the_rest() || !fits || !same {
                    return Err(UpstreamError::CannotResume);
                }
                Ok(Self { offset: part.first, length: part.whole, ranges: true, etag })
            }
            _ => Err(UpstreamError::CannotResume),
        }
    }
}

/// A `Content-Range` of bytes (RFC 9110, section 14.4).
#[derive(Debug, PartialEq, Eq)]
struct Part {
    first: u64,
    last: u64,
    whole: Option<u64>,
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let (range, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let whole = if whole == "*" { None } else { Some(whole.parse().ok()?) };
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()?, whole })
    }

    /// Whether it reaches to the end of the file; a part of unknown end does not count.
    fn is_the_rest(&self) -> bool {
        self.first <= self.last && self.whole.is_some_and(|whole| self.last.checked_add(1) == Some(whole))
    }
}

/// A file is what its digest says, so nothing may have been done to its bytes on the way.
fn check_coding(headers: &HeaderMap) -> Result<(), Malformed> {
    let plain = headers.get_all(header::CONTENT_ENCODING).iter().all(|coding| coding == "identity");
    if plain { Ok(()) } else { Err(Malformed::ContentEncoding) }
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
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

    fn partial(pairs: &[(header::HeaderName, &'static str)], etag: Option<&str>) -> Result<Opening, UpstreamError> {
        let resume = Resume { offset: 100, etag: etag.map(str::to_owned) };
        Opening::of(StatusCode::PARTIAL_CONTENT, &headers(pairs), Some(&resume))
    }

    #[test]
    fn the_rest_of_a_file_must_be_exactly_that() {
        let good = (header::CONTENT_RANGE, "bytes 100-199/200");
        let opening = partial(&[good.clone(), (header::CONTENT_LENGTH, "100")], None).expect("the rest");
        assert_eq!((opening.offset, opening.length, opening.ranges), (100, Some(200), true));
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
    fn a_whole_file_begins_at_zero_even_when_the_rest_was_asked_for() {
        let resume = Resume { offset: 100, etag: None };
        let opening = Opening::of(
            StatusCode::OK,
            &headers(&[(header::CONTENT_LENGTH, "200"), (header::ETAG, "W/\"weak\"")]),
            Some(&resume),
        );
        assert_eq!(opening, Ok(Opening { offset: 0, length: Some(200), ranges: false, etag: None }));
        let opening = Opening::of(StatusCode::RANGE_NOT_SATISFIABLE, &HeaderMap::new(), Some(&resume));
        assert_eq!(opening, Err(UpstreamError::CannotResume));
        let coded = Opening::of(StatusCode::OK, &headers(&[(header::CONTENT_ENCODING, "gzip")]), None);
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

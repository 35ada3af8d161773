//! Parts of files: a few bytes of one, or the whole file where the upstream ignores ranges. What that shows of the
//! endpoint is noted here.
//!
//! A part is a saving, and in its place the whole file will do. So a request for one is short, is never repeated, and
//! its failure counts for nothing but that.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::{Instant, timeout_at};

use super::admission::RequestClass;
use super::body::BodyReader;
use super::error::UpstreamError;
use super::exchange::{Exchange, RangeUse, UsableResponse};
use super::file::{ContentRange, check_coding, plain_headers, strong_etag};
use super::metrics::ResultLabel;
use super::{FileReply, FileRequest, RequestKind, Upstream};
use wheelport_runtime::sabotaged;

/// How long a part may take; there has to be time for the whole file after that.
const TIMEOUT: Duration = Duration::from_secs(4);
const USABLE: [StatusCode; 1] = [StatusCode::PARTIAL_CONTENT];

/// A request for a part of one file.
#[derive(Debug, Clone)]
pub struct PartRequest {
    pub file: FileRequest,
    pub range: RangeOf,
    /// The length of the file, if it is known.
    pub length: Option<u64>,
    /// The strong entity tag of the part before, if it had one.
    pub etag: Option<String>,
}

/// Which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeOf {
    /// So many bytes of the end, of a file whose length may not be known.
    Last(u64),
    /// From the first to the last.
    Between { first: u64, last: u64 },
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePart {
    /// Where it begins.
    pub first: u64,
    pub bytes: Bytes,
    /// The length of the whole file.
    pub length: u64,
    /// The strong entity tag of the response.
    pub etag: Option<String>,
}

/// What upstream sends.
#[derive(Debug)]
pub enum PartReply {
    Part(FilePart),
    /// All of it, from the beginning: it ignores ranges, or has another file by now.
    Whole(Box<FileReply>),
}

/// Why there is no part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    #[error("upstream does not send it: {0}")]
    Refused(#[from] UpstreamError),
    #[error("upstream sends another range")]
    OtherRange,
    #[error("the file is not the one that the first part was of")]
    OtherFile,
    #[error("the part is cut off")]
    Cut,
}

impl ResultLabel for PartError {
    fn result_label(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::OtherRange => "other-range",
            Self::OtherFile => "other-file",
            Self::Cut => "cut",
        }
    }
}

impl fmt::Display for RangeOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last(length) => write!(f, "bytes=-{length}"),
            Self::Between { first, last } => write!(f, "bytes={first}-{last}"),
        }
    }
}

impl RangeOf {
    /// First and last byte of this range in a file of this length.
    fn within(self, length: u64) -> (u64, u64) {
        let end = length.saturating_sub(1);
        match self {
            Self::Last(wanted) => (length.saturating_sub(wanted), end),
            Self::Between { first, last } => (first, last.min(end)),
        }
    }
}

impl Upstream {
    /// Requests a part of a file, and receives it.
    pub async fn part(&self, request: PartRequest) -> Result<PartReply, PartError> {
        let reply = self.counted(RequestKind::Part, self.request_part(request)).await;
        let mut ranges = self.inner.admission.ranges();
        match &reply {
            Ok(PartReply::Part(_)) => ranges.shown(true, Instant::now()),
            // The answer to a condition says nothing of ranges.
            Ok(PartReply::Whole(reply)) if !reply.ranges => ranges.shown(false, Instant::now()),
            Ok(PartReply::Whole(_)) => {}
            Err(_) => ranges.failed(Instant::now()),
        }
        drop(ranges);
        reply
    }

    async fn request_part(&self, request: PartRequest) -> Result<PartReply, PartError> {
        let deadline = self.deadline().min(Instant::now() + TIMEOUT);
        let exchange = Exchange {
            upstream: self,
            kind: RequestKind::Part,
            class: RequestClass::SmallFile,
            first: self.first_hop(&request.file),
            headers: headers(&request),
            usable: &USABLE,
            listed: false,
            range: RangeUse::Part,
            deadline,
        };
        let usable = exchange.run().await?;
        if usable.response.status() == StatusCode::OK {
            return Ok(PartReply::Whole(Box::new(self.reply(usable, None)?)));
        }
        let announced = Announced::read(usable.response.headers(), &request)?;
        let receiving = timeout_at(deadline, self.receive(usable, announced));
        Ok(PartReply::Part(receiving.await.map_err(|_| PartError::Cut)??))
    }

    async fn receive(&self, usable: UsableResponse, announced: Announced) -> Result<FilePart, PartError> {
        let UsableResponse { response, permit, .. } = usable;
        let counter = self.inner.metrics.bytes(&self.inner.label, RequestKind::Part.as_str());
        let mut body = BodyReader::new(response, self.settings(), counter, Some(permit));
        let Announced { first, last, length, etag } = announced;
        let (mut bytes, due) = (BytesMut::new(), last - first + 1);
        let is_within = body.gather(&mut bytes, due).await.map_err(|_| PartError::Cut)?;
        if (!is_within || bytes.len() as u64 != due) && !sabotaged("part-length") {
            return Err(PartError::Cut);
        }
        Ok(FilePart { first, bytes: bytes.freeze(), length, etag })
    }
}

fn headers(request: &PartRequest) -> HeaderMap {
    let mut headers = plain_headers();
    if let Ok(range) = HeaderValue::try_from(request.range.to_string()) {
        headers.insert(header::RANGE, range);
    }
    if let Some(etag) = request.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
        headers.insert(header::IF_RANGE, etag);
    }
    headers
}

/// What the headers of a part say.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    first: u64,
    last: u64,
    length: u64,
    etag: Option<String>,
}

impl Announced {
    /// The part has to be exactly the one that was requested, and of the same file as the one before.
    fn read(headers: &HeaderMap, request: &PartRequest) -> Result<Self, PartError> {
        check_coding(headers).map_err(|malformed| PartError::Refused(malformed.into()))?;
        let range = headers.get(header::CONTENT_RANGE).and_then(|value| ContentRange::parse(value.to_str().ok()?));
        let ContentRange { first, last, complete } = range.ok_or(PartError::OtherRange)?;
        let length = complete.or(request.length).ok_or(PartError::OtherRange)?;
        let etag = strong_etag(headers);
        let is_same = request.length.is_none_or(|known| known == length)
            && (etag.is_none() || request.etag.is_none() || etag == request.etag);
        if !is_same && !sabotaged("part-of-same-file") {
            return Err(PartError::OtherFile);
        }
        if first > last || ((first, last) != request.range.within(length) && !sabotaged("part-range")) {
            return Err(PartError::OtherRange);
        }
        Ok(Self { first, last, length, etag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_index::FileAddress;

    fn request(range: RangeOf, length: Option<u64>, etag: Option<&str>) -> PartRequest {
        let address = FileAddress {
            project: wheelport_index::ProjectName::parse("a").expect("a name"),
            version: wheelport_index::VersionSegment::parse("1").expect("a version"),
            file: wheelport_index::FileName::parse("a-1-py3-none-any.whl").expect("a file name"),
        };
        let file = FileRequest { address, url: None, resume: None, listed: true, brief: true };
        PartRequest { file, range, length, etag: etag.map(str::to_owned) }
    }

    fn read(range: &'static str, etag: Option<&'static str>, request: &PartRequest) -> Result<(u64, u64), PartError> {
        let mut headers = HeaderMap::from_iter([(header::CONTENT_RANGE, HeaderValue::from_static(range))]);
        if let Some(etag) = etag {
            headers.insert(header::ETAG, HeaderValue::from_static(etag));
        }
        Announced::read(&headers, request).map(|announced| (announced.first, announced.last))
    }

    #[test]
    fn a_part_is_exactly_the_one_that_was_requested() {
        let last = request(RangeOf::Last(100), None, None);
        assert_eq!(read("bytes 900-999/1000", None, &last), Ok((900, 999)));
        assert_eq!(read("bytes 0-49/50", None, &last), Ok((0, 49)), "a file shorter than that");
        let between = request(RangeOf::Between { first: 10, last: 19 }, Some(1000), None);
        assert_eq!(read("bytes 10-19/1000", None, &between), Ok((10, 19)));
        assert_eq!(read("bytes 10-19/*", None, &between), Ok((10, 19)), "its length is known");
        for wrong in
            ["bytes 899-999/1000", "bytes 900-998/1000", "bytes 900-999/*", "items 900-999/1000", "bytes */1000"]
        {
            assert_eq!(read(wrong, None, &last), Err(PartError::OtherRange), "{wrong}");
        }
        assert_eq!(read("bytes 20-10/1000", None, &between), Err(PartError::OtherRange));
    }

    #[test]
    fn two_parts_are_of_one_file() {
        let second = request(RangeOf::Between { first: 10, last: 19 }, Some(1000), Some("\"a\""));
        assert_eq!(headers(&second).get(header::IF_RANGE).map(HeaderValue::as_bytes), Some(b"\"a\"".as_slice()));
        assert_eq!(read("bytes 10-19/1000", Some("\"a\""), &second), Ok((10, 19)));
        assert_eq!(read("bytes 10-19/1000", Some("\"b\""), &second), Err(PartError::OtherFile));
        assert_eq!(read("bytes 10-19/1001", Some("\"a\""), &second), Err(PartError::OtherFile));
    }
}

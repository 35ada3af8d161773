//! Bytes that are on disk as a response to GET or HEAD: complete or one range, with the oddities that are set.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE, RANGE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::io::AsyncSeekExt as _;

use super::{body, response};
use crate::oddities::Oddities;
use crate::shared::EmulatorState;
use crate::store::StoreError;
use wheelport_index::Sha256;

/// The content type of every asset.
pub(super) const OCTETS: &str = "application/octet-stream";

/// The response to GET or HEAD for a blob, complete or one range of it.
pub(super) async fn respond(
    shared: &Arc<EmulatorState>,
    digest: &Sha256,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, StoreError> {
    let (mut open, size) = shared.store.blobs().open(digest).await?;
    let range = requested_range(&shared.oddities.get(), headers, digest, size);
    let (first, length) = match &range {
        AssetRange::Complete => (0, size),
        AssetRange::Part { first, last } => (*first, last - first + 1),
        AssetRange::Unsatisfiable => {
            let mut response = response::message(StatusCode::RANGE_NOT_SATISFIABLE, "Invalid range");
            insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        if first > 0
            && let Err(error) = open.seek(std::io::SeekFrom::Start(first)).await
        {
            tracing::error!(%error, "the emulator's store failed");
            return Ok(response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"));
        }
        body::shaped(shared, body::from_file(open, length))
    };
    let mut response = complete(shared, length, Some(digest), body);
    if let AssetRange::Part { first, last } = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
    }
    Ok(response)
}

/// The headers of an asset around a body of `length` bytes.
pub(super) fn complete(shared: &Arc<EmulatorState>, length: u64, digest: Option<&Sha256>, body: Body) -> Response {
    let oddities = shared.oddities.get();
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if oddities.ranges {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    if let (true, Some(digest)) = (oddities.validators, digest) {
        insert(headers, ETAG, &format!("\"{digest}\""));
    }
    response
}

pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum AssetRange {
    Complete,
    Part { first: u64, last: u64 },
    Unsatisfiable,
}

/// `If-Range` can only match if validators are sent at all.
fn requested_range(oddities: &Oddities, headers: &HeaderMap, digest: &Sha256, size: u64) -> AssetRange {
    let text = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let agrees = match headers.get(IF_RANGE) {
        None => true,
        Some(validator) => oddities.validators && validator.as_bytes() == format!("\"{digest}\"").as_bytes(),
    };
    match text {
        Some(text) if oddities.ranges && agrees => parse_range(text, size),
        _ => AssetRange::Complete,
    }
}

/// One range of bytes (RFC 9110); several ranges, or another unit, mean the complete file.
fn parse_range(text: &str, size: u64) -> AssetRange {
    let Some((first, last)) = text.trim().strip_prefix("bytes=").and_then(|rest| rest.split_once('-')) else {
        return AssetRange::Complete;
    };
    let (first, last) = match (first.trim(), last.trim()) {
        ("", suffix) => match suffix.parse::<u64>() {
            Ok(0) => return AssetRange::Unsatisfiable,
            Ok(count) => (size.saturating_sub(count), size.saturating_sub(1)),
            Err(_) => return AssetRange::Complete,
        },
        (first, last) => {
            let end = if last.is_empty() { Ok(u64::MAX) } else { last.parse::<u64>() };
            let (Ok(first), Ok(last)) = (first.parse::<u64>(), end) else { return AssetRange::Complete };
            if last < first {
                return AssetRange::Complete;
            }
            (first, last.min(size.saturating_sub(1)))
        }
    };
    if first >= size { AssetRange::Unsatisfiable } else { AssetRange::Part { first, last } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_standard() {
        for (text, asked) in [
            ("bytes=0-3", AssetRange::Part { first: 0, last: 3 }),
            ("bytes=8-", AssetRange::Part { first: 8, last: 9 }),
            ("bytes=-4", AssetRange::Part { first: 6, last: 9 }),
            ("bytes=-40", AssetRange::Part { first: 0, last: 9 }),
            ("bytes=4-400", AssetRange::Part { first: 4, last: 9 }),
            ("bytes=10-", AssetRange::Unsatisfiable),
            ("bytes=-0", AssetRange::Unsatisfiable),
            ("bytes=0-1,3-4", AssetRange::Complete),
            ("bytes=5-4", AssetRange::Complete),
            ("lines=0-1", AssetRange::Complete),
        ] {
            assert_eq!(parse_range(text, 10), asked, "{text}");
        }
    }
}

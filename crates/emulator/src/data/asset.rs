//! Files: found in the joined view, retained, imported where they are cold, sent whole or as one range.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE, LOCATION, RANGE,
};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use tokio::io::AsyncSeekExt as _;

use super::import::{Begun, Import};
use super::view::{Found, View};
use super::{DataPlane, body, reply};
use crate::public::PublicError;
use crate::store::{Asset, Origin, RepositoryKey, StoreError, Version};
use wheelport_index::{FileName, ProjectName, Sha256};

/// The file that a request names.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Where it is looked for.
    pub key: RepositoryKey,
    /// The project.
    pub project: ProjectName,
    /// The version.
    pub version: String,
    /// The file.
    pub file: FileName,
}

/// Answers GET and HEAD for a file.
pub(super) async fn answer(plane: &DataPlane, wanted: Wanted, request: &Parts) -> Response {
    match serve(plane, &wanted, request).await {
        Ok(response) => response,
        Err(error) => reply::store_error(&error),
    }
}

async fn serve(plane: &DataPlane, wanted: &Wanted, request: &Parts) -> Result<Response, StoreError> {
    if let Some(digest) = own_bytes(plane, wanted) {
        return send(plane, &digest, &wanted.file, request).await;
    }
    let (mut view, failure) = plane.view(&wanted.key, &wanted.project).await?;
    let found = view.remove(&wanted.version).filter(|found| found.version.status.is_downloadable());
    let asset = found.as_ref().and_then(|found| found.version.assets.get(&wanted.file));
    let (Some(found), Some(asset)) = (&found, asset) else {
        return Ok(match failure {
            Some(_) => reply::message(StatusCode::SERVICE_UNAVAILABLE, "Upstream unavailable"),
            None => reply::not_found(&format!("Asset not found: {}", wanted.file)),
        });
    };
    if !asset.stored
        && let Some(oddity) = cold_oddity(plane, wanted, request)
    {
        return Ok(oddity);
    }
    retain(plane, wanted, found).await?;
    match asset.blob() {
        Some(digest) => send(plane, &digest, &wanted.file, request).await,
        None => send_cold(plane, wanted, found, asset, request).await,
    }
}

/// The bytes, where the repository retains the file and has them.
fn own_bytes(plane: &DataPlane, wanted: &Wanted) -> Option<Sha256> {
    let version = plane.shared().store.version(&wanted.key, &wanted.project, &wanted.version).ok()?;
    version.status.is_downloadable().then(|| version.assets.get(&wanted.file)?.blob())?
}

/// What the switches make of a request for a cold file.
fn cold_oddity(plane: &DataPlane, wanted: &Wanted, request: &Parts) -> Option<Response> {
    let oddities = plane.shared().oddities.get();
    let partial = request.method == Method::HEAD || request.headers.contains_key(RANGE);
    if oddities.head_range_cold_500 && partial {
        return Some(reply::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"));
    }
    if oddities.cold_404.0.is_zero() {
        return None;
    }
    let first = plane.inner.imports.first_asked(&wanted.key, &wanted.project, &wanted.version);
    (first.elapsed() < oddities.cold_404.0).then(|| reply::not_found(&format!("Asset not found: {}", wanted.file)))
}

/// Retains the version in the repository that was asked and, for imports, in the one that owns the connection.
async fn retain(plane: &DataPlane, wanted: &Wanted, found: &Found) -> Result<(), StoreError> {
    for key in retaining(&wanted.key, found) {
        let known = plane.shared().store.version(&key, &wanted.project, &wanted.version).ok();
        if known.as_ref().is_none_or(|known| differs(known, &found.version)) {
            let mut record = found.version.clone();
            let now = plane.shared().store.now();
            record.published = now;
            for asset in record.assets.values_mut() {
                asset.recorded = now;
            }
            plane.shared().store.retain(key, wanted.project.clone(), record).await?;
        }
    }
    Ok(())
}

/// Brings what the repository retains of imported versions up to date with what a look-up just found.
pub(super) async fn refresh(
    plane: &DataPlane,
    key: &RepositoryKey,
    project: &ProjectName,
    view: &View,
) -> Result<(), StoreError> {
    let store = &plane.shared().store;
    for found in view.values().filter(|found| found.own) {
        // Both records must learn it: without the public index, the one behind speaks last.
        for key in retaining(key, found) {
            let known = store.version(&key, project, &found.version.version);
            if known.is_ok_and(|known| differs(&known, &found.version)) {
                store.retain(key, project.clone(), found.version.clone()).await?;
            }
        }
    }
    Ok(())
}

/// Where a version is recorded: in the repository that was asked, and in the owner of the connection it came through.
fn retaining(asked: &RepositoryKey, found: &Found) -> Vec<RepositoryKey> {
    let imported = matches!(found.version.origin, Origin::External { .. });
    let owner = found.connected.iter().filter(|name| imported && **name != asked.name);
    std::iter::once(asked.clone()).chain(owner.map(|name| asked.domain.repository(name.as_str()))).collect()
}

/// Whether there are files or marks that the record does not have yet.
fn differs(known: &Version, found: &Version) -> bool {
    found.assets.iter().any(|(name, asset)| {
        known
            .assets
            .get(name)
            .is_none_or(|old| (asset.stored && !old.stored) || old.yanked != asset.yanked || old.source != asset.source)
    })
}

async fn send_cold(
    plane: &DataPlane,
    wanted: &Wanted,
    found: &Found,
    asset: &Asset,
    request: &Parts,
) -> Result<Response, StoreError> {
    let Some(source) = asset.source.clone() else {
        return Ok(reply::not_found(&format!("Asset not found: {}", wanted.file)));
    };
    let oddities = plane.shared().oddities.get();
    if let (Some(size), &Method::HEAD, None) = (asset.size, &request.method, oddities.redirect_assets) {
        let digest = asset.hashes.sha256.as_deref().and_then(|text| text.parse().ok());
        return Ok(whole(plane, size, digest.as_ref(), Body::empty()));
    }
    let import = Import {
        source,
        sha256: asset.hashes.sha256.clone(),
        repositories: retaining(&wanted.key, found),
        project: wanted.project.clone(),
        version: wanted.version.clone(),
        file: wanted.file.clone(),
    };
    let needs_all =
        request.method == Method::HEAD || request.headers.contains_key(RANGE) || oddities.redirect_assets.is_some();
    let begun =
        if needs_all { plane.import_whole(import).await.map(|()| Begun::Finished) } else { plane.import(import).await };
    match begun {
        Ok(Begun::Streaming(length, pieces)) => {
            let digest = asset.hashes.sha256.as_deref().and_then(|text| text.parse().ok());
            let body = body::shaped(&plane.inner.shared, body::from_channel(pieces));
            Ok(match length.or(asset.size) {
                Some(length) => whole(plane, length, digest.as_ref(), body),
                None => reply::with_type(StatusCode::OK, OCTETS, body),
            })
        }
        Ok(Begun::Finished) => match own_bytes(plane, wanted) {
            Some(digest) => send(plane, &digest, &wanted.file, request).await,
            None => Ok(reply::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")),
        },
        Err(PublicError::Status(StatusCode::NOT_FOUND | StatusCode::GONE)) => {
            Ok(reply::not_found(&format!("Asset not found: {}", wanted.file)))
        }
        Err(error) => {
            tracing::warn!(file = %wanted.file, %error, "a file cannot be imported");
            Ok(reply::message(StatusCode::SERVICE_UNAVAILABLE, "Upstream unavailable"))
        }
    }
}

const OCTETS: &str = "application/octet-stream";

/// Sends bytes that are on disk.
async fn send(plane: &DataPlane, digest: &Sha256, file: &FileName, request: &Parts) -> Result<Response, StoreError> {
    let oddities = plane.shared().oddities.get();
    if let Some(address) = oddities.redirect_assets {
        return Ok(redirect(plane, address, digest, file));
    }
    from_disk(plane, digest, &request.method, &request.headers).await
}

/// The bytes of a blob as an answer to GET or HEAD, whole or as one range.
pub(super) async fn from_disk(
    plane: &DataPlane,
    digest: &Sha256,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, StoreError> {
    let (mut open, size) = plane.shared().store.blobs().open(digest).await?;
    let range = wanted_range(plane, headers, digest, size);
    let (first, length) = match &range {
        Asked::Whole => (0, size),
        Asked::Part { first, last } => (*first, last - first + 1),
        Asked::Unsatisfiable => {
            let mut response = reply::message(StatusCode::RANGE_NOT_SATISFIABLE, "Invalid range");
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
            tracing::error!(%error, "the emulator's store fails");
            return Ok(reply::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"));
        }
        body::shaped(&plane.inner.shared, body::from_file(open, length))
    };
    let mut response = whole(plane, length, Some(digest), body);
    if let Asked::Part { first, last } = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
    }
    Ok(response)
}

fn whole(plane: &DataPlane, length: u64, digest: Option<&Sha256>, body: Body) -> Response {
    let oddities = plane.shared().oddities.get();
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

fn redirect(plane: &DataPlane, address: std::net::SocketAddr, digest: &Sha256, file: &FileName) -> Response {
    match plane.object_url(address, digest, file) {
        Ok(url) => {
            let mut response = reply::message(StatusCode::TEMPORARY_REDIRECT, "Moved");
            insert(response.headers_mut(), LOCATION, &url);
            response
        }
        Err(error) => {
            tracing::error!(%error, "the second listener cannot be opened");
            reply::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
        }
    }
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part { first: u64, last: u64 },
    Unsatisfiable,
}

/// `If-Range` can only agree where validators are sent at all.
fn wanted_range(plane: &DataPlane, headers: &HeaderMap, digest: &Sha256, size: u64) -> Asked {
    let oddities = plane.shared().oddities.get();
    let text = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let agrees = match headers.get(IF_RANGE) {
        None => true,
        Some(validator) => oddities.validators && validator.as_bytes() == format!("\"{digest}\"").as_bytes(),
    };
    match text {
        Some(text) if oddities.ranges && agrees => parse_range(text, size),
        _ => Asked::Whole,
    }
}

/// One range of bytes (RFC 9110); several, or another unit, mean the whole.
fn parse_range(text: &str, size: u64) -> Asked {
    let Some((first, last)) = text.trim().strip_prefix("bytes=").and_then(|rest| rest.split_once('-')) else {
        return Asked::Whole;
    };
    let (first, last) = match (first.trim(), last.trim()) {
        ("", suffix) => match suffix.parse::<u64>() {
            Ok(0) => return Asked::Unsatisfiable,
            Ok(count) => (size.saturating_sub(count), size.saturating_sub(1)),
            Err(_) => return Asked::Whole,
        },
        (first, last) => {
            let end = if last.is_empty() { Ok(u64::MAX) } else { last.parse::<u64>() };
            let (Ok(first), Ok(last)) = (first.parse::<u64>(), end) else { return Asked::Whole };
            if last < first {
                return Asked::Whole;
            }
            (first, last.min(size.saturating_sub(1)))
        }
    };
    if first >= size { Asked::Unsatisfiable } else { Asked::Part { first, last } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_standard() {
        for (text, asked) in [
            ("bytes=0-3", Asked::Part { first: 0, last: 3 }),
            ("bytes=8-", Asked::Part { first: 8, last: 9 }),
            ("bytes=-4", Asked::Part { first: 6, last: 9 }),
            ("bytes=-40", Asked::Part { first: 0, last: 9 }),
            ("bytes=4-400", Asked::Part { first: 4, last: 9 }),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=5-4", Asked::Whole),
            ("lines=0-1", Asked::Whole),
        ] {
            assert_eq!(parse_range(text, 10), asked, "{text}");
        }
    }
}

//! Files: found in the joined view, retained in the repository, imported where they are cold. `blob` sends them.

use axum::body::Body;
use axum::response::Response;
use http::header::{LOCATION, RANGE};
use http::request::Parts;
use http::{Method, StatusCode};
use url::Url;

use super::import::{ImportJob, ImportStart};
use super::plane::DataPlane;
use super::view::{ProjectView, ViewedVersion};
use super::{blob, body, response};
use crate::public::PublicError;
use crate::store::{Asset, PackageVersion, RepositoryKey, StoreError, VersionOrigin};
use wheelport_index::{FileName, ProjectName, Sha256};

/// The file that a request names.
#[derive(Debug, Clone)]
pub(super) struct AssetRequest {
    /// The repository that the client named.
    pub key: RepositoryKey,
    pub project: ProjectName,
    pub version: String,
    pub file: FileName,
}

/// The response to GET or HEAD for a file.
pub(super) async fn respond(plane: &DataPlane, wanted: AssetRequest, request: &Parts) -> Response {
    match serve(plane, &wanted, request).await {
        Ok(response) => response,
        Err(error) => response::store_error(&error),
    }
}

async fn serve(plane: &DataPlane, wanted: &AssetRequest, request: &Parts) -> Result<Response, StoreError> {
    if let Some(digest) = own_bytes(plane, wanted) {
        return send(plane, &digest, &wanted.file, request).await;
    }
    let (mut view, failure) = plane.view(&wanted.key, &wanted.project).await?;
    let found = view.remove(&wanted.version).filter(|found| found.version.status.is_downloadable());
    let asset = found.as_ref().and_then(|found| found.version.assets.get(&wanted.file));
    let (Some(found), Some(asset)) = (&found, asset) else {
        return Ok(match failure {
            Some(_) => response::message(StatusCode::SERVICE_UNAVAILABLE, "Upstream unavailable"),
            None => response::not_found(&format!("Asset not found: {}", wanted.file)),
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

/// The digest of the bytes, if the repository retains the file and has them.
fn own_bytes(plane: &DataPlane, wanted: &AssetRequest) -> Option<Sha256> {
    let version = plane.shared.store.version(&wanted.key, &wanted.project, &wanted.version).ok()?;
    version.status.is_downloadable().then(|| version.assets.get(&wanted.file)?.blob())?
}

/// The response that a switch demands for a cold file, if one does.
fn cold_oddity(plane: &DataPlane, wanted: &AssetRequest, request: &Parts) -> Option<Response> {
    let oddities = plane.shared.oddities.get();
    let partial = request.method == Method::HEAD || request.headers.contains_key(RANGE);
    if oddities.head_range_cold_500 && partial {
        return Some(response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"));
    }
    if oddities.cold_404.0.is_zero() {
        return None;
    }
    let first = plane.importer.first_request(&wanted.key, &wanted.project, &wanted.version);
    (first.elapsed() < oddities.cold_404.0).then(|| response::not_found(&format!("Asset not found: {}", wanted.file)))
}

/// Retains the version in the requested repository and, for imports, in the one that owns the connection.
async fn retain(plane: &DataPlane, wanted: &AssetRequest, found: &ViewedVersion) -> Result<(), StoreError> {
    for key in retaining(&wanted.key, found) {
        let known = plane.shared.store.version(&key, &wanted.project, &wanted.version).ok();
        if known.as_ref().is_none_or(|known| differs(known, &found.version)) {
            let mut record = found.version.clone();
            let now = plane.shared.store.now();
            record.published = now;
            for asset in record.assets.values_mut() {
                asset.recorded = now;
            }
            plane.shared.store.retain(key, wanted.project.clone(), record).await?;
        }
    }
    Ok(())
}

/// Updates the retained records of imported versions from the view that a look-up just joined.
pub(super) async fn refresh(
    plane: &DataPlane,
    key: &RepositoryKey,
    project: &ProjectName,
    view: &ProjectView,
) -> Result<(), StoreError> {
    let store = &plane.shared.store;
    for found in view.values().filter(|found| found.own) {
        // Update both records: while the public index is unreachable, the one behind decides.
        for key in retaining(key, found) {
            let known = store.version(&key, project, &found.version.version);
            if known.is_ok_and(|known| differs(&known, &found.version)) {
                store.retain(key, project.clone(), found.version.clone()).await?;
            }
        }
    }
    Ok(())
}

/// Where a version is recorded: in the requested repository, and in the owner of the connection it came through.
fn retaining(asked: &RepositoryKey, found: &ViewedVersion) -> Vec<RepositoryKey> {
    let imported = matches!(found.version.origin, VersionOrigin::External { .. });
    let owner = found.connected.iter().filter(|name| imported && **name != asked.name);
    std::iter::once(asked.clone()).chain(owner.map(|name| asked.domain.repository(name.as_str()))).collect()
}

/// Whether `found` has files or marks that the record lacks.
fn differs(known: &PackageVersion, found: &PackageVersion) -> bool {
    found.assets.iter().any(|(name, asset)| {
        known
            .assets
            .get(name)
            .is_none_or(|old| (asset.stored && !old.stored) || old.yanked != asset.yanked || old.source != asset.source)
    })
}

async fn send_cold(
    plane: &DataPlane,
    wanted: &AssetRequest,
    found: &ViewedVersion,
    asset: &Asset,
    request: &Parts,
) -> Result<Response, StoreError> {
    let Some(source) = asset.source.clone() else {
        return Ok(response::not_found(&format!("Asset not found: {}", wanted.file)));
    };
    let oddities = plane.shared.oddities.get();
    if let (Some(size), &Method::HEAD, None) = (asset.size, &request.method, oddities.redirect_assets) {
        let digest = asset.hashes.sha256.as_deref().and_then(|text| text.parse().ok());
        return Ok(blob::complete(&plane.shared, size, digest.as_ref(), Body::empty()));
    }
    let job = import_job(wanted, found, asset, source);
    let needs_all =
        request.method == Method::HEAD || request.headers.contains_key(RANGE) || oddities.redirect_assets.is_some();
    let start = if needs_all {
        plane.importer.import_complete(job).await.map(|()| ImportStart::Finished)
    } else {
        plane.importer.import(job).await
    };
    match start {
        Ok(ImportStart::Streaming(length, chunks)) => {
            let digest = asset.hashes.sha256.as_deref().and_then(|text| text.parse().ok());
            let body = body::shaped(&plane.shared, body::from_channel(chunks));
            Ok(match length.or(asset.size) {
                Some(length) => blob::complete(&plane.shared, length, digest.as_ref(), body),
                None => response::with_type(StatusCode::OK, blob::OCTETS, body),
            })
        }
        Ok(ImportStart::Finished) => match own_bytes(plane, wanted) {
            Some(digest) => send(plane, &digest, &wanted.file, request).await,
            None => Ok(response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")),
        },
        Err(PublicError::Status(StatusCode::NOT_FOUND | StatusCode::GONE)) => {
            Ok(response::not_found(&format!("Asset not found: {}", wanted.file)))
        }
        Err(error) => {
            tracing::warn!(file = %wanted.file, %error, "a file cannot be imported");
            Ok(response::message(StatusCode::SERVICE_UNAVAILABLE, "Upstream unavailable"))
        }
    }
}

fn import_job(wanted: &AssetRequest, found: &ViewedVersion, asset: &Asset, source: Url) -> ImportJob {
    ImportJob {
        source,
        sha256: asset.hashes.sha256.clone(),
        repositories: retaining(&wanted.key, found),
        project: wanted.project.clone(),
        version: wanted.version.clone(),
        file: wanted.file.clone(),
    }
}

/// Sends bytes that are on disk.
async fn send(plane: &DataPlane, digest: &Sha256, file: &FileName, request: &Parts) -> Result<Response, StoreError> {
    let oddities = plane.shared.oddities.get();
    if let Some(address) = oddities.redirect_assets {
        return Ok(redirect(plane, address, digest, file));
    }
    blob::respond(&plane.shared, digest, &request.method, &request.headers).await
}

fn redirect(plane: &DataPlane, address: std::net::SocketAddr, digest: &Sha256, file: &FileName) -> Response {
    match plane.objects.url(address, digest, file) {
        Ok(url) => {
            let mut response = response::message(StatusCode::TEMPORARY_REDIRECT, "Moved");
            blob::insert(response.headers_mut(), LOCATION, &url);
            response
        }
        Err(error) => {
            tracing::error!(%error, "the object storage listener cannot be opened");
            response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
        }
    }
}

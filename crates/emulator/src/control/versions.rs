//! Versions: list, describe, assets, readme, dependencies, and the changes of many at once.
//!
//! As in the service, reads see only the versions that the repository itself retains; the data plane and a copy with
//! `includeFromUpstream` search upstreams, too.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde_json::{Map, Value, json};
use tokio_util::io::ReaderStream;

use super::call::{OperationCall, absent, not_one_of};
use super::fault::CallFault;
use super::packages::named;
use super::shape;
use super::state::ControlState;
use crate::store::{
    Asset, CopyRequest, PackageVersion, VersionErrorCode, VersionStatus, VersionsAction, VersionsOutcome,
    VersionsRequest,
};
use wheelport_index::{FileName, ProjectName};

const STATUSES: [&str; 6] = ["Published", "Unfinished", "Unlisted", "Archived", "Disposed", "Deleted"];
const ORIGINS: [&str; 3] = ["INTERNAL", "EXTERNAL", "UNKNOWN"];

fn status(word: Option<&str>, name: &str) -> Result<Option<VersionStatus>, CallFault> {
    let Some(word) = word else { return Ok(None) };
    VersionStatus::from_str(word).map(Some).map_err(|_| not_one_of(word, name, &STATUSES))
}

/// The one version a call names.
fn one(control: &ControlState, call: &OperationCall) -> Result<(ProjectName, PackageVersion), CallFault> {
    let wanted = call.version()?;
    let (key, package) = named(control, call)?;
    let version = control.store().version(&key, &package, wanted)?;
    Ok((package, version))
}

pub(super) fn list(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let (key, name) = named(control, call)?;
    let paging = call.paging()?;
    let wanted = status(call.text("status"), "status")?;
    let origin = call.text("originType");
    if let Some(origin) = origin.filter(|origin| !ORIGINS.contains(origin)) {
        return Err(not_one_of(origin, "originType", &ORIGINS));
    }
    let sort = call.text("sortBy");
    if let Some(sort) = sort.filter(|sort| *sort != "PUBLISHED_TIME") {
        return Err(not_one_of(sort, "sortBy", &["PUBLISHED_TIME"]));
    }
    let package = control.store().package(&key, &name)?;
    let visible = control.listed_until();
    let mut versions: Vec<&PackageVersion> = package.versions.values().collect();
    versions.retain(|version| version.published <= visible);
    let display = versions.iter().filter(|version| version.status == VersionStatus::Published);
    let display = display.max_by_key(|version| version.published).map(|version| version.version.clone());
    versions.retain(|version| {
        wanted.is_none_or(|wanted| version.status == wanted)
            && origin.is_none_or(|origin| version.origin.kind() == origin)
    });
    if sort.is_some() {
        versions.sort_by_key(|version| std::cmp::Reverse(version.published));
    }
    let (page, next) = paging.cut(versions);
    let summaries = page.into_iter().map(shape::version_summary).collect();
    let mut response = shape::listing("versions", summaries, next);
    response["format"] = "pypi".into();
    response["package"] = name.as_str().into();
    if let Some(display) = display {
        response["defaultDisplayVersion"] = display.into();
    }
    Ok(response)
}

pub(super) fn describe(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let (package, version) = one(control, call)?;
    Ok(json!({"packageVersion": shape::version(&package, &version)}))
}

/// A listing about one version: the version, then the entries.
fn listing_of(call: &OperationCall, about: Value, name: &str, entries: Vec<Value>) -> Result<Value, CallFault> {
    let (page, next) = call.paging()?.cut(entries);
    let mut response = about;
    if let (Some(members), Value::Object(listing)) = (response.as_object_mut(), shape::listing(name, page, next)) {
        members.extend(listing);
    }
    Ok(response)
}

pub(super) fn assets(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let (package, version) = one(control, call)?;
    let entries = version.assets.values().map(shape::asset).collect();
    listing_of(call, shape::about_version(&package, &version), "assets", entries)
}

pub(super) fn dependencies(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let (package, version) = one(control, call)?;
    let entries = version.metadata.requires_dist.iter().filter_map(|one| shape::dependency(one)).collect();
    listing_of(call, shape::about_version(&package, &version), "dependencies", entries)
}

pub(super) fn readme(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let (package, version) = one(control, call)?;
    let mut response = shape::about_version(&package, &version);
    let readme = version.metadata.description.ok_or_else(|| {
        let message = format!("Readme not found for version {} of {package}", version.version);
        CallFault::not_found(message, "package-version", version.version)
    })?;
    response["readme"] = readme.into();
    Ok(response)
}

/// The bytes of an asset, streamed from disk.
pub(super) async fn asset(control: &ControlState, call: &OperationCall) -> Result<Response, CallFault> {
    let (_, version) = one(control, call)?;
    let wanted = call.required("asset")?;
    let not_found = || CallFault::not_found(format!("Asset not found: {wanted}"), "asset", wanted);
    if call.text("revision").is_some_and(|revision| revision != version.revision) {
        let message = format!("The revision of version {} is {}", version.version, version.revision);
        return Err(CallFault::not_found(message, "package-version", version.version));
    }
    if !version.status.is_downloadable() {
        let message = format!("Version {} is {}", version.version, version.status.as_str());
        return Err(CallFault::not_found(message, "package-version", version.version));
    }
    let name = FileName::parse(wanted).map_err(|_| not_found())?;
    let blob = version.assets.get(&name).and_then(Asset::blob).ok_or_else(not_found)?;
    let (file, length) = control.store().blobs().open(&blob).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::HeaderName::from_static("x-assetname"), name.to_string()),
        (header::HeaderName::from_static("x-packageversion"), version.version),
        (header::HeaderName::from_static("x-packageversionrevision"), version.revision),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}

pub(super) async fn set_status(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let target = call.body_text("targetStatus").ok_or_else(|| absent("targetStatus"))?;
    let target = status(Some(target), "targetStatus")?.ok_or_else(|| absent("targetStatus"))?;
    if !matches!(target, VersionStatus::Published | VersionStatus::Unlisted | VersionStatus::Archived) {
        return Err(not_one_of(target.as_str(), "targetStatus", &["Published", "Unlisted", "Archived"]));
    }
    change(control, call, VersionsAction::SetStatus(target)).await
}

pub(super) async fn dispose(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    change(control, call, VersionsAction::Dispose).await
}

pub(super) async fn delete(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    change(control, call, VersionsAction::Delete).await
}

async fn change(control: &ControlState, call: &OperationCall, action: VersionsAction) -> Result<Value, CallFault> {
    let versions = call.versions()?.ok_or_else(|| absent("versions"))?;
    let request = VersionsRequest {
        versions,
        revisions: revisions(call)?.unwrap_or_default(),
        expected: status(call.body_text("expectedStatus"), "expectedStatus")?,
        action,
    };
    let (key, package) = named(control, call)?;
    Ok(outcome(&control.store().change_versions(key, package, request).await?))
}

fn revisions(call: &OperationCall) -> Result<Option<BTreeMap<String, String>>, CallFault> {
    let Some(map) = call.body("versionRevisions") else { return Ok(None) };
    serde_json::from_value(map.clone())
        .map(Some)
        .map_err(|_| CallFault::unreadable("'versionRevisions' is not a map of strings"))
}

fn outcome(outcome: &VersionsOutcome) -> Value {
    let successful: Map<String, Value> = outcome
        .successful
        .iter()
        .map(|(version, (revision, status))| {
            (version.clone(), json!({"revision": revision, "status": status.as_str()}))
        })
        .collect();
    let failed: Map<String, Value> = outcome
        .failed
        .iter()
        .map(|(version, (code, message))| {
            (version.clone(), json!({"errorCode": code.as_str(), "errorMessage": message}))
        })
        .collect();
    json!({"successfulVersions": successful, "failedVersions": failed})
}

pub(super) async fn copy(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let source = call.repository_named("source-repository")?;
    let destination = call.repository_named("destination-repository")?;
    if source == destination {
        return Err(CallFault::validation("Source and destination repository must differ"));
    }
    let wanted: BTreeMap<String, Option<String>> = match (call.versions()?, revisions(call)?) {
        (Some(versions), None) => versions.into_iter().map(|version| (version, None)).collect(),
        (None, Some(revisions)) => revisions.into_iter().map(|(name, one)| (name, Some(one))).collect(),
        _ => return Err(CallFault::validation("Exactly one of versions and versionRevisions must be given")),
    };
    let flag = |name: &str| call.body(name).and_then(Value::as_bool).unwrap_or_default();
    let package = call.package()?;
    control.store().repository(&source)?;
    control.store().repository(&destination)?;
    let mut total = VersionsOutcome::default();
    let mut missing = wanted;
    if let Some(package) = package {
        let reach = if flag("includeFromUpstream") { usize::MAX } else { 1 };
        for layer in control.store().layers(&source, &package)?.into_iter().take(reach) {
            let Some(record) = layer.package else { continue };
            let (here, rest) = missing.into_iter().partition(|(name, _)| record.versions.contains_key(name));
            missing = rest;
            let request = CopyRequest {
                source: source.domain.repository(layer.repository),
                destination: destination.clone(),
                versions: here,
                allow_overwrite: flag("allowOverwrite"),
            };
            let part = control.store().copy_versions(package.clone(), request).await?;
            total.successful.extend(part.successful);
            total.failed.extend(part.failed);
        }
    }
    let lost = missing.into_keys().map(|version| {
        let message = format!("Package version {version} not found");
        (version, (VersionErrorCode::NotFound, message))
    });
    total.failed.extend(lost);
    Ok(outcome(&total))
}

/// The service takes the `generic` format only, and the emulator keeps the `pypi` format only.
pub(super) fn publish(call: &OperationCall) -> Result<Value, CallFault> {
    call.repository()?;
    call.version()?;
    Err(match call.format()? {
        "generic" => CallFault::not_emulated("PublishPackageVersion for the generic format"),
        other => CallFault::validation(format!("PublishPackageVersion does not support the format {other}")),
    })
}

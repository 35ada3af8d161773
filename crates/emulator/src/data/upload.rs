//! Uploads: the form is read as it streams in, the file goes to disk, and one decision follows.

use std::collections::BTreeMap;

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest as _, Multipart, Request};
use axum::response::Response;
use http::StatusCode;

use super::plane::DataPlane;
use super::{response, wheel_metadata};
use crate::store::{
    NewAsset, OriginRestriction, OriginRestrictions, PublishOutcome, PublishRefusal, RepositoryKey, SpooledBlob,
    StoreError, VersionMetadata,
};
use wheelport_index::{FileName, ProjectName};

/// The longest text field, in bytes.
const FIELD_LIMIT: usize = 4 << 20;
/// The most fields of one form.
const FIELDS_LIMIT: usize = 4096;

/// The parts of an upload form.
#[derive(Default)]
struct ReceivedForm {
    fields: BTreeMap<String, Vec<String>>,
    file: Option<(FileName, SpooledBlob)>,
}

/// Why an upload is refused.
enum UploadRejection {
    /// Refused with this status and sentence.
    Because(StatusCode, String),
    /// The store refused it, or failed.
    Store(StoreError),
}

impl From<StoreError> for UploadRejection {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<MultipartError> for UploadRejection {
    fn from(error: MultipartError) -> Self {
        Self::Because(error.status(), error.body_text())
    }
}

fn bad(text: impl Into<String>) -> UploadRejection {
    UploadRejection::Because(StatusCode::BAD_REQUEST, text.into())
}

/// The response to a POST to a repository's endpoint.
pub(super) async fn respond(plane: &DataPlane, key: RepositoryKey, request: Request) -> Response {
    let result = async {
        let form = Multipart::from_request(request, &()).await.map_err(|error| bad(error.body_text()))?;
        let form = read(plane, form).await?;
        publish(plane, key, form).await
    }
    .await;
    match result {
        Ok(()) => Response::default(),
        Err(UploadRejection::Because(status, text)) => response::message(status, &text),
        Err(UploadRejection::Store(error)) => response::store_error(&error),
    }
}

async fn read(plane: &DataPlane, mut multipart: Multipart) -> Result<ReceivedForm, UploadRejection> {
    let mut form = ReceivedForm::default();
    let mut count = 0;
    while let Some(field) = multipart.next_field().await? {
        count += 1;
        if count > FIELDS_LIMIT {
            return Err(bad("The form has too many fields"));
        }
        let name = field.name().unwrap_or_default().to_owned();
        if name == "content" {
            form.file = Some(spool(plane, field).await?);
        } else {
            let value = text(field).await?;
            form.fields.entry(name).or_default().push(value);
        }
    }
    Ok(form)
}

async fn text(mut field: Field<'_>) -> Result<String, UploadRejection> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await? {
        if bytes.len() + chunk.len() > FIELD_LIMIT {
            return Err(bad("A field of the form is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| bad("A field of the form is not UTF-8"))
}

async fn spool(plane: &DataPlane, mut field: Field<'_>) -> Result<(FileName, SpooledBlob), UploadRejection> {
    let name = field.file_name().and_then(|name| FileName::parse(name).ok());
    let name = name.ok_or_else(|| bad("The file name is not valid"))?;
    let limit = plane.shared.oddities.get().asset_limit;
    let mut writer = plane.shared.store.blobs().create().await?;
    while let Some(chunk) = field.chunk().await? {
        if writer.length() + chunk.len() as u64 > limit {
            let text = format!("The asset is larger than {limit} bytes");
            return Err(UploadRejection::Because(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        writer.write(&chunk).await?;
    }
    Ok((name, writer.finish().await?))
}

impl ReceivedForm {
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.fields.get(name)?.first()?.as_str();
        (!value.is_empty() && value != "UNKNOWN").then_some(value)
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.fields.get(name).cloned().unwrap_or_default()
    }

    fn metadata(&self) -> VersionMetadata {
        let owned = |name| self.get(name).map(str::to_owned);
        VersionMetadata {
            summary: owned("summary"),
            home_page: owned("home_page"),
            source_repository: self.all("project_urls").iter().find_map(|line| source_repository(line)),
            licenses: owned("license_expression").or_else(|| owned("license")).into_iter().collect(),
            description: owned("description"),
            requires_dist: self.all("requires_dist"),
        }
    }
}

/// The URL of a `Project-URL` line whose label means the source.
fn source_repository(line: &str) -> Option<String> {
    let (label, url) = line.split_once(',')?;
    matches!(label.trim().to_ascii_lowercase().as_str(), "source" | "source code" | "repository" | "github")
        .then(|| url.trim().to_owned())
}

async fn publish(plane: &DataPlane, key: RepositoryKey, mut form: ReceivedForm) -> Result<(), UploadRejection> {
    if form.get(":action") != Some("file_upload") {
        return Err(bad("The form's :action is not file_upload"));
    }
    let Some((name, bytes)) = form.file.take() else {
        return Err(bad("The form has no content"));
    };
    let project = form.get("name").and_then(|name| ProjectName::parse(name).ok());
    let project = project.ok_or_else(|| bad("The name is not valid"))?;
    let version = form.get("version").ok_or_else(|| bad("The form has no version"))?.to_owned();
    if name.distribution().is_none_or(|distribution| distribution.project != project) {
        return Err(bad(format!("{name} is not a file name for {project}")));
    }
    check_digests(&form, &bytes)?;
    let mut new = NewAsset {
        project,
        version,
        requires_python: form.get("requires_python").map(str::to_owned),
        metadata: form.metadata(),
        name,
    };
    complete_from_wheel(&mut new, &bytes).await;
    let oddities = plane.shared.oddities.get();
    guard_upstreams(plane, &key, &new).await?;
    match plane.shared.store.publish(key, new, bytes).await {
        Ok(PublishOutcome::Unchanged) if oddities.same_bytes == 409 => {
            Err(UploadRejection::Because(StatusCode::CONFLICT, "The asset already exists".to_owned()))
        }
        Ok(_) => Ok(()),
        Err(PublishRefusal::Store(error)) => Err(error.into()),
        Err(refused) => {
            let status = match refused {
                PublishRefusal::Blocked(_) => StatusCode::from_u16(oddities.blocked).unwrap_or(StatusCode::FORBIDDEN),
                PublishRefusal::TooManyAssets => StatusCode::BAD_REQUEST,
                PublishRefusal::OtherBytes(_) | PublishRefusal::State { .. } | PublishRefusal::Store(_) => {
                    StatusCode::CONFLICT
                }
            };
            Err(UploadRejection::Because(status, refused.to_string()))
        }
    }
}

fn check_digests(form: &ReceivedForm, bytes: &SpooledBlob) -> Result<(), UploadRejection> {
    for (field, found) in [("sha256_digest", &bytes.hashes.sha256), ("md5_digest", &bytes.hashes.md5)] {
        if let (Some(said), Some(found)) = (form.get(field), found)
            && !said.eq_ignore_ascii_case(found)
        {
            return Err(bad(format!("The {field} does not agree with the content")));
        }
    }
    Ok(())
}

/// Completes the form from a wheel's own metadata; a file that is not a readable wheel keeps the form's values.
async fn complete_from_wheel(new: &mut NewAsset, bytes: &SpooledBlob) {
    let Some(says) = wheel_metadata::of_wheel(bytes.path().to_owned(), &new.name).await else { return };
    new.requires_python = new.requires_python.take().or(says.requires_python);
    let (form, wheel) = (&mut new.metadata, says.metadata);
    form.summary = form.summary.take().or(wheel.summary);
    form.home_page = form.home_page.take().or(wheel.home_page);
    form.description = form.description.take().or(wheel.description);
    if form.licenses.is_empty() {
        form.licenses = wheel.licenses;
    }
    if form.requires_dist.is_empty() {
        form.requires_dist = wheel.requires_dist;
    }
}

/// Refuses a version that an upstream or the public index has, unless the origin controls keep those out. A public
/// index that is unreachable refuses nothing.
async fn guard_upstreams(plane: &DataPlane, key: &RepositoryKey, new: &NewAsset) -> Result<(), UploadRejection> {
    let own = plane.shared.store.package(key, &new.project).ok();
    // If the package accepts no publishing at all, the store refuses it, with its own status.
    let closed = own.as_ref().is_some_and(|package| {
        let OriginRestrictions { publish, upstream } = package.restrictions;
        publish == OriginRestriction::Block || upstream == OriginRestriction::Block
    });
    let present = own.as_ref().is_some_and(|package| package.versions.contains_key(&new.version));
    if closed || present {
        return Ok(());
    }
    let (view, _) = plane.view(key, &new.project).await?;
    match view.get(&new.version) {
        Some(found) if !found.own => {
            let text = format!("Version {} of {} exists in an upstream", new.version, new.project);
            Err(UploadRejection::Because(StatusCode::CONFLICT, text))
        }
        _ => Ok(()),
    }
}

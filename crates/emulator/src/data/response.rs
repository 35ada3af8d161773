//! The responses that several requests share: short JSON messages, challenges, pages.

use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::store::{RepositoryKey, StoreError};

/// A status with `{"message": …}`.
pub(super) fn message(status: StatusCode, text: &str) -> Response {
    let body = json!({ "message": text }).to_string();
    with_type(status, "application/json", body)
}

/// A status with a body of some type.
pub(super) fn with_type(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

pub(super) fn not_found(text: &str) -> Response {
    message(StatusCode::NOT_FOUND, text)
}

/// 401 with its two challenges, Bearer first.
pub(super) fn unauthorized(key: &RepositoryKey) -> Response {
    let mut response = message(StatusCode::UNAUTHORIZED, "Unauthenticated: request did not include valid credentials");
    let realm = format!("Basic realm=\"{}/{}\"", key.domain, key.name);
    let basic = HeaderValue::from_str(&realm).unwrap_or(HeaderValue::from_static("Basic realm=\"codeartifact\""));
    response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response.headers_mut().append(WWW_AUTHENTICATE, basic);
    response
}

/// The response for an error of the store.
pub(super) fn store_error(error: &StoreError) -> Response {
    match error {
        StoreError::NotFound { .. } => not_found(&error.to_string()),
        StoreError::Conflict { .. } => message(StatusCode::CONFLICT, &error.to_string()),
        StoreError::Quota { .. } | StoreError::Validation(_) => message(StatusCode::BAD_REQUEST, &error.to_string()),
        StoreError::Disk { .. } | StoreError::Panicked(_) => {
            tracing::error!(%error, "the emulator's store failed");
            message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
        }
    }
}

/// 200 with a page, compressed if the client accepts gzip.
pub(super) fn page(media_type: &'static str, body: Vec<u8>, accept_encoding: Option<&str>, head: bool) -> Response {
    let zipped = accept_encoding.is_some_and(|text| text.contains("gzip")).then(|| gzip(&body)).flatten();
    let encoded = zipped.is_some();
    let body = zipped.unwrap_or(body);
    let length = body.len();
    let mut response = with_type(StatusCode::OK, media_type, if head { Vec::new() } else { body });
    if encoded {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

//! The service's errors: code, status, and the members their shapes have, written the rest-json way.
//!
//! Shapes and status numbers are those of the service model 2018-09-22; the signature errors are those that every
//! service of this protocol returns. `sts` writes the same faults as XML.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use crate::sigv4::SignatureError;
use crate::store::StoreError;

/// An error response of the control plane or of STS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFault {
    /// The status code of the response.
    pub status: StatusCode,
    /// The code by which SDKs tell errors apart, such as `ResourceNotFoundException`.
    pub code: &'static str,
    /// A sentence for the reader of a log.
    pub message: String,
    /// Further members of the shape: `resourceId`, `resourceType`, `reason`.
    members: Vec<(&'static str, String)>,
    /// `Retry-After`, in seconds.
    retry_after: Option<u32>,
}

impl CallFault {
    /// Any error, by its parts.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), members: Vec::new(), retry_after: None }
    }

    /// A value that does not satisfy its constraint.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message).with("reason", "FIELD_VALIDATION_FAILED")
    }

    /// A body that cannot be read.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message).with("reason", "CANNOT_PARSE")
    }

    /// There is no such resource; `kind` is one of the model's resource types.
    pub fn not_found(message: impl Into<String>, kind: &str, id: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
            .with("resourceId", id)
            .with("resourceType", kind)
    }

    /// The principal may not do this.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", message)
    }

    /// Too many requests; SDKs wait for `seconds` before they try again.
    pub fn throttling(seconds: u32) -> Self {
        let mut fault = Self::new(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", "Rate exceeded");
        fault.retry_after = Some(seconds);
        fault
    }

    /// The service itself failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException", message)
    }

    /// The path and method name no operation.
    pub fn unknown_operation() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UnknownOperationException", "Unknown operation")
    }

    /// The service has this operation, the emulator does not.
    pub fn not_emulated(operation: &str) -> Self {
        let message = format!("{operation} is not emulated");
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplementedException", message)
    }

    fn with(mut self, member: &'static str, value: impl Into<String>) -> Self {
        self.members.push((member, value.into()));
        self
    }
}

impl From<SignatureError> for CallFault {
    fn from(error: SignatureError) -> Self {
        let message = error.to_string();
        let (status, code) = match error {
            SignatureError::Missing => (StatusCode::FORBIDDEN, "MissingAuthenticationTokenException"),
            SignatureError::Incomplete(_) => (StatusCode::BAD_REQUEST, "IncompleteSignatureException"),
            SignatureError::Mismatch
            | SignatureError::Scope(_)
            | SignatureError::Expired { .. }
            | SignatureError::NotYet { .. } => (StatusCode::FORBIDDEN, "InvalidSignatureException"),
        };
        Self::new(status, code, message)
    }
}

impl From<StoreError> for CallFault {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound { kind, id } => {
                let mut noun = kind.as_str().replace('-', " ");
                noun[..1].make_ascii_uppercase();
                Self::not_found(format!("{noun} not found. ResourceId: {id}"), kind.as_str(), id)
            }
            StoreError::Conflict { kind, id, .. } => Self::new(StatusCode::CONFLICT, "ConflictException", message)
                .with("resourceId", id)
                .with("resourceType", kind.as_str()),
            StoreError::Quota { kind, id, .. } => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "ServiceQuotaExceededException", message)
                    .with("resourceId", id)
                    .with("resourceType", kind.as_str())
            }
            StoreError::Validation(_) => Self::validation(message),
            StoreError::Disk { .. } | StoreError::Panicked(_) => {
                tracing::error!(error = message, "the emulator's store failed");
                Self::internal("Internal server error")
            }
        }
    }
}

impl IntoResponse for CallFault {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert("__type".to_owned(), Value::from(self.code));
        body.insert("message".to_owned(), Value::from(self.message));
        body.extend(self.members.into_iter().map(|(member, value)| (member.to_owned(), Value::from(value))));
        let mut response = (
            self.status,
            [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (header::HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(self.code)),
            ],
            Value::Object(body).to_string(),
        )
            .into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

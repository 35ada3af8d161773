//! The query of a request to the listener for operations. What is wrong with it is said in words of our own, as all
//! other refusals there are.

use std::error::Error as _;
use std::fmt;

use axum::extract::{FromRequestParts, Query};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use wheelport_index::shortened;

/// The longest reason that is repeated, in characters: it may hold what was sent.
const LONGEST_REASON: usize = 200;

/// A query that could be read.
pub(super) struct OpsQuery<T>(pub(super) T);

/// One that could not.
#[derive(Debug)]
pub(super) struct BadQuery(String);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for OpsQuery<T> {
    type Rejection = BadQuery;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, BadQuery> {
        let unreadable = |rejection: axum::extract::rejection::QueryRejection| {
            let reason = rejection.source().map_or_else(|| "it cannot be read".to_owned(), ToString::to_string);
            BadQuery(shortened(&reason, LONGEST_REASON).into_owned())
        };
        Query::try_from_uri(&parts.uri).map(|Query(query)| Self(query)).map_err(unreadable)
    }
}

impl fmt::Display for BadQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this query is not understood: {}", self.0)
    }
}

impl IntoResponse for BadQuery {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, format!("{self}\n")).into_response()
    }
}

//! Who may use the listener for operations: by host name, never for web pages of others, and with a secret where one is
//! set.
//!
//! Host names are checked because of DNS rebinding, as on the listener for clients. Addresses are always welcome: no
//! page of another site can be at one, and monitoring uses them.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::sync::Arc;

use super::Site;
use crate::identity::{SecretDigest, presented_token};
use wheelport_runtime::sabotaged;

/// The secrets of operators; none by default.
#[derive(Debug, Clone, Default)]
pub struct OperatorSecrets {
    /// For everything but probes and metrics.
    pub operations: Option<SecretDigest>,
    /// For metrics.
    pub metrics: Option<SecretDigest>,
}

fn presents(headers: &HeaderMap, secret: &SecretDigest) -> bool {
    presented_token(headers).is_some_and(|token| secret.is_presented(&token))
}

/// Lets a request of an operator in. Probes pass by any name and without a secret.
pub(super) async fn admit(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let (headers, path) = (request.headers(), request.uri().path());
    if matches!(path, "/healthz" | "/readyz") {
        return next.run(request).await;
    }
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let host = match site.hosts.check_operator(headers, authority) {
        Ok(host) => host,
        Err(refusal) => return (StatusCode::MISDIRECTED_REQUEST, format!("{refusal}\n")).into_response(),
    };
    if !request.method().is_safe() && site.hosts.cross_site(headers, &host) && !sabotaged("purge-cross-site") {
        return (StatusCode::FORBIDDEN, "requests from web pages may not change anything here\n").into_response();
    }
    let secrets = &site.operators;
    let needed = if path == "/metrics" { &secrets.metrics } else { &secrets.operations };
    let is_missing = needed.as_ref().is_some_and(|secret| !presents(headers, secret));
    if is_missing && !sabotaged("operations-secret") {
        let text = "this needs the operators' secret, as a bearer token or as the password of basic authentication\n";
        let mut response = (StatusCode::UNAUTHORIZED, text).into_response();
        let challenge = HeaderValue::from_static("Basic realm=\"wheelport operations\", charset=\"UTF-8\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return response;
    }
    next.run(request).await
}

//! Authentication for both emulated services: reads a bounded body, checks the signature, returns the principal.

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use super::fault::CallFault;
use super::identity::Identities;
use crate::sigv4::{SignatureClaim, SignatureError};
use crate::store::Principal;

/// The largest body read, in bytes.
const MAX_BODY: usize = 8 << 20;

/// The headers and the complete body of a request.
pub(super) async fn read(request: Request<Body>) -> Result<(Parts, Bytes), CallFault> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| {
        CallFault::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException", "Request body is too large")
    })?;
    Ok((parts, body.to_bytes()))
}

/// Checks signatures against the known keys and the expected scope.
pub(super) struct Authenticator<'a> {
    pub identities: &'a Identities,
    /// The service the scope must name.
    pub service: &'static str,
    /// The region the scope must name; any if `None`.
    pub region: Option<&'a str>,
    pub now: u64,
}

impl Authenticator<'_> {
    /// The principal that signed this request. As in the service, the key is looked up first, then the time is checked,
    /// then the signature: a caller with a wrong clock learns of the clock even if its signature is wrong, too.
    pub(super) fn authenticate(&self, parts: &Parts, body: &[u8]) -> Result<Principal, CallFault> {
        let claim = SignatureClaim::read(parts)?;
        let principal = self.identities.find(&claim.access_key, claim.session_token.as_deref(), self.now)?;
        if claim.service != self.service {
            return Err(SignatureError::Scope(format!("correct service: '{}'.", self.service)).into());
        }
        if self.region.is_some_and(|region| region != claim.region) {
            return Err(SignatureError::Scope("a valid region.".to_owned()).into());
        }
        claim.check_time(self.now)?;
        claim.verify(parts, body, &principal.secret_access_key)?;
        Ok(principal)
    }
}

//! The emulator's control plane: every `CodeArtifact` operation that its store can support, and a stand-in
//! for the Security Token Service, on one listener.
//!
//! A request passes, in this order: the operation's address (`operation`), injected faults ([`FaultQueue`]), the
//! signature (`authentication`), the parameters (`call`), the principal's rights and the handler (`dispatch`). Requests
//! to `/` speak the query protocol and go to `sts`; those of a credential chain go to `instance_metadata`. The state is
//! the store's; this module adds no memory but the injected faults. Package formats other than `pypi` are understood
//! and always empty.

mod authentication;
mod call;
mod dispatch;
mod domains;
mod fault;
mod faults;
mod groups;
mod identity;
mod instance_metadata;
mod operation;
mod packages;
mod policies;
mod repositories;
mod shape;
mod state;
mod sts;
mod tags;
#[cfg(test)]
mod tests;
mod token;
mod versions;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Request, header};

use self::authentication::Authenticator;
use self::call::OperationCall;
use self::identity::Identities;
use self::state::ControlState;
use crate::shared::{EmulatorState, request_id};
use crate::sigv4::query_pairs;

pub use self::fault::CallFault;
pub use self::faults::FaultQueue;
pub use self::identity::{
    DEFAULT_ACCESS_KEY, DEFAULT_ACCOUNT, DEFAULT_SECRET_KEY, IdentitySettings, PrincipalSettings, RoleSettings,
};
pub use self::operation::Operation;

/// Who may call the control plane, and how.
#[derive(Debug, Clone, Default)]
pub struct ControlSettings {
    /// Refuse a signature for another region, as the service does.
    pub only_this_region: bool,
    /// The principals and roles beyond the defaults.
    pub identities: IdentitySettings,
}

/// The control plane of one emulator. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ControlService {
    inner: Arc<ControlState>,
}

impl ControlService {
    pub(crate) fn new(shared: Arc<EmulatorState>, settings: ControlSettings) -> Self {
        let ControlSettings { only_this_region, identities } = settings;
        let identities = Identities::new(identities, shared.store.clone());
        Self { inner: Arc::new(ControlState { shared, only_this_region, identities, faults: FaultQueue::default() }) }
    }

    /// The queue into which tests inject errors.
    pub(crate) fn faults(&self) -> &FaultQueue {
        &self.inner.faults
    }
}

/// The routes of the control listener.
pub(crate) fn router(control: ControlService) -> Router {
    Router::new().fallback(handle).with_state(control)
}

async fn handle(State(control): State<ControlService>, request: Request<Body>) -> Response {
    let control = &*control.inner;
    let latency = control.shared.oddities.get().latency.0;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let served = match request.uri().path() {
        "/" => serve_sts(control, request).await,
        path if instance_metadata::serves(path) => Ok(serve_metadata(control, request).await),
        _ => serve_control(control, request).await,
    };
    let mut response = served.unwrap_or_else(IntoResponse::into_response);
    control.shared.stats.status(response.status().as_u16());
    let headers = response.headers_mut();
    let request_id = HeaderValue::from_str(&request_id()).unwrap_or_else(|_| HeaderValue::from_static("-"));
    headers.insert(HeaderName::from_static("x-amzn-requestid"), request_id);
    // SDKs correct their clock by this header, so it must be the clock that signatures are checked against.
    let date = httpdate::fmt_http_date(control.shared.clock.now());
    if let Ok(date) = HeaderValue::from_str(&date) {
        headers.insert(header::DATE, date);
    }
    response
}

async fn serve_sts(control: &ControlState, request: Request<Body>) -> Result<Response, CallFault> {
    let (parts, body) = authentication::read(request).await?;
    control.shared.stats.request("sts");
    let request = sts::StsRequest { identities: &control.identities, now: control.now(), parts: &parts, body: &body };
    Ok(sts::respond(&request).await.map(Body::from))
}

async fn serve_metadata(control: &ControlState, request: Request<Body>) -> Response {
    control.shared.stats.request("metadata");
    let (parts, _) = request.into_parts();
    instance_metadata::respond(&control.identities, control.region(), control.now(), &parts).await.map(Body::from)
}

async fn serve_control(control: &ControlState, request: Request<Body>) -> Result<Response, CallFault> {
    let operation = Operation::find(request.method(), request.uri().path()).ok_or_else(CallFault::unknown_operation)?;
    control.shared.stats.request(operation.as_str());
    if let Some(fault) = control.faults.take(operation) {
        return Err(fault);
    }
    let (parts, body) = authentication::read(request).await?;
    let region = control.region();
    let authenticator = Authenticator {
        identities: &control.identities,
        service: "codeartifact",
        region: control.only_this_region.then_some(region),
        now: control.now(),
    };
    let caller = authenticator.authenticate(&parts, &body)?;
    // The body of this one operation is bytes.
    let members: &[u8] = if operation == Operation::PublishPackageVersion { &[] } else { &body };
    let call = OperationCall::new(caller, query_pairs(&parts), members)?;
    dispatch::authorize(control, operation, &call)?;
    tracing::debug!(operation = operation.as_str(), principal = call.caller.arn, "control plane");
    if operation == Operation::GetPackageVersionAsset {
        return versions::asset(control, &call).await;
    }
    let body = dispatch::perform(control, operation, &call).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response())
}

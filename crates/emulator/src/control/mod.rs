//! The emulator's control plane: every `CodeArtifact` operation that its store can give a meaning to, and a stand-in
//! for the Security Token Service, on one listener.
//!
//! A request passes, in this order: the operation's address (`operation`), injected faults ([`Faults`]), the signature
//! (`gate`), the parameters (`call`), the principal's rights (`identity`), the handler. Requests to `/` speak the query
//! protocol and go to `sts`, those of a credential chain go to `metadata`. The state is the store's; this module adds no memory but the injected faults. Package
//! formats other than `pypi` are understood and always empty.

pub mod call;
mod domains;
pub mod fault;
pub mod gate;
mod groups;
pub mod identity;
mod operation;
mod packages;
mod policies;
mod repositories;
mod shape;
mod tags;
#[cfg(test)]
mod tests;
mod token;
mod versions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Request, header};
use serde_json::Value;

use call::{Call, Resource};
pub use fault::Fault;
use gate::Lock;
pub use identity::{
    DEFAULT_ACCESS_KEY, DEFAULT_ACCOUNT, DEFAULT_SECRET_KEY, Identities, IdentitySettings, PrincipalSettings,
    RoleSettings,
};
pub use operation::Operation;

use super::access::{self, Subject};
use super::metadata;
use super::shared::Shared;
use super::sigv4::query_pairs;
use super::store::{Store, Timestamp};
use super::sts;

/// What the control plane is told from outside.
#[derive(Debug, Clone, Default)]
pub struct ControlSettings {
    /// Whether a signature for another region is refused, as the service does it.
    pub only_this_region: bool,
    /// Who may call.
    pub identities: IdentitySettings,
}

/// Errors to give instead of answers; tests put them in, each is given once.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    waiting: Arc<Mutex<HashMap<Operation, Vec<Fault>>>>,
}

impl Faults {
    /// Lets the next request for `operation` fail with `fault`; several wait in the order they came.
    pub fn inject(&self, operation: Operation, fault: Fault) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(operation).or_default().push(fault);
    }

    fn take(&self, operation: Operation) -> Option<Fault> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = waiting.get_mut(&operation).filter(|queue| !queue.is_empty())?;
        Some(queue.remove(0))
    }
}

/// The control plane's parts. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

/// What handlers work with.
struct Inner {
    shared: Arc<Shared>,
    only_this_region: bool,
    identities: Identities,
    faults: Faults,
}

impl Inner {
    fn store(&self) -> &Store {
        &self.shared.store
    }

    fn region(&self) -> &str {
        &self.shared.region
    }

    /// The newest moment of publishing that listings show already.
    fn listed_until(&self) -> Timestamp {
        let lag = u64::try_from(self.shared.oddities.get().list_lag.0.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.store().now().0.saturating_sub(lag))
    }

    /// Seconds since the epoch.
    fn now(&self) -> u64 {
        self.shared.clock.unix_seconds()
    }
}

impl Control {
    /// A control plane over what both planes share.
    pub fn new(shared: Arc<Shared>, settings: ControlSettings) -> Self {
        let ControlSettings { only_this_region, identities } = settings;
        let identities = Identities::new(identities, shared.store.clone());
        Self { inner: Arc::new(Inner { shared, only_this_region, identities, faults: Faults::default() }) }
    }

    /// Where tests put errors in.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }
}

/// Everything the control listener serves.
pub fn router(control: Control) -> Router {
    Router::new().fallback(serve).with_state(control)
}

async fn serve(State(control): State<Control>, request: Request<Body>) -> Response {
    let control = &*control.inner;
    let latency = control.shared.oddities.get().latency.0;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let served = match request.uri().path() {
        "/" => serve_sts(control, request).await,
        path if metadata::serves(path) => Ok(serve_metadata(control, request).await),
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

async fn serve_sts(control: &Inner, request: Request<Body>) -> Result<Response, Fault> {
    let (parts, body) = gate::read(request).await?;
    control.shared.stats.request("sts");
    let request = sts::Request { identities: &control.identities, now: control.now(), parts: &parts, body: &body };
    Ok(sts::answer(&request).await.map(Body::from))
}

async fn serve_metadata(control: &Inner, request: Request<Body>) -> Response {
    control.shared.stats.request("metadata");
    let (parts, _) = request.into_parts();
    metadata::answer(&control.identities, control.region(), control.now(), &parts).await.map(Body::from)
}

async fn serve_control(control: &Inner, request: Request<Body>) -> Result<Response, Fault> {
    let operation = Operation::find(request.method(), request.uri().path()).ok_or_else(Fault::unknown_operation)?;
    control.shared.stats.request(operation.as_str());
    if let Some(fault) = control.faults.take(operation) {
        return Err(fault);
    }
    let (parts, body) = gate::read(request).await?;
    let region = control.region();
    let lock = Lock {
        identities: &control.identities,
        service: "codeartifact",
        region: control.only_this_region.then_some(region),
        now: control.now(),
    };
    let caller = lock.admit(&parts, &body)?;
    // The one operation whose body is bytes.
    let members: &[u8] = if operation == Operation::PublishPackageVersion { &[] } else { &body };
    let call = Call::new(caller, query_pairs(&parts), members)?;
    authorize(control, operation, &call)?;
    tracing::debug!(operation = operation.as_str(), principal = call.caller.arn, "control plane");
    if operation == Operation::GetPackageVersionAsset {
        return versions::asset(control, &call).await;
    }
    let answer = perform(control, operation, &call).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
}

/// Refuses what the caller may not do with the resource the call names.
fn authorize(control: &Inner, operation: Operation, call: &Call) -> Result<(), Fault> {
    let (caller, action) = (&call.caller, operation.action());
    let resource = call.resource(control.region())?;
    let decision = match &resource {
        Resource::Any(_) => return identity::authorize(caller, &action, resource.as_str()),
        // A new domain belongs to its creator, whoever else has one of that name.
        Resource::InDomain { .. } if operation == Operation::CreateDomain => {
            return identity::authorize(caller, &action, resource.as_str());
        }
        Resource::InDomain { domain, repository, .. } => {
            let subject = Subject { arn: &caller.arn, allowed: &caller.allowed };
            access::decide(control.store(), subject, &action, domain, repository.as_ref())
        }
    };
    match decision.refusal(&caller.arn, &action, resource.as_str()) {
        Some(message) => Err(Fault::denied(message)),
        None => Ok(()),
    }
}

async fn perform(control: &Inner, operation: Operation, call: &Call) -> Result<Value, Fault> {
    use Operation as O;
    match operation {
        O::GetAuthorizationToken => token::get(control, call).await,
        O::CreateDomain => domains::create(control, call).await,
        O::DescribeDomain => domains::describe(control, call),
        O::DeleteDomain => domains::delete(control, call).await,
        O::ListDomains => domains::list(control, call),
        O::CreateRepository => repositories::create(control, call).await,
        O::DescribeRepository => repositories::describe(control, call),
        O::UpdateRepository => repositories::update(control, call).await,
        O::DeleteRepository => repositories::delete(control, call).await,
        O::ListRepositories => repositories::list(control, call),
        O::ListRepositoriesInDomain => repositories::list_in_domain(control, call),
        O::AssociateExternalConnection => repositories::connect(control, call).await,
        O::DisassociateExternalConnection => repositories::disconnect(control, call).await,
        O::GetRepositoryEndpoint => repositories::endpoint(control, call),
        O::GetDomainPermissionsPolicy => policies::get_of_domain(control, call),
        O::PutDomainPermissionsPolicy => policies::put_of_domain(control, call).await,
        O::DeleteDomainPermissionsPolicy => policies::delete_of_domain(control, call).await,
        O::GetRepositoryPermissionsPolicy => policies::get_of_repository(control, call),
        O::PutRepositoryPermissionsPolicy => policies::put_of_repository(control, call).await,
        O::DeleteRepositoryPermissionsPolicy => policies::delete_of_repository(control, call).await,
        O::ListPackages => packages::list(control, call),
        O::DescribePackage => packages::describe(control, call),
        O::PutPackageOriginConfiguration => packages::restrict(control, call).await,
        O::DeletePackage => packages::delete(control, call).await,
        O::ListPackageVersions => versions::list(control, call),
        O::DescribePackageVersion => versions::describe(control, call),
        O::ListPackageVersionAssets => versions::assets(control, call),
        O::ListPackageVersionDependencies => versions::dependencies(control, call),
        O::GetPackageVersionReadme => versions::readme(control, call),
        O::UpdatePackageVersionsStatus => versions::set_status(control, call).await,
        O::DisposePackageVersions => versions::dispose(control, call).await,
        O::DeletePackageVersions => versions::delete(control, call).await,
        O::CopyPackageVersions => versions::copy(control, call).await,
        O::PublishPackageVersion => versions::publish(call),
        O::TagResource => tags::add(control, call).await,
        O::UntagResource => tags::remove(control, call).await,
        O::ListTagsForResource => tags::list(control, call),
        O::ListPackageGroups => groups::list(control, call),
        O::DescribePackageGroup => groups::describe(control, call),
        O::GetAssociatedPackageGroup => groups::associated(control, call),
        O::GetPackageVersionAsset
        | O::CreatePackageGroup
        | O::DeletePackageGroup
        | O::ListAllowedRepositoriesForGroup
        | O::ListAssociatedPackages
        | O::ListSubPackageGroups
        | O::UpdatePackageGroup
        | O::UpdatePackageGroupOriginConfiguration => Err(Fault::not_emulated(operation.as_str())),
    }
}

/// A random id in the form of a UUID.
pub fn request_id() -> String {
    let bits = fastrand::u128(..);
    let text = format!("{bits:032x}");
    format!("{}-{}-4{}-a{}-{}", &text[..8], &text[8..12], &text[13..16], &text[17..20], &text[20..])
}

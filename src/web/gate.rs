//! Who may read, and who may publish: one decision for every address, made before anything is looked up.
//!
//! So a request that may not read gets the same response, with the same work behind it, whatever exists. Routes that
//! are open never look at credentials.

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::HeaderMap;

use super::Site;
use super::address::{Address, RouteId};
use super::eventual::Eventual;
use super::guard::{ReadPolicy, UploadPolicy};
use super::problem::Problem;
use super::refusal::Refusal;
use crate::identity::{Identity, IdentityKind, Limited, NotSettled, Recognition, presented_token};
use wheelport_index::ProjectName;
use wheelport_runtime::sabotaged;

/// The reader of an address; no one in particular where it is open.
pub(super) fn reader(
    site: &Arc<Site>,
    address: &Address,
    is_download: bool,
    credentials: &HeaderMap,
) -> Eventual<Option<Arc<Identity>>> {
    let Some(route) = address.reads().filter(|route| site.routes[route.0].read == ReadPolicy::Identity) else {
        return Eventual::Now(Ok(None));
    };
    if sabotaged("read-gate") {
        return Eventual::Now(Ok(None));
    }
    let Some(token) = presented_token(credentials) else {
        return Eventual::Now(may_read(site, route, is_download, None));
    };
    match site.identities.recognise(&token) {
        Recognition::Known(identity) => Eventual::Now(may_read(site, route, is_download, Some(Ok(identity)))),
        Recognition::Refused(fault) => Eventual::Now(may_read(site, route, is_download, Some(Err(fault.into())))),
        Recognition::Unsettled(token) => {
            let site = Arc::clone(site);
            Eventual::Later(
                async move {
                    let identity = site.identities.settle(token).await;
                    may_read(&site, route, is_download, Some(identity))
                }
                .boxed(),
            )
        }
    }
}

/// Decides about a reader, and counts the decision.
fn may_read(
    site: &Site,
    RouteId(position): RouteId,
    is_download: bool,
    shown: Option<Result<Arc<Identity>, NotSettled>>,
) -> Result<Option<Arc<Identity>>, Problem> {
    let route = &site.routes[position].route.name;
    let metrics = site.identities.metrics();
    let identity = match shown {
        None => {
            metrics.decided("none", "missing");
            return Err(Refusal::ReadUnauthorized { route: Arc::clone(route), fault: None }.into());
        }
        Some(Err(NotSettled::Fault(fault))) => {
            metrics.decided("unknown", fault.as_str());
            return Err(Refusal::ReadUnauthorized { route: Arc::clone(route), fault: Some(fault) }.into());
        }
        Some(Err(NotSettled::NoKeys { issuer })) => {
            metrics.decided("unknown", "issuer-unavailable");
            return Err(Refusal::IssuerUnavailable { issuer }.into());
        }
        Some(Ok(identity)) => identity,
    };
    if !identity.grants.may_read(route) && !sabotaged("read-grant") {
        metrics.decided(identity.kind.as_str(), "forbidden");
        let (route, identity) = (Arc::clone(route), Arc::clone(&identity.name));
        return Err(Refusal::ReadForbidden { route, identity }.into());
    }
    if is_download {
        within_limit(site, &identity, Limited::Download)?;
    }
    metrics.accepted(identity.kind);
    Ok(Some(identity))
}

fn within_limit(site: &Site, identity: &Identity, what: Limited) -> Result<(), Refusal> {
    site.identities.take(identity, what).map_err(|wait| {
        site.identities.metrics().decided(identity.kind.as_str(), "limited");
        Refusal::IdentityLimit { identity: Arc::clone(&identity.name), wait_seconds: wait.as_secs() + 1 }
    })
}

/// Who publishes through a route; `None` where that takes no identity.
pub(super) async fn publisher(
    site: &Site,
    RouteId(position): RouteId,
    credentials: &HeaderMap,
) -> Result<Option<Arc<Identity>>, Refusal> {
    let of = &site.routes[position];
    let name = &of.route.name;
    match of.upload {
        UploadPolicy::Off | UploadPolicy::Token | UploadPolicy::Identity if sabotaged("upload-right") => Ok(None),
        UploadPolicy::Off => Err(Refusal::UploadOff { route: Arc::clone(name) }),
        UploadPolicy::Anonymous => Ok(None),
        UploadPolicy::Token | UploadPolicy::Identity => {
            let identity = known_publisher(site, of.upload, credentials).await?;
            if !identity.grants.may_publish_through(name) {
                site.identities.metrics().decided(identity.kind.as_str(), "forbidden");
                let (route, identity) = (Arc::clone(name), Arc::clone(&identity.name));
                return Err(Refusal::UploadRouteForbidden { route, identity });
            }
            within_limit(site, &identity, Limited::Upload)?;
            site.identities.metrics().accepted(identity.kind);
            Ok(Some(identity))
        }
    }
}

async fn known_publisher(site: &Site, policy: UploadPolicy, credentials: &HeaderMap) -> Result<Arc<Identity>, Refusal> {
    let metrics = site.identities.metrics();
    let Some(token) = presented_token(credentials) else {
        metrics.decided("none", "missing");
        return Err(Refusal::UploadUnauthorized { fault: None });
    };
    match site.identities.identify(&token).await {
        Ok(identity) if policy == UploadPolicy::Identity || identity.kind == IdentityKind::StaticToken => Ok(identity),
        Ok(identity) => {
            metrics.decided(identity.kind.as_str(), "static-token-needed");
            Err(Refusal::UploadUnauthorized { fault: None })
        }
        Err(NotSettled::Fault(fault)) => {
            metrics.decided("unknown", fault.as_str());
            Err(Refusal::UploadUnauthorized { fault: Some(fault) })
        }
        Err(NotSettled::NoKeys { issuer }) => {
            metrics.decided("unknown", "issuer-unavailable");
            Err(Refusal::IssuerUnavailable { issuer })
        }
    }
}

/// Whether this publisher may publish this project through this route.
pub(super) fn may_publish(
    site: &Site,
    RouteId(position): RouteId,
    publisher: Option<&Identity>,
    project: &ProjectName,
) -> Result<(), Refusal> {
    match publisher {
        Some(identity)
            if !identity.grants.may_publish(&site.routes[position].route.name, project)
                && !sabotaged("upload-scope") =>
        {
            Err(Refusal::UploadForbidden { project: project.clone() })
        }
        _ => Ok(()),
    }
}

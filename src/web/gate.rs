//! Who may read, and who may publish: one decision for every address, made before anything is looked up.
//!
//! So a request that may not read gets the same response, with the same work behind it, whatever exists. Routes that
//! are open never look at credentials.
//!
//! A connection may show a certificate and a request a token. The rights of both count, and the one that gives the
//! right is named. The certificate comes first, because it was verified already; where that gives the right to read,
//! the token is not looked at. Where it does not, everything is as without it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use futures_util::FutureExt as _;

use super::Site;
use super::address::{Address, RouteId};
use super::context::Credentials;
use super::eventual::Eventual;
use super::guard::{ReadPolicy, UploadPolicy};
use super::problem::Problem;
use super::refusal::Refusal;
use crate::identity::{Identity, IdentityKind, Limited, NotSettled, Recognition, ShownCertificate, presented_token};
use wheelport_index::ProjectName;
use wheelport_runtime::{Waits, sabotaged};

/// The reader of an address; no one in particular where it is open.
pub(super) fn reader(
    site: &Arc<Site>,
    address: &Address,
    is_download: bool,
    credentials: &Credentials,
) -> Eventual<Option<Arc<Identity>>> {
    let Some(route) = address.reads().filter(|route| site.routes[route.0].read == ReadPolicy::Identity) else {
        return Eventual::Now(Ok(None));
    };
    if sabotaged("read-gate") {
        return Eventual::Now(Ok(None));
    }
    if let Some(identity) = certified(site, credentials)
        && identity.grants.may_read(&site.route(route).name)
    {
        return Eventual::Now(may_read(site, route, is_download, Some(Ok(identity))));
    }
    let Some(token) = presented_token(&credentials.headers) else {
        return Eventual::Now(may_read(site, route, is_download, None));
    };
    match site.identities.recognise(&token) {
        Recognition::Known(identity) => Eventual::Now(may_read(site, route, is_download, Some(Ok(identity)))),
        Recognition::Refused(fault) => Eventual::Now(may_read(site, route, is_download, Some(Err(fault.into())))),
        Recognition::Unsettled(token) => {
            let site = Arc::clone(site);
            Eventual::Later(
                async move {
                    let identity = Waits::note("identity", site.identities.settle(token)).await;
                    may_read(&site, route, is_download, Some(identity))
                }
                .boxed(),
            )
        }
    }
}

/// Whom the certificate of the connection stands for.
fn certified(site: &Site, credentials: &Credentials) -> Option<Arc<Identity>> {
    let certificate = credentials.certificate.as_ref()?;
    site.identities.certified(&ShownCertificate {
        subject: certificate.subject(),
        dns_names: certificate.dns_names(),
        uris: certificate.uris(),
        ends: certificate.ends().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    })
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

/// Who publishes: the identities that the request shows and that may publish through its route.
pub(super) struct Publisher {
    /// The identity that has the right, as far as that is known.
    named: Arc<Identity>,
    /// Who else may give it.
    other: Option<Arc<Identity>>,
}

impl Publisher {
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.named
    }
}

/// Who publishes through a route; `None` where that takes no identity.
pub(super) async fn publisher(
    site: &Site,
    route: RouteId,
    credentials: &Credentials,
) -> Result<Option<Publisher>, Refusal> {
    let of = &site.routes[route.0];
    let name = &of.route.name;
    match of.upload {
        UploadPolicy::Off | UploadPolicy::Token | UploadPolicy::Identity if sabotaged("upload-right") => Ok(None),
        UploadPolicy::Off => Err(Refusal::UploadOff { route: Arc::clone(name) }),
        UploadPolicy::Anonymous => Ok(None),
        UploadPolicy::Token => {
            let named = by_token(site, name, of.upload, credentials).await?;
            accept(site, Publisher { named, other: None }).map(Some)
        }
        UploadPolicy::Identity => {
            let certified = certified(site, credentials).filter(|identity| identity.grants.may_publish_through(name));
            let publisher = match (certified, by_token(site, name, of.upload, credentials).await) {
                (Some(named), other) => Publisher { named, other: other.ok() },
                (None, token) => Publisher { named: token?, other: None },
            };
            accept(site, publisher).map(Some)
        }
    }
}

fn accept(site: &Site, publisher: Publisher) -> Result<Publisher, Refusal> {
    within_limit(site, &publisher.named, Limited::Upload)?;
    site.identities.metrics().accepted(publisher.named.kind);
    Ok(publisher)
}

/// Whose token gives the right to publish through this route.
async fn by_token(
    site: &Site,
    route: &Arc<str>,
    policy: UploadPolicy,
    credentials: &Credentials,
) -> Result<Arc<Identity>, Refusal> {
    let identity = known_publisher(site, policy, credentials).await?;
    if !identity.grants.may_publish_through(route) {
        site.identities.metrics().decided(identity.kind.as_str(), "forbidden");
        let (route, identity) = (Arc::clone(route), Arc::clone(&identity.name));
        return Err(Refusal::UploadRouteForbidden { route, identity });
    }
    Ok(identity)
}

async fn known_publisher(
    site: &Site,
    policy: UploadPolicy,
    credentials: &Credentials,
) -> Result<Arc<Identity>, Refusal> {
    let metrics = site.identities.metrics();
    let Some(token) = presented_token(&credentials.headers) else {
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

/// Whether this publisher may publish this project through this route; from then on it is named for the identity that
/// may.
pub(super) fn may_publish(
    site: &Site,
    route: RouteId,
    publisher: Option<&mut Publisher>,
    project: &ProjectName,
) -> Result<(), Refusal> {
    let Some(publisher) = publisher else { return Ok(()) };
    let route = &site.route(route).name;
    let may = |identity: &Arc<Identity>| identity.grants.may_publish(route, project);
    if may(&publisher.named) || sabotaged("upload-scope") {
        return Ok(());
    }
    match publisher.other.take().filter(may) {
        Some(other) => {
            publisher.named = other;
            Ok(())
        }
        None => Err(Refusal::UploadForbidden { project: project.clone() }),
    }
}

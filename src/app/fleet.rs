//! What replicas share, put together from the settings: the store with its credentials, Redis, and what the routes are
//! among replicas.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::{RouteSettings, Settings};
use crate::control::{AwsSettings, ControlPlane, DomainId, RoleArn};
use crate::fleet::{
    BudgetPermit, Fleet, FleetSettings, ObjectStore, QuotaBudget, QuotaName, SharedRepository, StoreAccess,
};
use crate::flow::SharedRoute;
use crate::upstream::{Quotas, SharedPermit, SharedQuota, SharedQuotas};
use crate::web::UploadPolicy;
use wheelport_index::Sha256;
use wheelport_runtime::{Clock, Tasks};

use super::StartError;

/// How much of a digest tells endpoints and roles apart, in hexadecimal digits.
const DIGEST: usize = 16;

/// Prepares what is configured. Nothing of it needs to be reachable.
pub(super) async fn start(settings: &Settings, clock: &Clock, tasks: &Tasks) -> Result<Fleet, StartError> {
    let unusable = |error: &dyn std::error::Error| StartError::Fleet(error.to_string());
    let fleet = Fleet::default().with_redis(&settings.fleet, tasks).map_err(|error| unusable(&error))?;
    let Some(access) = store_access(settings).await? else { return Ok(fleet) };
    let store = ObjectStore::new(&settings.fleet, access, clock.clone()).map_err(|error| unusable(&error))?;
    Ok(match store {
        Some(store) => fleet.with_store(store, tasks),
        None => fleet,
    })
}

/// What the processes of a fleet have of CodeArtifact's quotas.
pub(super) fn quotas(settings: &FleetSettings, fleet: &Fleet, tasks: &Tasks) -> Quotas {
    let replicas = settings.replicas.unwrap_or(NonZeroU32::MIN);
    let (fleet, tasks) = (fleet.clone(), tasks.clone());
    let find = move |name: &str, rate: u32, burst: u32| {
        let name: String = name.chars().map(|c| if c == '/' { '.' } else { c }).collect();
        let budget = fleet.budget(QuotaName::parse(&name)?, rate, burst, &tasks)?;
        Some(Arc::new(FleetQuota(budget)) as Arc<dyn SharedQuota>)
    };
    Quotas { shared: settings.redis.is_some().then(|| Arc::new(find) as SharedQuotas), replicas }
}

/// A budget as the rate limiter knows it.
#[derive(Debug)]
struct FleetQuota(QuotaBudget);

impl SharedQuota for FleetQuota {
    fn try_take(&self, now: Instant) -> SharedPermit {
        match self.0.try_take(now) {
            BudgetPermit::Taken => SharedPermit::Taken,
            BudgetPermit::Later(when) => SharedPermit::Later(when),
            BudgetPermit::Away => SharedPermit::Away,
        }
    }

    fn throttled(&self) {
        self.0.throttled();
    }
}

/// The credentials of the process, or those of the role that the settings name for the store.
async fn store_access(settings: &Settings) -> Result<Option<StoreAccess>, StartError> {
    if settings.fleet.store.is_none() {
        return Ok(None);
    }
    let of_routes = settings.routes.first().map(|route| route.aws.clone()).unwrap_or_default();
    let role = settings.fleet.store_role_arn.as_deref().map(RoleArn::parse).transpose();
    let role_arn = role.map_err(|error| StartError::Fleet(error.to_string()))?;
    let plane = ControlPlane::connect(&AwsSettings { role_arn, ..of_routes }).await;
    let region = plane.region().map(|region| region.as_str().to_owned());
    let credentials = plane.provider().await;
    let credentials = credentials.ok_or_else(|| StartError::Fleet("no AWS credentials for the store".to_owned()))?;
    Ok(Some(StoreAccess { region, credentials }))
}

/// What a route is among replicas that are configured alike: the same on each of them.
pub(super) fn shared_route(domain: &DomainId, settings: &RouteSettings) -> Option<SharedRoute> {
    let region = domain.region.as_str();
    let partition = match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let account = domain.owner.as_ref().map_or("own", |owner| owner.as_str());
    let endpoint = settings.endpoint.as_ref().map(|endpoint| digest(endpoint.as_str()));
    let parts = [partition, region, account, domain.name.as_str(), settings.repository.as_str()];
    let parts: Vec<&str> = parts.into_iter().chain(endpoint.as_deref()).collect();
    let repository = SharedRepository::of(&parts).ok()?;
    let role = role(&settings.aws).into();
    Some(SharedRoute { repository, role, takes_uploads: settings.upload != UploadPolicy::Off })
}

/// The name of a role, which says nothing of it and is the same after a restart and on every replica.
pub(super) fn role(aws: &AwsSettings) -> String {
    let AwsSettings { profile, role_arn, external_id, .. } = aws;
    let role_arn = role_arn.as_ref().map(ToString::to_string);
    digest(&[profile, &role_arn, external_id].map(|part| part.as_deref().unwrap_or_default()).join("\0"))
}

fn digest(text: &str) -> String {
    let mut digest = Sha256::of(text.as_bytes()).to_string();
    digest.truncate(DIGEST);
    digest
}

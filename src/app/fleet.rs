//! What replicas share, put together from the settings: the store with its credentials, Redis, and what the routes are
//! among replicas.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::{RouteSettings, Settings};
use crate::control::{AwsSettings, ControlPlane, DomainId, RoleArn};
use crate::fleet::{
    BudgetPermit, EventQueue, Events, Fleet, FleetSettings, ObjectStore, QuotaBudget, QuotaName, SharedRepository,
    StoreAccess,
};
use crate::flow::SharedRoute;
use crate::telemetry::Metrics;
use crate::upstream::{Quotas, SharedPermit, SharedQuota, SharedQuotas};
use crate::web::UploadPolicy;
use wheelport_index::Sha256;
use wheelport_runtime::{Clock, Tasks};

use super::StartError;
use super::fleet_status::EventsAge;

/// How much of a digest tells endpoints and roles apart, in hexadecimal digits.
const DIGEST: usize = 16;

/// Prepares what is configured. Nothing of it needs to be reachable.
pub(super) async fn start(
    settings: &Settings,
    metrics: &Metrics,
    clock: &Clock,
    tasks: &Tasks,
) -> Result<Fleet, StartError> {
    let unusable = |error: &dyn std::error::Error| StartError::Fleet(error.to_string());
    let fleet = Fleet::default().with_redis(&settings.fleet, tasks).map_err(|error| unusable(&error))?;
    let fleet = match &settings.fleet.events {
        Some(queue) => {
            let events = Events::new(EventQueue::new(queue, access(settings, None).await?));
            metrics.register(|registry| registry.register_collector(Box::new(EventsAge(events.clone()))));
            fleet.with_events(events, settings.fleet.events_own)
        }
        None => fleet,
    };
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

/// The access to the store: that of the process, or that of the role that the settings name for it.
async fn store_access(settings: &Settings) -> Result<Option<StoreAccess>, StartError> {
    if settings.fleet.store.is_none() {
        return Ok(None);
    }
    let role = settings.fleet.store_role_arn.as_deref().map(RoleArn::parse).transpose();
    let role = role.map_err(|error| StartError::Fleet(error.to_string()))?;
    access(settings, role).await.map(Some)
}

/// The credentials of the process, or those of a role.
async fn access(settings: &Settings, role_arn: Option<RoleArn>) -> Result<StoreAccess, StartError> {
    let of_routes = settings.routes.first().map(|route| route.aws.clone()).unwrap_or_default();
    let plane = ControlPlane::connect(&AwsSettings { role_arn, ..of_routes }).await;
    let region = plane.region().map(|region| region.as_str().to_owned());
    let credentials = plane.provider().await;
    let credentials = credentials.ok_or_else(|| StartError::Fleet("there are no AWS credentials".to_owned()))?;
    Ok(StoreAccess { region, credentials })
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

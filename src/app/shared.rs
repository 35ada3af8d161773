//! What the process shares with other replicas, from its settings.

use super::StartError;
use crate::config::Settings;
use crate::control::{AwsSettings, ControlPlane, RoleArn};
use crate::fleet::{Fleet, ObjectStore, StoreAccess};
use wheelport_runtime::{Clock, Tasks};

/// The parts of `[fleet]` that are configured. None of them has to be reachable.
pub(super) async fn fleet(settings: &Settings, clock: &Clock, tasks: &Tasks) -> Result<Fleet, StartError> {
    let refuse = |error: &dyn std::error::Error| StartError::Fleet(error.to_string());
    let (fleet, shared) = (Fleet::default(), &settings.fleet);
    let fleet = fleet.with_redis(shared, tasks).map_err(|error| refuse(&error))?;
    if shared.store.is_none() {
        return Ok(fleet);
    }
    let access = store_access(settings).await?;
    let store = ObjectStore::new(shared, access, clock.clone()).map_err(|error| refuse(&error))?;
    Ok(match store {
        Some(store) => fleet.with_store(store, tasks),
        None => fleet,
    })
}

/// The credentials of the process, or of the role for the store; never those of a route.
async fn store_access(settings: &Settings) -> Result<StoreAccess, StartError> {
    let role_arn = settings.fleet.store_role_arn.as_deref().map(RoleArn::parse).transpose();
    let role_arn = role_arn.map_err(|error| StartError::Fleet(error.to_string()))?;
    let emulator = settings.routes.first().and_then(|route| route.aws.emulator.clone());
    let plane = ControlPlane::connect(&AwsSettings { role_arn, emulator, ..AwsSettings::default() }).await;
    let credentials = plane.credentials_provider();
    let credentials = credentials.ok_or_else(|| StartError::Fleet("there is no AWS chain of credentials".into()))?;
    Ok(StoreAccess { region: plane.region().map(|region| region.to_string()), credentials })
}

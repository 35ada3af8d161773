//! The rules, and where what operators grant is kept.

use std::io;
use std::sync::Arc;

use super::StartError;
use crate::cache::{Disk, GrantRecord};
use crate::config::Settings;
use crate::policy::{GrantStore, PolicyHandle, watch};
use wheelport_runtime::{Clock, Tasks, blocking};

impl GrantStore for GrantRecord {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        self.read()
    }

    fn save(&self, record: &[u8]) -> io::Result<()> {
        self.write(record)
    }
}

/// Reads the rules, and looks at them until the process stops.
pub(super) async fn start(
    settings: &Settings,
    disk: &Arc<Disk>,
    clock: &Clock,
    tasks: &Tasks,
) -> Result<PolicyHandle, StartError> {
    let (settings, record, clock) = (settings.policy.clone(), GrantRecord::new(Arc::clone(disk)), clock.clone());
    let policy = blocking(move || watch(settings, Box::new(record), clock)).await;
    let policy = policy.map_err(|panicked| StartError::Rules(panicked.to_string()))?;
    let policy = policy.map_err(|error| StartError::Rules(error.to_string()))?;
    policy.keep(tasks);
    Ok(policy)
}

//! Credentials for the store, held until shortly before they expire: the chain behind them asks a metadata service or
//! STS each time.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::error::StoreError;
use wheelport_runtime::Clock;

/// How long before they expire credentials are replaced.
const EARLY: Duration = Duration::from_mins(5);
/// How long credentials without an end are used before the chain is asked again.
const HELD_FOR: Duration = Duration::from_mins(10);
/// How long the chain may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest reason that is shown, in characters.
const REASON: usize = 300;
/// After a failure the chain is left alone for this long.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) struct HeldCredentials {
    provider: SharedCredentialsProvider,
    clock: Clock,
    held: Mutex<HeldState>,
}

#[derive(Default)]
struct HeldState {
    credentials: Option<Credentials>,
    renew_at: Option<SystemTime>,
    failed: Option<(Instant, String)>,
}

impl HeldCredentials {
    pub(super) fn new(provider: SharedCredentialsProvider, clock: Clock) -> Self {
        Self { provider, clock, held: Mutex::default() }
    }

    /// Credentials that are valid now. One request at a time asks the chain; the others wait for it.
    pub(super) async fn get(&self) -> Result<Credentials, StoreError> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        if let (Some(credentials), Some(renew_at)) = (&held.credentials, held.renew_at)
            && now < renew_at
        {
            return Ok(credentials.clone());
        }
        let still_valid = held.credentials.clone().filter(|old| old.expiry().is_none_or(|end| end > now));
        if let Some((at, reason)) = &held.failed
            && at.elapsed() < PAUSE
        {
            return still_valid.ok_or_else(|| StoreError::Credentials(reason.clone()));
        }
        let found = timeout(LIMIT, self.provider.provide_credentials()).await;
        let reason = match found {
            Ok(Ok(credentials)) => {
                let early = credentials.expiry().and_then(|end| end.checked_sub(EARLY)).map(|end| end.max(now));
                *held = HeldState {
                    renew_at: Some(early.unwrap_or(now + HELD_FOR)),
                    credentials: Some(credentials.clone()),
                    failed: None,
                };
                return Ok(credentials);
            }
            Ok(Err(error)) => {
                crate::redact::hide_infrastructure(&crate::redact::hide_secrets(&error.to_string(), REASON), REASON)
            }
            Err(_) => "the chain took too long".to_owned(),
        };
        held.failed = Some((Instant::now(), reason.clone()));
        still_valid.ok_or(StoreError::Credentials(reason))
    }
}

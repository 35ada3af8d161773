//! `GetAuthorizationToken`: which caller gets a token for a domain, and for how long.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::call::OperationCall;
use super::fault::CallFault;
use super::identity;
use super::state::ControlState;

/// The lifetime of a token when the caller names none, in seconds.
const DEFAULT_LIFETIME: u64 = 43_200;
/// The lifetimes a caller may name.
const LIFETIMES: std::ops::RangeInclusive<u64> = 900..=43_200;

pub(super) async fn get(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.domain()?;
    let lifetime = lifetime(call, control.now())?;
    control.store().domain(&key)?;
    // Both rights are needed; `dispatch` has checked the other one.
    identity::authorize(&call.caller, "sts:GetServiceBearerToken", "*")?;
    let lifetime = control.shared.oddities.get().token_lifetime.map_or(lifetime, Duration::from_secs);
    let (arn, allowed) = (call.caller.arn.clone(), call.caller.allowed.clone());
    let issued = control.store().issue_token(key, arn, allowed, lifetime).await?;
    Ok(json!({"authorizationToken": issued.token.expose_secret(), "expiration": issued.expires}))
}

fn lifetime(call: &OperationCall, now: u64) -> Result<Duration, CallFault> {
    let Some(text) = call.text("duration") else { return Ok(Duration::from_secs(DEFAULT_LIFETIME)) };
    if text == "0" {
        // The rest of the session's lifetime; a user's own keys have none.
        let end = call.caller.expires.ok_or_else(|| {
            CallFault::validation(
                "A durationSeconds of 0 is valid only when the caller has assumed a role with temporary credentials",
            )
        })?;
        return Ok(Duration::from_secs(end.saturating_sub(now).min(DEFAULT_LIFETIME)));
    }
    let seconds = text.parse().ok().filter(|seconds| LIFETIMES.contains(seconds)).ok_or_else(|| {
        CallFault::validation(format!(
            "1 validation error detected: Value '{text}' at 'durationSeconds' failed to satisfy constraint: Member \
             must be 0 or between {} and {}",
            LIFETIMES.start(),
            LIFETIMES.end()
        ))
    })?;
    Ok(Duration::from_secs(seconds))
}

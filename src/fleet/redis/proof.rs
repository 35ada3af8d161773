//! Proves that Redis does what replicas need of it, for the doctor.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use wheelport_runtime::Tasks;

use super::link::{RedisFailure, RedisLink};
use super::subscriber::subscribe;
use crate::fleet::budget::prove_budget;
use crate::fleet::hint_channel::{Heard, Hints};
use crate::fleet::hints::{Hint, QuotaName};
use crate::fleet::settings::{FleetSettings, RedisAddress};

/// How long what was published may take to come back.
const LONGEST: Duration = Duration::from_secs(3);
/// The quota of the hint that is sent; no replica has one of this name.
const QUOTA: &str = "wheelport-check";

/// Runs the scripts, and sends a hint from one connection to another. Returns how long that took.
pub async fn prove_redis(address: &RedisAddress, settings: &FleetSettings) -> Result<Duration, RedisFailure> {
    let link = || RedisLink::new(address, settings).map_err(|error| RedisFailure::Lost(error.to_string()));
    let (sending, hearing) = (link()?, link()?);
    sending.ask::<()>(&::redis::cmd("PING")).await?;
    let quota = QuotaName::parse(QUOTA).ok_or(RedisFailure::Away)?;
    prove_budget(&sending, &quota).await?;
    let tasks = Tasks::new();
    let hints = Hints::over(None);
    let mut listener = hints.listen();
    tasks.spawn_loop("hear hints", subscribe(hearing, hints));
    let hint = Hint::SlowDown { quota };
    let heard = timeout(LONGEST, async {
        // The subscription begins with a gap.
        while listener.next().await.is_some_and(|heard| heard != Heard::Gap) {}
        let began = Instant::now();
        Hints::over(Some(sending)).publish(hint.clone()).await?;
        while listener.next().await.is_some_and(|heard| heard != Heard::Hint(hint.clone())) {}
        Ok(began.elapsed())
    });
    let outcome = heard.await.unwrap_or(Err(RedisFailure::TimedOut));
    tasks.stop();
    outcome
}

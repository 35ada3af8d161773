//! Hears what is published, on a connection of its own.
//!
//! A subscription that died is silent, as one on which nothing is said is: so the subscriber sends a PING every second.
//! When that fails or the connection ends, it subscribes again on a new connection, and what may have been said
//! meanwhile is a gap.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::SendError;
use ::redis::{AsyncConnectionConfig, FromRedisValue as _, PushInfo, PushKind, RedisError};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::link::{RedisFailure, RedisLink};
use crate::fleet::hint_channel::{CHANNEL, Hints};

/// How often the subscription is proven to live.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The pause before a new attempt; it doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Hears hints until the process ends.
pub(in crate::fleet) async fn subscribe(link: RedisLink, hints: Hints) {
    let (mut pause, mut is_first, mut is_known) = (FIRST_PAUSE, true, false);
    loop {
        let began = Instant::now();
        let failure = hear(&link, &hints, &mut is_first).await;
        hints.deaf();
        if began.elapsed() > LONGEST_PAUSE {
            (pause, is_known) = (FIRST_PAUSE, false);
        }
        if !is_known {
            tracing::warn!(error = %failure, "hints of other replicas are not heard; trying again");
            is_known = true;
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Hears hints on one connection, until that fails.
async fn hear(link: &RedisLink, hints: &Hints, is_first: &mut bool) -> RedisFailure {
    match heard(link, hints, is_first).await {
        Ok(failure) => failure,
        Err(error) => RedisFailure::from(&error),
    }
}

async fn heard(link: &RedisLink, hints: &Hints, is_first: &mut bool) -> Result<RedisFailure, RedisError> {
    let (ended, receiver) = (Arc::new(Notify::new()), hints.clone());
    let signal = Arc::clone(&ended);
    // Called between replies, so it must not wait: the broadcast never does.
    let push = move |push: PushInfo| {
        match push.kind {
            PushKind::Message => take_in(&receiver, push),
            PushKind::Disconnection => signal.notify_one(),
            _ => {}
        }
        Ok::<(), SendError>(())
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(link.timeout()))
        .set_response_timeout(Some(link.timeout()))
        .set_push_sender(push);
    let mut connection = link.client().get_multiplexed_async_connection_with_config(&config).await?;
    connection.subscribe(CHANNEL).await?;
    hints.missed(*is_first);
    tracing::info!("hints of other replicas are heard");
    *is_first = false;
    let mut ticks = interval(PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.notified() => return Ok(RedisFailure::Lost("the connection ended".to_owned())),
            _ = ticks.tick() => ::redis::cmd("PING").query_async::<()>(&mut connection).await?,
        }
    }
}

/// A message is the name of the channel and the text.
fn take_in(hints: &Hints, push: PushInfo) {
    if let Some(text) = push.data.into_iter().nth(1)
        && let Ok(bytes) = Vec::<u8>::from_redis_value(text)
    {
        hints.take_in(&bytes);
    }
}

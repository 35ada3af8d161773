//! Commands to Redis: each with a deadline, all behind one breaker. A connection that is lost is made again in the
//! background, by the next command.

use std::fmt;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{
    Client, Cmd, ConnectionInfo, FromRedisValue, IntoConnectionInfo as _, ProtocolVersion, RedisError, RedisResult,
    ScriptInvocation,
};

use crate::fleet::breaker::Breaker;
use crate::fleet::settings::{FleetSettings, RedisAddress};

/// Commands that wait to be written at most; the default of the library is 50, which a burst fills.
const WAITING_COMMANDS: usize = 1024;

/// Why Redis cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be used: {reason}")]
pub struct RedisUnusable {
    address: RedisAddress,
    reason: String,
}

/// Why a command has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisFailure {
    /// It failed before, and is not asked at the moment.
    #[error("Redis is not asked at the moment, because it failed before")]
    Away,
    /// No reply in time.
    #[error("Redis did not respond in time")]
    TimedOut,
    /// There is no connection, or it was lost.
    #[error("the connection to Redis failed: {0}")]
    Lost(String),
    /// It replied with an error.
    #[error("Redis refused a command: {0}")]
    Refused(String),
}

/// The way to Redis. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RedisLink {
    client: Client,
    commands: ConnectionManager,
    breaker: Breaker,
    timeout: Duration,
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("breaker", &self.breaker).finish_non_exhaustive()
    }
}

impl RedisLink {
    /// Prepares the way; connects with the first command. Belongs into a runtime.
    pub(in crate::fleet) fn new(address: &RedisAddress, settings: &FleetSettings) -> Result<Self, RedisUnusable> {
        let unusable = |error: &RedisError| RedisUnusable { address: address.clone(), reason: describe(error) };
        let timeout = settings.redis_timeout.get();
        let info = connection_info(address).map_err(|error| unusable(&error))?;
        let client = Client::open(info).map_err(|error| unusable(&error))?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            // A command has one deadline; the next one tries again.
            .set_number_of_retries(0)
            .set_pipeline_buffer_size(WAITING_COMMANDS);
        let commands =
            ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(|error| unusable(&error))?;
        Ok(Self { client, commands, breaker: Breaker::default(), timeout })
    }

    /// Sends a command and waits for its reply.
    pub(in crate::fleet) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisFailure> {
        let mut connection = self.commands.clone();
        self.guarded(async move { command.query_async(&mut connection).await }).await
    }

    /// Runs a script, which is loaded where the server does not know it.
    pub(in crate::fleet) async fn run<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, RedisFailure> {
        let mut connection = self.commands.clone();
        self.guarded(async move { script.invoke_async(&mut connection).await }).await
    }

    async fn guarded<T>(&self, request: impl Future<Output = RedisResult<T>>) -> Result<T, RedisFailure> {
        let pass = self.breaker.try_enter().ok_or(RedisFailure::Away)?;
        let outcome = match tokio::time::timeout(self.timeout, request).await {
            Err(_) => Err(RedisFailure::TimedOut),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(RedisFailure::from(&error)),
        };
        match &outcome {
            Ok(_) | Err(RedisFailure::Refused(_)) => pass.succeeded(),
            Err(_) => pass.failed(),
        }
        outcome
    }

    pub(in crate::fleet) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl From<&RedisError> for RedisFailure {
    fn from(error: &RedisError) -> Self {
        if error.is_timeout() {
            Self::TimedOut
        } else if error.is_io_error() || error.is_unrecoverable_error() {
            Self::Lost(describe(error))
        } else {
            Self::Refused(describe(error))
        }
    }
}

/// An error without what a server may have repeated of a command.
fn describe(error: &RedisError) -> String {
    error.code().map_or_else(|| error.category().to_owned(), str::to_owned)
}

/// The address with the third version of the protocol, in which what is published comes between replies.
fn connection_info(address: &RedisAddress) -> RedisResult<ConnectionInfo> {
    let info = address.expose().into_connection_info()?;
    let third = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(third))
}

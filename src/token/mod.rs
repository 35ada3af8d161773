//! CodeArtifact authorization tokens: what one is, who mints it, and the handle through which requests use it.
//!
//! One keeper per (account, domain, region, role) renews the token long before it expires; no request performs a mint.
//! Nothing here knows AWS or HTTP clients: the one seam is [`TokenSource`], which `control` implements. The loop is in
//! `keeper`, its decisions are the pure functions of `schedule`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderValue;
use secrecy::SecretString;
use tokio::time::Instant;

use wheelport_runtime::Clock;

mod basic;
mod handle;
mod keeper;
mod schedule;
#[cfg(test)]
mod tests;

pub use handle::TokenHandle;
pub use keeper::keep;
pub use schedule::{MAX_LIFETIME, MIN_LIFETIME};

/// A token minted within this time counts as new: where nothing else can show whether upstream still knows a token, a
/// 404 to a new one is believed.
pub const NEW_FOR: Duration = Duration::from_mins(5);

pub trait TokenSource: Send + Sync + 'static {
    /// Requests a new token, once; the keeper retries.
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>>;
}

/// A new token of a source.
pub struct Minted {
    pub secret: SecretString,
    /// Its lifetime, counted from the response; zero if the response did not say.
    pub lifetime: Duration,
}

/// Why a mint failed; safe to log and to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MintError {
    /// The class, which decides the pause before the next attempt.
    pub kind: MintErrorKind,
    /// One sentence that says what happened and what to do.
    pub message: String,
    /// How long the service asks us to wait.
    pub retry_after: Option<Duration>,
}

impl MintError {
    /// An error without a `retry_after`.
    pub fn new(kind: MintErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// Classes of failed mints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MintErrorKind {
    /// No provider of the AWS chain has credentials.
    NoCredentials,
    /// The credentials do not have the right.
    Denied,
    /// No such domain in this account and region.
    NotFound,
    Throttled,
    /// No response in time, or no connection.
    Unreachable,
    /// The local clock is too far from AWS's for signatures.
    ClockSkew,
    Other,
}

impl MintErrorKind {
    /// The log and metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "no-credentials",
            Self::Denied => "denied",
            Self::NotFound => "not-found",
            Self::Throttled => "throttled",
            Self::Unreachable => "unreachable",
            Self::ClockSkew => "clock-skew",
            Self::Other => "other",
        }
    }

    /// Whether a retry within seconds is pointless, because a person has to act first.
    pub fn needs_a_person(self) -> bool {
        matches!(self, Self::NoCredentials | Self::Denied | Self::NotFound | Self::ClockSkew)
    }
}

impl fmt::Display for MintErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One generation of the token. Cheap to clone; the memory is overwritten when the last clone goes.
#[derive(Clone)]
pub struct Token {
    /// Counts the successful mints of one keeper, from 1.
    pub generation: u64,
    pub minted: Instant,
    header: HeaderValue,
}

impl Token {
    fn new(generation: u64, secret: &SecretString) -> Self {
        Self { generation, minted: Instant::now(), header: basic::header("aws", secret) }
    }

    /// `Basic base64("aws:" + token)`, marked sensitive.
    pub fn basic_header(&self) -> HeaderValue {
        self.header.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(generation {})", self.generation)
    }
}

/// Why there is no usable token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The last mint failed, and there is no valid token.
    #[error("no usable token: {0}")]
    Failed(MintError),
    /// The deadline passed before the keeper had a token.
    #[error("no token before the deadline")]
    Late,
    /// The process is stopping.
    #[error("the token keeper has stopped")]
    Stopped,
}

impl TokenError {
    /// When another request makes sense, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(error) => error.retry_after,
            Self::Late | Self::Stopped => None,
        }
    }
}

/// The settings of one keeper.
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    /// The name of this keeper in logs, for example the domain.
    pub label: Arc<str>,
    /// The lifetime that the source requests; `None` if the token expires with the role session.
    pub requested_lifetime: Option<Duration>,
    /// The first mint waits a random part of this, so that a fleet that starts at once stays below AWS's quota.
    pub start_spread: Duration,
    /// Calendar time; it shows that the machine slept.
    pub clock: Clock,
}

impl KeeperSettings {
    /// Settings for twelve-hour tokens on the machine's clock, minted at once.
    pub fn new(label: impl Into<Arc<str>>) -> Self {
        Self {
            label: label.into(),
            requested_lifetime: Some(MAX_LIFETIME),
            start_spread: Duration::ZERO,
            clock: Clock::system(),
        }
    }
}

/// The state of a keeper, for readiness, metrics and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperState {
    /// The newest generation; 0 before the first mint.
    pub generation: u64,
    /// Whether there is an unexpired token that upstream does not reject.
    pub usable: bool,
    /// Time until the newest token expires; `None` before the first mint.
    pub remaining: Option<Duration>,
    /// Time since its mint.
    pub age: Option<Duration>,
    /// Successful mints, the first included.
    pub renewals: u64,
    /// Failed mints since the start.
    pub failures: u64,
    /// Failed mints since the last success.
    pub failures_in_a_row: u32,
    /// The last failure, until the next success.
    pub last_error: Option<MintError>,
}

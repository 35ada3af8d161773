//! What can go wrong between here and the upstream.
//!
//! A 404 and a 403 are what upstream said to one request, no more: a revoked token, a balancer or a wrong address can
//! get them too. So they carry a [`Witness`], and the caller decides what they prove. No error holds a URL's query, a
//! header value or a credential, so every error may be logged and compared.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::metrics::ResultLabel;
use crate::token::TokenError;

/// Why there is no page, no file, or no more of a file. Cheap to clone, because many requests may share one download.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// 404 or 410 from the endpoint itself.
    #[error("upstream does not have it")]
    NotFound(Witness),
    /// 403: the role may not read this.
    #[error("upstream denies the read{}", with_cause(message.as_deref()))]
    Denied {
        /// The upstream's message, bounded; for the log, never for a client.
        message: Option<String>,
        witness: Witness,
    },
    /// Nothing is known about the requested page or file.
    #[error("upstream is unavailable: {reason}")]
    Unavailable {
        /// What stood in the way.
        reason: Unavailability,
        /// When another request makes sense, if that is known.
        retry_after: Option<Duration>,
    },
    /// The body is larger than the limit.
    #[error("the response of upstream is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The response makes no sense.
    #[error("upstream sent an unusable response: {0}")]
    Malformed(Malformed),
    /// The rest of a file is not available from the given offset; the caller starts again at the beginning.
    #[error("upstream cannot continue this file")]
    CannotResume,
}

/// Under which token a request was sent to the endpoint, and when: what its response can prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// The generation of the token.
    pub generation: u64,
    /// When that token was minted.
    pub minted: Instant,
    /// When the request was sent.
    pub sent: Instant,
    /// When the headers of the response arrived.
    pub arrived: Instant,
}

/// What stood in the way of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unavailability {
    /// No token, or none that the upstream accepts.
    Token,
    /// No connection: name resolution, connecting, or TLS.
    Connect,
    /// No response, or no further byte, in time.
    Timeout,
    /// 429, and the backoff does not end before the deadline.
    Throttled,
    ServerError,
    /// The connection ended in the middle of a response.
    Broken,
    /// A redirect that may not be followed, or whose target refused the request.
    Redirect,
    /// This process is stopping.
    Shutdown,
    /// Too many of our own requests are in flight or queued.
    Busy,
}

impl Unavailability {
    /// The log and metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::ServerError => "server-error",
            Self::Broken => "broken",
            Self::Redirect => "redirect",
            Self::Shutdown => "shutdown",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for Unavailability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In which way a response makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A status that this kind of request never gets.
    #[error("status {0}")]
    Status(u16),
    #[error("not a valid HTTP response")]
    Http,
    /// An address that cannot be written in a request.
    #[error("an unusable address")]
    Address,
    /// A content type that is no form of a page.
    #[error("an unexpected content type")]
    ContentType,
    /// A content coding that was not requested and is not understood.
    #[error("an unexpected content coding")]
    ContentEncoding,
    /// The compressed body does not decompress.
    #[error("a damaged compressed body")]
    Compression,
}

impl UpstreamError {
    /// An [`UpstreamError::Unavailable`] without a time for another request.
    pub fn unavailable(reason: Unavailability) -> Self {
        Self::Unavailable { reason, retry_after: None }
    }

    /// The log and metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not-found",
            Self::Denied { .. } => "denied",
            Self::Unavailable { reason, .. } => reason.as_str(),
            Self::TooLarge { .. } => "too-large",
            Self::Malformed(_) => "malformed",
            Self::CannotResume => "cannot-resume",
        }
    }
}

impl ResultLabel for UpstreamError {
    fn result_label(&self) -> &'static str {
        self.as_str()
    }
}

impl From<TokenError> for UpstreamError {
    fn from(error: TokenError) -> Self {
        let reason = match error {
            TokenError::Stopped => Unavailability::Shutdown,
            TokenError::Failed(_) | TokenError::Late => Unavailability::Token,
        };
        Self::Unavailable { reason, retry_after: error.retry_after() }
    }
}

impl From<Malformed> for UpstreamError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

fn with_cause(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

/// An error with everything below it, for one log line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

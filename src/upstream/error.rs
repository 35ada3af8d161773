//! What can go wrong between here and the upstream, in our words.
//!
//! The one distinction that everything else rests on: [`UpstreamError::NotFound`] is a statement of the upstream made
//! to a token known to be good; whatever leaves a doubt is [`UpstreamError::Unavailable`]. Nothing here holds a URL's
//! query, a header value or a credential, so every error may be logged and compared.

use std::fmt;
use std::time::Duration;

use crate::token::TokenError;

/// Why there is no page, no file, or no more of a file. Cheap to clone, because many requests may wait for one fill.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// 404 or 410, in answer to a trusted token.
    #[error("upstream does not have it")]
    NotFound,
    /// 403: the role may not read this.
    #[error("upstream denies the read{}", explain(message.as_deref()))]
    Denied {
        /// What the upstream said, bounded; for the log, never for a client.
        message: Option<String>,
    },
    /// We cannot know: nothing was learnt about the thing asked for.
    #[error("upstream is unavailable: {reason}")]
    Unavailable {
        /// What stood in the way.
        reason: Unavailability,
        /// When asking again makes sense, if anything is known about that.
        retry_after: Option<Duration>,
    },
    /// The answer is larger than the limit.
    #[error("the answer of upstream is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The answer makes no sense.
    #[error("upstream answered something unusable: {0}")]
    Malformed(Malformed),
    /// The rest of a file cannot be had from where the caller stopped; the caller starts again at the beginning.
    #[error("upstream cannot continue this file")]
    CannotResume,
}

/// What stood in the way of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unavailability {
    /// No token, or none that the upstream accepts.
    Token,
    /// No connection: name resolution, connecting, or TLS.
    Connect,
    /// No answer, or no further byte, in time.
    Timeout,
    /// 429, and no room in the time limit to wait for better.
    Throttled,
    /// A 5xx.
    ServerError,
    /// The connection ended in the middle of an answer.
    Broken,
    /// A redirect that may not be followed, or whose target did not answer with the thing.
    Redirect,
    /// This process is stopping.
    Shutdown,
    /// Too many requests of ours are already on their way.
    Busy,
}

impl Unavailability {
    /// The text used as log and metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
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

/// In which way an answer made no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A status that this kind of request never gets.
    #[error("status {0}")]
    Status(u16),
    /// Not HTTP.
    #[error("not a valid HTTP answer")]
    Http,
    /// An address that cannot be written in a request.
    #[error("an unusable address")]
    Address,
    /// A content type that is no form of a page.
    #[error("an unexpected content type")]
    ContentType,
    /// A content coding that was not asked for and is not understood.
    #[error("an unexpected content coding")]
    ContentEncoding,
    /// The compressed body does not decompress.
    #[error("a damaged compressed body")]
    Compression,
}

impl UpstreamError {
    /// An [`UpstreamError::Unavailable`] without advice.
    pub fn unavailable(reason: Unavailability) -> Self {
        Self::Unavailable { reason, retry_after: None }
    }

    /// The text used as log and metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Denied { .. } => "denied",
            Self::Unavailable { reason, .. } => reason.as_str(),
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
            Self::CannotResume => "cannot_resume",
        }
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

fn explain(message: Option<&str>) -> String {
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

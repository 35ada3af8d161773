//! Publishing: one form of a finished upload goes to the repository's endpoint, byte for byte as it came.
//!
//! What distinguishes this from a read is what a failure means. Nothing is sent a second time after its first byte
//! unless upstream has said that it did not take it (401, 429). Whatever leaves a doubt is [`PublishError::Unknown`],
//! and the caller has to look whether the file is there.

use std::fs::File;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};
use tokio_util::io::ReaderStream;

use super::body::{beginning, discard};
use super::client::{RequestBody, SendError};
use super::connect::BoxError;
use super::error::{Malformed, Unavailability, UpstreamError};
use super::exchange::{MESSAGE_LIMIT, USER_AGENT, refusal_message};
use super::gate::Lane;
use super::retry::retry_after;
use super::{Inner, Kind, Upstream};
use crate::token::Token;

/// What is read from disk in one go, in bytes.
const PIECE: usize = 256 << 10;
/// An upload that takes longer than this is given up, however steadily it moves.
const LONGEST: Duration = Duration::from_hours(2);
/// How often a form is offered again after a 429.
const THROTTLED_REPEATS: u8 = 2;

/// A form that is complete on disk.
pub struct PublishRequest<'a> {
    /// The content type with the boundary, as the publisher wrote it.
    pub content_type: HeaderValue,
    /// The length of the form in bytes.
    pub length: u64,
    /// Opens the form at its beginning.
    pub open: &'a (dyn Fn() -> io::Result<File> + Send + Sync),
}

/// Why a form was not accepted. Messages are upstream's own, bounded, and for nobody's eyes before they were redacted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// 409
    #[error("upstream sees a conflict: {}", message.as_deref().unwrap_or("no reason given"))]
    Conflict {
        /// Why.
        message: Option<String>,
    },
    /// 403
    #[error("upstream denies it: {}", message.as_deref().unwrap_or("no reason given"))]
    Denied {
        /// Why.
        message: Option<String>,
    },
    /// Another 4xx.
    #[error("upstream refuses it with status {status}: {}", message.as_deref().unwrap_or("no reason given"))]
    Refused {
        /// The status.
        status: u16,
        /// Why.
        message: Option<String>,
    },
    /// 404, to a trusted token.
    #[error("upstream has no such repository")]
    NoRepository,
    /// Certainly not accepted: nothing was sent, or upstream asked to come back later.
    #[error("not sent: {0}")]
    NotSent(UpstreamError),
    /// The exchange broke off where upstream may have accepted the file.
    #[error("the exchange broke off: {0}")]
    Unknown(Unavailability),
    /// The form cannot be read from disk.
    #[error("the spooled form cannot be read")]
    Spool,
}

impl PublishError {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::Denied { .. } => "denied",
            Self::Refused { .. } => "refused",
            Self::NoRepository => "not_found",
            Self::NotSent(error) => error.as_str(),
            Self::Unknown(_) => "unknown",
            Self::Spool => "spool",
        }
    }
}

/// What a status says about a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Unauthorized,
    Missing,
    Denied,
    Conflict,
    Throttled,
    Refused,
    Redirected,
    /// A 5xx may come from something between us and the service, after the service was done.
    Doubtful,
}

fn verdict(status: StatusCode) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Accepted,
        300..=399 => Verdict::Redirected,
        401 => Verdict::Unauthorized,
        403 => Verdict::Denied,
        404 | 410 => Verdict::Missing,
        409 => Verdict::Conflict,
        429 => Verdict::Throttled,
        400..=499 => Verdict::Refused,
        _ => Verdict::Doubtful,
    }
}

/// How sending a form once ended.
enum Sent {
    Answered(Response<Incoming>),
    /// Not a byte of the form left.
    NotBegun(Unavailability),
    Broken(Unavailability),
}

impl Upstream {
    /// The same repository, seen through another token.
    #[must_use]
    pub fn with_token(&self, token: crate::token::TokenHandle) -> Self {
        let Inner { client, endpoint, label, .. } = self.inner.as_ref();
        Self::new(client.clone(), endpoint.clone(), token, Arc::clone(label))
    }

    /// Publishes a form. `Ok` says that upstream has accepted the file.
    pub async fn publish(&self, request: PublishRequest<'_>) -> Result<(), PublishError> {
        let began = Instant::now();
        let outcome = self.deliver(&request).await;
        let result = outcome.as_ref().map_or_else(PublishError::as_str, |()| "ok");
        self.inner.metrics.finished(&self.inner.label, Kind::Publish.as_str(), result, began.elapsed());
        outcome
    }

    async fn deliver(&self, request: &PublishRequest<'_>) -> Result<(), PublishError> {
        let Inner { gate, tokens, metrics, label, .. } = self.inner.as_ref();
        let not_sent = PublishError::NotSent;
        let mut token = tokens.current(self.deadline()).await.map_err(|error| not_sent(error.into()))?;
        let _held = self.place(Lane::File, self.deadline()).await.map_err(not_sent)?;
        let (mut renewed, mut reconnected, mut throttled) = (false, false, 0);
        loop {
            self.admit(self.deadline()).await.map_err(not_sent)?;
            let sent = Instant::now();
            let response = match self.send_form(request, &token).await? {
                Sent::Answered(response) => response,
                Sent::NotBegun(_) if !reconnected => {
                    reconnected = true;
                    continue;
                }
                Sent::NotBegun(reason) => return Err(not_sent(UpstreamError::unavailable(reason))),
                Sent::Broken(reason) => return Err(PublishError::Unknown(reason)),
            };
            let status = response.status();
            let verdict = verdict(status);
            tracing::debug!(route = %label, %status, ?verdict, "upstream answered an upload");
            gate.answered(verdict == Verdict::Throttled);
            match verdict {
                Verdict::Accepted => {
                    tokens.confirm(token.generation);
                    discard(response).await;
                    return Ok(());
                }
                Verdict::Throttled if throttled < THROTTLED_REPEATS => {
                    throttled += 1;
                    gate.throttled(sent, retry_after(response.headers()));
                    metrics.throttled(label);
                    metrics.repeated(label, Unavailability::Throttled.as_str());
                    discard(response).await;
                }
                Verdict::Missing if tokens.is_trusted(token.generation) => {
                    return Err(PublishError::NoRepository);
                }
                Verdict::Unauthorized | Verdict::Missing => {
                    tokens.reject(token.generation);
                    discard(response).await;
                    if renewed {
                        return Err(not_sent(UpstreamError::unavailable(Unavailability::Token)));
                    }
                    renewed = true;
                    metrics.repeated(label, Unavailability::Token.as_str());
                    let newer = tokens.newer_than(token.generation, self.deadline()).await;
                    token = newer.map_err(|error| not_sent(error.into()))?;
                }
                _ => return Err(refusal(verdict, response).await),
            }
        }
    }

    /// Sends the form once, and watches that it moves.
    async fn send_form(&self, form: &PublishRequest<'_>, token: &Token) -> Result<Sent, PublishError> {
        let Inner { client, endpoint, gate, metrics, label, .. } = self.inner.as_ref();
        let file = (form.open)().map_err(|error| {
            tracing::error!(%error, "a spooled upload cannot be opened");
            PublishError::Spool
        })?;
        let progress = Progress::new();
        let body = FormBody {
            bytes: ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE),
            left: form.length,
            progress: Arc::clone(&progress),
        };
        let mut request = Request::new(RequestBody::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            Uri::try_from(endpoint.base().as_str()).map_err(|_| PublishError::NotSent(Malformed::Address.into()))?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, form.content_type.clone());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(form.length));
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(header::AUTHORIZATION, token.basic_header());
        metrics.sent(label);
        let mut sending = pin!(client.send(request, Instant::now() + LONGEST));
        let (stall, patience) = (self.settings().stall_timeout.get(), self.settings().publish_timeout.get());
        let outcome = loop {
            let limit = progress.limit(stall, patience);
            tokio::select! {
                outcome = &mut sending => break outcome,
                () = sleep_until(limit) => {
                    if progress.limit(stall, patience) <= Instant::now() {
                        break Err(SendError::Silence);
                    }
                }
            }
        };
        let reason = match outcome {
            Ok(response) => return Ok(Sent::Answered(response)),
            Err(SendError::Connection(reason, detail)) => {
                tracing::warn!(route = %label, detail, "the connection for an upload failed");
                if reason == Unavailability::Connect {
                    gate.unreachable();
                }
                reason
            }
            Err(SendError::Silence) => Unavailability::Timeout,
            Err(SendError::Malformed) => Unavailability::Broken,
        };
        Ok(if progress.has_begun() { Sent::Broken(reason) } else { Sent::NotBegun(reason) })
    }
}

async fn refusal(verdict: Verdict, response: Response<Incoming>) -> PublishError {
    let status = response.status().as_u16();
    let wish = retry_after(response.headers());
    let message = refusal_message(&beginning(response, MESSAGE_LIMIT).await);
    match verdict {
        Verdict::Conflict => PublishError::Conflict { message },
        Verdict::Denied => PublishError::Denied { message },
        Verdict::Throttled => {
            PublishError::NotSent(UpstreamError::Unavailable { reason: Unavailability::Throttled, retry_after: wish })
        }
        Verdict::Redirected => PublishError::NotSent(UpstreamError::unavailable(Unavailability::Redirect)),
        Verdict::Doubtful => PublishError::Unknown(Unavailability::ServerError),
        _ => PublishError::Refused { status, message },
    }
}

/// How far a form has come.
struct Progress {
    state: Mutex<Moved>,
}

#[derive(Clone, Copy)]
struct Moved {
    last: Instant,
    begun: bool,
    done: bool,
}

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(Moved { last: Instant::now(), begun: false, done: false }) })
    }

    fn get(&self) -> Moved {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self, done: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = Moved { last: Instant::now(), begun: true, done };
    }

    fn has_begun(&self) -> bool {
        self.get().begun
    }

    /// When the silence has lasted too long: shorter while bytes should move, longer while upstream thinks.
    fn limit(&self, stall: Duration, patience: Duration) -> Instant {
        let Moved { last, done, .. } = self.get();
        last + if done { patience } else { stall }
    }
}

/// The form as the body of a request, with its length.
struct FormBody {
    bytes: ReaderStream<tokio::fs::File>,
    left: u64,
    progress: Arc<Progress>,
}

impl http_body::Body for FormBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(piece) = Pin::new(&mut self.bytes).poll_next(context) else { return Poll::Pending };
        Poll::Ready(piece.map(|piece| {
            let piece = piece?;
            self.left = self.left.saturating_sub(piece.len() as u64);
            self.progress.moved(self.left == 0);
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_the_file_may_be_there() {
        for (status, expected) in [
            (200, Verdict::Accepted),
            (201, Verdict::Accepted),
            (204, Verdict::Accepted),
            (303, Verdict::Redirected),
            (400, Verdict::Refused),
            (401, Verdict::Unauthorized),
            (402, Verdict::Refused),
            (403, Verdict::Denied),
            (404, Verdict::Missing),
            (409, Verdict::Conflict),
            (413, Verdict::Refused),
            (429, Verdict::Throttled),
            (500, Verdict::Doubtful),
            (502, Verdict::Doubtful),
            (503, Verdict::Doubtful),
        ] {
            assert_eq!(verdict(StatusCode::from_u16(status).expect("a status")), expected, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_measured_from_the_last_move() {
        let (stall, patience) = (Duration::from_secs(30), Duration::from_mins(2));
        let progress = Progress::new();
        let began = Instant::now();
        assert_eq!(progress.limit(stall, patience), began + stall);
        assert!(!progress.has_begun());
        tokio::time::advance(Duration::from_secs(20)).await;
        progress.moved(false);
        assert!(progress.has_begun());
        assert_eq!(progress.limit(stall, patience), began + Duration::from_secs(50));
        progress.moved(true);
        assert_eq!(progress.limit(stall, patience), began + Duration::from_secs(140));
    }
}

//! Publishing: one form, whose sections are in memory and on disk, goes to the repository's endpoint.
//!
//! This differs from a read in what a failure means. Nothing is sent a second time after its first byte unless upstream
//! has said that it did not accept it (401, 429). Anything that leaves a doubt is [`PublishError::Unknown`], and the
//! caller has to check whether the file is there.

use std::fs::File;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, ready};
use futures_util::stream::{self, StreamExt as _};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::io::ReaderStream;

use super::admission::RequestClass;
use super::body::{drain, read_prefix};
use super::client::{RequestBody, SendError};
use super::connect::BoxError;
use super::error::{Malformed, Unavailability, UpstreamError};
use super::exchange::{MESSAGE_LIMIT, USER_AGENT, refusal_message};
use super::metrics::ResultLabel;
use super::retry::retry_after;
use super::{RequestKind, Upstream, UpstreamInner};
use crate::token::{NEW_FOR, Token};
use wheelport_runtime::sabotaged;

/// How much is read from disk at once, in bytes.
const CHUNK: usize = 256 << 10;
/// An upload that takes longer than this is given up, however steadily it moves.
const LONGEST: Duration = Duration::from_hours(2);
/// How often a form is sent again after a 429.
const THROTTLED_RETRIES: u8 = 2;

/// A form that is complete.
pub struct PublishRequest<'a> {
    /// The content type with the boundary.
    pub content_type: HeaderValue,
    /// The length of the form in bytes.
    pub length: u64,
    /// When the form must be on its way: how long a token, a permit and the end of a backoff are waited for.
    pub deadline: Instant,
    /// The sections of the form, in order, each from its beginning.
    pub open: &'a (dyn Fn() -> io::Result<Vec<FormSection>> + Send + Sync),
}

/// A part of a form that is sent as it is.
#[derive(Debug)]
pub enum FormSection {
    Bytes(Bytes),
    File(File),
}

/// Why a form was not accepted. Messages are upstream's own and bounded; redact them before showing them to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// 409.
    #[error("upstream sees a conflict: {}", message.as_deref().unwrap_or("no reason given"))]
    Conflict { message: Option<String> },
    /// 403.
    #[error("upstream denies it: {}", message.as_deref().unwrap_or("no reason given"))]
    Denied { message: Option<String> },
    /// Another 4xx.
    #[error("upstream refuses it with status {status}: {}", message.as_deref().unwrap_or("no reason given"))]
    Refused { status: u16, message: Option<String> },
    /// 404, in response to a new token. A balancer or a wrong address says so as well.
    #[error("upstream says that there is no such repository, which nothing proves; `wheelport check` says more")]
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

impl ResultLabel for PublishError {
    fn result_label(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::Denied { .. } => "denied",
            Self::Refused { .. } => "refused",
            Self::NoRepository => "not-found",
            Self::NotSent(error) => error.as_str(),
            Self::Unknown(_) => "unknown",
            Self::Spool => "spool",
        }
    }
}

/// What a status says about a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishStatus {
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

impl PublishStatus {
    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Accepted,
            300..=399 => Self::Redirected,
            401 => Self::Unauthorized,
            403 => Self::Denied,
            404 | 410 => Self::Missing,
            409 => Self::Conflict,
            429 => Self::Throttled,
            400..=499 => Self::Refused,
            _ => Self::Doubtful,
        }
    }
}

/// How sending a form once ended.
enum SendOutcome {
    Responded(Response<Incoming>),
    /// No byte of the form was sent.
    NotBegun(Unavailability),
    Broken(Unavailability),
}

/// What one publish has used up so far.
#[derive(Default)]
struct PublishState {
    token_renewed: bool,
    reconnected: bool,
    throttled: u8,
}

impl Upstream {
    /// Publishes a form. `Ok` says that upstream has accepted the file.
    pub async fn publish(&self, request: PublishRequest<'_>) -> Result<(), PublishError> {
        self.counted(RequestKind::Publish, self.deliver(&request)).await
    }

    async fn deliver(&self, request: &PublishRequest<'_>) -> Result<(), PublishError> {
        let not_sent = PublishError::NotSent;
        let UpstreamInner { admission, tokens, label, .. } = self.inner.as_ref();
        let mut token = tokens.current(request.deadline).await.map_err(|error| not_sent(error.into()))?;
        let _permit = self.permit(RequestClass::SmallFile, request.deadline).await.map_err(not_sent)?;
        let mut state = PublishState::default();
        loop {
            self.admit(request.deadline).await.map_err(not_sent)?;
            let sent = Instant::now();
            let response = match self.send_form(request, &token).await? {
                SendOutcome::Responded(response) => response,
                SendOutcome::NotBegun(_) if !state.reconnected => {
                    state.reconnected = true;
                    continue;
                }
                SendOutcome::NotBegun(reason) => return Err(not_sent(UpstreamError::unavailable(reason))),
                SendOutcome::Broken(reason) => return Err(PublishError::Unknown(reason)),
            };
            let class = PublishStatus::of(response.status());
            tracing::debug!(route = %label, status = %response.status(), ?class, "upstream responded to an upload");
            admission.responded(class == PublishStatus::Throttled);
            if class == PublishStatus::Accepted {
                tokens.confirm(token.generation);
                drain(response).await;
                return Ok(());
            }
            token = self.prepare_retry(&mut state, class, response, sent, token).await?;
        }
    }

    /// Makes the next attempt possible after a form was not accepted. Returns the token for it; an error says that
    /// there is no next attempt.
    async fn prepare_retry(
        &self,
        state: &mut PublishState,
        class: PublishStatus,
        response: Response<Incoming>,
        sent: Instant,
        token: Token,
    ) -> Result<Token, PublishError> {
        let not_sent = PublishError::NotSent;
        let UpstreamInner { admission, tokens, metrics, label, .. } = self.inner.as_ref();
        match class {
            PublishStatus::Throttled if state.throttled < THROTTLED_RETRIES && !sabotaged("throttled-upload") => {
                state.throttled += 1;
                admission.throttled(sent, retry_after(response.headers()));
                metrics.throttled(label);
                metrics.retried(label, Unavailability::Throttled.as_str());
                drain(response).await;
                Ok(token)
            }
            // A newer token would be told the same.
            PublishStatus::Missing if token.minted.elapsed() <= NEW_FOR => Err(PublishError::NoRepository),
            PublishStatus::Unauthorized | PublishStatus::Missing => {
                tokens.reject(token.generation);
                drain(response).await;
                if state.token_renewed {
                    return Err(not_sent(UpstreamError::unavailable(Unavailability::Token)));
                }
                state.token_renewed = true;
                metrics.retried(label, Unavailability::Token.as_str());
                let newer = tokens.newer_than(token.generation, self.deadline()).await;
                newer.map_err(|error| not_sent(error.into()))
            }
            _ => Err(refusal(class, response).await),
        }
    }

    /// Sends the form once, and gives up when it no longer moves.
    async fn send_form(&self, form: &PublishRequest<'_>, token: &Token) -> Result<SendOutcome, PublishError> {
        let UpstreamInner { client, admission, metrics, label, .. } = self.inner.as_ref();
        let progress = SendProgress::new();
        let request = self.form_request(form, token, &progress)?;
        metrics.sent(label);
        let mut sending = pin!(client.send(request, Instant::now() + LONGEST));
        let (stall, response_timeout) = (self.settings().stall_timeout.get(), self.settings().publish_timeout.get());
        let outcome = loop {
            let limit = progress.limit(stall, response_timeout);
            tokio::select! {
                outcome = &mut sending => break outcome,
                () = sleep_until(limit) => {
                    if progress.limit(stall, response_timeout) <= Instant::now() {
                        break Err(SendError::Timeout);
                    }
                }
            }
        };
        let reason = match outcome {
            Ok(response) => return Ok(SendOutcome::Responded(response)),
            Err(SendError::Connection(reason, detail)) => {
                tracing::warn!(route = %label, detail, "the connection for an upload failed");
                if reason == Unavailability::Connect {
                    admission.unreachable();
                }
                reason
            }
            Err(SendError::Timeout) => Unavailability::Timeout,
            Err(SendError::Malformed) => Unavailability::Broken,
        };
        let has_begun = progress.has_begun() && !sabotaged("sent-once");
        Ok(if has_begun { SendOutcome::Broken(reason) } else { SendOutcome::NotBegun(reason) })
    }

    fn form_request(
        &self,
        form: &PublishRequest<'_>,
        token: &Token,
        progress: &Arc<SendProgress>,
    ) -> Result<Request<RequestBody>, PublishError> {
        let sections = (form.open)().map_err(|error| {
            tracing::error!(%error, "a spooled upload cannot be opened");
            PublishError::Spool
        })?;
        let body = FormBody { bytes: read(sections), left: form.length, progress: Arc::clone(progress) };
        let uri = Uri::try_from(self.inner.endpoint.base().as_str());
        let mut request = Request::new(RequestBody::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.map_err(|_| PublishError::NotSent(Malformed::Address.into()))?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, form.content_type.clone());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(form.length));
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(header::AUTHORIZATION, token.basic_header());
        Ok(request)
    }
}

async fn refusal(class: PublishStatus, response: Response<Incoming>) -> PublishError {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let message = refusal_message(&read_prefix(response, MESSAGE_LIMIT).await);
    match class {
        PublishStatus::Conflict => PublishError::Conflict { message },
        PublishStatus::Denied => PublishError::Denied { message },
        PublishStatus::Throttled => {
            PublishError::NotSent(UpstreamError::Unavailable { reason: Unavailability::Throttled, retry_after })
        }
        PublishStatus::Redirected => PublishError::NotSent(UpstreamError::unavailable(Unavailability::Redirect)),
        PublishStatus::Doubtful => PublishError::Unknown(Unavailability::ServerError),
        _ => PublishError::Refused { status, message },
    }
}

/// How far the sending of a form has come. The body writes it, the watch for stalls reads it.
struct SendProgress {
    state: Mutex<SendState>,
}

#[derive(Clone, Copy)]
struct SendState {
    last: Instant,
    begun: bool,
    done: bool,
}

impl SendProgress {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(SendState { last: Instant::now(), begun: false, done: false }) })
    }

    fn get(&self) -> SendState {
        *self.state.lock()
    }

    fn moved(&self, done: bool) {
        *self.state.lock() = SendState { last: Instant::now(), begun: true, done };
    }

    fn has_begun(&self) -> bool {
        self.get().begun
    }

    /// When the silence has lasted too long: `stall` while bytes should move, `response_timeout` after the last byte.
    fn limit(&self, stall: Duration, response_timeout: Duration) -> Instant {
        let SendState { last, done, .. } = self.get();
        last + if done { response_timeout } else { stall }
    }
}

/// The bytes of the sections, one after the other.
fn read(sections: Vec<FormSection>) -> FormBytes {
    let read = |section| match section {
        FormSection::Bytes(bytes) => Either::Left(stream::once(ready(Ok(bytes)))),
        FormSection::File(file) => Either::Right(ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK)),
    };
    Box::pin(stream::iter(sections).flat_map(read))
}

type FormBytes = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The form as the body of a request, with its length.
struct FormBody {
    bytes: FormBytes,
    left: u64,
    progress: Arc<SendProgress>,
}

impl http_body::Body for FormBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(chunk) = self.bytes.as_mut().poll_next(context) else { return Poll::Pending };
        Poll::Ready(chunk.map(|chunk| {
            let chunk = chunk?;
            self.left = self.left.saturating_sub(chunk.len() as u64);
            self.progress.moved(self.left == 0);
            Ok(Frame::data(chunk))
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
            (200, PublishStatus::Accepted),
            (201, PublishStatus::Accepted),
            (204, PublishStatus::Accepted),
            (303, PublishStatus::Redirected),
            (400, PublishStatus::Refused),
            (401, PublishStatus::Unauthorized),
            (402, PublishStatus::Refused),
            (403, PublishStatus::Denied),
            (404, PublishStatus::Missing),
            (409, PublishStatus::Conflict),
            (413, PublishStatus::Refused),
            (429, PublishStatus::Throttled),
            (500, PublishStatus::Doubtful),
            (502, PublishStatus::Doubtful),
            (503, PublishStatus::Doubtful),
        ] {
            assert_eq!(PublishStatus::of(StatusCode::from_u16(status).expect("a status")), expected, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_measured_from_the_last_move() {
        let (stall, response_timeout) = (Duration::from_secs(30), Duration::from_mins(2));
        let progress = SendProgress::new();
        let began = Instant::now();
        assert_eq!(progress.limit(stall, response_timeout), began + stall);
        assert!(!progress.has_begun());
        tokio::time::advance(Duration::from_secs(20)).await;
        progress.moved(false);
        assert!(progress.has_begun());
        assert_eq!(progress.limit(stall, response_timeout), began + Duration::from_secs(50));
        progress.moved(true);
        assert_eq!(progress.limit(stall, response_timeout), began + Duration::from_secs(140));
    }
}

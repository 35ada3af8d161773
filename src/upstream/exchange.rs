//! From one request to one usable response: token, redirects, retries and what a status means.
//!
//! Only this file attaches a token to a read. What a 404 or a 403 proves is decided elsewhere; each carries a
//! [`Witness`]. The decisions here are pure ([`StatusClass`], [`super::retry`], [`super::address`]); the loop carries
//! them out until the deadline.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};
use url::Url;

use super::address::{BadRedirect, Hop};
use super::admission::RequestClass;
use super::body::{InFlightPermit, drain, read_prefix};
use super::client::{RequestBody, SendError};
use super::error::{Malformed, Unavailability, UpstreamError, Witness};
use super::retry::{AttemptFailure, MAX_RETRY_AFTER, RetryDecision, RetryState, retry_after};
use super::status_class::StatusClass;
use super::{RequestKind, Upstream, UpstreamInner};
use crate::redact::hide_secrets;
use crate::token::{Token, TokenHandle};
use wheelport_runtime::{Priority, sabotaged};

/// The name of this program in the logs of upstream.
pub(super) const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("wheelport/", env!("CARGO_PKG_VERSION")));
/// The bytes of a refusal that are read for its message.
pub(super) const MESSAGE_LIMIT: usize = 4 << 10;
/// The longest message of a refusal, in characters.
const LONGEST_MESSAGE: usize = 1000;

/// One request, with all its retries and redirects.
pub(super) struct Exchange<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) kind: RequestKind,
    pub(super) class: RequestClass,
    pub(super) first: Hop,
    /// The request headers, without the token.
    pub(super) headers: HeaderMap,
    /// Statuses other than 200 that the caller can use.
    pub(super) usable: &'static [StatusCode],
    /// The index lists the file, so a 404 may just be early.
    pub(super) listed: bool,
    pub(super) range: RangeUse,
    pub(super) deadline: Instant,
}

/// What a range in the request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeUse {
    /// The request asks for everything.
    Whole,
    /// The rest of a file, so a 5xx may be a response to the range and not to the file.
    Rest,
    /// A part, in place of which the whole file will do. The service is known to refuse ranges of a version that it has
    /// not imported yet, so a failure says nothing about the endpoint: it is not repeated, and counts neither for the
    /// circuit breaker nor for the rate.
    Part,
}

/// A response that the caller can use. The body is unread.
pub(super) struct UsableResponse {
    pub(super) response: Response<Incoming>,
    /// The address that responded.
    pub(super) url: Url,
    /// To be held as long as the body.
    pub(super) permit: InFlightPermit,
    /// What the response proves, if the endpoint itself sent it.
    pub(super) witness: Option<Witness>,
}

/// A response of whatever status, after redirects.
struct FinalResponse {
    response: Response<Incoming>,
    hop: Hop,
    sent: Instant,
    arrived: Instant,
}

impl FinalResponse {
    fn witness(&self, token: &Token) -> Witness {
        let (generation, minted) = (token.generation, token.minted);
        Witness { generation, minted, sent: self.sent, arrived: self.arrived }
    }
}

/// Why there is no response of any status.
enum ExchangeError {
    Fatal(UpstreamError),
    /// Perhaps worth a retry.
    Retryable(AttemptFailure),
}

/// What one exchange has used up so far.
#[derive(Default)]
struct ExchangeState {
    retries: RetryState,
    token_renewed: bool,
    missing_since: Option<Instant>,
}

impl Exchange<'_> {
    /// Sends requests until there is a usable response, a final error, or no time left.
    pub(super) async fn run(self) -> Result<UsableResponse, UpstreamError> {
        let tokens = self.tokens();
        // The token first: without one, a permit would be held for nothing.
        let mut token = if self.first.with_token { Some(tokens.current(self.deadline).await?) } else { None };
        let permit = self.upstream.permit(self.class, self.deadline).await?;
        let mut state = ExchangeState::default();
        loop {
            let reached = match self.attempt(token.as_ref()).await {
                Ok(reached) => reached,
                Err(ExchangeError::Fatal(error)) => return Err(error),
                Err(ExchangeError::Retryable(failure)) if self.is_part() => {
                    return Err(unavailable(failure.reason(), failure.retry_after()));
                }
                Err(ExchangeError::Retryable(failure)) => {
                    self.retry(&mut state.retries, failure).await?;
                    continue;
                }
            };
            let bearer = token.as_ref().filter(|_| reached.hop.with_token || sabotaged("witness-endpoint"));
            let class = StatusClass::of(reached.response.status(), reached.hop.with_token, self.usable);
            if class != StatusClass::Usable {
                let newer = self.recover(&mut state, class, reached, bearer).await?;
                token = newer.or(token);
                continue;
            }
            let witness = bearer.map(|token| reached.witness(token));
            let FinalResponse { response, hop, .. } = reached;
            if let Some(token) = bearer.filter(|_| response.status().is_success()) {
                tokens.confirm(token.generation);
            }
            return Ok(UsableResponse { response, url: hop.url, permit, witness });
        }
    }

    /// Makes the next attempt possible after an unusable response: waits, or gets a newer token. An error says that
    /// there is no next attempt.
    async fn recover(
        &self,
        state: &mut ExchangeState,
        class: StatusClass,
        reached: FinalResponse,
        bearer: Option<&Token>,
    ) -> Result<Option<Token>, UpstreamError> {
        let UpstreamInner { admission, metrics, label, .. } = self.upstream.inner.as_ref();
        let witness = bearer.map(|token| reached.witness(token));
        let FinalResponse { response, hop, sent, .. } = reached;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        // A refused part is only that, but for a token and a pace that hold for every request.
        if self.is_part() && !matches!(class, StatusClass::Throttled | StatusClass::Unauthorized) {
            drain(response).await;
            return Err(UpstreamError::CannotResume);
        }
        if let (StatusClass::Denied, Some(witness)) = (class, witness) {
            return Err(self.denied(response, witness).await);
        }
        drain(response).await;
        match (class, witness) {
            (StatusClass::Missing, Some(witness)) => self.wait_for_import(state, witness).await.map(|()| None),
            (StatusClass::Unauthorized, _) => self.renew_token(state, bearer, status).await,
            (StatusClass::Throttled, _) => {
                admission.throttled(sent, retry_after);
                metrics.throttled(label);
                if self.is_part() {
                    return Err(unavailable(Unavailability::Throttled, retry_after));
                }
                self.retry(&mut state.retries, AttemptFailure::Throttled(retry_after)).await.map(|()| None)
            }
            (StatusClass::ServerError, _) if self.range == RangeUse::Rest => Err(UpstreamError::CannotResume),
            (StatusClass::ServerError, _) => {
                // Only the endpoint's own failure is a reason to send it fewer requests.
                if hop.with_token {
                    admission.failed(sent, retry_after);
                }
                self.retry(&mut state.retries, AttemptFailure::Server(status, retry_after)).await.map(|()| None)
            }
            (StatusClass::RefusedElsewhere, _) => {
                self.warn("another host refused the request to which upstream had redirected it", status.as_str());
                Err(UpstreamError::unavailable(Unavailability::Redirect))
            }
            // The endpoint sends a 403 or a 404 in response to a token only.
            (StatusClass::Unexpected | StatusClass::Usable | StatusClass::Denied | StatusClass::Missing, _) => {
                Err(Malformed::Status(status.as_u16()).into())
            }
        }
    }

    /// Gets a token newer than the one that was refused; once per exchange.
    async fn renew_token(
        &self,
        state: &mut ExchangeState,
        bearer: Option<&Token>,
        status: StatusCode,
    ) -> Result<Option<Token>, UpstreamError> {
        let refused = UpstreamError::unavailable(Unavailability::Token);
        let Some(token) = bearer else { return Err(refused) };
        self.tokens().reject(token.generation);
        if state.token_renewed {
            self.warn("upstream refuses a token that was just renewed", status.as_str());
            return Err(refused);
        }
        state.token_renewed = true;
        self.upstream.inner.metrics.retried(&self.upstream.inner.label, Unavailability::Token.as_str());
        Ok(Some(self.tokens().newer_than(token.generation, self.deadline).await?))
    }

    /// A 404: waits if it may just be early.
    async fn wait_for_import(&self, state: &mut ExchangeState, witness: Witness) -> Result<(), UpstreamError> {
        if !self.listed {
            return Err(UpstreamError::NotFound(witness));
        }
        let since = *state.missing_since.get_or_insert_with(Instant::now);
        let limit = self.upstream.settings().import_patience.get();
        let Some(pause) = state.retries.after_missing(since.elapsed(), limit) else {
            return Err(UpstreamError::NotFound(witness));
        };
        self.upstream.inner.metrics.retried(&self.upstream.inner.label, "import");
        self.pause(pause, Unavailability::Timeout, None).await
    }

    /// Waits before a retry, or says why there is none.
    async fn retry(&self, retries: &mut RetryState, failure: AttemptFailure) -> Result<(), UpstreamError> {
        let UpstreamInner { admission, metrics, label, .. } = self.upstream.inner.as_ref();
        let (reason, retry_after) = (failure.reason(), failure.retry_after());
        let pause = match retries.after(failure, fastrand::f64()) {
            RetryDecision::AfterBackoff => Duration::ZERO,
            RetryDecision::Retry(pause) if admission.may_retry() => pause,
            RetryDecision::Retry(_) | RetryDecision::GiveUp => return Err(unavailable(reason, retry_after)),
        };
        metrics.retried(label, reason.as_str());
        self.pause(pause, reason, retry_after).await
    }

    async fn pause(
        &self,
        pause: Duration,
        reason: Unavailability,
        retry_after: Option<Duration>,
    ) -> Result<(), UpstreamError> {
        if Instant::now() + pause >= self.deadline {
            return Err(unavailable(reason, retry_after));
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        Ok(())
    }

    async fn denied(&self, response: Response<Incoming>, witness: Witness) -> UpstreamError {
        let message = refusal_message(&read_prefix(response, MESSAGE_LIMIT).await);
        self.warn("upstream denies a read", message.as_deref().unwrap_or_default());
        UpstreamError::Denied { message, witness }
    }

    /// One request and the redirects that follow from it.
    async fn attempt(&self, token: Option<&Token>) -> Result<FinalResponse, ExchangeError> {
        let settings = self.upstream.settings();
        let mut hop = self.first.clone();
        let most = if sabotaged("redirect-limit") { 99 } else { settings.max_redirects };
        for _ in 0..=most {
            let (response, sent) = self.send(&hop, token).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(FinalResponse { response, hop, sent, arrived: Instant::now() });
            }
            let location = response.headers().get(header::LOCATION);
            let next = hop.redirected(location, &self.upstream.inner.endpoint, &settings.redirect_hosts);
            drain(response).await;
            hop = next.map_err(|bad| self.not_followed(bad))?;
        }
        Err(self.not_followed(BadRedirect::TooMany))
    }

    fn not_followed(&self, bad: BadRedirect) -> ExchangeError {
        self.warn("a redirect of upstream is not followed", &bad.to_string());
        ExchangeError::Fatal(UpstreamError::unavailable(Unavailability::Redirect))
    }

    /// Sends one request to one address, and tells the endpoint's admission what came of it.
    async fn send(&self, hop: &Hop, token: Option<&Token>) -> Result<(Response<Incoming>, Instant), ExchangeError> {
        let UpstreamInner { client, admission, endpoint, metrics, label, .. } = self.upstream.inner.as_ref();
        let at_endpoint = endpoint.owns(&hop.url);
        // Other hosts have quotas of their own.
        if at_endpoint {
            self.upstream.admit(self.deadline).await.map_err(ExchangeError::Fatal)?;
        }
        let request = self.request(hop, token).map_err(|error| ExchangeError::Fatal(error.into()))?;
        let header_timeout = self.upstream.settings().header_timeout.get();
        let sent = Instant::now();
        metrics.sent(label);
        let error = match client.send(request, self.deadline.min(sent + header_timeout)).await {
            Ok(response) => {
                if at_endpoint {
                    admission.responded(response.status() == StatusCode::TOO_MANY_REQUESTS);
                }
                return Ok((response, sent));
            }
            Err(error) => error,
        };
        let is_unreachable = match &error {
            SendError::Connection(reason, _) => *reason == Unavailability::Connect,
            // A deadline that was almost over says nothing about the upstream.
            SendError::Timeout => sent.elapsed() >= header_timeout / 2,
            SendError::Malformed => false,
        };
        if at_endpoint && is_unreachable && !self.is_part() {
            admission.unreachable();
        }
        Err(self.send_error(error))
    }

    fn send_error(&self, error: SendError) -> ExchangeError {
        match error {
            SendError::Connection(reason, detail) => {
                self.log_connection(reason, &detail);
                ExchangeError::Retryable(AttemptFailure::Connection(reason))
            }
            SendError::Timeout => ExchangeError::Retryable(AttemptFailure::Timeout),
            SendError::Malformed => ExchangeError::Fatal(Malformed::Http.into()),
        }
    }

    fn request(&self, hop: &Hop, token: Option<&Token>) -> Result<Request<RequestBody>, Malformed> {
        let body = RequestBody::new(Empty::new().map_err(|never| match never {}));
        let mut request = Request::new(body);
        *request.uri_mut() = Uri::try_from(hop.url.as_str()).map_err(|_| Malformed::Address)?;
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        // The two conditions say the same; both must be wrong before a token could get anywhere else.
        if let Some(token) = token.filter(|_| hop.with_token && self.upstream.inner.endpoint.owns(&hop.url)) {
            request.headers_mut().insert(header::AUTHORIZATION, token.basic_header());
        }
        Ok(request)
    }

    /// Whether a failure of this request counts for nothing.
    fn is_part(&self) -> bool {
        self.range == RangeUse::Part && !sabotaged("part-counts")
    }

    fn tokens(&self) -> &TokenHandle {
        &self.upstream.inner.tokens
    }

    /// A failed connection is a warning only if a client waits for it. A kept connection that upstream closed at the
    /// same moment is normal.
    fn log_connection(&self, reason: Unavailability, detail: &str) {
        let (route, kind) = (&self.upstream.inner.label, self.kind.as_str());
        match (reason, Priority::current()) {
            (Unavailability::Connect, Priority::Client(_)) => self.warn("no connection to upstream", detail),
            (Unavailability::Connect, Priority::Background) => {
                tracing::debug!(%route, kind, detail, "no connection to upstream");
            }
            _ => tracing::debug!(%route, kind, detail, "a connection ended before the response"),
        }
    }

    fn warn(&self, what: &'static str, detail: &str) {
        tracing::warn!(route = %self.upstream.inner.label, kind = self.kind.as_str(), detail, "{what}");
    }
}

fn unavailable(reason: Unavailability, retry_after: Option<Duration>) -> UpstreamError {
    UpstreamError::Unavailable { reason, retry_after: retry_after.map(|wait| wait.min(MAX_RETRY_AFTER)) }
}

/// The message of a refusal, as CodeArtifact words it: `{"message": "…"}`. On one line of bounded length, and without
/// what looks secret: an upstream may repeat the token.
pub(super) fn refusal_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let message = value.get("message").or_else(|| value.get("Message"))?.as_str()?;
    Some(hide_secrets(message, LONGEST_MESSAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusals_message_is_taken_from_its_json() {
        assert_eq!(
            refusal_message(b"{\"message\": \"User: x is not\\u001b[31m authorized\"}").as_deref(),
            Some("User: x is not[31m authorized")
        );
        assert_eq!(refusal_message(b"<html>"), None);
        let token = format!("eyJ2ZXIiOjEs{}", "aB3-_".repeat(20));
        let echo = format!("{{\"message\": \"no: <token>{token}</token> Basic YXdzOmE= bearer:x\"}}");
        assert_eq!(
            refusal_message(echo.as_bytes()).as_deref(),
            Some("no: <token>[hidden]</token> Basic [hidden] bearer:[hidden]")
        );
    }
}

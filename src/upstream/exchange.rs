//! From one question to one usable answer: token, redirects, repetitions and what a status means.
//!
//! This is the only place that attaches a token, and the only one that decides whether a 404 is an absence. The
//! decisions themselves are pure ([`meaning`], [`super::retry`], [`super::address`]); the loop here carries them out
//! until the deadline.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};
use url::Url;

use super::address::{Refused, Stop};
use super::body::{Held, beginning, discard};
use super::client::{RequestBody, SendError};
use super::error::{Malformed, Unavailability, UpstreamError};
use super::gate::Lane;
use super::retry::{Failure, LONGEST_WISH, Next, Spent, retry_after};
use super::{Inner, Kind, Upstream};
use crate::token::{Token, TokenHandle};

/// The name under which this program shows up in the logs of upstream.
pub(super) const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("wheelport/", env!("CARGO_PKG_VERSION")));
/// How much of a refusal is read for its message.
pub(super) const MESSAGE_LIMIT: usize = 4 << 10;

/// One question.
pub(super) struct Exchange<'a> {
    /// Whom to ask.
    pub upstream: &'a Upstream,
    /// What for.
    pub kind: Kind,
    /// Where to begin.
    pub first: Stop,
    /// What to ask with, beside the token.
    pub headers: HeaderMap,
    /// Statuses beside 200 that the caller can use.
    pub usable: &'static [StatusCode],
    /// The index lists it, so that a 404 may just be early.
    pub listed: bool,
    /// A 5xx is an answer to the range, not to the file.
    pub resuming: bool,
    /// When to give up.
    pub deadline: Instant,
}

/// One answer that the caller can use. The body is unread.
pub(super) struct Answer {
    pub response: Response<Incoming>,
    /// The address that answered.
    pub url: Url,
    /// The place in the endpoint's queue, to be kept with the body.
    pub held: Held,
}

/// An answer of whatever status, after redirects.
struct Reached {
    response: Response<Incoming>,
    stop: Stop,
    sent: Instant,
}

/// Why there is no answer of any status.
enum Trouble {
    /// Final.
    Fail(UpstreamError),
    /// Perhaps worth a repetition.
    Retry(Failure),
}

/// What a status says, depending on who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The thing asked for.
    Usable,
    /// The token is refused.
    Unauthorized,
    /// It does not exist, if the token is good.
    Missing,
    /// The role may not read it.
    Denied,
    /// Too many requests.
    Throttled,
    /// The upstream has failed.
    Server,
    /// Another host refused what the endpoint had sent us there for.
    RefusedElsewhere,
    /// Nothing that this kind of request gets.
    Strange,
}

/// Only the endpoint itself, asked with the token, can say that something does not exist or may not be read.
fn meaning(status: StatusCode, with_token: bool, usable: &[StatusCode]) -> Meaning {
    match status.as_u16() {
        200 => Meaning::Usable,
        _ if usable.contains(&status) => Meaning::Usable,
        401 | 403 | 404 | 410 if !with_token => Meaning::RefusedElsewhere,
        401 => Meaning::Unauthorized,
        403 => Meaning::Denied,
        404 | 410 => Meaning::Missing,
        // Another host's 429 is no reason to slow down towards the endpoint.
        429 if with_token => Meaning::Throttled,
        429 | 500..=599 => Meaning::Server,
        _ => Meaning::Strange,
    }
}

/// What one question has used up so far.
#[derive(Default)]
struct Progress {
    spent: Spent,
    replayed: bool,
    missing_since: Option<Instant>,
}

impl Exchange<'_> {
    /// Asks until there is a usable answer, a final error, or no time left.
    pub async fn run(self) -> Result<Answer, UpstreamError> {
        let tokens = self.tokens();
        // The token first: without one, a place in the queue would be held for nothing.
        let mut token = if self.first.with_token { Some(tokens.current(self.deadline).await?) } else { None };
        let lane = if self.kind == Kind::File { Lane::File } else { Lane::Short };
        let held = self.upstream.place(lane, self.deadline).await?;
        let mut progress = Progress::default();
        loop {
            let reached = match self.attempt(token.as_ref()).await {
                Ok(reached) => reached,
                Err(Trouble::Fail(error)) => return Err(error),
                Err(Trouble::Retry(failure)) => {
                    self.repeat(&mut progress.spent, failure).await?;
                    continue;
                }
            };
            let bearer = token.as_ref().filter(|_| reached.stop.with_token);
            let meaning = meaning(reached.response.status(), reached.stop.with_token, self.usable);
            if meaning != Meaning::Usable {
                let newer = self.recover(&mut progress, meaning, reached, bearer).await?;
                token = newer.or(token);
                continue;
            }
            let Reached { response, stop, .. } = reached;
            if let Some(token) = bearer.filter(|_| response.status().is_success()) {
                tokens.confirm(token.generation);
            }
            return Ok(Answer { response, url: stop.url, held });
        }
    }
}

impl Exchange<'_> {
    /// Makes the next round possible after an answer that is of no use: waits, or gets a newer token. An error says
    /// that there is no next round.
    async fn recover(
        &self,
        progress: &mut Progress,
        meaning: Meaning,
        reached: Reached,
        bearer: Option<&Token>,
    ) -> Result<Option<Token>, UpstreamError> {
        let Reached { response, stop, sent } = reached;
        let status = response.status();
        let wish = retry_after(response.headers());
        if meaning == Meaning::Denied {
            return Err(self.denied(response).await);
        }
        discard(response).await;
        match meaning {
            Meaning::Unauthorized => self.renew(progress, bearer, status).await,
            Meaning::Missing => {
                let trusted = bearer.is_some_and(|token| self.tokens().is_trusted(token.generation));
                if trusted {
                    self.wait_for_import(progress).await.map(|()| None)
                } else {
                    self.renew(progress, bearer, status).await
                }
            }
            Meaning::Throttled => {
                self.upstream.inner.gate.throttled(sent, wish);
                self.upstream.inner.metrics.throttled(&self.upstream.inner.label);
                self.repeat(&mut progress.spent, Failure::Throttled(wish)).await.map(|()| None)
            }
            Meaning::Server if self.resuming => Err(UpstreamError::CannotResume),
            Meaning::Server => {
                // Only the endpoint's own trouble is a reason to go easy on it.
                if stop.with_token {
                    self.upstream.inner.gate.failed(sent, wish);
                }
                self.repeat(&mut progress.spent, Failure::Server(status, wish)).await.map(|()| None)
            }
            Meaning::RefusedElsewhere => {
                self.warn("another host refused what upstream had sent us there for", status.as_str());
                Err(UpstreamError::unavailable(Unavailability::Redirect))
            }
            Meaning::Strange | Meaning::Usable | Meaning::Denied => Err(Malformed::Status(status.as_u16()).into()),
        }
    }

    /// Gets a token newer than the one that was refused, or in doubt; once.
    async fn renew(
        &self,
        progress: &mut Progress,
        bearer: Option<&Token>,
        status: StatusCode,
    ) -> Result<Option<Token>, UpstreamError> {
        let refused = UpstreamError::unavailable(Unavailability::Token);
        let Some(token) = bearer else { return Err(refused) };
        self.tokens().reject(token.generation);
        if progress.replayed {
            self.warn("upstream refuses a token that was just renewed", status.as_str());
            return Err(refused);
        }
        progress.replayed = true;
        self.upstream.inner.metrics.repeated(&self.upstream.inner.label, Unavailability::Token.as_str());
        Ok(Some(self.tokens().newer_than(token.generation, self.deadline).await?))
    }

    /// A trusted 404: waits if it may just be early, otherwise believes it.
    async fn wait_for_import(&self, progress: &mut Progress) -> Result<(), UpstreamError> {
        if !self.listed {
            return Err(UpstreamError::NotFound);
        }
        let since = *progress.missing_since.get_or_insert_with(Instant::now);
        let patience = self.upstream.settings().import_patience.get();
        let Some(pause) = progress.spent.after_missing(since.elapsed(), patience) else {
            return Err(UpstreamError::NotFound);
        };
        self.upstream.inner.metrics.repeated(&self.upstream.inner.label, "import");
        self.pause(pause, Unavailability::Timeout, None).await
    }

    /// Waits before a repetition, or says why there is none.
    async fn repeat(&self, spent: &mut Spent, failure: Failure) -> Result<(), UpstreamError> {
        let (reason, wish) = (failure.reason(), failure.wish());
        let end = UpstreamError::Unavailable { reason, retry_after: wish.map(|wish| wish.min(LONGEST_WISH)) };
        let pause = match spent.after(failure, fastrand::f64()) {
            Next::RepeatAfterPause => Duration::ZERO,
            Next::Repeat(pause) if self.upstream.inner.gate.may_repeat() => pause,
            Next::Repeat(_) | Next::Stop => return Err(end),
        };
        self.upstream.inner.metrics.repeated(&self.upstream.inner.label, reason.as_str());
        self.pause(pause, reason, wish).await
    }

    async fn pause(
        &self,
        pause: Duration,
        reason: Unavailability,
        wish: Option<Duration>,
    ) -> Result<(), UpstreamError> {
        if Instant::now() + pause >= self.deadline {
            return Err(UpstreamError::Unavailable { reason, retry_after: wish.map(|wish| wish.min(LONGEST_WISH)) });
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        Ok(())
    }

    async fn denied(&self, response: Response<Incoming>) -> UpstreamError {
        let message = refusal_message(&beginning(response, MESSAGE_LIMIT).await);
        self.warn("upstream denies a read", message.as_deref().unwrap_or_default());
        UpstreamError::Denied { message }
    }

    /// One request and the redirects it leads through.
    async fn attempt(&self, token: Option<&Token>) -> Result<Reached, Trouble> {
        let settings = self.upstream.settings();
        let mut stop = self.first.clone();
        for _ in 0..=settings.max_redirects {
            let (response, sent) = self.send(&stop, token).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Reached { response, stop, sent });
            }
            let location = response.headers().get(header::LOCATION);
            let next = stop.redirected(location, &self.upstream.inner.endpoint, &settings.redirect_hosts);
            discard(response).await;
            stop = next.map_err(|refused| self.astray(refused))?;
        }
        Err(self.astray(Refused::TooMany))
    }

    fn astray(&self, refused: Refused) -> Trouble {
        self.warn("a redirect of upstream is not followed", &refused.to_string());
        Trouble::Fail(UpstreamError::unavailable(Unavailability::Redirect))
    }

    /// One request to one address, and what the endpoint's gate learns from it.
    async fn send(&self, stop: &Stop, token: Option<&Token>) -> Result<(Response<Incoming>, Instant), Trouble> {
        let Inner { client, gate, endpoint, metrics, label, .. } = self.upstream.inner.as_ref();
        let at_endpoint = endpoint.owns(&stop.url);
        // Other hosts have quotas of their own.
        if at_endpoint {
            self.upstream.admit(self.deadline).await.map_err(Trouble::Fail)?;
        }
        let request = self.request(stop, token).map_err(|error| Trouble::Fail(error.into()))?;
        let head_timeout = self.upstream.settings().head_timeout.get();
        let sent = Instant::now();
        metrics.sent(label);
        let error = match client.send(request, self.deadline.min(sent + head_timeout)).await {
            Ok(response) => {
                if at_endpoint {
                    gate.answered(response.status() == StatusCode::TOO_MANY_REQUESTS);
                }
                return Ok((response, sent));
            }
            Err(error) => error,
        };
        Err(match error {
            SendError::Connection(reason, detail) => {
                if reason == Unavailability::Connect {
                    self.warn("no connection to upstream", &detail);
                    if at_endpoint {
                        gate.unreachable();
                    }
                } else {
                    // A kept connection that upstream closed in the same moment is everyday business.
                    tracing::debug!(route = %label, detail, "a connection ended before the answer");
                }
                Trouble::Retry(Failure::Connection(reason))
            }
            SendError::Silence => {
                // A deadline that was almost over says nothing about the upstream.
                if at_endpoint && sent.elapsed() >= head_timeout / 2 {
                    gate.unreachable();
                }
                Trouble::Retry(Failure::Silence)
            }
            SendError::Malformed => Trouble::Fail(Malformed::Http.into()),
        })
    }

    fn request(&self, stop: &Stop, token: Option<&Token>) -> Result<Request<RequestBody>, Malformed> {
        let body = RequestBody::new(Empty::new().map_err(|never| match never {}));
        let mut request = Request::new(body);
        *request.uri_mut() = Uri::try_from(stop.url.as_str()).map_err(|_| Malformed::Address)?;
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        // The two conditions say the same; both must be wrong before a token could get anywhere else.
        if let Some(token) = token.filter(|_| stop.with_token && self.upstream.inner.endpoint.owns(&stop.url)) {
            request.headers_mut().insert(header::AUTHORIZATION, token.basic_header());
        }
        Ok(request)
    }

    fn tokens(&self) -> &TokenHandle {
        &self.upstream.inner.tokens
    }

    fn warn(&self, what: &'static str, detail: &str) {
        tracing::warn!(route = %self.upstream.inner.label, kind = self.kind.as_str(), detail, "{what}");
    }
}

/// The message of a refusal, as CodeArtifact words it: `{"message": "…"}`. Control characters are dropped.
pub(super) fn refusal_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let message = value.get("message").or_else(|| value.get("Message"))?.as_str()?;
    Some(message.chars().filter(|c| !c.is_control()).take(1000).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_endpoint_can_say_that_something_is_absent_or_forbidden() {
        let usable = [StatusCode::NOT_ACCEPTABLE];
        for (status, asked_with_token, elsewhere) in [
            (200, Meaning::Usable, Meaning::Usable),
            (204, Meaning::Strange, Meaning::Strange),
            (206, Meaning::Strange, Meaning::Strange),
            (304, Meaning::Strange, Meaning::Strange),
            (400, Meaning::Strange, Meaning::Strange),
            (401, Meaning::Unauthorized, Meaning::RefusedElsewhere),
            (403, Meaning::Denied, Meaning::RefusedElsewhere),
            (404, Meaning::Missing, Meaning::RefusedElsewhere),
            (406, Meaning::Usable, Meaning::Usable),
            (410, Meaning::Missing, Meaning::RefusedElsewhere),
            (429, Meaning::Throttled, Meaning::Server),
            (500, Meaning::Server, Meaning::Server),
            (503, Meaning::Server, Meaning::Server),
        ] {
            let code = StatusCode::from_u16(status).expect("a status");
            assert_eq!(meaning(code, true, &usable), asked_with_token, "{status}");
            assert_eq!(meaning(code, false, &usable), elsewhere, "{status}");
        }
    }

    #[test]
    fn a_refusals_message_is_taken_from_its_json() {
        assert_eq!(
            refusal_message(b"{\"message\": \"User: x is not\\u001b[31m authorized\"}").as_deref(),
            Some("User: x is not[31m authorized")
        );
        assert_eq!(refusal_message(b"<html>"), None);
    }
}

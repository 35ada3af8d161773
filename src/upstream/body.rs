//! Bodies of responses: read chunk by chunk, never trusted to come, to come fast enough, or to end where the headers
//! said.
//!
//! A body holds its permit until it ends or is dropped.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Response, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use prometheus_client::metrics::counter::Counter;
use tokio::time::timeout;

use super::admission::Permit;
use super::connect::BoxError;
use super::error::{Unavailability, UpstreamError};
use super::metrics::InFlightGauge;
use super::settings::ClientSettings;
use wheelport_runtime::{Inflow, InflowLimits, sabotaged};

/// The longest body that is read only so that its connection can be used again.
const DRAIN_LIMIT: usize = 16 << 10;
/// How long a short body may take to come.
const PREFIX_TIMEOUT: Duration = Duration::from_millis(250);
/// The most memory that is reserved because a `Content-Length` announces it; the rest is reserved as it fills.
const MAX_RESERVED: u64 = 1 << 20;

/// What one request in flight holds until its body ends.
#[derive(Debug)]
pub(super) struct InFlightPermit {
    pub(super) _permit: Permit,
    pub(super) _gauge: InFlightGauge,
}

/// One body being received.
pub(super) struct BodyReader {
    body: UnsyncBoxBody<Bytes, BoxError>,
    inflow: Inflow,
    expected: Option<u64>,
    received: u64,
    ended: bool,
    counter: Counter,
    permit: Option<InFlightPermit>,
}

impl BodyReader {
    pub(super) fn new<B>(
        response: Response<B>,
        settings: &ClientSettings,
        counter: Counter,
        permit: Option<InFlightPermit>,
    ) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            expected: content_length(response.headers()),
            body: response.into_body().map_err(Into::into).boxed_unsync(),
            inflow: Inflow::new(InflowLimits {
                stall: settings.stall_timeout.get(),
                rate: settings.slow_rate.bytes(),
                window: settings.slow_window.get(),
            }),
            received: 0,
            ended: false,
            counter,
            permit,
        }
    }

    /// The length that the headers announced.
    pub(super) fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// The next chunk; `None` only after a complete body. After an error there is nothing more.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        if self.ended {
            return None;
        }
        let outcome = self.advance().await;
        if !matches!(outcome, Some(Ok(_))) {
            self.ended = true;
            self.permit = None;
        }
        outcome
    }

    async fn advance(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        loop {
            let Ok(frame) = self.inflow.wait(self.body.frame()).await else {
                return Some(Err(UpstreamError::unavailable(Unavailability::Timeout)));
            };
            let chunk = match frame {
                None => return self.at_end(),
                Some(Err(error)) => {
                    tracing::debug!(received = self.received, error, "a body broke off");
                    return Some(Err(UpstreamError::unavailable(Unavailability::Broken)));
                }
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            if self.inflow.came(chunk.len() as u64).is_err() {
                return Some(Err(UpstreamError::unavailable(Unavailability::Timeout)));
            }
            if chunk.is_empty() {
                continue; // trailers, or a frame without content
            }
            self.received += chunk.len() as u64;
            self.counter.inc_by(chunk.len() as u64);
            return Some(Ok(chunk));
        }
    }

    fn at_end(&self) -> Option<Result<Bytes, UpstreamError>> {
        match self.expected {
            Some(expected) if expected != self.received => {
                Some(Err(UpstreamError::unavailable(Unavailability::Broken)))
            }
            _ => None,
        }
    }

    /// Gathers the body to its end. Stops with `false` where it is longer than the limit; it can be gathered further
    /// with a higher one.
    pub(super) async fn gather(&mut self, body: &mut BytesMut, limit: u64) -> Result<bool, UpstreamError> {
        if self.expected.is_some_and(|expected| expected > limit) {
            return Ok(false);
        }
        while self.received <= limit || sabotaged("page-size") {
            let Some(chunk) = self.next().await else { return Ok(true) };
            let chunk = chunk?;
            if body.is_empty() {
                let hint = self.expected.unwrap_or_default().min(MAX_RESERVED);
                body.reserve(usize::try_from(hint).unwrap_or_default().max(chunk.len()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(false)
    }
}

fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads and drops a short body that has no use, so that its connection can be used again; a longer body is dropped
/// together with its connection.
pub(super) async fn drain<B>(response: Response<B>)
where
    B: Body<Data = Bytes> + Send,
{
    let announced = content_length(response.headers());
    if announced.is_some_and(|length| length > DRAIN_LIMIT as u64) {
        return;
    }
    drop(read_prefix(response, DRAIN_LIMIT).await);
}

/// The first bytes of a short body, for the message in it. Waits a quarter of a second at most.
pub(super) async fn read_prefix<B>(response: Response<B>, limit: usize) -> Vec<u8>
where
    B: Body<Data = Bytes> + Send,
{
    let mut bytes = Vec::new();
    let mut body = std::pin::pin!(response.into_body());
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
            if bytes.len() >= limit {
                break;
            }
        }
    };
    // A message that does not come in time is left out.
    let _ = timeout(PREFIX_TIMEOUT, reading).await;
    bytes.truncate(limit);
    bytes
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, StreamExt as _};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::time::Instant;

    use super::*;
    use wheelport_runtime::HumanDuration;

    /// A body of chunks, each after its pause.
    fn body(chunks: Vec<(u64, &'static [u8])>) -> Response<impl Body<Data = Bytes, Error = BoxError> + Send> {
        let frames = stream::iter(chunks).then(|(seconds, chunk)| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(chunk)))
        });
        Response::new(StreamBody::new(frames))
    }

    fn reader(
        response: Response<impl Body<Data = Bytes, Error = BoxError> + Send + 'static>,
        settings: &ClientSettings,
    ) -> BodyReader {
        BodyReader::new(response, settings, Counter::default(), None)
    }

    const TIMEOUT: UpstreamError = UpstreamError::Unavailable { reason: Unavailability::Timeout, retry_after: None };
    const BROKEN: UpstreamError = UpstreamError::Unavailable { reason: Unavailability::Broken, retry_after: None };

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_body() {
        let settings = ClientSettings::default();
        let mut reader = reader(body(vec![(0, b"abc"), (31, b"def")]), &settings);
        let began = Instant::now();
        assert_eq!(reader.next().await, Some(Ok(Bytes::from_static(b"abc"))));
        assert_eq!(reader.next().await, Some(Err(TIMEOUT)));
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_ends_a_body_although_it_is_never_silent() {
        let settings = ClientSettings::default();
        let mut reader = reader(body(vec![(1, b"x"); 200]), &settings);
        let began = Instant::now();
        let error = loop {
            match reader.next().await.expect("the body does not end by itself") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error, TIMEOUT);
        assert_eq!(began.elapsed(), Duration::from_mins(1));
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_slowness_is_not_held_against_the_upstream() {
        let settings = ClientSettings::default();
        let mut reader = reader(body(vec![(0, b"x"); 5]), &settings);
        for _ in 0..5 {
            assert!(matches!(reader.next().await, Some(Ok(_))));
            tokio::time::sleep(Duration::from_mins(5)).await;
        }
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_ends_where_its_headers_said() {
        for announced in ["2", "4"] {
            let mut response = body(vec![(0, b"abc")]);
            response.headers_mut().insert(header::CONTENT_LENGTH, announced.parse().expect("a number"));
            let mut reader = reader(response, &ClientSettings::default());
            assert!(matches!(reader.next().await, Some(Ok(_))));
            assert_eq!(reader.next().await, Some(Err(BROKEN)), "{announced}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gathered_body_is_bounded_announced_or_not() {
        let settings = ClientSettings { stall_timeout: HumanDuration::secs(1), ..ClientSettings::default() };
        let mut gathered = BytesMut::new();
        let mut reader = reader(body(vec![(0, b"abc"), (0, b"def"), (0, b"ghi")]), &settings);
        assert_eq!(reader.gather(&mut gathered, 5).await, Ok(false));
        assert_eq!(reader.gather(&mut gathered, 5).await, Ok(false), "it stays too long");
        assert_eq!(gathered, b"abcdef".as_slice());
        assert_eq!(reader.gather(&mut gathered, 9).await, Ok(true));
        assert_eq!(gathered, b"abcdefghi".as_slice());
        let mut response = body(vec![(0, b"abc")]);
        response.headers_mut().insert(header::CONTENT_LENGTH, "600".parse().expect("a number"));
        let mut announced = BodyReader::new(response, &settings, Counter::default(), None);
        assert_eq!(announced.gather(&mut BytesMut::new(), 500).await, Ok(false));
    }
}

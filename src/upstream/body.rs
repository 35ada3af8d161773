//! Bodies of answers: read piece by piece, never trusted to come, to come fast enough, or to end where they said.
//!
//! A body holds its place in the endpoint's queue until it is dropped.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Response, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, timeout};

use super::connect::BoxError;
use super::error::{Unavailability, UpstreamError};
use super::gate::Place;
use super::metrics::InFlight;
use super::settings::ClientSettings;

/// What a body holds on to.
#[derive(Debug)]
pub(super) struct Held {
    pub _place: Place,
    pub _in_flight: InFlight,
}

/// One body on its way.
pub(super) struct Reader {
    body: UnsyncBoxBody<Bytes, BoxError>,
    pace: Pace,
    stall: Duration,
    expected: Option<u64>,
    received: u64,
    ended: bool,
    counter: Counter,
    held: Option<Held>,
}

impl Reader {
    /// Takes the body of an answer over, with its place.
    pub fn new<B>(response: Response<B>, settings: &ClientSettings, counter: Counter, held: Option<Held>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            expected: content_length(response.headers()),
            body: response.into_body().map_err(Into::into).boxed_unsync(),
            pace: Pace::new(settings.slow_rate.bytes(), settings.slow_window.get()),
            stall: settings.stall_timeout.get(),
            received: 0,
            ended: false,
            counter,
            held,
        }
    }

    /// The length that the head announced.
    pub fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// The next piece; `None` only after a complete body. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        if self.ended {
            return None;
        }
        let outcome = self.advance().await;
        if !matches!(outcome, Some(Ok(_))) {
            self.ended = true;
            self.held = None;
        }
        outcome
    }

    async fn advance(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        loop {
            let began = Instant::now();
            let Ok(frame) = timeout(self.stall, self.body.frame()).await else {
                return Some(Err(UpstreamError::unavailable(Unavailability::Timeout)));
            };
            let data = match frame {
                None => return self.at_end(),
                Some(Err(error)) => {
                    tracing::debug!(received = self.received, error, "a body broke off");
                    return Some(Err(UpstreamError::unavailable(Unavailability::Broken)));
                }
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            if self.pace.is_too_slow(began.elapsed(), data.len() as u64) {
                return Some(Err(UpstreamError::unavailable(Unavailability::Timeout)));
            }
            if data.is_empty() {
                continue; // trailers, or a frame without content
            }
            self.received += data.len() as u64;
            self.counter.inc_by(data.len() as u64);
            return Some(Ok(data));
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

    /// The whole body, if it is not larger than the limit.
    pub async fn whole(mut self, limit: u64) -> Result<Bytes, UpstreamError> {
        let too_large = UpstreamError::TooLarge { limit };
        if self.expected.is_some_and(|expected| expected > limit) {
            return Err(too_large);
        }
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if self.received > limit {
                return Err(too_large);
            }
            if whole.is_empty() {
                // What was announced is a hint: memory is taken as it fills.
                let hint = self.expected.unwrap_or_default().min(1 << 20);
                whole.reserve(usize::try_from(hint).unwrap_or_default().max(piece.len()));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How fast bytes come, judged by the time spent waiting for them: a slow reader on our side is not held against the
/// upstream.
#[derive(Debug)]
struct Pace {
    rate: u64,
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    fn new(rate: u64, window: Duration) -> Self {
        Self { rate, window, waited: Duration::ZERO, bytes: 0 }
    }

    fn is_too_slow(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.window {
            return false;
        }
        // In milliseconds and wide, so that no rate and no wait is rounded away.
        let due = u128::from(self.rate) * self.waited.as_millis();
        let too_slow = u128::from(self.bytes) * 1000 < due;
        self.waited = Duration::ZERO;
        self.bytes = 0;
        too_slow
    }
}

/// Reads and forgets what little there is of a body nobody wants, so that its connection can be used again; a longer
/// one is dropped together with its connection.
pub(super) async fn discard<B>(response: Response<B>)
where
    B: Body<Data = Bytes> + Send,
{
    let announced = content_length(response.headers());
    if announced.is_some_and(|length| length > 16 << 10) {
        return;
    }
    drop(beginning(response, 16 << 10).await);
}

/// The first bytes of a short body, for a message in it. Waits a quarter of a second at most.
pub(super) async fn beginning<B>(response: Response<B>, limit: usize) -> Vec<u8>
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
    // A message that does not come in time is one we do without.
    let _ = timeout(Duration::from_millis(250), reading).await;
    bytes.truncate(limit);
    bytes
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, StreamExt as _};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;
    use wheelport_runtime::{HumanDuration, Size};

    /// A body of pieces, each after its pause.
    fn body(pieces: Vec<(u64, &'static [u8])>) -> Response<impl Body<Data = Bytes, Error = BoxError> + Send> {
        let frames = stream::iter(pieces).then(|(seconds, piece)| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(piece)))
        });
        Response::new(StreamBody::new(frames))
    }

    fn reader(
        response: Response<impl Body<Data = Bytes, Error = BoxError> + Send + 'static>,
        settings: &ClientSettings,
    ) -> Reader {
        Reader::new(response, settings, Counter::default(), None)
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
    async fn a_body_ends_where_it_said() {
        for announced in ["2", "4"] {
            let mut response = body(vec![(0, b"abc")]);
            response.headers_mut().insert(header::CONTENT_LENGTH, announced.parse().expect("a number"));
            let mut reader = reader(response, &ClientSettings::default());
            assert!(matches!(reader.next().await, Some(Ok(_))));
            assert_eq!(reader.next().await, Some(Err(BROKEN)), "{announced}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_body_is_bounded_announced_or_not() {
        let settings = ClientSettings { stall_timeout: HumanDuration::secs(1), ..ClientSettings::default() };
        let whole = |limit: Size| reader(body(vec![(0, b"abc"), (0, b"def")]), &settings).whole(limit.bytes());
        assert_eq!(whole(Size(6)).await, Ok(Bytes::from_static(b"abcdef")));
        assert_eq!(whole(Size(5)).await, Err(UpstreamError::TooLarge { limit: 5 }));
        let mut response = body(vec![(0, b"abc")]);
        response.headers_mut().insert(header::CONTENT_LENGTH, "600".parse().expect("a number"));
        assert_eq!(reader(response, &settings).whole(500).await, Err(UpstreamError::TooLarge { limit: 500 }));
    }
}

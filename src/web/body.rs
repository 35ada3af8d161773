//! Bodies of answers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, StatusCode};
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::Response;
use crate::flow::FileStream;
use crate::telemetry::Metrics;

/// Room for what every answer of ours carries.
pub const HEADERS: usize = 12;

/// An answer with these bytes; a HEAD gets their length only.
pub fn whole(bytes: Bytes, method: &Method) -> Response {
    let length = HeaderValue::from(bytes.len());
    let body = if *method == Method::HEAD { AnswerBody::empty() } else { bytes.into() };
    let mut response = Response::new(body);
    response.headers_mut().reserve(HEADERS);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// The answer to a client that has it already (304).
pub fn unchanged() -> Response {
    let mut response = Response::new(AnswerBody::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().reserve(HEADERS);
    response
}

/// The bytes of a file as a body. An error in the middle breaks the connection, so that nobody takes a part for all.
pub fn stream(stream: FileStream) -> AnswerBody {
    let pieces = futures_util::stream::try_unfold(stream, |mut stream| async move {
        Ok::<_, crate::error::Error>(stream.next().await?.map(|piece| (piece, stream)))
    });
    AnswerBody::new(Content::Stream(Body::from_stream(pieces)))
}

/// Counts a request as under way until it is dropped.
pub struct InFlight(Gauge);

impl InFlight {
    /// Begins to count.
    pub fn begin(metrics: &Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics.in_flight.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whose turn it is on a connection: the client's, to send the head of a request, or ours, to answer.
///
/// A counter that every change raises, so that nobody misses one; it is odd while it is our turn.
#[derive(Clone, Default)]
pub struct Turns(Arc<AtomicUsize>);

/// Our turn, until this is dropped.
pub struct Turn(Turns);

impl Turns {
    /// The request is here, our turn begins.
    pub fn begin(&self) -> Turn {
        self.0.fetch_add(1, Ordering::Relaxed);
        Turn(self.clone())
    }

    /// The number of changes so far.
    pub fn changes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The body of an answer.
pub struct AnswerBody {
    content: Content,
    counting: Option<(Counter, InFlight)>,
    _turn: Option<Turn>,
}

enum Content {
    /// All of it is here, until it is taken.
    Whole(Option<Bytes>),
    /// It comes piece by piece.
    Stream(Body),
}

impl AnswerBody {
    fn new(content: Content) -> Self {
        Self { content, counting: None, _turn: None }
    }

    /// No bytes.
    pub fn empty() -> Self {
        Self::new(Content::Whole(None))
    }

    /// The number of bytes, if they are all here.
    pub fn length_at_hand(&self) -> Option<u64> {
        match &self.content {
            Content::Whole(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Stream(_) => None,
        }
    }

    /// The same body, which counts what is sent, and its request as under way until it is done.
    #[must_use]
    pub fn counted(self, sent: Counter, in_flight: InFlight) -> Self {
        Self { counting: Some((sent, in_flight)), ..self }
    }

    /// The same body, with which the connection's turn ends.
    #[must_use]
    pub fn until(self, turn: Turn) -> Self {
        Self { _turn: Some(turn), ..self }
    }
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        Self::new(Content::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }
}

impl From<Body> for AnswerBody {
    fn from(body: Body) -> Self {
        Self::new(Content::Stream(body))
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = match &mut self.content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Stream(body) => Pin::new(body).poll_frame(context),
        };
        if let (Poll::Ready(Some(Ok(frame))), Some((sent, _))) = (&polled, &self.counting)
            && let Some(data) = frame.data_ref()
        {
            sent.inc_by(data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Stream(body) => body.size_hint(),
        }
    }
}

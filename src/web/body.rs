//! Bodies of answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method};
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::flow::FileStream;
use crate::runtime::metrics::Metrics;

/// An answer with these bytes; a HEAD gets their length only.
pub fn whole(bytes: Bytes, method: &Method) -> Response {
    let length = HeaderValue::from(bytes.len());
    let body = if *method == Method::HEAD { Body::empty() } else { Body::from(bytes) };
    let mut response = Response::new(body);
    // Room for what every answer of ours carries.
    response.headers_mut().reserve(12);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// The bytes of a file as a body. An error in the middle breaks the connection, so that nobody takes a part for all.
pub fn stream(stream: FileStream) -> Body {
    Body::from_stream(futures_util::stream::try_unfold(stream, |mut stream| async move {
        Ok::<_, crate::error::Error>(stream.next().await?.map(|piece| (piece, stream)))
    }))
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

/// A body that counts what is sent.
pub fn counted(inner: Body, sent: Counter, in_flight: InFlight) -> Body {
    Body::new(Counted { inner, sent, _in_flight: in_flight })
}

struct Counted {
    inner: Body,
    sent: Counter,
    _in_flight: InFlight,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.sent.inc_by(data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

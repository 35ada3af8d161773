//! Bodies of responses.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;

use super::connection_phase::Responding;
use crate::flow::FileStream;
use crate::telemetry::GaugeGuard;

/// The body of a response.
pub struct ResponseBody {
    content: BodyContent,
    counting: Option<(Counter, GaugeGuard)>,
    /// Dropped with the body.
    responding: Option<Responding>,
}

enum BodyContent {
    /// All of it is here, until it is taken.
    Full(Option<Bytes>),
    /// It comes chunk by chunk.
    Stream(Body),
}

impl ResponseBody {
    fn new(content: BodyContent) -> Self {
        Self { content, counting: None, responding: None }
    }

    pub(super) fn empty() -> Self {
        Self::new(BodyContent::Full(None))
    }

    /// The bytes of a file. An error in the middle cuts the connection, so that no client takes a part for the whole.
    pub(super) fn stream(stream: FileStream) -> Self {
        let chunks = futures_util::stream::try_unfold(stream, |mut stream| async move {
            Ok::<_, crate::flow::Error>(stream.next().await?.map(|chunk| (chunk, stream)))
        });
        Self::new(BodyContent::Stream(Body::from_stream(chunks)))
    }

    /// Counts what is sent, and its request as in flight until it is done.
    pub(super) fn count(&mut self, sent: Counter, in_flight: GaugeGuard) {
        self.counting = Some((sent, in_flight));
    }

    /// Tells the connection when this is done. From now on a chunk comes only when the client has taken the one before.
    pub(super) fn until_done(&mut self, responding: Responding) {
        self.responding = Some(responding);
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::new(BodyContent::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }
}

impl From<Body> for ResponseBody {
    fn from(body: Body) -> Self {
        Self::new(BodyContent::Stream(body))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let polled = match &mut this.content {
            BodyContent::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            BodyContent::Stream(body) => {
                if let Some(responding) = &this.responding {
                    ready!(responding.poll_taken(context));
                }
                Pin::new(body).poll_frame(context)
            }
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref().filter(|data| !data.is_empty())
        {
            if let Some((sent, _)) = &this.counting {
                sent.inc_by(data.len() as u64);
            }
            if let Some(responding) = &this.responding {
                responding.hand_over();
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            BodyContent::Full(bytes) => bytes.is_none(),
            BodyContent::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            BodyContent::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            BodyContent::Stream(body) => body.size_hint(),
        }
    }
}

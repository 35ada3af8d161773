//! Bodies on their way to and from the store. Neither side may stop moving: what the store sends is read with a limit
//! for silences, and what it is sent has a watch that tells the store's silence from that of the source.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::error::StoreError;
use wheelport_index::Sha256;
use wheelport_runtime::{Inflow, InflowLimits};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of an object to be stored. An error ends the request unfinished, so the store keeps nothing of it.
pub type SourceBytes = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// The least rate at which an object may come, in bytes a second, over the time spent waiting for it.
const SLOWEST: u64 = 256 << 10;

/// The bytes of an object as they arrive.
pub struct ObjectBody {
    body: Incoming,
    inflow: Inflow,
    expected: Option<u64>,
    received: u64,
    ended: bool,
    bytes: Counter,
    permit: Option<OwnedSemaphorePermit>,
}

impl ObjectBody {
    pub(super) fn new(
        body: Incoming,
        expected: Option<u64>,
        stall: Duration,
        bytes: Counter,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (permit, inflow) = (Some(permit), Inflow::new(InflowLimits { stall, rate: SLOWEST, window: stall }));
        Self { body, inflow, expected, received: 0, ended: false, bytes, permit }
    }

    /// The next chunk; `None` only after a complete body. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
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

    async fn advance(&mut self) -> Option<Result<Bytes, StoreError>> {
        loop {
            let Ok(frame) = self.inflow.wait(self.body.frame()).await else {
                return Some(Err(StoreError::TimedOut));
            };
            let chunk = match frame {
                None if self.expected.is_some_and(|expected| expected != self.received) => {
                    return Some(Err(StoreError::Broken("it ended early".into())));
                }
                None => return None,
                Some(Err(error)) => return Some(Err(StoreError::Broken(error.to_string()))),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            self.received += chunk.len() as u64;
            self.bytes.inc_by(chunk.len() as u64);
            if self.inflow.came(chunk.len() as u64).is_err() {
                return Some(Err(StoreError::TimedOut));
            }
            if !chunk.is_empty() {
                return Some(Ok(chunk));
            }
        }
    }

    /// All bytes of a small object, compared with the checksum that the store announced.
    pub(super) async fn gather(mut self, limit: usize, checksum: Option<Sha256>) -> Result<Bytes, StoreError> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if bytes.len() + chunk.len() > limit {
                return Err(StoreError::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        let bytes = bytes.freeze();
        if checksum.is_some_and(|announced| announced != Sha256::of(&bytes)) {
            return Err(StoreError::Checksum);
        }
        Ok(bytes)
    }
}

/// How far the sending of an object has come. The body writes it, the watch reads it.
#[derive(Clone)]
pub(super) struct Outflow(Arc<Mutex<OutflowState>>);

#[derive(Debug, Clone, Copy)]
enum OutflowState {
    /// The source has to bring the next bytes; it has limits of its own.
    Source,
    /// The store has to take bytes, or to respond after the last one.
    Store(Instant),
    /// The source broke off.
    Broken,
}

impl Outflow {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(OutflowState::Store(Instant::now()))))
    }

    pub(super) fn is_source_broken(&self) -> bool {
        matches!(*self.0.lock(), OutflowState::Broken)
    }

    /// Resolves when the store has not moved for this long.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let state = *self.0.lock();
            let until = match state {
                OutflowState::Store(since) if since.elapsed() >= limit => return,
                OutflowState::Store(since) => since + limit,
                OutflowState::Source | OutflowState::Broken => Instant::now() + limit,
            };
            tokio::time::sleep_until(until).await;
        }
    }

    fn set(&self, state: OutflowState) {
        *self.0.lock() = state;
    }
}

/// A source as the body of a request.
pub(super) struct SourceBody {
    pub(super) bytes: SourceBytes,
    pub(super) left: u64,
    pub(super) outflow: Outflow,
}

impl http_body::Body for SourceBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.outflow.set(OutflowState::Source);
        let chunk = match ready!(self.bytes.as_mut().poll_next(context)) {
            Some(Ok(chunk)) if chunk.len() as u64 <= self.left => chunk,
            wrong => {
                self.outflow.set(OutflowState::Broken);
                let reason = wrong.and_then(Result::err).map_or_else(|| "other length".to_owned(), |e| e.to_string());
                return Poll::Ready(Some(Err(reason.into())));
            }
        };
        self.left -= chunk.len() as u64;
        self.outflow.set(OutflowState::Store(Instant::now()));
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

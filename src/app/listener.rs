//! The accept loop: a bounded number of connections, time limits that the HTTP library leaves to others, and a drain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::ServerSettings;
use crate::telemetry::Metrics;
use crate::web::body::{AnswerBody, Turns};
use crate::web::{self, Arrival, Response, Site};
use wheelport_runtime::Tasks;

/// The longest head of a request in bytes; clients send a few hundred.
const MAX_HEAD: usize = 64 << 10;
/// The pause after the process ran out of file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Limits of a listener.
#[derive(Clone, Copy)]
pub struct ListenerSettings {
    max_connections: usize,
    header_timeout: Duration,
    write_timeout: Duration,
}

impl ListenerSettings {
    /// As configured.
    pub fn of(server: &ServerSettings) -> Self {
        Self {
            max_connections: server.max_connections,
            header_timeout: server.header_timeout.get(),
            write_timeout: server.write_timeout.get(),
        }
    }
}

/// Who answers on a listener.
#[derive(Clone)]
pub enum Answerer {
    /// The proxy.
    Proxy(Arc<Site>),
    /// The router for operations.
    Operations(Router),
}

/// One connection's requests and who answers them.
struct Conversation {
    answerer: Answerer,
    arrival: Arrival,
    turns: Turns,
}

/// What is at hand is not boxed and waits for nothing.
type Answering = Either<Ready<Result<Response, Infallible>>, BoxFuture<'static, Result<Response, Infallible>>>;

impl Service<hyper::Request<Incoming>> for Conversation {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: hyper::Request<Incoming>) -> Answering {
        let turn = self.turns.begin();
        match &self.answerer {
            Answerer::Proxy(site) => {
                if let Some(answer) = web::at_hand(site, &self.arrival, &request) {
                    return Either::Left(ready(Ok(answer.map(|body| body.until(turn)))));
                }
                let (site, arrival) = (Arc::clone(site), self.arrival.clone());
                Either::Right(Box::pin(async move {
                    let answer = web::respond(&site, arrival, request.map(received)).await;
                    Ok(answer.map(|body| body.until(turn)))
                }))
            }
            Answerer::Operations(router) => {
                let (router, mut request) = (router.clone(), request.map(received));
                request.extensions_mut().insert(ConnectInfo(self.arrival.peer));
                Either::Right(Box::pin(async move {
                    let answer = router.oneshot(request).await?;
                    Ok(answer.map(|body| AnswerBody::from(body).until(turn)))
                }))
            }
        }
    }
}

/// A bound socket and what answers on it.
pub struct Listener {
    socket: TcpListener,
    answerer: Answerer,
    settings: ListenerSettings,
    places: Arc<Semaphore>,
    connections: Gauge,
}

impl Listener {
    /// A listener with its own places for connections.
    pub fn new(socket: TcpListener, answerer: Answerer, settings: ListenerSettings, metrics: &Metrics) -> Self {
        let places = Arc::new(Semaphore::new(settings.max_connections));
        Self { socket, answerer, settings, places, connections: metrics.connections.clone() }
    }

    /// Accepts until `closing`, then waits for the connections, at most so long.
    pub async fn serve(self, closing: CancellationToken, drain: Duration) {
        let connections = Tasks::new();
        loop {
            // A connection that finds no place waits in the kernel's queue.
            let place = tokio::select! {
                place = Arc::clone(&self.places).acquire_owned() => place,
                () = closing.cancelled() => break,
            };
            let Ok(place) = place else { break };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = closing.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let serving = self.connection(stream, peer, closing.clone());
                    let counted = Counted::begin(&self.connections);
                    connections.spawn("connection", async move {
                        let _held = (place, counted);
                        serving.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
        drop(self.socket);
        connections.join(drain).await;
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        closing: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let answerer = self.answerer.clone();
        let settings = self.settings;
        async move {
            let _ = stream.set_nodelay(true);
            let turns = Turns::default();
            let patient = Patient::new(stream, settings, turns.clone());
            let service = Conversation { answerer, arrival: Arrival { peer }, turns };
            // The limit for heads is ours: the library's would set and clear a timer for every request.
            let connection = http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(patient), service);
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(client = %peer.ip(), %error, "a connection ended early");
            }
        }
    }
}

/// The body of a request; most have none.
fn received(body: Incoming) -> Body {
    if body.is_end_stream() { Body::empty() } else { Body::new(body) }
}

/// Counts an open connection until it is dropped.
struct Counted(Gauge);

impl Counted {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A connection whose client must send a request's head within a limit, from when its turn began, and must take bytes now
/// and then: otherwise the read, or the write, is an error.
struct Patient {
    stream: TcpStream,
    write_limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    head: HeadWatch,
}

/// Watches over the time that a client takes for the head of a request. It counts from the head's first byte at the
/// latest; a client that sends nothing at all may take up to twice as long, because the clock is not read for every turn.
struct HeadWatch {
    limit: Duration,
    turns: Turns,
    /// The client's turn that is watched, and since when if that is known.
    awaited: Option<(usize, Option<Instant>)>,
    /// Goes off once in a while, not for every turn: when that is too early, it is set anew.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl HeadWatch {
    /// Called when there is nothing to read: fails if it is the client's turn and has been for too long.
    fn wait(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let turn = self.turns.changes();
        if turn % 2 == 1 {
            self.awaited = None;
        } else {
            match &mut self.awaited {
                // Part of a head has come, or the alarm went off.
                Some((awaited, since)) if *awaited == turn => {
                    since.get_or_insert_with(Instant::now);
                }
                awaited => *awaited = Some((turn, None)),
            }
        }
        let limit = self.limit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        while alarm.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let until = match &mut self.awaited {
                Some((_, since)) => *since.get_or_insert(now) + limit,
                None => now + limit,
            };
            if until <= now {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no request came in time"));
            }
            alarm.as_mut().reset(until);
        }
        Ok(())
    }
}

impl Patient {
    fn new(stream: TcpStream, settings: ListenerSettings, turns: Turns) -> Self {
        let head = HeadWatch { limit: settings.header_timeout, turns, awaited: None, alarm: None };
        Self { stream, write_limit: settings.write_timeout, stalled: None, head }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let limit = self.write_limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_pending() {
            self.head.wait(context)?;
        }
        polled
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! The accept loop: a bounded number of connections, time limits that the HTTP library leaves to others, and a drain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::ServerSettings;
use crate::runtime::Tasks;
use crate::runtime::metrics::Metrics;

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

/// A bound socket and what answers on it.
pub struct Listener {
    socket: TcpListener,
    router: Router,
    settings: ListenerSettings,
    places: Arc<Semaphore>,
    connections: Gauge,
}

impl Listener {
    /// A listener with its own places for connections.
    pub fn new(socket: TcpListener, router: Router, settings: ListenerSettings, metrics: &Metrics) -> Self {
        let places = Arc::new(Semaphore::new(settings.max_connections));
        Self { socket, router, settings, places, connections: metrics.connections.clone() }
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
        let router = self.router.clone();
        let settings = self.settings;
        async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                let router = router.clone();
                async move {
                    let request: Request = request.map(axum::body::Body::new);
                    Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(settings.header_timeout)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(Patient::new(stream, settings.write_timeout)), service);
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

/// A connection whose client must take bytes now and then: a write that makes no progress for too long is an error.
struct Patient {
    stream: TcpStream,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, limit: Duration) -> Self {
        Self { stream, limit, stalled: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let limit = self.limit;
        let stalled =
            self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
            }
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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

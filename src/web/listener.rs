//! The accept loop: a bounded number of connections with time limits, encrypted where there are certificates, and a
//! drain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::body::ResponseBody;
use super::client_stream::ClientStream;
use super::connection_phase::{ConnectionPhase, GiveWay, HeaderMemory};
use super::connections::{Connections, Crowd, Seat};
use super::context::PeerInfo;
use super::handle::{handle, refuse};
use super::refusal::Refusal;
use super::timeout_stream::{TimeoutStream, Timeouts};
use super::tls::{HANDSHAKE_MEMORY, Handshake, Opened, ServerCertificates};
use super::{Response, Site, ops};
use wheelport_runtime::{Tasks, sabotaged};

/// The longest headers of a request in bytes; clients send a few hundred.
const MAX_HEADERS: usize = 32 << 10;
/// The pause after the process ran out of file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Connections beyond the limits that get a response at the same time; more are closed without one.
const MAX_REFUSALS: usize = 64;
/// How long a connection beyond the limits may take for each step.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The system's buffer for what is sent, in bytes, where there are many connections. The system doubles it.
const SMALL_SEND_BUFFER: u32 = 32 << 10;
/// The same where there are some: a buffer that is filled by one segment makes a fast client wait for its own
/// acknowledgements.
const MIDDLE_SEND_BUFFER: u32 = 128 << 10;

/// Who handles the requests of a listener.
#[derive(Clone)]
enum Handler {
    /// The proxy.
    Proxy(Arc<Site>),
    /// No one: there are too many connections.
    Refusing(Arc<Site>, Refusal),
    /// The router for operations.
    Operations(Router),
}

/// The requests of one connection.
struct ConnectionService {
    handler: Handler,
    peer: PeerInfo,
    phase: ConnectionPhase,
}

/// A response that is there is neither boxed nor waited for.
type Handled = Either<Ready<Result<Response, Infallible>>, BoxFuture<'static, Result<Response, Infallible>>>;

impl Service<hyper::Request<Incoming>> for ConnectionService {
    type Response = Response;
    type Error = Infallible;
    type Future = Handled;

    fn call(&self, request: hyper::Request<Incoming>) -> Handled {
        let responding = self.phase.respond();
        let request = request.map(received);
        match &self.handler {
            Handler::Proxy(site) => match handle(site, &self.peer, request) {
                Either::Left(now) => {
                    let mut response = now.into_inner();
                    response.body_mut().until_done(responding);
                    Either::Left(ready(Ok(response)))
                }
                Either::Right(later) => Either::Right(Box::pin(async move {
                    let mut response = later.await;
                    response.body_mut().until_done(responding);
                    Ok(response)
                })),
            },
            Handler::Refusing(site, refusal) => {
                let mut response = refuse(site, &self.peer, refusal.clone(), request);
                response.body_mut().until_done(responding);
                Either::Left(ready(Ok(response)))
            }
            Handler::Operations(router) => {
                let (router, mut request) = (router.clone(), request);
                request.extensions_mut().insert(ConnectInfo(self.peer.address));
                Either::Right(Box::pin(async move {
                    let mut response = router.oneshot(request).await?.map(ResponseBody::from);
                    response.body_mut().until_done(responding);
                    Ok(response)
                }))
            }
        }
    }
}

/// A bound socket and who handles its requests.
pub struct Listener {
    socket: TcpListener,
    entrance: Entrance,
    connections: Arc<Connections>,
    /// For connections beyond a client's share, and for those beyond what the server can serve: the one kind cannot
    /// keep the other from its response.
    refusals: [Arc<Semaphore>; 2],
}

impl Listener {
    /// A listener of the proxy.
    pub fn proxy(socket: TcpListener, site: &Arc<Site>, connections: &Arc<Connections>, timeouts: Timeouts) -> Self {
        Self::new(socket, Handler::Proxy(Arc::clone(site)), connections, timeouts)
    }

    /// A listener for operations: metrics, status, purge.
    pub fn operations(
        socket: TcpListener,
        site: &Arc<Site>,
        connections: &Arc<Connections>,
        timeouts: Timeouts,
    ) -> Self {
        Self::new(socket, Handler::Operations(ops::router(Arc::clone(site))), connections, timeouts)
    }

    fn new(socket: TcpListener, handler: Handler, connections: &Arc<Connections>, timeouts: Timeouts) -> Self {
        let refusals = [(); 2].map(|()| Arc::new(Semaphore::new(MAX_REFUSALS)));
        let certificates = match &handler {
            Handler::Proxy(site) => site.certificates.clone(),
            _ => None,
        };
        let entrance = Entrance { handler, certificates, timeouts };
        Self { socket, entrance, connections: Arc::clone(connections), refusals }
    }

    /// Accepts until `closing`, then waits for the connections, at most `drain`.
    pub async fn serve(self, closing: CancellationToken, drain: Duration) {
        let tasks = Tasks::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = self.connections.headers_exceeded() => {
                    self.connections.close_oldest_headers();
                    continue;
                }
                () = closing.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => match self.connections.admit(peer.ip()) {
                    Ok(seat) => self.begin(&tasks, stream, peer, seat, &closing),
                    Err(refusal) => self.refuse(&tasks, stream, peer, refusal),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.connections.close_idle();
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
        drop(self.socket);
        tasks.join(drain).await;
    }

    fn begin(&self, tasks: &Tasks, stream: TcpStream, peer: SocketAddr, seat: Seat, closing: &CancellationToken) {
        let crowd = self.connections.crowd();
        if let Some(bytes) = send_buffer(crowd) {
            // Where it fails, the system's own limit holds.
            let _ = limit_send_buffer(&stream, bytes);
        }
        let is_crowded = crowd != Crowd::Few;
        let (entrance, closing, phase) = (self.entrance.clone(), closing.clone(), seat.phase());
        tasks.spawn("connection", async move {
            let _seat = seat;
            let opened = tokio::select! {
                opened = entrance.open(stream, peer, &phase, is_crowded) => opened,
                _ = phase.told() => None,
                () = closing.cancelled() => None,
            };
            let Some(connection) = opened else { return };
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                how = phase.told() => match how {
                    GiveWay::AtOnce => return,
                    GiveWay::Politely => end_after_response(connection).await,
                },
                () = closing.cancelled() => end_after_response(connection).await,
            };
            if let Err(error) = ended {
                tracing::debug!(client = %peer.ip(), %error, "a connection ended early");
            }
        });
    }

    /// Responds to the first request of a connection that there is no place for, so that its client learns why.
    fn refuse(&self, tasks: &Tasks, stream: TcpStream, peer: SocketAddr, refusal: Refusal) {
        let Handler::Proxy(site) = &self.entrance.handler else { return };
        let [of_clients, of_server] = &self.refusals;
        let permits = if refusal == Refusal::TooManyConnectionsOfClient { of_clients } else { of_server };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { return };
        let phase = ConnectionPhase::new(HeaderMemory::new(usize::MAX));
        let entrance = Entrance {
            handler: Handler::Refusing(Arc::clone(site), refusal),
            certificates: self.entrance.certificates.clone(),
            timeouts: Timeouts { idle: REFUSAL_TIMEOUT, header: REFUSAL_TIMEOUT, write: REFUSAL_TIMEOUT },
        };
        tasks.spawn("refused connection", async move {
            let _permit = permit;
            if let Some(connection) = entrance.open(stream, peer, &phase, true).await {
                let _ = connection.await;
            }
        });
    }
}

/// What an accepted connection passes through before its first request.
#[derive(Clone)]
struct Entrance {
    handler: Handler,
    /// Where the listener speaks TLS.
    certificates: Option<ServerCertificates>,
    timeouts: Timeouts,
}

type ClientConnection = http1::Connection<TokioIo<TimeoutStream<ClientStream>>, ConnectionService>;

impl Entrance {
    /// The connection, after its handshake where there is one; `None` if that came to nothing.
    async fn open(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        phase: &ConnectionPhase,
        is_crowded: bool,
    ) -> Option<ClientConnection> {
        let _ = stream.set_nodelay(true);
        let plain = PeerInfo::plain(peer);
        let (Some(certificates), Handler::Proxy(site) | Handler::Refusing(site, _)) =
            (&self.certificates, &self.handler)
        else {
            return Some(connection(ClientStream::Plain(stream), plain, self.handler, self.timeouts, phase));
        };
        phase.begin_handshake(HANDSHAKE_MEMORY);
        let handshake = Handshake { certificates, limit: self.timeouts.header, is_crowded, metrics: &site.metrics };
        // Boxed, so that what a handshake takes is free after it.
        let opened = Box::pin(handshake.with(stream)).await?;
        phase.end_handshake();
        Some(match opened {
            Opened::Encrypted(stream, certificate) => {
                let peer = PeerInfo { address: peer, is_encrypted: true, certificate };
                connection(ClientStream::Encrypted(stream), peer, self.handler, self.timeouts, phase)
            }
            Opened::Plain(stream) => {
                let handler = Handler::Refusing(Arc::clone(site), Refusal::NotEncrypted);
                connection(ClientStream::Plain(stream), plain, handler, self.timeouts, phase)
            }
        })
    }
}

fn connection(
    stream: ClientStream,
    peer: PeerInfo,
    handler: Handler,
    timeouts: Timeouts,
    phase: &ConnectionPhase,
) -> ClientConnection {
    let stream = TimeoutStream::new(stream, timeouts, phase.clone());
    let keep_alive = !matches!(handler, Handler::Refusing(..));
    let service = ConnectionService { handler, peer, phase: phase.clone() };
    http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(if sabotaged("header-size") { 4 << 20 } else { MAX_HEADERS })
        .keep_alive(keep_alive)
        .serve_connection(TokioIo::new(stream), service)
}

/// Lets a response in flight finish; an idle connection ends at once.
async fn end_after_response(mut connection: Pin<&mut ClientConnection>) -> hyper::Result<()> {
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// The size of the system's buffer, where that is not left to the system.
const fn send_buffer(crowd: Crowd) -> Option<u32> {
    match crowd {
        Crowd::Few => None,
        Crowd::Some => Some(MIDDLE_SEND_BUFFER),
        Crowd::Many => Some(SMALL_SEND_BUFFER),
    }
}

/// Bounds what the system holds of a response that its client does not take.
fn limit_send_buffer(stream: &TcpStream, bytes: u32) -> io::Result<()> {
    // The option belongs to the socket, so it can be set through a second descriptor of it.
    let socket = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    TcpSocket::from_std_stream(socket).set_send_buffer_size(bytes)
}

/// The body of a request; most have none.
fn received(body: Incoming) -> Body {
    if body.is_end_stream() { Body::empty() } else { Body::new(body) }
}

//! The accept loop: a bounded number of connections with time limits, and a drain.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
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
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::body::ResponseBody;
use super::context::PeerInfo;
use super::handle::handle;
use super::timeout_stream::{ConnectionPhase, TimeoutStream, Timeouts};
use super::{Response, Site, ops};
use crate::telemetry::{GaugeGuard, Metrics};
use wheelport_runtime::Tasks;

/// The longest headers of a request in bytes; clients send a few hundred.
const MAX_HEADERS: usize = 64 << 10;
/// The pause after the process ran out of file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Limits of a listener.
#[derive(Clone, Copy)]
pub struct ListenerSettings {
    /// Connections at the same time; more wait in the kernel's queue.
    pub max_connections: usize,
    pub timeouts: Timeouts,
}

/// Who handles the requests of a listener.
#[derive(Clone)]
enum Handler {
    /// The proxy.
    Proxy(Arc<Site>),
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
            Handler::Proxy(site) => match handle(site, self.peer, request) {
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
    handler: Handler,
    settings: ListenerSettings,
    permits: Arc<Semaphore>,
    connections: Gauge,
}

impl Listener {
    /// A listener of the proxy.
    pub fn proxy(socket: TcpListener, site: &Arc<Site>, settings: ListenerSettings) -> Self {
        Self::new(socket, Handler::Proxy(Arc::clone(site)), settings, &site.metrics)
    }

    /// A listener for operations: metrics, status, purge.
    pub fn operations(socket: TcpListener, site: &Arc<Site>, settings: ListenerSettings) -> Self {
        Self::new(socket, Handler::Operations(ops::router(Arc::clone(site))), settings, &site.metrics)
    }

    fn new(socket: TcpListener, handler: Handler, settings: ListenerSettings, metrics: &Metrics) -> Self {
        let permits = Arc::new(Semaphore::new(settings.max_connections));
        Self { socket, handler, settings, permits, connections: metrics.connections.clone() }
    }

    /// Accepts until `closing`, then waits for the connections, at most `drain`.
    pub async fn serve(self, closing: CancellationToken, drain: Duration) {
        let connections = Tasks::new();
        loop {
            // A connection without a permit waits in the kernel's queue.
            let permit = tokio::select! {
                permit = Arc::clone(&self.permits).acquire_owned() => permit,
                () = closing.cancelled() => break,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = closing.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let serving = self.connection(stream, peer, closing.clone());
                    let counted = GaugeGuard::new(&self.connections);
                    connections.spawn("connection", async move {
                        let _held = (permit, counted);
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
        let (handler, settings) = (self.handler.clone(), self.settings);
        async move {
            let _ = stream.set_nodelay(true);
            let phase = ConnectionPhase::new();
            let stream = TimeoutStream::new(stream, settings.timeouts, phase.clone());
            let service = ConnectionService { handler, peer: PeerInfo { address: peer }, phase };
            let connection = http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(MAX_HEADERS)
                .serve_connection(TokioIo::new(stream), service);
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

//! The composition root: builds the parts bottom-up, starts their loops, binds, runs, and stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::cache::Disk;
use crate::cache::open_files::IDLE;
use crate::config::{RouteSettings, Settings};
use crate::flow::{Flow, Route};
use crate::telemetry::Metrics;
use crate::upstream::{Client, ClientError};
use crate::web::address::{RouteId, RouteNames};
use crate::web::guard::{HostPolicy, UploadPolicy};
use crate::web::targets::Targets;
use crate::web::{RouteSite, Site, ops};
use wheelport_runtime::{Clock, Tasks};

pub mod collect;
pub mod listener;
mod routes;

use collect::Collected;
use listener::{Answerer, Listener, ListenerSettings};
use routes::Routes;

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cache directory cannot be used.
    #[error(
        "the cache directory {dir} cannot be used: {source}; choose another one with --cache-dir or make it writable for this user"
    )]
    Cache {
        /// The directory.
        dir: String,
        /// Why.
        source: std::io::Error,
    },
    /// An address cannot be bound.
    #[error("{address} cannot be listened on: {source}; another process may have it, choose one with --listen")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No region is known for a route.
    #[error("route `{route}`: no AWS region is known; give --region, AWS_REGION, or a region in the profile")]
    Region {
        /// The route.
        route: Arc<str>,
    },
    /// A route's endpoint cannot be used.
    #[error("route `{route}`: {reason}")]
    Endpoint {
        /// The route.
        route: Arc<str>,
        /// Why.
        reason: String,
    },
    /// The outbound edge cannot be built.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A proxy that listens.
pub struct App {
    /// The addresses really bound.
    pub addresses: Vec<SocketAddr>,
    /// The address really bound for operations.
    pub ops_address: Option<SocketAddr>,
    site: Arc<Site>,
    listeners: Vec<Listener>,
    tasks: Tasks,
    drain_timeout: Duration,
    drain_delay: Duration,
}

impl App {
    /// Builds and binds everything. AWS need not answer for that: until it does, what is cached is served.
    pub async fn start(settings: Settings, clock: Clock, tasks: Tasks) -> Result<Self, StartError> {
        let disk = open_cache(&settings, &clock).await?;
        let client = Client::new(settings.upstream.clone())?;
        let metrics = Metrics::default();
        metrics.register(|registry| client.metrics().register(registry));
        let routes = Routes::new(&client, &clock, &tasks).build(&settings.routes).await?;
        let flow = Flow::new(Arc::clone(&disk), &settings.cache, settings.upload.clone(), clock, tasks.clone());
        close_idle_files(&tasks, Arc::clone(&disk));
        measure_behind(&tasks, disk);

        let (proxy, addresses) = bind(&settings.listen).await?;
        announce_open_doors(&settings.routes, &addresses);
        let (operations, ops_addresses) = bind(settings.ops_listen.as_slice()).await?;
        let names = settings.routes.iter().map(|route| Arc::clone(&route.name));
        let allowed = settings.server.allowed_hosts.clone();
        let site = Arc::new(Site {
            flow: flow.clone(),
            names: RouteNames::new(names, settings.default_route.map(RouteId)),
            targets: Targets::default(),
            hosts: HostPolicy::new(allowed, settings.server.public_url.as_ref(), &addresses),
            trusted_proxies: settings.server.trusted_proxies.clone(),
            public_url: settings.server.public_url.clone(),
            metrics: metrics.clone(),
            publishers: settings.publishers.clone(),
            draining: std::sync::atomic::AtomicBool::new(false),
            routes: routes
                .iter()
                .zip(&settings.routes)
                .enumerate()
                .map(|(at, pair)| route_site(pair, settings.default_route == Some(at)))
                .collect(),
        });
        metrics.register(|registry| {
            registry.register_collector(Box::new(Collected::new(flow, routes)));
        });
        let limits = ListenerSettings::of(&settings.server);
        let for_operations = operations.into_iter().map(|socket| {
            let answerer = Answerer::Operations(ops::router(Arc::clone(&site)));
            Listener::new(socket, answerer, limits, &metrics)
        });
        let listeners = proxy
            .into_iter()
            .map(|socket| Listener::new(socket, Answerer::Proxy(Arc::clone(&site)), limits, &metrics))
            .chain(for_operations)
            .collect();
        Ok(Self {
            addresses,
            ops_address: ops_addresses.first().copied(),
            site,
            listeners,
            tasks,
            drain_timeout: settings.server.drain_timeout.get(),
            drain_delay: settings.server.drain_delay.get(),
        })
    }

    /// Serves until `stop` resolves, then drains: readiness fails at once, new connections are refused after the drain
    /// delay, answers under way get their time, then fills and loops end. Says whether everything ended in time.
    pub async fn run(self, stop: impl Future<Output = ()>) -> bool {
        let closing = tokio_util::sync::CancellationToken::new();
        let serving = Tasks::new();
        for listener in self.listeners {
            serving.spawn("listener", listener.serve(closing.clone(), self.drain_timeout));
        }
        stop.await;
        tracing::info!("stopping: answers under way are finished first");
        self.site.begin_draining();
        tokio::time::sleep(self.drain_delay).await;
        closing.cancel();
        let drained = serving.join(self.drain_timeout).await;
        let ended = self.tasks.join(Duration::from_secs(5)).await;
        if !drained {
            tracing::warn!("some answers did not finish in time and were broken off");
        }
        drained && ended
    }
}

async fn open_cache(settings: &Settings, clock: &Clock) -> Result<Arc<Disk>, StartError> {
    let (dir, max_size, clock) = (settings.cache_dir.clone(), settings.cache.max_size.bytes(), clock.clone());
    let name = dir.display().to_string();
    let opened = tokio::task::spawn_blocking(move || Disk::open(&dir, max_size, clock)).await;
    opened
        .unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)))
        .map_err(|source| StartError::Cache { dir: name, source })
}

/// Closes files that were kept open for their next use, when that does not come.
fn close_idle_files(tasks: &Tasks, disk: Arc<Disk>) {
    tasks.spawn_loop("close idle files", async move {
        loop {
            tokio::time::sleep(IDLE).await;
            disk.close_idle();
        }
    });
}

/// Counts what the cache holds; the start does not wait for it.
fn measure_behind(tasks: &Tasks, disk: Arc<Disk>) {
    tasks.spawn("measure cache", async move {
        if let Ok(bytes) = tokio::task::spawn_blocking(move || disk.measure()).await {
            tracing::info!(bytes, "cache measured");
        }
    });
}

async fn bind(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), StartError> {
    let mut sockets = Vec::with_capacity(addresses.len());
    let mut bound = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let failed = |source| StartError::Bind { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        bound.push(socket.local_addr().map_err(failed)?);
        sockets.push(socket);
    }
    Ok((sockets, bound))
}

/// Says loudly which routes anybody on the network can publish through.
fn announce_open_doors(routes: &[RouteSettings], addresses: &[SocketAddr]) {
    let exposed: Vec<_> = addresses.iter().filter(|address| !address.ip().to_canonical().is_loopback()).collect();
    for route in routes.iter().filter(|route| route.upload == UploadPolicy::Anonymous && !exposed.is_empty()) {
        tracing::warn!(
            route = %route.name,
            addresses = ?exposed,
            "ANYBODY WHO REACHES THIS PORT CAN PUBLISH: upload = \"anonymous\" asks for no credentials; use \"token\" \
             unless the network keeps others out"
        );
    }
}

fn route_site((route, settings): (&Arc<Route>, &RouteSettings), default: bool) -> RouteSite {
    RouteSite {
        route: Arc::clone(route),
        domain: settings.domain.to_string(),
        repository: settings.repository.to_string(),
        default,
        upload: settings.upload,
    }
}

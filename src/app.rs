//! The composition root: builds the parts bottom-up, starts their loops, binds, runs, and stops them in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::cache::open_files::IDLE;
use crate::cache::{Disk, RepositoryId};
use crate::config::{RouteSettings, Settings};
use crate::control::{
    AccountId, AwsSettings, ControlError, ControlPlane, DomainId, DomainName, RepositoryName,
};
use crate::error::{Cause, Error};
use crate::flow::{Flow, ProjectSource, Route};
use crate::runtime::metrics::Metrics;
use crate::runtime::{Clock, Tasks};
use crate::token::{KeeperSettings, MintErrorKind, TokenHandle, keep};
use crate::upstream::{Client, ClientError, Endpoint, Upstream};
use crate::web::address::{RouteId, RouteNames};
use crate::web::guard::{HostPolicy, UploadPolicy};
use crate::web::{RouteSite, Site, ops};

pub mod collect;
pub mod listener;

use collect::Collected;
use listener::{Answerer, Listener, ListenerSettings};

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
    #[error(
        "{address} cannot be listened on: {source}; another process may have it, choose one with --listen"
    )]
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
        let flow =
            Flow::new(Arc::clone(&disk), &settings.cache, settings.upload.clone(), clock, tasks.clone());
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
    let exposed: Vec<_> =
        addresses.iter().filter(|address| !address.ip().to_canonical().is_loopback()).collect();
    for route in routes.iter().filter(|route| route.upload == UploadPolicy::Anonymous && !exposed.is_empty())
    {
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

/// Builds routes; those that agree share a control plane and a token.
struct Routes<'a> {
    client: &'a Client,
    clock: &'a Clock,
    tasks: &'a Tasks,
    planes: HashMap<AwsSettings, Arc<ControlPlane>>,
    tokens: HashMap<(AwsSettings, DomainId), TokenHandle>,
}

impl<'a> Routes<'a> {
    fn new(client: &'a Client, clock: &'a Clock, tasks: &'a Tasks) -> Self {
        Self { client, clock, tasks, planes: HashMap::new(), tokens: HashMap::new() }
    }

    async fn build(mut self, settings: &[RouteSettings]) -> Result<Vec<Arc<Route>>, StartError> {
        let mut routes = Vec::with_capacity(settings.len());
        for route in settings {
            routes.push(Arc::new(self.route(route).await?));
        }
        Ok(routes)
    }

    async fn route(&mut self, settings: &RouteSettings) -> Result<Route, StartError> {
        let plane = self.plane(&settings.aws).await;
        let region =
            plane.region().ok_or_else(|| StartError::Region { route: Arc::clone(&settings.name) })?;
        let domain = DomainId { name: settings.domain.clone(), owner: settings.domain_owner.clone(), region };
        let token = self.token(&settings.aws, &domain, &plane);
        let upstream = self.upstream(settings, &plane, &domain, &token)?;
        let publisher = match &settings.publish_aws {
            Some(aws) => {
                let plane = self.plane(aws).await;
                Some(self.token(aws, &domain, &plane))
            }
            None => None,
        };
        let projects = Projects { plane, domain: domain.clone(), repository: settings.repository.clone() };
        let route = Route::new(
            Arc::clone(&settings.name),
            repository_id(&domain.name, domain.owner.as_ref(), &domain, settings),
            format!("{}/{}", settings.domain, settings.repository),
            token,
            Arc::new(projects),
            upstream,
        );
        Ok(match publisher {
            Some(token) => route.with_publisher(token),
            None => route,
        })
    }

    async fn plane(&mut self, aws: &AwsSettings) -> Arc<ControlPlane> {
        if let Some(plane) = self.planes.get(aws) {
            return Arc::clone(plane);
        }
        let plane = Arc::new(ControlPlane::connect(aws).await);
        self.planes.insert(aws.clone(), Arc::clone(&plane));
        plane
    }

    fn token(&mut self, aws: &AwsSettings, domain: &DomainId, plane: &ControlPlane) -> TokenHandle {
        let keeper = || {
            let settings = KeeperSettings {
                asked: aws.token_lifetime.asked(),
                clock: self.clock.clone(),
                ..KeeperSettings::new(domain.to_string())
            };
            keep(plane.token_source(domain, aws.token_lifetime), settings, self.tasks)
        };
        self.tokens.entry((aws.clone(), domain.clone())).or_insert_with(keeper).clone()
    }

    /// The way to the repository: known at once where it can be derived or is configured, else asked for until known.
    fn upstream(
        &self,
        settings: &RouteSettings,
        plane: &Arc<ControlPlane>,
        domain: &DomainId,
        token: &TokenHandle,
    ) -> Result<watch::Receiver<Option<Upstream>>, StartError> {
        let (client, token, name) = (self.client.clone(), token.clone(), Arc::clone(&settings.name));
        let connect =
            move |endpoint| Upstream::new(client.clone(), endpoint, token.clone(), Arc::clone(&name));
        if let Some(url) = &settings.endpoint {
            let endpoint = Endpoint::new(url.clone()).map_err(|error| StartError::Endpoint {
                route: Arc::clone(&settings.name),
                reason: error.to_string(),
            })?;
            return Ok(watch::channel(Some(connect(endpoint))).1);
        }
        let (sender, receiver) = watch::channel(None);
        let (plane, domain, repository) = (Arc::clone(plane), domain.clone(), settings.repository.clone());
        self.tasks.spawn_loop("resolve endpoint", async move {
            let endpoint = resolve(&plane, &domain, &repository).await;
            sender.send_replace(Some(connect(endpoint)));
        });
        Ok(receiver)
    }
}

/// Asks where a repository answers, until that is known.
async fn resolve(plane: &ControlPlane, domain: &DomainId, repository: &RepositoryName) -> Endpoint {
    const LONGEST_PAUSE: Duration = Duration::from_secs(30);
    let mut pause = Duration::from_secs(1);
    loop {
        let found = match plane.repository_endpoint(domain, repository).await {
            Ok(url) => Endpoint::new(url).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(endpoint) => {
                tracing::info!(%repository, %domain, endpoint = %endpoint.base(), "repository endpoint known");
                return endpoint;
            }
            Err(error) => {
                tracing::error!(%repository, %domain, error, "the repository's endpoint is not known yet");
            }
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The identity of a repository in cache keys: what is configured, so that it is known without asking AWS.
fn repository_id(
    name: &DomainName,
    owner: Option<&AccountId>,
    domain: &DomainId,
    settings: &RouteSettings,
) -> RepositoryId {
    let endpoint = settings.endpoint.as_ref().map_or("", url::Url::as_str);
    RepositoryId::new(&[
        name.as_str(),
        settings.repository.as_str(),
        owner.map_or("", AccountId::as_str),
        domain.region.as_str(),
        endpoint,
    ])
}

/// Project lists from the control plane.
struct Projects {
    plane: Arc<ControlPlane>,
    domain: DomainId,
    repository: RepositoryName,
}

impl ProjectSource for Projects {
    fn projects(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async move {
            self.plane.list_packages(&self.domain, &self.repository).await.map_err(|error| explain(&error))
        })
    }
}

/// What a failed `ListPackages` means for a request.
fn explain(error: &ControlError) -> Error {
    tracing::warn!(%error, "ListPackages failed");
    let cause = match error.kind {
        MintErrorKind::Denied => {
            return Error::ListNotOffered {
                reason: "CodeArtifact's own index has none, and this server's AWS role may not call codeartifact:ListPackages",
            };
        }
        MintErrorKind::NotFound => {
            return Error::ListNotOffered { reason: "AWS does not know this domain or repository" };
        }
        MintErrorKind::Throttled => Cause::Throttled,
        MintErrorKind::Unreachable => Cause::Connect,
        MintErrorKind::NoCredentials | MintErrorKind::ClockSkew => Cause::Token,
        MintErrorKind::Other => Cause::Upstream,
    };
    Error::Unavailable { cause, retry_after: error.retry_after.unwrap_or(Duration::from_secs(5)) }
}

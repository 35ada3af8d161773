//! The composition root: builds the parts bottom-up, starts their loops, binds, runs, and stops them in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::cache::{Disk, OPEN_FILE_IDLE_TIMEOUT, RepositoryId, Scrub};
use crate::config::{RouteSettings, ServerSettings, Settings};
use crate::flow::{Advisories, AdvisoryParts, ChangedFilePolicy, Flow, FlowMemory, FlowParts, Route, WatchedChanges};
use crate::telemetry::Metrics;
use crate::upstream::Client;
use crate::web::{
    ConnectionLimits, Connections, HostPolicy, Listener, RouteSite, ServerCertificates, Site, SiteBounds, SiteParts,
    Timeouts, TlsSettings, UploadPolicy,
};
use wheelport_runtime::{Clock, Size, Tasks, blocking};

mod burnt_tokens;
mod collect;
mod collect_advisories;
mod collect_policy;
mod collect_usage;
mod events;
mod fleet;
mod fleet_status;
mod identities;
mod memory;
mod notify;
mod policy;
mod process;
mod recorder;
mod routes;
mod start_error;
mod troubles;
mod upstream_graph;

pub(crate) use identities::identities_of;
pub(crate) use notify::courier_of;
pub use process::forbid_core_dumps;
pub use start_error::StartError;
pub(crate) use upstream_graph::{Reach, reach};

use collect::Collected;
use collect_advisories::CollectedAdvisories;
use collect_policy::CollectedPolicy;
use collect_usage::CollectedUsage;
use fleet_status::Breakers;
use memory::MemoryPlan;
use recorder::Recorder;
use routes::{BuiltRoutes, Routes};
use troubles::Troubles;

/// The share of the memory for pages that rendered documents may take, in hundredths; records get the rest.
const RENDERED_SHARE: u64 = 60;

/// Connections to the listener for operations at the same time.
const MAX_OPERATORS: usize = 64;

/// A proxy that listens.
pub struct App {
    /// The addresses really bound.
    pub addresses: Vec<SocketAddr>,
    /// The address really bound for operations.
    pub ops_address: Option<SocketAddr>,
    /// `https` where the proxy speaks TLS; operations are plain.
    pub scheme: &'static str,
    site: Arc<Site>,
    listeners: Vec<Listener>,
    tasks: Tasks,
    drain_timeout: Duration,
    drain_delay: Duration,
}

fn collect(metrics: &Metrics, collector: impl prometheus_client::collector::Collector) {
    metrics.register(|registry| registry.register_collector(Box::new(collector)));
}

impl App {
    /// Builds and binds everything. AWS need not respond for that: until it does, cached content is served.
    pub async fn start(settings: Settings, clock: Clock, tasks: Tasks) -> Result<Self, StartError> {
        let memory = plan_memory(&settings).await?;
        let certificates = open_certificates(settings.tls.clone(), &clock, &tasks).await?;
        let disk = open_cache(&settings, &clock).await?;
        let mut upstream = settings.upstream.clone();
        upstream.max_page_size = Some(Size(memory.page));
        let metrics = Metrics::default();
        let fleet = fleet::start(&settings, &metrics, &clock, &tasks).await?;
        let client = Client::among(upstream, fleet::quotas(&settings.fleet, &fleet, &tasks))?;
        metrics.register(|registry| client.metrics().register(registry));
        let BuiltRoutes { routes, repositories } = Routes::new(&client, &clock, &tasks).build(&settings.routes).await?;
        let (client_of_issuers, clock_of_tokens) = (client.clone(), clock.clone());
        let rendered_memory = memory.index / 100 * RENDERED_SHARE;
        let shares = FlowMemory { records: memory.index - rendered_memory, buffers: memory.buffers };
        metrics.register(|registry| fleet.register(registry));
        collect(&metrics, Breakers(fleet.clone()));
        let hints = fleet.hints().listen();
        let recorder = Recorder::new(&metrics, &disk, &clock);
        let policy = policy::start(&settings, &disk, &clock, &tasks).await?;
        let advisories = Advisories::new(AdvisoryParts {
            settings: settings.advisories.clone(),
            client: client.clone(),
            disk: Arc::clone(&disk),
            fleet: fleet.clone(),
            policy: policy.clone(),
            clock: clock.clone(),
        });
        let notices = notify::start(&settings, &client, &clock, &tasks, &metrics).await?;
        let services = FlowParts {
            disk: Arc::clone(&disk),
            uploads: settings.upload.clone(),
            usage: settings.usage.clone(),
            clock,
            tasks: tasks.clone(),
            fleet: fleet.clone(),
            policy,
            advisories: advisories.clone(),
            notices: notices.clone(),
        };
        let flow = Flow::new(services, &settings.cache, shares)
            .watching_changed_files_of(watched_changes(&routes, &settings.routes));
        tasks.spawn_loop("follow hints", flow.clone().follow_hints(routes.clone(), hints));
        tasks.spawn_loop("follow exceptions", flow.clone().follow_exceptions());
        tasks.spawn("record downloads", flow.usage.clone().keep(tasks.clone()));
        advisories.recall().await;
        tasks.spawn_loop("follow advisories", advisories.clone().follow());
        advisories.first().await;
        recall_changes_in_background(&tasks, flow.clone());
        close_idle_files(&tasks, Arc::clone(&disk));
        scrub_in_background(&tasks, &disk, settings.cache.scrub_rate.bytes());
        measure_in_background(&tasks, disk);
        if let Some(events) = fleet.events() {
            events::follow(events.clone(), fleet.hints().clone(), &routes, repositories, &tasks);
        }

        let identities = identities::start(&settings, &client_of_issuers, clock_of_tokens.clone(), &tasks, &metrics);
        burnt_tokens::share(&identities, &fleet, clock_of_tokens, &tasks);
        Troubles::new(&routes, Arc::clone(&identities), certificates.clone(), advisories.clone(), notices)
            .watch(&tasks);

        let (proxy, addresses) = bind(&settings.listen).await?;
        warn_about_publicly_writable(&settings.routes, &addresses);
        let (operations, ops_addresses) = bind(settings.ops_listen.as_slice()).await?;
        let allowed = settings.server.allowed_hosts.clone();
        let site = Arc::new(Site::new(SiteParts {
            flow: flow.clone(),
            routes: routes.iter().zip(&settings.routes).map(route_site).collect(),
            default_route: settings.default_route,
            identities: Arc::clone(&identities),
            hosts: HostPolicy::new(allowed, settings.server.public_url.as_ref(), &addresses)
                .with_certificates(certificates.clone()),
            operators: settings.operators.clone(),
            trusted_proxies: settings.server.trusted_proxies.clone(),
            certificates: certificates.clone(),
            public_url: settings.server.public_url.clone(),
            metrics: metrics.clone(),
            fleet: fleet_status::section(&fleet, &flow, &routes),
            has_pages: settings.site.enabled,
            history: Arc::clone(&recorder.history),
            savings: Arc::clone(&recorder.savings),
            prices: settings.prices.clone(),
            bounds: bounds(&settings, memory, rendered_memory),
            tasks: tasks.clone(),
        }));
        collect(&metrics, CollectedAdvisories(advisories));
        collect(&metrics, CollectedPolicy::new(flow.clone(), routes.clone()));
        collect(&metrics, CollectedUsage(flow.usage.clone()));
        let scheme = if certificates.is_some() { "https" } else { "http" };
        collect(&metrics, Collected::new(flow, &site, routes, memory.ceiling, certificates));
        recorder.start(&tasks);
        let listeners = listeners(proxy, operations, &site, &settings.server, memory, &metrics);
        Ok(Self {
            addresses,
            ops_address: ops_addresses.first().copied(),
            scheme,
            site,
            listeners,
            tasks,
            drain_timeout: settings.server.drain_timeout.get(),
            drain_delay: settings.server.drain_delay.get(),
        })
    }

    /// Serves until `stop` resolves, then drains: readiness fails at once, new connections are refused after the drain
    /// delay, responses in flight get their time, then downloads and loops end. Says whether everything ended in time.
    pub async fn run(self, stop: impl Future<Output = ()>) -> bool {
        let closing = tokio_util::sync::CancellationToken::new();
        let serving = Tasks::new();
        for listener in self.listeners {
            serving.spawn("listener", listener.serve(closing.clone(), self.drain_timeout));
        }
        stop.await;
        tracing::info!("stopping: responses in flight are finished first");
        self.site.begin_draining();
        tokio::time::sleep(self.drain_delay).await;
        closing.cancel();
        let drained = serving.join(self.drain_timeout).await;
        let ended = self.tasks.join(Duration::from_secs(5)).await;
        if !drained {
            tracing::warn!("some responses did not finish in time and were cut");
        }
        drained && ended
    }
}

/// The listeners, whose connections are bounded together. Those of operators are bounded apart, so that clients cannot
/// keep them out.
fn listeners(
    proxy: Vec<TcpListener>,
    operations: Vec<TcpListener>,
    site: &Arc<Site>,
    server: &ServerSettings,
    memory: MemoryPlan,
    metrics: &Metrics,
) -> Vec<Listener> {
    let timeouts = Timeouts {
        idle: server.idle_timeout.get(),
        header: server.header_timeout.get(),
        write: server.write_timeout.get(),
    };
    let descriptors = process::raise_descriptor_limit();
    let total = process::connections_within(descriptors, server.max_connections.min(memory.connections));
    if total < server.max_connections {
        tracing::info!(
            total,
            descriptors,
            "max_connections is fitted to the memory and the file descriptors there are"
        );
    }
    let limits = ConnectionLimits {
        total,
        per_client: server.max_connections_per_address.unwrap_or(total / 4).clamp(1, total),
        trusted: server.trusted_proxies.clone(),
        header_bytes: usize::try_from(memory.headers).unwrap_or(usize::MAX),
    };
    let of_operators = ConnectionLimits { total: MAX_OPERATORS, per_client: MAX_OPERATORS, ..limits.clone() };
    let (clients, operators) =
        (Connections::new(limits, metrics.clone()), Connections::new(of_operators, metrics.clone()));
    let proxy = proxy.into_iter().map(|socket| Listener::proxy(socket, site, &clients, timeouts));
    proxy.chain(operations.into_iter().map(|socket| Listener::operations(socket, site, &operators, timeouts))).collect()
}

/// What the status is read against.
fn bounds(settings: &Settings, memory: MemoryPlan, rendered: u64) -> SiteBounds {
    SiteBounds {
        memory: memory.ceiling,
        records: memory.index - rendered,
        documents: rendered,
        connections: settings.server.max_connections.min(memory.connections),
        request_rate: settings.upstream.request_rate.get(),
        account_quota: settings.upstream.account_quota.get(),
    }
}

async fn plan_memory(settings: &Settings) -> Result<MemoryPlan, StartError> {
    let limit = blocking(memory::system_limit).await.ok().flatten();
    let (stated, index, page) = (settings.server.memory, settings.cache.memory, settings.upstream.max_page_size);
    MemoryPlan::new(stated, limit, index, page, settings.tls.is_some()).map_err(StartError::Memory)
}

/// Reads the certificates, and watches their files.
async fn open_certificates(
    settings: Option<TlsSettings>,
    clock: &Clock,
    tasks: &Tasks,
) -> Result<Option<ServerCertificates>, StartError> {
    let Some(settings) = settings else { return Ok(None) };
    let clock = clock.clone();
    let read = blocking(move || ServerCertificates::read(settings, clock)).await;
    let certificates = read.unwrap_or_else(|panicked| Err(rustls::Error::General(panicked.to_string()).into()))?;
    tasks.spawn_loop("watch certificates", certificates.clone().watch());
    Ok(Some(certificates))
}

async fn open_cache(settings: &Settings, clock: &Clock) -> Result<Arc<Disk>, StartError> {
    let (dir, max_size, clock) = (settings.cache_dir.clone(), settings.cache.max_size.bytes(), clock.clone());
    let name = dir.display().to_string();
    let opened = blocking(move || Disk::open(&dir, max_size, clock)).await;
    opened
        .unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)))
        .map_err(|source| StartError::Cache { dir: name, source })
}

/// Closes files that were kept open for their next use, when that does not come.
fn close_idle_files(tasks: &Tasks, disk: Arc<Disk>) {
    tasks.spawn_loop("close idle files", async move {
        loop {
            tokio::time::sleep(OPEN_FILE_IDLE_TIMEOUT).await;
            disk.close_idle();
        }
    });
}

/// Looks for damage.
fn scrub_in_background(tasks: &Tasks, disk: &Arc<Disk>, rate: u64) {
    if rate > 0 {
        tasks.spawn_loop("scrub cache", Scrub::new(Arc::clone(disk), rate).run());
    }
}

/// What becomes of the changed files of each repository: where one of its routes refuses them, all do.
fn watched_changes(routes: &[Arc<Route>], settings: &[RouteSettings]) -> HashMap<RepositoryId, WatchedChanges> {
    let mut watched: HashMap<RepositoryId, WatchedChanges> = HashMap::new();
    for (route, settings) in routes.iter().zip(settings) {
        let first = || WatchedChanges { route: Arc::clone(&route.name), policy: settings.changed_files };
        let of_repository = watched.entry(route.repository.clone()).or_insert_with(first);
        if settings.changed_files == ChangedFilePolicy::Refuse {
            of_repository.policy = ChangedFilePolicy::Refuse;
        }
    }
    watched
}

/// Finds the changed files that are not accepted yet; the start does not wait for it.
fn recall_changes_in_background(tasks: &Tasks, flow: Flow) {
    tasks.spawn("recall changed files", async move { flow.recall_changes().await });
}

/// Counts what the cache holds; the start does not wait for it.
fn measure_in_background(tasks: &Tasks, disk: Arc<Disk>) {
    tasks.spawn("measure cache", async move {
        if let Ok(bytes) = blocking(move || disk.measure()).await {
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

/// Warns about routes through which anyone on the network can publish, although that was asked for twice.
fn warn_about_publicly_writable(routes: &[RouteSettings], addresses: &[SocketAddr]) {
    let exposed: Vec<_> = addresses.iter().filter(|address| !address.ip().to_canonical().is_loopback()).collect();
    for route in routes.iter().filter(|route| route.upload == UploadPolicy::Anonymous && !exposed.is_empty()) {
        tracing::warn!(
            route = %route.name,
            addresses = ?exposed,
            "ANYONE WHO CAN REACH THIS PORT CAN PUBLISH: upload = \"anonymous\" asks for no credentials; use \"token\" \
             unless the network keeps others out"
        );
    }
}

fn route_site((route, settings): (&Arc<Route>, &RouteSettings)) -> RouteSite {
    RouteSite {
        route: Arc::clone(route),
        domain: settings.domain.to_string(),
        repository: settings.repository.to_string(),
        upload: settings.upload,
        read: settings.read,
    }
}

//! The inbound HTTP edge: from a connection to a request to a service, and from what that finds to a response.
//!
//! The only user of axum. Nothing below this room knows an HTTP status of ours; nothing here looks past `flow`.
//! Addresses overlap too much for a router's tree, so one function parses the path (`address`) and dispatches. What a
//! service has in memory becomes a response at once; only what has to wait becomes a future.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::time::Instant;

mod access_log;
mod address;
mod asked_route;
mod attribution;
mod audit;
mod body;
mod browse;
mod browse_address;
mod browse_request;
mod changed_files;
mod client_stream;
mod conditional;
mod connection_phase;
mod connections;
mod context;
mod document;
mod eventual;
mod exchange;
mod failures;
mod file;
mod gate;
mod guard;
mod handle;
mod headers;
mod home;
mod index;
mod listener;
mod memo;
mod negotiate;
mod operator;
mod operator_page;
mod ops;
mod ops_query;
mod osv;
mod osv_call;
mod policy;
mod prices;
mod problem;
mod project_page;
mod readiness;
mod refusal;
mod representation;
mod savings;
mod short_body;
mod site_settings;
mod status;
mod status_page;
mod timeout_stream;
mod tls;
mod upload;
mod upload_body;
mod usage;
mod warm;
mod written;

pub use address::RouteNames;
pub use body::ResponseBody;
pub use connections::{ConnectionLimits, Connections};
pub use context::PeerInfo;
pub use guard::{Cidr, HostPattern, HostPolicy, ReadPolicy, UploadPolicy};
pub use handle::{Handling, handle};
pub use listener::Listener;
pub use operator::OperatorSecrets;
pub use prices::{Currency, InvalidCurrency, InvalidPrice, Price, Prices};
pub use site_settings::SiteSettings;
pub use status::SiteBounds;
pub use timeout_stream::Timeouts;
pub use tls::{
    CertificateFiles, CertificateReport, ClientCertificate, ServerCertificates, TlsError, TlsReport, TlsSettings,
    TlsTable,
};

use address::RouteId;
use browse::Browsing;
use document::Representations;
use failures::FailureLog;

use crate::flow::{Flow, Route};
use crate::identity::Identities;
use crate::telemetry::{History, Metrics, Sample, Savings};
use wheelport_runtime::Tasks;

/// What goes out to a connection.
pub type Response = http::Response<ResponseBody>;

/// A part of `/status` that this room knows nothing of.
pub type StatusSection = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What every request may use.
pub struct Site {
    flow: Flow,
    routes: Vec<RouteSite>,
    names: RouteNames,
    /// Tells the sites of a process apart.
    id: u64,
    representations: Representations,
    /// Pages for people, where there are any.
    browsing: Option<Browsing>,
    identities: Arc<Identities>,
    hosts: HostPolicy,
    operators: OperatorSecrets,
    trusted_proxies: Vec<Cidr>,
    /// Where the listener speaks TLS.
    certificates: Option<ServerCertificates>,
    public_url: Option<url::Url>,
    metrics: Metrics,
    fleet: Option<StatusSection>,
    history: Arc<History>,
    savings: Arc<Savings>,
    failures: FailureLog,
    prices: Prices,
    bounds: SiteBounds,
    started: Instant,
    /// The turn to fetch a list of files.
    warming: Arc<Semaphore>,
    /// Set when the process begins to stop.
    draining: AtomicBool,
}

/// What a site is made of.
pub struct SiteParts {
    pub flow: Flow,
    /// The routes, in the order of the configuration.
    pub routes: Vec<RouteSite>,
    /// The position of the default route.
    pub default_route: Option<usize>,
    /// Who is known, and what they may do.
    pub identities: Arc<Identities>,
    /// The host names this server answers to.
    pub hosts: HostPolicy,
    /// What operators have to present.
    pub operators: OperatorSecrets,
    /// Proxies whose forwarded headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// What the listener shows to clients, where it speaks TLS.
    pub certificates: Option<ServerCertificates>,
    pub public_url: Option<url::Url>,
    pub metrics: Metrics,
    /// How what replicas share works, where they share something.
    pub fleet: Option<StatusSection>,
    /// Whether there are pages for people.
    pub has_pages: bool,
    /// What happened in the last hour and the last day.
    pub history: Arc<History>,
    /// What CodeArtifact was spared.
    pub savings: Arc<Savings>,
    pub prices: Prices,
    pub bounds: SiteBounds,
    pub tasks: Tasks,
}

/// A route, and what the edge needs to know of it.
pub struct RouteSite {
    pub route: Arc<Route>,
    /// The CodeArtifact domain, for the start page.
    pub domain: String,
    /// The CodeArtifact repository, for the start page.
    pub repository: String,
    /// Who may publish.
    pub upload: UploadPolicy,
    /// Who may read.
    pub read: ReadPolicy,
}

impl Site {
    pub fn new(parts: SiteParts) -> Self {
        static SITES: AtomicU64 = AtomicU64::new(0);
        let names = parts.routes.iter().map(|route| Arc::clone(&route.route.name));
        Self {
            names: RouteNames::new(names, parts.default_route.map(RouteId)),
            id: SITES.fetch_add(1, Ordering::Relaxed),
            flow: parts.flow,
            routes: parts.routes,
            representations: Representations::new(parts.bounds.documents, parts.tasks),
            browsing: parts.has_pages.then(Browsing::default),
            identities: parts.identities,
            hosts: parts.hosts,
            operators: parts.operators,
            trusted_proxies: parts.trusted_proxies,
            certificates: parts.certificates,
            public_url: parts.public_url,
            metrics: parts.metrics,
            fleet: parts.fleet,
            history: parts.history,
            savings: parts.savings,
            failures: FailureLog::default(),
            prices: parts.prices,
            bounds: parts.bounds,
            started: Instant::now(),
            warming: Arc::new(Semaphore::new(1)),
            draining: AtomicBool::new(false),
        }
    }

    /// From now on this server is not ready.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.flow.begin_draining();
    }

    /// Bytes of rendered documents in memory, for metrics.
    pub fn rendered_bytes(&self) -> u64 {
        self.representations.bytes()
    }

    /// All recorded figures as they are now.
    fn sample(&self) -> Sample {
        Sample::of(&self.metrics.text(), self.started.elapsed())
    }

    fn route(&self, RouteId(position): RouteId) -> &Arc<Route> {
        &self.routes[position].route
    }
}

//! A stand-in for AWS `CodeArtifact` to embed in tests: control plane, STS and data plane over one store on disk.
//!
//! An [`Emulator`] opens on a directory, creates a small world in it (the domain `demo`, the repositories `python` and
//! `public-store`, two sample packages), and serves each plane on a listener that the caller has bound. SDKs,
//! `aws codeartifact login`, pip, uv and twine work against it. It keeps its state across restarts, and it needs no
//! network.
//!
//! ```
//! use tokio::net::TcpListener;
//! use wheelport_emulator::{DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY, Emulator, EmulatorSettings, Oddities, Tasks};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (dir, tasks) = (tempfile::tempdir()?, Tasks::new());
//! let emulator = Emulator::open(EmulatorSettings::new(dir.path().to_owned()), tasks.clone()).await?;
//! let data = emulator.serve_data(TcpListener::bind("127.0.0.1:0").await?)?;
//! let control = emulator.serve_control(TcpListener::bind("127.0.0.1:0").await?)?;
//!
//! // For SDKs: AWS_ENDPOINT_URL_CODEARTIFACT and AWS_ENDPOINT_URL_STS are http://{control}, and the keys are these.
//! println!("http://{control} {DEFAULT_ACCESS_KEY} {DEFAULT_SECRET_KEY}");
//! // For package managers: the repository's endpoint, once they have a token.
//! assert_eq!(emulator.repository_endpoint(), format!("http://{data}/pypi/python/"));
//!
//! // Let every second request to the data plane fail with status 500.
//! emulator.oddities().set(Oddities { error_burst: "1/2".parse()?, ..Oddities::default() })?;
//!
//! tasks.join(std::time::Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! Three things make it misbehave on purpose: [`Oddities`] switch the service's peculiarities and failures of the data
//! plane, [`Emulator::faults`] lets single operations of the control plane fail, and [`Clock::shift`] lets tokens and
//! sessions expire. Tests in other languages reach the switches, the counters and the clock below `/_emulator/` on the
//! data plane, from loopback only.
//!
//! The emulator knows nothing of the proxy; the two share only `wheelport_index` and `wheelport_runtime`.

#![warn(unreachable_pub)]

mod access;
mod calendar;
mod control;
mod data;
mod events;
mod oddities;
mod public;
mod seed;
mod shared;
mod sigv4;
mod store;
mod switchboard;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use self::control::ControlService;
use self::data::DataPlane;
use self::public::PublicIndex;
use self::shared::{EmulatorState, RequestStats};
use self::store::{ConnectionChange, NewDomain, NewRepository, PUBLIC_CONNECTION, RepositoryChange, Store};

pub use self::control::{
    CallFault, ControlSettings, DEFAULT_ACCESS_KEY, DEFAULT_ACCOUNT, DEFAULT_SECRET_KEY, FaultQueue, IdentitySettings,
    Operation, PrincipalSettings, RoleSettings,
};
pub use self::events::{InvalidQueue, QueueUrl};
pub use self::oddities::{BodyCut, ErrorBurst, InvalidOddity, Oddities, UrlForm};
pub use self::public::{IndexAddress, PublicError};
pub use self::shared::StatsSnapshot;
pub use self::store::{AllowedActions, DomainKey, IssuedToken, RepositoryKey, ResourceKind, StoreError};
pub use self::switchboard::Switchboard;
pub use wheelport_runtime::{Clock, HumanDuration, Tasks};

/// Where an emulator keeps its state, and the world it begins with.
#[derive(Debug, Clone)]
pub struct EmulatorSettings {
    /// The directory of the store; created if it is missing.
    pub dir: PathBuf,
    /// The simple index behind `public:pypi`; without one nothing is ever imported.
    pub public_index: Option<IndexAddress>,
    /// How long a page of the public index is remembered.
    pub remember_public_for: Duration,
    /// The domain to create, which is also the one that paths without a domain mean.
    pub domain: DomainKey,
    /// The region both planes pretend to be in.
    pub region: String,
    /// The repository to create for reading and publishing.
    pub repository: String,
    /// The repository behind it, which owns the external connection.
    pub public_repository: String,
    /// Whether to publish the sample packages into `repository`.
    pub seed: bool,
    /// The switches at the start.
    pub oddities: Oddities,
    /// The calendar that stamps records and ends tokens; a test may shift its clone.
    pub clock: Clock,
    /// Who may call the control plane.
    pub control: ControlSettings,
    /// The queues that are told of changes of versions, as the targets of a rule of EventBridge are.
    pub events: Vec<QueueUrl>,
}

impl EmulatorSettings {
    /// The default world in a directory: domain `demo`, repositories `python` and `public-store`, with samples.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            public_index: None,
            remember_public_for: Duration::from_secs(30),
            domain: DomainKey::new(DEFAULT_ACCOUNT, "demo"),
            region: "eu-central-1".to_owned(),
            repository: "python".to_owned(),
            public_repository: "public-store".to_owned(),
            seed: true,
            oddities: Oddities::default(),
            clock: Clock::system(),
            control: ControlSettings::default(),
            events: Vec::new(),
        }
    }
}

/// Why an emulator does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory, or a file in it, is not usable.
    #[error("the emulator's store: {0}")]
    Store(#[from] StoreError),
    /// The public index has an unusable address.
    #[error(transparent)]
    Public(#[from] PublicError),
    /// A switch has a value that it does not know.
    #[error(transparent)]
    Oddity(#[from] InvalidOddity),
    /// The sample packages are not accepted.
    #[error("the sample packages cannot be published: {0}")]
    Seed(String),
}

/// An open emulator. Cheap to clone; it serves until its tasks are stopped.
#[derive(Clone)]
pub struct Emulator {
    shared: Arc<EmulatorState>,
    control: ControlService,
    data: DataPlane,
    repository: RepositoryKey,
    tasks: Tasks,
}

impl Emulator {
    /// Opens the directory and creates what is missing of the default world; what exists stays as it is. Listeners and
    /// imports run as `tasks`, so stopping these ends the emulator.
    pub async fn open(settings: EmulatorSettings, tasks: Tasks) -> Result<Self, OpenError> {
        settings.oddities.check()?;
        let public = settings
            .public_index
            .clone()
            .map(|index| PublicIndex::new(index, settings.remember_public_for))
            .transpose()?;
        let store = Store::open(settings.dir.clone(), settings.clock.clone()).await?;
        let repository = create_world(&store, &settings).await?;
        let queues = settings.events.clone();
        if !queues.is_empty()
            && let Some(changes) = store.watch(events::CAPACITY)
        {
            let (region, clock) = (settings.region.clone(), settings.clock.clone());
            events::send_to(queues, region, changes, clock, tasks.clone()).await;
        }
        if settings.seed {
            seed::publish(&store, &repository).await.map_err(OpenError::Seed)?;
        }
        let shared = Arc::new(EmulatorState {
            store,
            clock: settings.clock,
            oddities: Switchboard::new(settings.oddities),
            stats: RequestStats::default(),
            region: settings.region,
            default_domain: settings.domain,
            data_address: OnceLock::new(),
        });
        let control = ControlService::new(Arc::clone(&shared), settings.control);
        let data = DataPlane::new(Arc::clone(&shared), public, tasks.clone());
        Ok(Self { shared, control, data, repository, tasks })
    }

    /// The default world's repository.
    pub fn repository(&self) -> &RepositoryKey {
        &self.repository
    }

    /// The endpoint of [`Emulator::repository`] with its final slash, known once the data plane is served.
    pub fn repository_endpoint(&self) -> String {
        self.shared.repository_endpoint(&self.repository)
    }

    /// The switches, which both planes read at every request.
    pub fn oddities(&self) -> &Switchboard {
        &self.shared.oddities
    }

    /// The errors that operations of the control plane return next.
    pub fn faults(&self) -> &FaultQueue {
        self.control.faults()
    }

    /// How often each kind of request came since the emulator was opened or the counters were reset.
    pub fn stats(&self) -> StatsSnapshot {
        self.shared.stats.snapshot()
    }

    /// The calendar; shifting it lets tokens and sessions expire.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Serves the data plane until the tasks are stopped, and returns its address.
    pub fn serve_data(&self, listener: TcpListener) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        // The first listener's address is the one that endpoints name.
        let _ = self.shared.data_address.set(address);
        self.serve("emulator-data", listener, data::router(self.data.clone()));
        Ok(address)
    }

    /// Serves the control plane until the tasks are stopped, and returns its address.
    pub fn serve_control(&self, listener: TcpListener) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        self.serve("emulator-control", listener, control::router(self.control.clone()));
        Ok(address)
    }

    /// Issues a token for the default domain without a call to the control plane.
    pub async fn issue_token(&self, allowed: AllowedActions, lifetime: Duration) -> Result<IssuedToken, StoreError> {
        let domain = self.shared.default_domain.clone();
        let principal = format!("arn:aws:iam::{}:user/administrator", domain.owner);
        self.shared.store.issue_token(domain, principal, allowed, lifetime).await
    }

    fn serve(&self, name: &'static str, listener: TcpListener, router: Router) {
        let stopping = self.tasks.clone();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        self.tasks.spawn(name, async move {
            let served =
                axum::serve(listener, service).with_graceful_shutdown(async move { stopping.stopping().await });
            if let Err(error) = served.await {
                tracing::error!(%error, "a listener of the emulator failed");
            }
        });
    }
}

/// Creates the default domain and its two repositories where they are missing.
async fn create_world(store: &Store, settings: &EmulatorSettings) -> Result<RepositoryKey, StoreError> {
    let domain = &settings.domain;
    if store.domain(domain).is_err() {
        let (region, owner) = (&settings.region, &domain.owner);
        let encryption_key = format!("arn:aws:kms:{region}:{owner}:key/00000000-0000-4000-8000-000000000000");
        let new = NewDomain { key: domain.clone(), encryption_key, tags: BTreeMap::new() };
        store.create_domain(new).await?;
    }
    let public = domain.repository(&settings.public_repository);
    let repository = domain.repository(&settings.repository);
    for (key, description, upstreams) in [
        (&public, "What comes from the public index", Vec::new()),
        (&repository, "Private packages in front of the public ones", vec![public.name.clone()]),
    ] {
        if store.repository(key).is_err() {
            let (key, description) = (key.clone(), Some(description.to_owned()));
            let new = NewRepository { key, description, upstreams, tags: BTreeMap::new() };
            store.create_repository(new).await?;
        }
    }
    let open = store.repository(&public)?;
    if settings.public_index.is_some() && open.external_connection.is_none() && open.upstreams.is_empty() {
        let connection = ConnectionChange::Connect(PUBLIC_CONNECTION.to_owned());
        let change = RepositoryChange { external_connection: connection, ..RepositoryChange::default() };
        store.change_repository(public, change).await?;
    }
    Ok(repository)
}

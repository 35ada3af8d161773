//! A stand-in for AWS `CodeArtifact`: control plane and data plane over one store on disk.
//!
//! It knows nothing of the proxy; the two share only `pypi` and `runtime`. An [`Emulator`] is opened on a directory,
//! makes sure that a small world is there, and serves each plane on a listener that the caller has bound.

pub mod access;
pub mod calendar;
pub mod control;
pub mod data;
pub mod metadata;
pub mod oddities;
pub mod public;
pub mod seed;
pub mod shared;
pub mod sigv4;
pub mod store;
pub mod sts;

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

use wheelport_runtime::{Clock, Tasks};

use self::control::{Control, ControlSettings, DEFAULT_ACCOUNT};
use self::data::DataPlane;
use self::public::{IndexAddress, PublicError, PublicIndex};
use self::store::{
    Allowed, DomainKey, Issued, NewDomain, NewRepository, PUBLIC_CONNECTION, RepositoryChange, RepositoryKey, Store,
    StoreError,
};

pub use oddities::{Oddities, Switchboard};
pub use shared::{Shared, Stats};

/// What an emulator is told when it is opened.
#[derive(Debug, Clone)]
pub struct EmulatorSettings {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// The simple index behind `public:pypi`; without one nothing is ever imported.
    pub public_index: Option<IndexAddress>,
    /// How long a page of the public index is remembered.
    pub remember_public_for: Duration,
    /// The domain that is made, and that addresses without a domain mean.
    pub domain: DomainKey,
    /// The region both planes pretend to be in.
    pub region: String,
    /// The repository that is made for reading and publishing.
    pub repository: String,
    /// The repository behind it that owns the external connection.
    pub public_repository: String,
    /// Whether the sample packages are published into `repository`.
    pub seed: bool,
    /// The switches at the start.
    pub oddities: Oddities,
    /// The calendar.
    pub clock: Clock,
    /// Who may call the control plane.
    pub control: ControlSettings,
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
        }
    }
}

/// Why an emulator does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or what is in it.
    #[error("the emulator's store: {0}")]
    Store(#[from] StoreError),
    /// The public index.
    #[error(transparent)]
    Public(#[from] PublicError),
    /// A switch.
    #[error(transparent)]
    Oddity(#[from] oddities::InvalidOddity),
    /// The sample packages.
    #[error("the sample packages cannot be published: {0}")]
    Seed(String),
}

/// An open emulator. Cheap to clone; it serves until its tasks are stopped.
#[derive(Clone)]
pub struct Emulator {
    shared: Arc<Shared>,
    control: Control,
    data: DataPlane,
    repository: RepositoryKey,
    tasks: Tasks,
}

impl Emulator {
    /// Opens the directory and makes what is missing of the default world; what is there stays as it is.
    pub async fn open(settings: EmulatorSettings, tasks: Tasks) -> Result<Self, OpenError> {
        settings.oddities.check()?;
        let public = settings
            .public_index
            .clone()
            .map(|index| PublicIndex::new(index, settings.remember_public_for))
            .transpose()?;
        let store = Store::open(settings.dir.clone(), settings.clock.clone()).await?;
        let repository = make_world(&store, &settings).await?;
        if settings.seed {
            seed::publish(&store, &repository).await.map_err(OpenError::Seed)?;
        }
        let shared = Arc::new(Shared {
            store,
            clock: settings.clock,
            oddities: Switchboard::new(settings.oddities),
            stats: Stats::default(),
            region: settings.region,
            default_domain: settings.domain,
            data_address: OnceLock::new(),
        });
        let control = Control::new(Arc::clone(&shared), settings.control);
        let data = DataPlane::new(Arc::clone(&shared), public, tasks.clone());
        Ok(Self { shared, control, data, repository, tasks })
    }

    /// What both planes share: store, clock, switches, counters.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The control plane, for tests that inject its errors.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The default world's repository.
    pub fn repository(&self) -> &RepositoryKey {
        &self.repository
    }

    /// Serves the data plane until the tasks are stopped, and says where.
    pub fn serve_data(&self, listener: TcpListener) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        // The first listener's address is the one that endpoints name.
        let _ = self.shared.data_address.set(address);
        self.serve("emulator-data", listener, self.data.router());
        Ok(address)
    }

    /// Serves the control plane until the tasks are stopped, and says where.
    pub fn serve_control(&self, listener: TcpListener) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        self.serve("emulator-control", listener, control::router(self.control.clone()));
        Ok(address)
    }

    /// A token without the detour over the control plane, for tests and for lines to paste.
    pub async fn issue_token(&self, allowed: Allowed, lifetime: Duration) -> Result<Issued, StoreError> {
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
                tracing::error!(%error, "a listener of the emulator fails");
            }
        });
    }
}

/// Creates the default domain and its two repositories where they are missing.
async fn make_world(store: &Store, settings: &EmulatorSettings) -> Result<RepositoryKey, StoreError> {
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
        let connection = Some(Some(PUBLIC_CONNECTION.to_owned()));
        let change = RepositoryChange { external_connection: connection, ..RepositoryChange::default() };
        store.change_repository(public, change).await?;
    }
    Ok(repository)
}

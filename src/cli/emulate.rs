//! `wheelport emulate`: the emulator alone, for tests and for trying SDKs and jobs against it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;

use super::outcome::Ended;
use super::public_index::{self, PublicIndexError};
use super::signals;
use wheelport_emulator::{
    ControlSettings, DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY, DomainKey, Emulator, EmulatorSettings, IdentitySettings,
    IndexAddress, Oddities, OpenError, QueueUrl,
};
use wheelport_runtime::{Clock, Tasks};

/// How long open connections may take to end.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub(super) struct EmulateArgs {
    /// Where the data plane listens; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Where the control plane listens; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8082")]
    control_listen: SocketAddr,
    /// Where everything is kept; a temporary directory otherwise
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// The simple index behind the external connection; else the one that pip or uv are configured for
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    public_index: Option<String>,
    /// Do without a public index even where pip or uv are configured for one
    #[arg(long, conflicts_with = "public_index")]
    no_public_index: bool,
    /// How long a page of the public index is remembered, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    remember_public_for: u64,
    /// The first domain
    #[arg(long, value_name = "NAME", default_value = "demo")]
    domain: String,
    /// The account that owns it
    #[arg(long, value_name = "ACCOUNT", default_value = "111122223333")]
    domain_owner: String,
    /// The first repository
    #[arg(long, value_name = "NAME", default_value = "python")]
    repository: String,
    /// The region to pretend to be in
    #[arg(long, value_name = "REGION", default_value = "eu-central-1")]
    region: String,
    /// A TOML file with more principals and roles
    #[arg(long, value_name = "PATH")]
    identities: Option<PathBuf>,
    /// SQS queue that is told of changed versions, as an EventBridge rule does it, repeatable; with the AWS chain's
    /// credentials
    #[arg(long, value_name = "URL")]
    events: Vec<QueueUrl>,
    /// Do without the sample packages
    #[arg(long)]
    no_seed: bool,
    #[command(flatten)]
    oddities: Oddities,
}

/// Why `emulate` ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum EmulateError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot make a temporary directory: {0}")]
    Temporary(io::Error),
    #[error("{}: {message}", path.display())]
    Identities { path: PathBuf, message: String },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    PublicIndex(#[from] PublicIndexError),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// Runs the emulator until a signal.
pub(super) async fn run(args: EmulateArgs) -> Result<Ended, EmulateError> {
    // Deletes the directory when it is dropped, so it lives until the end.
    let temporary = match &args.dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(EmulateError::Temporary)?),
    };
    let dir = args.dir.clone().or_else(|| temporary.as_ref().map(|temporary| temporary.path().to_owned()));
    let settings = settings(&args, dir.unwrap_or_default())?;
    let (dir, public_index) = (settings.dir.clone(), settings.public_index.clone());
    let data = bind(args.listen).await?;
    let control = bind(args.control_listen).await?;
    let tasks = Tasks::new();
    let emulator = Emulator::open(settings, tasks.clone()).await?;
    let data = emulator.serve_data(data).map_err(listen_error(args.listen))?;
    let control = emulator.serve_control(control).map_err(listen_error(args.control_listen))?;
    println!("{}", banner(&emulator, &args, &dir, data, control, public_index.as_ref()));
    signals::until_stopped().map_err(EmulateError::Signals)?.await;
    if !tasks.join(DRAIN).await {
        tracing::warn!("some connections did not end in time");
    }
    Ok(Ended::Well)
}

fn settings(args: &EmulateArgs, dir: PathBuf) -> Result<EmulatorSettings, EmulateError> {
    let public_index = match args.public_index.as_deref() {
        _ if args.no_public_index => None,
        Some(given) => Some(public_index::named(given)?),
        None => public_index::configured(),
    };
    let identities = args.identities.as_deref().map(read_identities).transpose()?.unwrap_or_default();
    Ok(EmulatorSettings {
        public_index,
        remember_public_for: Duration::from_secs(args.remember_public_for),
        domain: DomainKey::new(&args.domain_owner, &args.domain),
        region: args.region.clone(),
        repository: args.repository.clone(),
        seed: !args.no_seed,
        oddities: args.oddities.clone(),
        clock: Clock::system(),
        control: ControlSettings { identities, ..ControlSettings::default() },
        events: args.events.clone(),
        ..EmulatorSettings::new(dir)
    })
}

fn listen_error(address: SocketAddr) -> impl FnOnce(io::Error) -> EmulateError {
    move |source| EmulateError::Listen { address, source }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, EmulateError> {
    TcpListener::bind(address).await.map_err(listen_error(address))
}

fn read_identities(path: &Path) -> Result<IdentitySettings, EmulateError> {
    let failed = |message: String| EmulateError::Identities { path: path.to_owned(), message };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    toml::from_str(&text).map_err(|error| failed(error.to_string()))
}

/// What a person needs to try it. The keys protect nothing: they are the same in every emulator.
fn banner(
    emulator: &Emulator,
    args: &EmulateArgs,
    dir: &Path,
    data: SocketAddr,
    control: SocketAddr,
    public_index: Option<&IndexAddress>,
) -> String {
    let endpoint = emulator.repository_endpoint();
    let public = match public_index {
        Some(index) => format!("public index  {index}"),
        None => "public index  none; only what is published here can be installed".to_owned(),
    };
    let EmulateArgs { domain, domain_owner, region, repository, .. } = args;
    format!(
        "data plane    http://{data}  (repository endpoint {endpoint})
control plane http://{control}
directory     {}
{public}

export AWS_ENDPOINT_URL_CODEARTIFACT=http://{control}
export AWS_ENDPOINT_URL_STS=http://{control}
export AWS_ACCESS_KEY_ID={DEFAULT_ACCESS_KEY}
export AWS_SECRET_ACCESS_KEY={DEFAULT_SECRET_KEY}
export AWS_REGION={region} AWS_DEFAULT_REGION={region}

wheelport serve --domain {domain} --domain-owner {domain_owner} --repository {repository} \
--ops-listen 127.0.0.1:9090

aws codeartifact login --tool pip --domain {domain} --domain-owner {domain_owner} \
--repository {repository} --region {region}",
        dir.display(),
    )
}

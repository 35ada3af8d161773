//! `wheelport demo`: proxy and emulator in one process on loopback, with sample packages, and lines to paste.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;

use super::demo_certificate::DemoCertificate;
use super::outcome::{CommandError, Ended};
use super::{public_index, signals};
use crate::app::App;
use crate::config::{Overrides, RepositoryOverrides, Settings, TlsOverrides};
use crate::control::{AccountId, DomainName, EmulatorAccess, InvalidSetting, RegionName, RepositoryName};
use crate::web::UploadPolicy;
use wheelport_emulator::{DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY, Emulator, EmulatorSettings, IndexAddress};
use wheelport_runtime::{Clock, Tasks};

/// How long the emulator's connections may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// A bad release, as an operator blocks one.
const RULES: &str = r#"[[rule]]
name = "bad-release"
projects = ["wheelport-hello"]
versions = "==2.0.0"
reason = "2.0.0 was released by mistake; use 1.1.0."
"#;

#[derive(Debug, Clone, Args)]
pub(super) struct DemoArgs {
    /// Address of the proxy; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", env = "WHEELPORT_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address for operations, to try `wheelport why` and others; port 0 picks a free one [default: none]
    #[arg(long, value_name = "ADDRESS")]
    ops_listen: Option<SocketAddr>,
    /// Where the emulator's packages and the cache are kept; a temporary directory otherwise
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Speak TLS, with a certificate of an authority that is made at the start and good for this demo only
    #[arg(long)]
    tls: bool,
    /// Serve public packages too, from this simple index; without a value from the one pip or uv are configured for
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    public_index: Option<String>,
}

/// Runs proxy and emulator until a signal.
pub(super) async fn run(args: DemoArgs) -> Result<Ended, CommandError> {
    let public_index =
        args.public_index.as_deref().map(public_index::named).transpose().map_err(CommandError::usage)?;
    let stop = signals::until_stopped().map_err(CommandError::start)?;
    // Deletes the directory when it is dropped, so it lives until the end.
    let (_temporary, dir) = directory(args.dir.as_deref()).map_err(CommandError::start)?;
    let emulator_tasks = Tasks::new();
    let world =
        EmulatorSettings { public_index: public_index.clone(), ..EmulatorSettings::new(dir.join("codeartifact")) };
    let emulator = Emulator::open(world.clone(), emulator_tasks.clone()).await.map_err(CommandError::start)?;
    emulator.serve_data(loopback().await?).map_err(CommandError::start)?;
    let control = emulator.serve_control(loopback().await?).map_err(CommandError::start)?;

    let clock = Clock::system();
    let certificate = args.tls.then(|| DemoCertificate::make(&dir, args.listen.ip(), &clock)).transpose();
    let certificate = certificate.map_err(CommandError::start)?;
    let tls = certificate.as_ref().map(DemoCertificate::overrides).unwrap_or_default();
    let overrides = overrides(&args, &world, &dir, control, tls).map_err(CommandError::usage)?;
    let mut settings = Settings::load(overrides).map_err(CommandError::usage)?;
    settings.policy.table.directory = Some(rules(&dir).map_err(CommandError::start)?);
    let app = Box::pin(App::start(settings, clock, Tasks::new())).await.map_err(CommandError::start)?;
    for address in &app.addresses {
        let greeting = Greeting {
            base: format!("{}://{}", app.scheme, reachable(*address)),
            operations: app.ops_address,
            repository: &world.repository,
            public_index: public_index.as_ref(),
            dir: args.dir.as_deref(),
            publish: upload_policy(args.listen) != UploadPolicy::Off,
            authority: certificate.as_ref().map(|certificate| certificate.authority.as_path()),
        };
        let text = greeting.text();
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::start)?;
    }
    let well = app.run(stop).await;
    Ok(if emulator_tasks.join(DRAIN).await && well { Ended::Well } else { Ended::Badly })
}

/// The settings with which `serve` would serve the emulator's repository.
fn overrides(
    args: &DemoArgs,
    world: &EmulatorSettings,
    dir: &Path,
    control: SocketAddr,
    tls: TlsOverrides,
) -> Result<Overrides, InvalidSetting> {
    Ok(Overrides {
        listen: vec![args.listen],
        ops_listen: args.ops_listen,
        repository: RepositoryOverrides {
            domain: Some(DomainName::parse(&world.domain.name)?),
            domain_owner: Some(AccountId::parse(&world.domain.owner)?),
            name: Some(RepositoryName::parse(&world.repository)?),
        },
        region: Some(RegionName::parse(&world.region)?),
        upload: Some(upload_policy(args.listen)),
        cache_dir: Some(dir.join("cache")),
        tls,
        emulator: Some(EmulatorAccess {
            endpoint: format!("http://{control}"),
            keys: (DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY),
        }),
        ..Overrides::default()
    })
}

/// A directory with a rule that blocks a sample.
fn rules(dir: &Path) -> std::io::Result<PathBuf> {
    let rules = dir.join("rules");
    std::fs::create_dir_all(&rules)?;
    std::fs::write(rules.join("demo.toml"), RULES)?;
    Ok(rules)
}

fn directory(given: Option<&Path>) -> std::io::Result<(Option<tempfile::TempDir>, PathBuf)> {
    if let Some(dir) = given {
        return Ok((None, dir.to_owned()));
    }
    let temporary = tempfile::Builder::new().prefix("wheelport-demo-").tempdir()?;
    let dir = temporary.path().to_owned();
    Ok((Some(temporary), dir))
}

/// On loopback only the person who tries the demo can connect, and may publish. In a container it listens to others
/// too, and publishing is off.
fn upload_policy(listen: SocketAddr) -> UploadPolicy {
    if listen.ip().is_loopback() { UploadPolicy::Anonymous } else { UploadPolicy::Off }
}

/// The address to paste, which is never a wildcard.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

async fn loopback() -> Result<TcpListener, CommandError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(CommandError::start)
}

/// What to try, ready to paste.
struct Greeting<'a> {
    /// The address of the proxy.
    base: String,
    /// The address for operations, where there is one.
    operations: Option<SocketAddr>,
    /// The name of the repository, which its route has too.
    repository: &'a str,
    public_index: Option<&'a IndexAddress>,
    /// The directory, if it stays.
    dir: Option<&'a Path>,
    publish: bool,
    /// The authority that clients have to trust, where TLS is spoken.
    authority: Option<&'a Path>,
}

impl Greeting<'_> {
    fn text(&self) -> String {
        let base = &self.base;
        let index = format!("{base}/simple/");
        let public = match self.public_index {
            Some(index) => format!("Public packages come from {index} through the repository's external connection."),
            None => {
                "It works without any network; start it with --public-index to have public packages too.".to_owned()
            }
        };
        let kept = match self.dir {
            Some(dir) => format!("Packages and cache are in {}.", dir.display()),
            None => "Everything is deleted when it ends; --dir keeps it.".to_owned(),
        };
        let mut text = format!(
            "wheelport demo listens on {base}  (open it in a browser)
An emulated CodeArtifact domain is behind it, with two sample packages: wheelport-hello, which needs wheelport-greeting.
{public}
{kept}

"
        );
        if let Some(authority) = self.authority {
            text.push_str(&trust(base, authority));
        }
        let _ = writeln!(
            text,
            "Try it in another terminal; uv in a virtual environment, poetry and pdm in a project:

  pip     pip install --index-url {index} wheelport-hello
  uv      uv pip install --default-index {index} wheelport-hello
  poetry  poetry source add --priority=primary wheelport {index} && poetry add wheelport-hello
  pdm     pdm config pypi.url {index} && pdm add wheelport-hello

They install version 1.1.0, because a rule blocks 2.0.0. Ask for that one, and the installer says why:

  blocked pip install --index-url {index} wheelport-hello==2.0.0
"
        );
        if let Some(operations) = self.operations {
            let _ = writeln!(
                text,
                "Ask as an operator what is decided, and who has what (more at http://{operations}/status):

  why     wheelport why {route} wheelport-hello --ops-listen {operations}
  usage   wheelport usage wheelport-hello --ops-listen {operations}
",
                route = self.repository
            );
        }
        if self.publish {
            let _ = writeln!(
                text,
                "Publish something of your own; no credentials are needed:

  twine   twine upload --repository-url {base}/ -u '' -p '' dist/*
  uv      uv publish --publish-url {base}/ -u '' -p ''
  poetry  poetry config repositories.wheelport {base}/ && poetry publish --build -r wheelport
"
            );
        }
        text.push_str("Ctrl-C ends it.\n");
        text
    }
}

/// How clients come to trust the authority of the demo.
fn trust(base: &str, authority: &Path) -> String {
    let ca = authority.display();
    format!(
        "It speaks TLS with a certificate that only this demo's own authority vouches for. Let the clients trust it:

  pip, uv, twine  export PIP_CERT={ca} SSL_CERT_FILE={ca} TWINE_CERT={ca}
  poetry          poetry config certificates.wheelport.cert {ca}
  pdm             pdm config pypi.ca_certs {ca}
  curl            curl --cacert {ca} {base}/simple/

"
    )
}

//! `wheelport serve`: the proxy.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::{CommandError, Ended, signals};
use crate::app::App;
use crate::config::{Overrides, Settings};
use crate::control::{AccountId, DomainName, RegionName, RepositoryName, RoleArn};
use crate::web::{HostPattern, UploadPolicy};
use wheelport_runtime::Size;
use wheelport_runtime::{Clock, Tasks};

/// Arguments of `serve`; each is also an environment variable.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Configuration file (TOML); needed for several repositories
    #[arg(long, value_name = "FILE", env = "WHEELPORT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address to serve on, repeatable; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "WHEELPORT_LISTEN", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,
    /// Address for metrics, status and purge; without it they are off
    #[arg(long, value_name = "ADDRESS", env = "WHEELPORT_OPS_LISTEN")]
    pub ops_listen: Option<SocketAddr>,
    /// CodeArtifact domain
    #[arg(long, value_name = "NAME", env = "WHEELPORT_DOMAIN")]
    pub domain: Option<DomainName>,
    /// Account that owns the domain, twelve digits [default: the account of the credentials]
    #[arg(long, value_name = "ACCOUNT", env = "WHEELPORT_DOMAIN_OWNER")]
    pub domain_owner: Option<AccountId>,
    /// CodeArtifact repository
    #[arg(long, value_name = "NAME", env = "WHEELPORT_REPOSITORY")]
    pub repository: Option<RepositoryName>,
    /// Repository endpoint, if it is not the one CodeArtifact gives (such as a VPC endpoint's own host)
    #[arg(long, value_name = "URL", env = "WHEELPORT_ENDPOINT")]
    pub endpoint: Option<Url>,
    /// AWS region [default: as in every AWS tool]
    #[arg(long, value_name = "REGION")]
    pub region: Option<RegionName>,
    /// AWS profile [default: as in every AWS tool]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Role to assume with the AWS credentials found
    #[arg(long, value_name = "ARN", env = "WHEELPORT_ROLE_ARN")]
    pub role_arn: Option<RoleArn>,
    /// Who may publish
    #[arg(long, value_name = "WHO", env = "WHEELPORT_UPLOAD")]
    pub upload: Option<UploadPolicy>,
    /// Directory for cached pages, files and core metadata [default: ./wheelport-cache]
    #[arg(long, value_name = "DIR", env = "WHEELPORT_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Size that directory is kept below, such as 50GiB [default: 10GiB]
    #[arg(long, value_name = "SIZE", env = "WHEELPORT_CACHE_MAX_SIZE")]
    pub cache_max_size: Option<Size>,
    /// Address under which clients reach this server, where texts need an absolute one
    #[arg(long, value_name = "URL", env = "WHEELPORT_PUBLIC_URL")]
    pub public_url: Option<Url>,
    /// Host name to answer to, repeatable; `*.example.org` and `*` work too
    #[arg(long = "allowed-host", value_name = "HOST", env = "WHEELPORT_ALLOWED_HOSTS", value_delimiter = ',')]
    pub allowed_hosts: Vec<HostPattern>,
}

impl ServeArgs {
    /// As the configuration takes them.
    pub fn overrides(self) -> Overrides {
        Overrides {
            config: self.config,
            listen: self.listen,
            ops_listen: self.ops_listen,
            domain: self.domain,
            domain_owner: self.domain_owner,
            repository: self.repository,
            endpoint: self.endpoint,
            region: self.region,
            profile: self.profile,
            role_arn: self.role_arn,
            upload: self.upload,
            cache_dir: self.cache_dir,
            cache_max_size: self.cache_max_size,
            public_url: self.public_url,
            allowed_hosts: self.allowed_hosts,
            emulator: None,
        }
    }
}

/// Runs the proxy until a signal.
pub async fn run(args: ServeArgs) -> Result<Ended, CommandError> {
    let settings = Settings::load(args.overrides()).map_err(CommandError::usage)?;
    let stop = signals::until_stopped().map_err(CommandError::start)?;
    let tasks = Tasks::new();
    let app = Box::pin(App::start(settings, Clock::system(), tasks)).await.map_err(CommandError::start)?;
    announce(&app);
    Ok(if app.run(stop).await { Ended::Well } else { Ended::Badly })
}

/// Says where the proxy listens: on standard output for whoever started it, and in the log.
pub fn announce(app: &App) {
    let mut out = std::io::stdout().lock();
    for address in &app.addresses {
        let _ = writeln!(out, "wheelport listens on http://{address}");
        tracing::info!(%address, "listening");
    }
    if let Some(address) = app.ops_address {
        let _ = writeln!(out, "wheelport operations on http://{address}");
        tracing::info!(%address, "listening for operations");
    }
    let _ = out.flush();
}

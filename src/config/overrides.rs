//! Flags and environment variables, and how they change what the configuration file says.
//!
//! The commands that need settings flatten [`Overrides`] into their arguments. The doc comments are the help texts.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::error::ConfigError;
use super::file::{ConfigurationFile, RouteTable};
use crate::control::{AccountId, DomainName, EmulatorAccess, RegionName, RepositoryName, RoleArn};
use crate::fleet::{FleetSettings, RedisAddress, StoreLocation};
use crate::flow::ChangedFilePolicy;
use crate::web::{HostPattern, ReadPolicy, TlsTable, UploadPolicy};
use wheelport_runtime::Size;

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Overrides {
    /// Configuration file (TOML); needed for several repositories
    #[arg(long, value_name = "FILE", env = "WHEELPORT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Address to serve on, repeatable; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "WHEELPORT_LISTEN", value_delimiter = ',')]
    pub(crate) listen: Vec<SocketAddr>,
    /// Address for operators: metrics, status, purge, exceptions and more; without it they are off
    #[arg(long, value_name = "ADDRESS", env = "WHEELPORT_OPS_LISTEN")]
    pub(crate) ops_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) repository: RepositoryOverrides,
    /// Repository endpoint, if it is not the one CodeArtifact gives (such as a VPC endpoint's own host)
    #[arg(long, value_name = "URL", env = "WHEELPORT_ENDPOINT")]
    pub(crate) endpoint: Option<Url>,
    /// AWS region [default: as in every AWS tool]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<RegionName>,
    /// AWS profile [default: as in every AWS tool]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Role to assume with the AWS credentials found
    #[arg(long, value_name = "ARN", env = "WHEELPORT_ROLE_ARN")]
    pub(crate) role_arn: Option<RoleArn>,
    /// Who may publish [default: off]
    #[arg(long, value_name = "WHO", env = "WHEELPORT_UPLOAD")]
    pub(crate) upload: Option<UploadPolicy>,
    /// Who may read: everyone who reaches this server, or an identity that is granted the route [default: open]
    #[arg(long, value_name = "WHO", env = "WHEELPORT_READ")]
    pub(crate) read: Option<ReadPolicy>,
    /// Let everyone who reaches this server publish where `upload` is `anonymous`, also from other machines
    #[arg(long, env = "WHEELPORT_ALLOW_ANONYMOUS_UPLOADS")]
    pub(crate) allow_anonymous_uploads: bool,
    /// What becomes of a file when the repository has other bytes under its name than before [default: alarm]
    #[arg(long, value_name = "POLICY", env = "WHEELPORT_CHANGED_FILES")]
    pub(crate) changed_files: Option<ChangedFilePolicy>,
    /// Directory for cached pages, files and core metadata [default: ./wheelport-cache]
    #[arg(long, value_name = "DIR", env = "WHEELPORT_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Size that directory is kept below, such as 50GiB [default: 10GiB]
    #[arg(long, value_name = "SIZE", env = "WHEELPORT_CACHE_MAX_SIZE")]
    pub(crate) cache_max_size: Option<Size>,
    /// Address under which clients reach this server, where texts need an absolute one
    #[arg(long, value_name = "URL", env = "WHEELPORT_PUBLIC_URL")]
    pub(crate) public_url: Option<Url>,
    /// Host name to serve, repeatable; `*.example.org` and `*` work too
    #[arg(long = "allowed-host", value_name = "HOST", env = "WHEELPORT_ALLOWED_HOSTS", value_delimiter = ',')]
    pub(crate) allowed_hosts: Vec<HostPattern>,
    #[command(flatten)]
    pub(crate) tls: TlsOverrides,
    #[command(flatten)]
    pub(crate) fleet: FleetOverrides,
    // The emulator of `wheelport demo`; no flag of its own.
    #[arg(skip)]
    pub(crate) emulator: Option<EmulatorAccess>,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RepositoryOverrides {
    /// CodeArtifact domain
    #[arg(long, value_name = "NAME", env = "WHEELPORT_DOMAIN")]
    pub(crate) domain: Option<DomainName>,
    /// Account that owns the domain, twelve digits [default: the account of the credentials]
    #[arg(long, value_name = "ACCOUNT", env = "WHEELPORT_DOMAIN_OWNER")]
    pub(crate) domain_owner: Option<AccountId>,
    /// CodeArtifact repository
    #[arg(id = "repository", long = "repository", value_name = "NAME", env = "WHEELPORT_REPOSITORY")]
    pub(crate) name: Option<RepositoryName>,
}

/// TLS of the listener.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsOverrides {
    /// Certificate chain (PEM) with which the listener speaks TLS; read again when it changes
    #[arg(id = "tls_certificate", long = "tls-certificate", value_name = "FILE", env = "WHEELPORT_TLS_CERTIFICATE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Key of that certificate (PEM, without a passphrase)
    #[arg(id = "tls_key", long = "tls-key", value_name = "FILE", env = "WHEELPORT_TLS_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// Authorities (PEM) whose client certificates are believed; none is demanded
    #[arg(id = "tls_client_ca", long = "tls-client-ca", value_name = "FILE", env = "WHEELPORT_TLS_CLIENT_CA")]
    pub(crate) client_ca: Option<PathBuf>,
}

impl TlsOverrides {
    fn apply(self, tls: &mut TlsTable) {
        replace(&mut tls.certificate, self.certificate);
        replace(&mut tls.key, self.key);
        replace(&mut tls.client_ca, self.client_ca);
    }
}

/// What replicas share.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FleetOverrides {
    /// Object store that replicas share, as `s3://BUCKET/PREFIX`
    #[arg(id = "fleet_store", long = "fleet-store", value_name = "URL", env = "WHEELPORT_FLEET_STORE")]
    pub(crate) store: Option<StoreLocation>,
    /// Endpoint of an S3-compatible store that is not AWS's
    #[arg(long = "fleet-store-endpoint", value_name = "URL", env = "WHEELPORT_FLEET_STORE_ENDPOINT")]
    pub(crate) store_endpoint: Option<Url>,
    /// Region of the bucket [default: as in every AWS tool]
    #[arg(long = "fleet-store-region", value_name = "REGION", env = "WHEELPORT_FLEET_STORE_REGION")]
    pub(crate) store_region: Option<String>,
    /// KMS key that encrypts what is written to the store
    #[arg(long = "fleet-store-kms-key", value_name = "KEY", env = "WHEELPORT_FLEET_STORE_KMS_KEY")]
    pub(crate) store_kms_key: Option<String>,
    /// Role to assume for the store
    #[arg(long = "fleet-store-role-arn", value_name = "ARN", env = "WHEELPORT_FLEET_STORE_ROLE_ARN")]
    pub(crate) store_role_arn: Option<String>,
    /// Redis or Valkey for hints between replicas, as rediss://HOST:PORT; give one with a password in the environment
    #[arg(
        id = "fleet_redis",
        long = "fleet-redis",
        value_name = "URL",
        env = "WHEELPORT_FLEET_REDIS",
        hide_env_values = true
    )]
    pub(crate) redis: Option<RedisAddress>,
    /// SQS queue of CodeArtifact's events
    #[arg(long = "fleet-events", value_name = "URL", env = "WHEELPORT_FLEET_EVENTS")]
    pub(crate) events: Option<Url>,
    /// No other replica reads the queue of events
    #[arg(
        long = "fleet-events-own",
        env = "WHEELPORT_FLEET_EVENTS_OWN",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub(crate) events_own: Option<bool>,
    /// How many replicas there are
    #[arg(long = "fleet-replicas", value_name = "NUMBER", env = "WHEELPORT_FLEET_REPLICAS")]
    pub(crate) replicas: Option<NonZeroU32>,
}

impl FleetOverrides {
    fn apply(self, fleet: &mut FleetSettings) {
        replace(&mut fleet.store, self.store);
        replace(&mut fleet.store_endpoint, self.store_endpoint);
        replace(&mut fleet.store_region, self.store_region);
        replace(&mut fleet.store_kms_key, self.store_kms_key);
        replace(&mut fleet.store_role_arn, self.store_role_arn);
        replace(&mut fleet.redis, self.redis);
        replace(&mut fleet.events, self.events);
        fleet.events_own = self.events_own.unwrap_or(fleet.events_own);
        replace(&mut fleet.replicas, self.replicas);
    }
}

impl Overrides {
    /// Applies flags and environment to the file.
    pub(super) fn apply(self, file: &mut ConfigurationFile) -> Result<(), ConfigError> {
        if self.names_a_repository() {
            let route = only_route(&mut file.route)?;
            replace(&mut route.domain, self.repository.domain);
            replace(&mut route.domain_owner, self.repository.domain_owner);
            replace(&mut route.repository, self.repository.name);
            replace(&mut route.endpoint, self.endpoint);
            route.upload = self.upload.unwrap_or(route.upload);
            route.read = self.read.unwrap_or(route.read);
            route.changed_files = self.changed_files.unwrap_or(route.changed_files);
        }
        replace(&mut file.aws.profile, self.profile);
        replace(&mut file.aws.region, self.region);
        replace(&mut file.aws.role_arn, self.role_arn);
        file.aws.emulator = self.emulator;
        if !self.listen.is_empty() {
            file.listen = self.listen;
        }
        replace(&mut file.ops_listen, self.ops_listen);
        replace(&mut file.cache.dir, self.cache_dir);
        file.cache.max_size = self.cache_max_size.unwrap_or(file.cache.max_size);
        replace(&mut file.server.public_url, self.public_url);
        file.server.allowed_hosts.extend(self.allowed_hosts);
        self.tls.apply(&mut file.server.tls);
        self.fleet.apply(&mut file.fleet);
        Ok(())
    }

    fn names_a_repository(&self) -> bool {
        self.repository.domain.is_some()
            || self.repository.domain_owner.is_some()
            || self.repository.name.is_some()
            || self.endpoint.is_some()
            || self.upload.is_some()
            || self.read.is_some()
            || self.changed_files.is_some()
    }
}

/// The one route that flags can apply to; a file without a route gets one.
fn only_route(routes: &mut Vec<RouteTable>) -> Result<&mut RouteTable, ConfigError> {
    if routes.is_empty() {
        routes.push(RouteTable { default: true, ..RouteTable::default() });
    }
    match routes.as_mut_slice() {
        [route] => Ok(route),
        _ => Err(ConfigError::Inconsistent(
            "the configuration file has several [[route]] tables, so domain, repository, upload, read and \
             changed_files are set there and not by flags or WHEELPORT_ variables"
                .to_owned(),
        )),
    }
}

fn replace<T>(setting: &mut Option<T>, by: Option<T>) {
    if by.is_some() {
        *setting = by;
    }
}

//! The settings of the proxy; each has a valid value.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use crate::advisories::AdvisorySettings;
use crate::cache::CacheSettings;
use crate::control::{AccountId, AwsSettings, DomainName, RepositoryName};
use crate::fleet::FleetSettings;
use crate::flow::{ChangedFilePolicy, UploadSettings};
use crate::identity::{IdentityRules, SigningKeys};
use crate::notify::NotifySettings;
use crate::policy::PolicySettings;
use crate::upstream::ClientSettings;
use crate::usage::UsageSettings;
use crate::web::{
    Cidr, HostPattern, OperatorSecrets, Prices, ReadPolicy, SiteSettings, TlsSettings, TlsTable, UploadPolicy,
};
use wheelport_runtime::{HumanDuration, Size};

/// Where the proxy listens by default.
pub(crate) const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Everything `wheelport serve` needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses of the proxy.
    pub listen: Vec<SocketAddr>,
    /// Address for metrics and status; without it neither is served.
    pub ops_listen: Option<SocketAddr>,
    /// What operators have to present.
    pub operators: OperatorSecrets,
    /// Whether anonymous uploads are wanted on addresses that others reach.
    pub allow_anonymous_uploads: bool,
    pub routes: Vec<RouteSettings>,
    /// The position of the default route.
    pub default_route: Option<usize>,
    pub cache: CacheSettings,
    pub cache_dir: PathBuf,
    pub server: ServerSettings,
    pub site: SiteSettings,
    /// Where the listener speaks TLS.
    pub tls: Option<TlsSettings>,
    pub upstream: ClientSettings,
    pub upload: UploadSettings,
    pub fleet: FleetSettings,
    /// What CodeArtifact costs; only shown.
    pub prices: Prices,
    /// Where operators hear of what they should know at once.
    pub notify: Option<NotifySettings>,
    /// Whether and how downloads are counted.
    pub usage: UsageSettings,
    /// What may be served.
    pub policy: PolicySettings,
    /// Where advisories come from.
    pub advisories: AdvisorySettings,
    /// Who is known, and what they may do.
    pub identities: IdentityRules,
    /// What signs minted tokens.
    pub signing_keys: SigningKeys,
    /// The files that those keys came from.
    pub key_files: Vec<PathBuf>,
    /// Where all of this came from, if it was a file.
    pub source: Option<ConfigSource>,
}

/// How settings are read again, from the same file with the same flags and environment.
#[derive(Clone)]
pub struct ConfigSource {
    file: PathBuf,
    load: Arc<dyn Fn() -> Result<Settings, String> + Send + Sync>,
}

impl ConfigSource {
    pub(super) fn new(file: PathBuf, load: impl Fn() -> Result<Settings, String> + Send + Sync + 'static) -> Self {
        Self { file, load: Arc::new(load) }
    }

    /// The settings as they are now; the error is a sentence for the log.
    pub fn load(&self) -> Result<Settings, String> {
        (self.load)()
    }
}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigSource").field(&self.file).finish()
    }
}

impl Settings {
    /// The files that say who is known. Whatever stands in them can change without a restart.
    pub fn identity_files(&self) -> Vec<PathBuf> {
        let file = self.source.iter().map(|source| source.file.clone());
        let issuers = self.identities.issuers().iter().filter_map(|issuer| issuer.keys_file().cloned());
        file.chain(self.key_files.iter().cloned()).chain(issuers).collect()
    }
}

/// One served repository.
#[derive(Debug, Clone)]
pub struct RouteSettings {
    /// The name in addresses.
    pub name: Arc<str>,
    pub domain: DomainName,
    /// The account that owns the domain.
    pub domain_owner: Option<AccountId>,
    pub repository: RepositoryName,
    /// The repository's endpoint, if it is not the one that CodeArtifact gives.
    pub endpoint: Option<Url>,
    pub upload: UploadPolicy,
    pub read: ReadPolicy,
    /// What becomes of files whose bytes change.
    pub changed_files: ChangedFilePolicy,
    /// How to reach AWS.
    pub aws: AwsSettings,
    /// How to reach AWS for publishing, if another role does that.
    pub publish_aws: Option<AwsSettings>,
}

/// The `[server]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// The address under which clients reach the proxy; only for texts that need an absolute one.
    pub public_url: Option<Url>,
    /// Host names it serves, besides those that are always allowed.
    pub allowed_hosts: Vec<HostPattern>,
    /// Proxies whose forwarded headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// As it is written; [`Settings::tls`] is what it comes to.
    pub tls: TlsTable,
    /// The memory from which buffers, parsing and the index take their shares.
    pub memory: Option<Size>,
    /// Connections of clients at the same time, as far as memory and file descriptors suffice.
    pub max_connections: usize,
    /// Connections of one address at the same time.
    pub max_connections_per_address: Option<usize>,
    /// How long a connection may stay open without a byte of a request.
    pub idle_timeout: HumanDuration,
    /// How long a client may take from the first byte of a request to the end of its headers.
    pub header_timeout: HumanDuration,
    /// How long a client may go without taking a byte of a response.
    pub write_timeout: HumanDuration,
    /// How long the process waits for unfinished responses before it ends.
    pub drain_timeout: HumanDuration,
    /// How long the proxy still accepts requests after SIGTERM, while readiness already fails.
    pub drain_delay: HumanDuration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            public_url: None,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            tls: TlsTable::default(),
            memory: None,
            max_connections: 10_000,
            max_connections_per_address: None,
            idle_timeout: HumanDuration::secs(75),
            header_timeout: HumanDuration::secs(10),
            write_timeout: HumanDuration::secs(60),
            drain_timeout: HumanDuration::secs(50),
            drain_delay: HumanDuration::secs(0),
        }
    }
}

//! Settings: file, environment and flags into one typed, validated whole. Precedence: flag, environment, file, default.
//!
//! Every component defines the settings it needs beside itself; this module composes them, and is the only reader of the
//! configuration file. Flags and environment arrive through [`Overrides`], which the command line fills (the argument
//! parser reads the environment). Unknown keys are errors that name the key and its line.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use url::Url;

use crate::cache::CacheSettings;
use crate::control::{AccountId, AwsSettings, DomainName, EmulatorAccess, RegionName, RepositoryName, RoleArn};
use crate::flow::UploadSettings;
use crate::upstream::ClientSettings;
use crate::web::{Cidr, HostPattern, UploadPolicy};
use crate::web::{PublisherTable, Publishers};
use wheelport_runtime::{HumanDuration, Size};

/// Where the proxy listens if nothing is said.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Why there are no usable settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something that cannot be understood.
    #[error("the configuration file {}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: Box<toml::de::Error>,
    },
    /// Settings that do not fit together.
    #[error("{0}")]
    Inconsistent(String),
}

/// Everything `wheelport serve` needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses of the proxy.
    pub listen: Vec<SocketAddr>,
    /// Address for metrics and status; none is opened if not given.
    pub ops_listen: Option<SocketAddr>,
    /// The served repositories.
    pub routes: Vec<RouteSettings>,
    /// The position of the default route.
    pub default_route: Option<usize>,
    /// The cache.
    pub cache: CacheSettings,
    /// The cache directory.
    pub cache_dir: PathBuf,
    /// The inbound edge.
    pub server: ServerSettings,
    /// The outbound edge.
    pub upstream: ClientSettings,
    /// Bounds of uploads.
    pub upload: UploadSettings,
    /// Who may publish with a token.
    pub publishers: Publishers,
}

/// One served repository.
#[derive(Debug, Clone)]
pub struct RouteSettings {
    /// The name in addresses.
    pub name: Arc<str>,
    /// The CodeArtifact domain.
    pub domain: DomainName,
    /// The account that owns it.
    pub domain_owner: Option<AccountId>,
    /// The repository.
    pub repository: RepositoryName,
    /// Where the repository answers, if not where CodeArtifact says.
    pub endpoint: Option<Url>,
    /// Who may publish.
    pub upload: UploadPolicy,
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
    /// Host names it answers to, besides those that are always allowed.
    pub allowed_hosts: Vec<HostPattern>,
    /// Proxies whose forwarded headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Connections at most; more have to wait.
    pub max_connections: usize,
    /// How long a connection may stay open without a byte of a request.
    pub idle_timeout: HumanDuration,
    /// How long a client may take from the first byte of a request to the end of its headers.
    pub header_timeout: HumanDuration,
    /// How long a client may take no byte of a response.
    pub write_timeout: HumanDuration,
    /// How long the end of the process waits for answers under way.
    pub drain_timeout: HumanDuration,
    /// How long new requests are still taken after SIGTERM, while readiness already fails.
    pub drain_delay: HumanDuration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            public_url: None,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            max_connections: 10_000,
            idle_timeout: HumanDuration::secs(75),
            header_timeout: HumanDuration::secs(10),
            write_timeout: HumanDuration::secs(60),
            drain_timeout: HumanDuration::secs(50),
            drain_delay: HumanDuration::secs(0),
        }
    }
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    #[serde(deserialize_with = "one_or_many")]
    listen: Vec<SocketAddr>,
    ops_listen: Option<SocketAddr>,
    aws: AwsSettings,
    route: Vec<RouteTable>,
    cache: CacheSettings,
    server: ServerSettings,
    upstream: ClientSettings,
    upload: UploadSettings,
    publisher: Vec<PublisherTable>,
}

/// A `[[route]]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RouteTable {
    name: Option<String>,
    domain: Option<DomainName>,
    domain_owner: Option<AccountId>,
    repository: Option<RepositoryName>,
    endpoint: Option<Url>,
    default: bool,
    upload: UploadPolicy,
    profile: Option<String>,
    region: Option<RegionName>,
    role_arn: Option<RoleArn>,
    external_id: Option<String>,
    publish_role_arn: Option<RoleArn>,
}

/// What flags and environment say.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// `--listen`
    pub listen: Vec<SocketAddr>,
    /// `--ops-listen`
    pub ops_listen: Option<SocketAddr>,
    /// `--domain`
    pub domain: Option<DomainName>,
    /// `--domain-owner`
    pub domain_owner: Option<AccountId>,
    /// `--repository`
    pub repository: Option<RepositoryName>,
    /// `--endpoint`
    pub endpoint: Option<Url>,
    /// `--region`
    pub region: Option<RegionName>,
    /// `--profile`
    pub profile: Option<String>,
    /// `--role-arn`
    pub role_arn: Option<RoleArn>,
    /// `--upload`
    pub upload: Option<UploadPolicy>,
    /// `--cache-dir`
    pub cache_dir: Option<PathBuf>,
    /// `--cache-max-size`
    pub cache_max_size: Option<Size>,
    /// `--public-url`
    pub public_url: Option<Url>,
    /// `--allowed-host`
    pub allowed_hosts: Vec<HostPattern>,
    /// The emulator of `wheelport demo`.
    pub emulator: Option<EmulatorAccess>,
}

impl Settings {
    /// Reads the file, if one is named, and puts flags and environment over it.
    pub fn load(overrides: Overrides) -> Result<Self, ConfigError> {
        let file = match &overrides.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        Self::compose(file, overrides)
    }

    fn compose(mut file: File, over: Overrides) -> Result<Self, ConfigError> {
        if over.names_a_repository() {
            match file.route.as_mut_slice() {
                [] => file.route.push(RouteTable { default: true, ..RouteTable::default() }),
                [_] => {}
                _ => {
                    return Err(ConfigError::Inconsistent(
                        "the configuration file has several [[route]] tables, so domain, repository and upload are set \
                         there and not by flags or WHEELPORT_ variables"
                            .to_owned(),
                    ));
                }
            }
            over.put_over(&mut file.route[0]);
        }
        if over.profile.is_some() {
            file.aws.profile.clone_from(&over.profile);
        }
        file.aws.region = over.region.clone().or(file.aws.region);
        file.aws.role_arn = over.role_arn.clone().or(file.aws.role_arn);
        file.aws.emulator.clone_from(&over.emulator);
        let (routes, default_route) = routes(file.route, &file.aws)?;
        file.cache.max_size = over.cache_max_size.unwrap_or(file.cache.max_size);
        let cache_dir = over.cache_dir.or(file.cache.dir.take()).unwrap_or_else(|| PathBuf::from("wheelport-cache"));
        file.server.public_url = over.public_url.or(file.server.public_url);
        file.server.allowed_hosts.extend(over.allowed_hosts);
        let listen = [over.listen, file.listen, vec![DEFAULT_LISTEN]].into_iter().find(|list| !list.is_empty());
        let settings = Self {
            listen: listen.unwrap_or_default(),
            ops_listen: over.ops_listen.or(file.ops_listen),
            routes,
            default_route,
            cache: file.cache,
            cache_dir,
            server: file.server,
            upstream: file.upstream,
            upload: file.upload,
            publishers: Publishers::new(file.publisher).map_err(ConfigError::Inconsistent)?,
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let complain = |text: String| Err(ConfigError::Inconsistent(text));
        let with_tokens = |route: &&RouteSettings| route.upload == UploadPolicy::Token;
        if let Some(route) = self.routes.iter().find(with_tokens)
            && !self.publishers.has_any_for(&route.name)
        {
            return complain(format!(
                "route `{}`: upload = \"token\" needs a [[publisher]] with a name and the SHA-256 of its token; make one \
                 with: openssl rand -hex 32 | tee token | tr -d '\\n' | sha256sum",
                route.name
            ));
        }
        if let Some(unknown) =
            self.publishers.routes().find(|name| self.routes.iter().all(|route| *route.name != **name))
        {
            return complain(format!("a [[publisher]] names the route `{unknown}`, which is not configured"));
        }
        let idle = |route: &&RouteSettings| route.publish_aws.is_some() && route.upload == UploadPolicy::Off;
        if let Some(route) = self.routes.iter().find(idle) {
            return complain(format!(
                "route `{}`: publish_role_arn is of no use as long as upload is \"off\"",
                route.name
            ));
        }
        if self.cache.max_size < Size::mib(64) {
            return complain(format!("[cache] max_size = {}: a useful cache has at least 64MiB", self.cache.max_size));
        }
        if self.cache.stale_if_error.get() > Duration::from_hours(24 * 7) {
            return complain("[cache] stale_if_error may be at most 7d".to_owned());
        }
        Ok(())
    }
}

impl Overrides {
    fn names_a_repository(&self) -> bool {
        self.domain.is_some()
            || self.domain_owner.is_some()
            || self.repository.is_some()
            || self.endpoint.is_some()
            || self.upload.is_some()
    }

    fn put_over(&self, route: &mut RouteTable) {
        route.domain = self.domain.clone().or(route.domain.take());
        route.domain_owner = self.domain_owner.clone().or(route.domain_owner.take());
        route.repository = self.repository.clone().or(route.repository.take());
        route.endpoint = self.endpoint.clone().or(route.endpoint.take());
        route.upload = self.upload.unwrap_or(route.upload);
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| ConfigError::Malformed { path: path.to_owned(), source: Box::new(source) })
}

/// Completes the routes, and finds the default one: the one that says so, or the only one.
fn routes(tables: Vec<RouteTable>, aws: &AwsSettings) -> Result<(Vec<RouteSettings>, Option<usize>), ConfigError> {
    let complain = |text: &str| Err(ConfigError::Inconsistent(text.to_owned()));
    if tables.is_empty() {
        return complain(
            "no repository is configured: give --domain and --repository (or WHEELPORT_DOMAIN and \
             WHEELPORT_REPOSITORY), or a --config file with a [[route]]; to look around without AWS, run `wheelport demo`",
        );
    }
    let defaults: Vec<usize> =
        tables.iter().enumerate().filter(|(_, table)| table.default).map(|(position, _)| position).collect();
    if defaults.len() > 1 {
        return complain("more than one [[route]] says default = true");
    }
    let default_route = if tables.len() == 1 { Some(0) } else { defaults.first().copied() };
    let routes: Vec<_> = tables.into_iter().map(|table| route(table, aws)).collect::<Result<_, _>>()?;
    let mut names = HashSet::new();
    match routes.iter().find(|route| !names.insert(&route.name)) {
        Some(twice) => complain(&format!("two [[route]] tables have the name `{}`", twice.name)),
        None => Ok((routes, default_route)),
    }
}

fn route(table: RouteTable, aws: &AwsSettings) -> Result<RouteSettings, ConfigError> {
    let complain = |text: String| Err(ConfigError::Inconsistent(text));
    let label = table.name.clone().unwrap_or_else(|| "?".to_owned());
    let Some(domain) = table.domain else {
        return complain(format!(
            "route `{label}`: no domain is given (--domain, WHEELPORT_DOMAIN, or domain = \"…\")"
        ));
    };
    let Some(repository) = table.repository else {
        return complain(format!(
            "route `{label}`: no repository is given (--repository, WHEELPORT_REPOSITORY, or repository = \"…\")"
        ));
    };
    let name = table.name.unwrap_or_else(|| repository.as_str().to_owned());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return complain(format!("route `{name}`: a route's name consists of letters, digits, `-`, `_` and `.`"));
    }
    let aws = AwsSettings {
        profile: table.profile.or_else(|| aws.profile.clone()),
        region: table.region.or_else(|| aws.region.clone()),
        role_arn: table.role_arn.or_else(|| aws.role_arn.clone()),
        external_id: table.external_id.or_else(|| aws.external_id.clone()),
        token_lifetime: aws.token_lifetime,
        emulator: aws.emulator.clone(),
    };
    let publish_aws = table.publish_role_arn.map(|role| AwsSettings { role_arn: Some(role), ..aws.clone() });
    Ok(RouteSettings {
        name: name.into(),
        domain,
        domain_owner: table.domain_owner,
        repository,
        endpoint: table.endpoint,
        upload: table.upload,
        aws,
        publish_aws,
    })
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an address such as \"127.0.0.1:8080\", or a list of addresses")]
    enum OneOrMany {
        One(SocketAddr),
        Many(Vec<SocketAddr>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(address) => vec![address],
        OneOrMany::Many(addresses) => addresses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn from(text: &str, over: Overrides) -> Result<Settings, Box<dyn std::error::Error>> {
        Ok(Settings::compose(toml::from_str(text)?, over)?)
    }

    fn refusal(text: &str, over: Overrides) -> String {
        from(text, over).map_or_else(|error| error.to_string(), |settings| format!("accepted: {settings:?}"))
    }

    fn flags(domain: &str, repository: &str) -> Result<Overrides, Box<dyn std::error::Error>> {
        Ok(Overrides {
            domain: Some(DomainName::parse(domain)?),
            repository: Some(RepositoryName::parse(repository)?),
            ..Overrides::default()
        })
    }

    const TWO_ROUTES: &str = r#"
        listen = ["127.0.0.1:8080", "[::1]:8080"]
        [aws]
        region = "eu-central-1"
        token_lifetime = "1h"
        [[route]]
        name = "pypi"
        domain = "acme"
        domain_owner = "111122223333"
        repository = "python"
        default = true
        [[route]]
        name = "data"
        domain = "acme-data"
        repository = "wheels"
        region = "us-east-1"
        role_arn = "arn:aws:iam::111122223333:role/read"
        [cache]
        max_size = "50GiB"
        fresh_for = "30s"
    "#;

    #[test]
    fn flags_alone_make_one_default_route() -> Outcome {
        let settings = from("", flags("acme", "python")?)?;
        assert_eq!(settings.default_route, Some(0));
        assert_eq!(&*settings.routes[0].name, "python");
        assert_eq!(settings.listen, [DEFAULT_LISTEN]);
        Ok(())
    }

    #[test]
    fn routes_inherit_from_the_aws_table_and_may_differ() -> Outcome {
        let settings = from(TWO_ROUTES, Overrides::default())?;
        let region = |at: usize| settings.routes[at].aws.region.as_ref().map(|region| region.as_str().to_owned());
        assert_eq!((region(0).as_deref(), region(1).as_deref()), (Some("eu-central-1"), Some("us-east-1")));
        assert_eq!(settings.default_route, Some(0));
        assert_eq!(settings.listen.len(), 2);
        assert_eq!(settings.cache.max_size, Size::gib(50));
        Ok(())
    }

    #[test]
    fn a_flag_wins_over_the_file() -> Outcome {
        let file = "listen = \"127.0.0.1:1\"\n[[route]]\ndomain = \"acme\"\nrepository = \"python\"\nname = \"mine\"";
        let over = Overrides { listen: vec!["127.0.0.1:2".parse()?], ..flags("other", "python")? };
        let settings = from(file, over)?;
        assert_eq!(settings.routes[0].domain.as_str(), "other");
        assert_eq!(&*settings.routes[0].name, "mine");
        assert_eq!(settings.listen, ["127.0.0.1:2".parse()?]);
        Ok(())
    }

    #[test]
    fn unknown_keys_are_named_with_their_line() {
        let text = refusal("\n\nlisten_on = \"127.0.0.1:1\"", Overrides::default());
        assert!(text.contains("listen_on") && text.contains("line 3"), "{text}");
        let text = refusal("[cache]\nmax_siz = \"1GiB\"", Overrides::default());
        assert!(text.contains("max_siz") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn what_does_not_fit_together_says_what_to_do() -> Outcome {
        for (file, over, part) in [
            ("", Overrides::default(), "wheelport demo"),
            (TWO_ROUTES, flags("acme", "python")?, "several [[route]]"),
            ("[[route]]\ndomain = \"acme\"", Overrides::default(), "WHEELPORT_REPOSITORY"),
            ("[[route]]\nrepository = \"r1\"", Overrides::default(), "WHEELPORT_DOMAIN"),
            ("[[route]]\ndomain = \"acme\"\nrepository = \"r1\"\nname = \"a/b\"", Overrides::default(), "letters"),
            ("[cache]\nmax_size = \"1MiB\"", flags("acme", "python")?, "64MiB"),
        ] {
            let text = refusal(file, over);
            assert!(text.contains(part), "{text}");
        }
        Ok(())
    }

    const ROUTE: &str = "[[route]]\nname = \"main\"\ndomain = \"acme\"\nrepository = \"r1\"\n";
    const ROLE: &str = "publish_role_arn = \"arn:aws:iam::111122223333:role/publish\"\n";

    fn publisher(more: &str) -> String {
        format!("[[publisher]]\nname = \"ci\"\ntoken_sha256 = \"{}\"\n{more}", "0".repeat(64))
    }

    #[test]
    fn publishing_is_off_unless_it_is_asked_for() -> Outcome {
        assert_eq!(from(ROUTE, Overrides::default())?.routes[0].upload, UploadPolicy::Off);
        let asked = Overrides { upload: Some(UploadPolicy::Anonymous), ..Overrides::default() };
        assert_eq!(from(ROUTE, asked)?.routes[0].upload, UploadPolicy::Anonymous);
        Ok(())
    }

    #[test]
    fn a_route_with_tokens_has_somebody_with_a_token() -> Outcome {
        let token = format!("{ROUTE}upload = \"token\"\n");
        let with = |more: &str| format!("{token}{}", publisher(more));
        for (file, part) in [
            (token.clone(), "sha256sum"),
            (with("routes = [\"other\"]"), "[[publisher]]"),
            (with("routes = [\"main\", \"other\"]"), "`other`, which is not configured"),
            (format!("{ROUTE}{ROLE}"), "publish_role_arn is of no use"),
        ] {
            let text = refusal(&file, Overrides::default());
            assert!(text.contains(part), "{text}");
        }
        let settings = from(&with("projects = [\"acme-*\"]"), Overrides::default())?;
        assert!(settings.publishers.has_any_for("main"));
        Ok(())
    }

    #[test]
    fn another_role_may_do_the_publishing() -> Outcome {
        let settings = from(&format!("{ROUTE}upload = \"anonymous\"\n{ROLE}"), Overrides::default())?;
        let route = &settings.routes[0];
        let role = route.publish_aws.as_ref().and_then(|aws| aws.role_arn.clone());
        assert!(role.is_some() && route.aws.role_arn.is_none());
        Ok(())
    }

    #[test]
    fn bounds_of_uploads_have_units() -> Outcome {
        let settings = from(&format!("[upload]\nmax_file_size = \"1GiB\"\n{ROUTE}"), Overrides::default())?;
        assert_eq!(settings.upload.max_file_size, Size::gib(1));
        assert!(refusal("[upload]\nmax_file = 1", Overrides::default()).contains("max_file"));
        Ok(())
    }
}

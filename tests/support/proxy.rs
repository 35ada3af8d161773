//! The whole proxy in the test's own process, composed exactly as `wheelport serve` composes it: nothing is faked but
//! what stands on the other side of a socket. The control plane that mints tokens and the repository are scripted.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use url::Url;
use wheelport::advisories::AdvisorySettings;
use wheelport::app::App;
use wheelport::cache::CacheSettings;
use wheelport::config::{RouteSettings, ServerSettings, Settings};
use wheelport::control::{AwsSettings, DomainName, EmulatorAccess, RegionName, RepositoryName};
use wheelport::fleet::FleetSettings;
use wheelport::flow::{ChangedFilePolicy, UploadSettings};
use wheelport::identity::{IdentityRules, SigningKeys};
use wheelport::notify::NotifySettings;
use wheelport::policy::PolicySettings;
use wheelport::upstream::ClientSettings;
use wheelport::usage::UsageSettings;
use wheelport::web::{OperatorSecrets, Prices, ReadPolicy, SiteSettings, TlsSettings, UploadPolicy};
use wheelport_runtime::HumanDuration;
use wheelport_runtime::{Clock, Tasks};

use super::client::{Ask, Client, until};
use super::scripted::{Reply, Scripted};

/// The control plane's call for a token.
pub(crate) const MINT: &str = "POST /v1/authorization-token";
/// The control plane's call for the packages of a repository.
pub(crate) const PACKAGES: &str = "POST /v1/packages";

/// The control plane's call for the address of a repository.
pub(crate) const ENDPOINT: &str = "GET /v1/repository/endpoint";

/// Part of every token that tests mint; it must turn up nowhere.
pub(crate) const CANARY: &str = "canary";

/// A control plane that mints `canary-1`, `canary-2`, …
pub(crate) async fn control_plane() -> Scripted {
    let control = Scripted::start().await;
    let count = Arc::new(AtomicUsize::new(0));
    let mint = move |_: &_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let expires = Clock::system().unix_seconds() + 12 * 60 * 60;
        let token = json!({"authorizationToken": format!("{CANARY}-{number}"), "expiration": expires});
        Reply::ok(token.to_string()).header("content-type", "application/json")
    };
    control.on(MINT, Reply::with(mint));
    control
}

/// A refusal as the service words it.
pub(crate) fn refusal(status: u16, kind: &str, message: &str) -> Reply {
    Reply::status(status)
        .header("content-type", "application/json")
        .header("x-amzn-errortype", kind)
        .body(json!({"message": message}).to_string())
}

/// Puts a proxy together.
#[derive(Clone)]
pub(crate) struct Builder {
    upstream: Option<Scripted>,
    control: Option<Scripted>,
    dir: Option<Arc<TempDir>>,
    /// The `[cache]` table.
    pub cache: CacheSettings,
    /// The outbound edge.
    pub client: ClientSettings,
    /// The `[server]` table.
    pub server: ServerSettings,
    /// Whether there are pages for people.
    pub site: SiteSettings,
    /// Where the listener speaks TLS.
    pub tls: Option<TlsSettings>,
    /// What operators have to present.
    pub operators: OperatorSecrets,
    /// Who may publish.
    pub upload: UploadPolicy,
    /// What becomes of files whose bytes change.
    pub changed_files: ChangedFilePolicy,
    /// The `[upload]` table.
    pub uploads: UploadSettings,
    /// What it shares with other replicas.
    pub fleet: FleetSettings,
    /// What CodeArtifact costs.
    pub prices: Prices,
    /// The webhook.
    pub notify: Option<NotifySettings>,
    /// Whether and how downloads are counted.
    pub usage: UsageSettings,
    /// The text of a file of rules, and names that are private.
    pub rules: Option<(String, Vec<String>)>,
    /// The `[advisories]` table.
    pub advisories: AdvisorySettings,
    /// Who may read; the route `open` is open in any case.
    pub read: ReadPolicy,
    /// Who is known.
    pub identities: IdentityRules,
    /// What signs minted tokens.
    pub signing_keys: SigningKeys,
    clock: Clock,
    routes: Vec<&'static str>,
    /// Whether each route has a role of its own.
    pub own_roles: bool,
    /// Whether credentials and the control plane are those of the environment.
    pub aws_chain: bool,
    /// Whether AWS has to be asked where the repository is.
    pub asks_for_endpoint: bool,
    default_route: Option<usize>,
    endpoint: Option<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            upstream: None,
            control: None,
            dir: None,
            cache: CacheSettings::default(),
            client: ClientSettings::default(),
            server: ServerSettings::default(),
            site: SiteSettings::default(),
            tls: None,
            operators: OperatorSecrets::default(),
            upload: UploadPolicy::Off,
            changed_files: ChangedFilePolicy::default(),
            uploads: UploadSettings::default(),
            fleet: FleetSettings::default(),
            prices: Prices::default(),
            notify: None,
            usage: UsageSettings::default(),
            rules: None,
            advisories: AdvisorySettings::default(),
            read: ReadPolicy::Open,
            identities: IdentityRules::default(),
            signing_keys: SigningKeys::default(),
            clock: Clock::system(),
            routes: vec!["main"],
            own_roles: false,
            aws_chain: false,
            asks_for_endpoint: false,
            default_route: Some(0),
            endpoint: None,
        }
    }
}

impl Builder {
    /// The repository, if it is not a new one.
    #[must_use]
    pub(crate) fn upstream(mut self, upstream: &Scripted) -> Self {
        self.upstream = Some(upstream.clone());
        self
    }

    /// The control plane, if it is not a new one.
    #[must_use]
    pub(crate) fn control(mut self, control: &Scripted) -> Self {
        self.control = Some(control.clone());
        self
    }

    /// A cache directory that is there already.
    #[must_use]
    pub(crate) fn dir(mut self, dir: &Arc<TempDir>) -> Self {
        self.dir = Some(Arc::clone(dir));
        self
    }

    /// How long pages are fresh, served while they are refreshed, and served when upstream fails.
    #[must_use]
    pub(crate) fn windows(mut self, fresh: HumanDuration, revalidate: HumanDuration, on_error: HumanDuration) -> Self {
        self.cache.fresh_for = fresh;
        self.cache.stale_while_revalidate = revalidate;
        self.cache.stale_if_error = on_error;
        self
    }

    /// Several routes to the same repository, and which of them is the default one.
    #[must_use]
    pub(crate) fn routes(mut self, names: &[&'static str], default: Option<usize>) -> Self {
        self.routes = names.to_vec();
        self.default_route = default;
        self
    }

    /// An address for the repository, instead of the upstream's.
    #[must_use]
    pub(crate) fn endpoint(mut self, url: &str) -> Self {
        self.endpoint = Some(url.to_owned());
        self
    }

    /// Rules in a file that can be changed.
    #[must_use]
    pub(crate) fn rules(mut self, text: &str, private: &[&str]) -> Self {
        self.rules = Some((text.to_owned(), private.iter().map(|&glob| glob.to_owned()).collect()));
        self
    }

    fn policy(&self, dir: &Path) -> PolicySettings {
        let routes = self.routes.iter().map(|name| Arc::from(*name)).collect();
        let mut settings = PolicySettings { routes, ..PolicySettings::default() };
        if let Some((text, private)) = &self.rules {
            let directory = dir.join("rules");
            std::fs::create_dir_all(&directory).expect("a directory of rules");
            std::fs::write(directory.join("rules.toml"), text).expect("rules");
            let table = json!({ "directory": directory, "private": private });
            settings.table = serde_json::from_value(table).expect("a table");
        }
        settings
    }

    /// Starts so many seconds later, by the calendar.
    #[must_use]
    pub(crate) fn later(mut self, seconds: i64) -> Self {
        self.clock = Clock::system();
        self.clock.shift(seconds);
        self
    }

    /// The directory that holds the cache of a proxy that was stopped.
    pub(crate) fn directory(&self) -> &Path {
        self.dir.as_ref().expect("a proxy that ran").path()
    }

    /// Changes settings.
    #[must_use]
    pub(crate) fn set(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Starts it and waits until it has a token.
    pub(crate) async fn start(self) -> Proxy {
        let proxy = self.start_blind().await;
        let usable = async || {
            let status = proxy.ops.get("/status").send().await.value();
            status["routes"][0]["token"].as_bool().filter(|usable| *usable)
        };
        until("the first token", usable).await;
        proxy
    }

    /// Starts it without waiting for a token.
    pub(crate) async fn start_blind(mut self) -> Proxy {
        let upstream = match self.upstream.take() {
            Some(upstream) => upstream,
            None => Scripted::start().await,
        };
        let control = match self.control.take() {
            Some(control) => control,
            None => control_plane().await,
        };
        let dir = self.dir.take().unwrap_or_else(|| Arc::new(tempfile::tempdir().expect("a directory")));
        let (tasks, running, stop) = (Tasks::new(), Tasks::new(), CancellationToken::new());
        let settings = self.settings(&upstream, &control, dir.path());
        let starting = Box::pin(App::start(settings, self.clock.clone(), tasks.clone()));
        let app = starting.await.expect("a proxy that starts");
        let address = app.addresses[0];
        let ops = app.ops_address.expect("an address for operations");
        let stopped = stop.clone();
        running.spawn("proxy", async move {
            app.run(stopped.cancelled_owned()).await;
        });
        let again = Self {
            upstream: Some(upstream.clone()),
            control: Some(control.clone()),
            dir: Some(Arc::clone(&dir)),
            ..self
        };
        Proxy { address, ops: Client(ops), upstream, control, dir, again, tasks, running, stop }
    }

    fn settings(&self, upstream: &Scripted, control: &Scripted, dir: &Path) -> Settings {
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let address = self.endpoint.clone().unwrap_or_else(|| upstream.url(super::wheels::REPOSITORY));
        let endpoint = Url::parse(&address).expect("an address");
        let aws = AwsSettings {
            region: Some(RegionName::parse("eu-central-1").expect("a region")),
            emulator: (!self.aws_chain).then(|| EmulatorAccess {
                endpoint: control.url(""),
                keys: ("AKIAIOSFODNN7EXAMPLE", "an example of a secret key"),
            }),
            ..AwsSettings::default()
        };
        let route = |name: &&str| RouteSettings {
            name: Arc::from(*name),
            domain: DomainName::parse("acme").expect("a domain"),
            domain_owner: None,
            repository: RepositoryName::parse("r1").expect("a repository"),
            endpoint: (!self.asks_for_endpoint).then(|| endpoint.clone()),
            upload: self.upload,
            read: if *name == "open" { ReadPolicy::Open } else { self.read },
            changed_files: self.changed_files,
            aws: AwsSettings { external_id: self.own_roles.then(|| (*name).to_owned()), ..aws.clone() },
            publish_aws: None,
        };
        Settings {
            listen: vec![loopback],
            ops_listen: Some(loopback),
            operators: self.operators.clone(),
            allow_anonymous_uploads: false,
            routes: self.routes.iter().map(route).collect(),
            default_route: self.default_route,
            cache: self.cache.clone(),
            cache_dir: dir.join("cache"),
            server: self.server.clone(),
            site: self.site.clone(),
            tls: self.tls.clone(),
            upstream: self.client.clone(),
            upload: self.uploads.clone(),
            fleet: self.fleet.clone(),
            prices: self.prices.clone(),
            notify: self.notify.clone(),
            usage: self.usage.clone(),
            policy: self.policy(dir),
            advisories: self.advisories.clone(),
            identities: self.identities.clone(),
            signing_keys: self.signing_keys.clone(),
            key_files: Vec::new(),
            source: None,
        }
    }
}

/// A running proxy and both ends of the world behind it.
pub(crate) struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// A client of its listener for operations.
    pub ops: Client,
    /// The repository.
    pub upstream: Scripted,
    /// The control plane.
    pub control: Scripted,
    /// The directory that holds the cache.
    pub dir: Arc<TempDir>,
    again: Builder,
    tasks: Tasks,
    running: Tasks,
    stop: CancellationToken,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.stop();
    }
}

impl Proxy {
    /// Puts one together.
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    /// One with every default.
    pub(crate) async fn start() -> Self {
        Builder::default().start().await
    }

    /// A client of its listener.
    pub(crate) fn client(&self) -> Client {
        Client(self.address)
    }

    /// A GET.
    pub(crate) fn get(&self, target: &str) -> Ask {
        self.client().get(target)
    }

    /// A HEAD.
    pub(crate) fn head(&self, target: &str) -> Ask {
        self.client().ask("HEAD", target)
    }

    /// How often upstream was asked for this.
    pub(crate) fn asked(&self, request: &str) -> usize {
        self.upstream.requests_to(request).len()
    }

    /// Resolves when upstream was asked for this so often.
    pub(crate) async fn asked_by(&self, request: &str, count: usize) {
        until(request, async || (self.asked(request) >= count).then_some(())).await;
    }

    /// The calendar that it reads.
    pub(crate) fn clock(&self) -> &Clock {
        &self.again.clock
    }

    /// Begins the end and does not wait for it.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Ends it in an orderly way and says how to start it again over the same cache, upstream and control plane.
    pub(crate) async fn stop(self) -> Builder {
        self.stop.cancel();
        assert!(self.running.join(Duration::from_secs(10)).await, "the proxy did not end");
        self.again.clone()
    }

    /// Lets time pass for everything in this test at once. Needs the test's default runtime of one thread.
    pub(crate) async fn pass(&self, time: Duration) {
        self.again.clock.shift(i64::try_from(time.as_secs()).expect("a span of a test"));
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    /// Writes other rules, and waits until they are read.
    pub(crate) async fn change_rules(&self, text: &str) {
        let swaps = async || self.ops.get("/status").send().await.value()["policy"]["swaps"].as_u64().unwrap_or(0);
        let before = swaps().await;
        let file = self.dir.path().join("rules/rules.toml");
        std::fs::write(file, text).expect("rules");
        until("other rules", async || (swaps().await > before).then_some(())).await;
    }

    /// Every file below a part of the cache directory.
    pub(crate) fn kept(&self, part: &str) -> Vec<PathBuf> {
        files_below(&self.dir.path().join("cache").join(part))
    }

    /// Resolves when a part of the cache directory has this many files. A client may have read one before that.
    pub(crate) async fn kept_by(&self, part: &str, count: usize) -> Vec<PathBuf> {
        let kept = async || Some(self.kept(part)).filter(|files| files.len() == count);
        until(&format!("{count} files in {part}"), kept).await
    }

    /// What this process is writing now, its lock left out.
    pub(crate) fn temporaries(&self) -> Vec<PathBuf> {
        let mut found = self.kept("tmp");
        found.retain(|path| path.file_name().is_none_or(|name| name != "lock"));
        found
    }

    /// The text of the metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.ops.get("/metrics").send().await.expect(200).text()
    }
}

/// Every file below a directory; none if it is not there.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { directories.push(path) } else { found.push(path) }
        }
    }
    found
}

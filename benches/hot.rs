//! What a warm response, a changed page and rules cost: parse, render, decide, and the whole way of a hit.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HOST, IF_NONE_MATCH};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use jsonwebtoken::{EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use url::Url;
use wheelport::advisories::AdvisorySettings;
use wheelport::cache::{CacheSettings, Disk, PageKey, PersistedIndex, RepositoryId, page_path};
use wheelport::fleet::Fleet;
use wheelport::flow::{
    Advisories, AdvisoryParts, Error, Flow, FlowMemory, FlowParts, Moment, OriginFacts, ProjectSource, Resolution,
    Route, UploadSettings,
};
use wheelport::identity::{FetchDocument, Identities, IdentityRules, IdentityTables, IssuerDocument, SigningKeys};
use wheelport::notices::Notices;
use wheelport::policy::{GrantStore, NewException, PolicyHandle, PolicySettings, watch as watch_rules};
use wheelport::telemetry::Metrics;
use wheelport::token::{KeeperSettings, MintError, Minted, TokenSource, keep};
use wheelport::upstream::{Client, ClientSettings};
use wheelport::usage::UsageSettings;
use wheelport::web::{
    HostPolicy, OperatorSecrets, PeerInfo, Prices, ReadPolicy, RouteSite, Site, SiteBounds, SiteParts, UploadPolicy,
    handle,
};
use wheelport_index::parse::{self, PageFormat};
use wheelport_index::{Page, ProjectName, Sha256, render};
use wheelport_runtime::{Clock, HumanDuration, Tasks};

/// What an installer says it takes.
const INSTALLER: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";
/// Files of the pages measured; 270 make a page of about 75 KB.
const SIZES: [usize; 4] = [10, 270, 5_000, 15_000];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// JSON as CodeArtifact writes it.
fn upstream_page(files: usize) -> Vec<u8> {
    let entry = |number: usize| {
        let version = format!("{}.{}.{}", number / 400, number / 20 % 20, number % 20);
        let file = format!("bench_page-{version}-py3-none-any.whl");
        serde_json::json!({
            "filename": file,
            "url": format!("{version}/{file}"),
            "hashes": {"sha256": Sha256::of(file.as_bytes()).to_string()},
            "requires-python": ">=3.9",
            "size": 10_000 + number,
            "upload-time": "2026-03-01T12:00:00.000000Z",
        })
    };
    let page = serde_json::json!({
        "meta": {"api-version": "1.1"},
        "name": "bench-page",
        "files": (0..files).map(entry).collect::<Vec<_>>(),
    });
    page.to_string().into_bytes()
}

fn parsed(body: &[u8]) -> Outcome<Page> {
    let base = Url::parse("https://index.example.org/pypi/python/simple/bench-page/")?;
    Ok(parse::page(PageFormat::Json, body, &base, &ProjectName::parse("bench-page")?)?.page)
}

fn pages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("page");
    group.sample_size(10);
    for files in SIZES {
        let body = upstream_page(files);
        let page = parsed(&body).expect("a page that we wrote can be read");
        group.throughput(Throughput::Elements(files as u64));
        group.bench_with_input(BenchmarkId::new("parse", files), &body, |bencher, body| {
            bencher.iter(|| parsed(body));
        });
        group.bench_with_input(BenchmarkId::new("render json", files), &page, |bencher, page| {
            bencher.iter(|| render::json(page));
        });
        // What rules that change a page cost besides deciding.
        group.bench_with_input(BenchmarkId::new("copy", files), &page, |bencher, page| bencher.iter(|| page.clone()));
        group.bench_with_input(BenchmarkId::new("render html", files), &page, |bencher, page| {
            bencher.iter(|| render::html(page));
        });
    }
    group.finish();
}

/// No account, no list: what is benched is answered from the cache.
struct Nobody;

impl TokenSource for Nobody {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>> {
        Box::pin(std::future::pending())
    }
}

impl GrantStore for Nobody {
    fn load(&self) -> std::io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn save(&self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

impl ProjectSource for Nobody {
    fn origins<'a>(&'a self, _: &'a ProjectName, _: bool) -> BoxFuture<'a, Result<OriginFacts, Error>> {
        Box::pin(std::future::pending())
    }

    fn versions<'a>(&'a self, _: &'a ProjectName) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(std::future::pending())
    }

    fn taken_in<'a>(&'a self, _: &'a ProjectName, _: &'a str) -> BoxFuture<'a, Result<Option<Moment>, Error>> {
        Box::pin(std::future::pending())
    }

    fn projects(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(std::future::pending())
    }
}

impl FetchDocument for Nobody {
    fn fetch(&self, _: Url, _: usize, _: bool) -> BoxFuture<'static, Result<IssuerDocument, String>> {
        Box::pin(std::future::pending())
    }
}

/// A reader with an ID token such as pipelines have, and those who know its issuer.
struct Reader {
    token: String,
    known: IdentityRules,
}

impl Reader {
    fn new(dir: &Path) -> Outcome<Self> {
        let pair = KeyPair::generate_for(&PKCS_ED25519)?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        let keys = dir.join("keys");
        let set = serde_json::json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]});
        std::fs::write(&keys, set.to_string())?;
        let issuers = serde_json::from_value(serde_json::json!([
            {"name": "ci", "url": "https://ci.invalid", "audience": "bench", "keys_file": keys},
        ]))?;
        let identities = serde_json::from_value(serde_json::json!([
            {"name": "ci:{sub}", "issuer": "ci", "claims": {"sub": "project:*"}, "read": ["*"]},
        ]))?;
        let known = IdentityRules::new(IdentityTables { issuers, identities, ..IdentityTables::default() })?;
        let expires = Clock::system().unix_seconds() + 3600;
        let filling = "x".repeat(700);
        let claims = serde_json::json!({
            "iss": "https://ci.invalid", "aud": "bench", "exp": expires, "sub": "project:acme", "more": filling,
        });
        let key = EncodingKey::from_ed_der(pair.serialized_der());
        let token = jsonwebtoken::encode(&Header::new(jsonwebtoken::Algorithm::EdDSA), &claims, &key)?;
        Ok(Self { token, known })
    }

    fn credentials(&self) -> Outcome<HeaderMap> {
        let pair = STANDARD.encode(format!("__token__:{}", self.token));
        Ok([(AUTHORIZATION, format!("Basic {pair}").parse()?)].into_iter().collect())
    }
}

/// So many rules of several shapes. One in twenty is about the page, or three in four: they name its versions and files.
fn rules(dir: &Path, number: usize, most_are_about: bool) -> Outcome<PolicySettings> {
    let rule = |at: usize| {
        let about = match at % 20 {
            4..=11 if most_are_about => {
                let (major, minor, patch) = (at / 400, at / 20 % 20, at % 20);
                format!("projects = [\"bench-page\"]\nversions = \"=={major}.{minor}.{patch}\"")
            }
            12..=18 if most_are_about => format!("projects = [\"bench-*\"]\nsha256 = [\"{at:064x}\"]"),
            0 => format!("sha256 = [\"{}\"]", Sha256::of(&at.to_le_bytes())),
            1 => format!("projects = [\"bench-*\"]\nversions = \"==99.{at}\""),
            2 => format!("projects = [\"bench-page\"]\nkind = \"sdist\"\nuploaded_after = 2090-01-{:02}", at % 28 + 1),
            3 => "licence = [\"GPL-3.0-*\"]\nprojects = [\"other\"]".to_owned(),
            _ => format!("projects = [\"other-{at}\", \"acme-{at}-*\"]\nversions = \">=2, <3\""),
        };
        format!("[[rule]]\nname = \"rule-{at}\"\n{about}\n")
    };
    let directory = dir.join("rules");
    std::fs::create_dir_all(&directory)?;
    let text: String = (0..number).map(rule).collect();
    std::fs::write(directory.join("rules.toml"), text)?;
    let table = serde_json::from_value(serde_json::json!({ "directory": directory }))?;
    Ok(PolicySettings { routes: vec!["python".into()], table, ..PolicySettings::default() })
}

/// The clock of rules moves on as if they had changed, so that everything is decided again.
fn change(policy: &PolicyHandle) {
    let new = NewException {
        project: "elsewhere".to_owned(),
        versions: None,
        reason: "bench".to_owned(),
        by: "bench".to_owned(),
        expires: "2999-01-01".to_owned(),
        advisory: None,
    };
    let granted = policy.grant(new).expect("an exception can be granted");
    policy.revoke(&granted.id).expect("it can be taken back");
}

/// A site whose cache directory holds the page.
fn site(dir: &Path, page: &Page, read: ReadPolicy, reader: &Reader, policy: &PolicyHandle) -> Outcome<Arc<Site>> {
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let disk = Disk::open(dir, 1 << 30, clock.clone())?;
    let repository = RepositoryId::new(&["bench"]);
    let key = PageKey { repository: repository.clone(), project: page.name.clone() };
    PersistedIndex::new(Arc::clone(&disk), clock.clone()).persist(&page_path(&key), page)?;
    let settings = CacheSettings { fresh_for: HumanDuration::secs(3600), ..CacheSettings::default() };
    let token = keep(Arc::new(Nobody), KeeperSettings::new("bench"), &tasks);
    let (_, upstream) = watch::channel(Resolution::Pending);
    let label = "bench/python".to_owned();
    let route = Route::new("python".into(), repository, label, token, Arc::new(Nobody), upstream);
    let route = RouteSite {
        route: Arc::new(route),
        domain: "bench".to_owned(),
        repository: "python".to_owned(),
        upload: UploadPolicy::Off,
        read,
    };
    let keys = SigningKeys::default();
    let identities = Identities::new(reader.known.clone(), keys, Arc::new(Nobody), clock.clone(), tasks.clone());
    let identities = Arc::new(identities);
    let advisories = Advisories::new(AdvisoryParts {
        settings: AdvisorySettings::default(),
        client: Client::new(ClientSettings::default())?,
        disk: Arc::clone(&disk),
        fleet: Fleet::default(),
        policy: policy.clone(),
        clock: clock.clone(),
    });
    let services = FlowParts {
        disk,
        uploads: UploadSettings::default(),
        usage: UsageSettings::default(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        fleet: Fleet::default(),
        policy: policy.clone(),
        advisories,
        notices: Notices::default(),
    };
    Ok(Arc::new(Site::new(SiteParts {
        flow: Flow::new(services, &settings, FlowMemory { records: 64 << 20, buffers: 32 << 20 }),
        routes: vec![route],
        default_route: Some(0),
        identities,
        hosts: HostPolicy::default(),
        operators: OperatorSecrets::default(),
        trusted_proxies: Vec::new(),
        certificates: None,
        public_url: None,
        metrics: Metrics::default(),
        fleet: None,
        has_pages: true,
        history: Arc::default(),
        savings: Arc::default(),
        prices: Prices::default(),
        bounds: SiteBounds { documents: 64 << 20, ..SiteBounds::default() },
        tasks,
    })))
}

fn request(more: &HeaderMap) -> Request<axum::body::Body> {
    let mut request = Request::new(axum::body::Body::empty());
    *request.uri_mut() = http::Uri::from_static("/simple/bench-page/");
    request.headers_mut().insert(HOST, http::HeaderValue::from_static("localhost:8080"));
    request.headers_mut().insert(ACCEPT, http::HeaderValue::from_static(INSTALLER));
    request.headers_mut().insert(ACCEPT_ENCODING, http::HeaderValue::from_static("gzip, deflate"));
    request.headers_mut().extend(more.clone());
    request
}

async fn ask_site(site: Arc<Site>, headers: HeaderMap) -> (http::response::Parts, usize) {
    let peer = SocketAddr::from(([127, 0, 0, 1], 4000));
    let response = handle(&site, &PeerInfo::plain(peer), request(&headers)).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
    (head, body.map_or(0, |body| body.len()))
}

/// A page of 4,000 files after the rules have changed, with 1,000 rules and with one; and what reading 1,000 costs.
fn policy(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime can be started");
    let root = tempfile::tempdir().expect("a temporary directory can be made");
    let page = parsed(&upstream_page(4_000)).expect("a page that we wrote can be read");
    let reader = Reader::new(root.path()).expect("a token can be made");
    let mut group = criterion.benchmark_group("policy");
    group.throughput(Throughput::Elements(4_000));
    for (number, most_are_about) in [(0, false), (1, false), (1_000, false), (1_000, true)] {
        let label = if most_are_about { format!("{number}, most about it") } else { number.to_string() };
        let dir = root.path().join(&label);
        let settings = rules(&dir, number, most_are_about).expect("rules can be written");
        let policy = watch_rules(settings.clone(), Box::new(Nobody), Clock::system()).expect("rules can be read");
        let site = {
            let _inside = runtime.enter();
            site(&dir.join("cache"), &page, ReadPolicy::Open, &reader, &policy).expect("a site can be built")
        };
        let first = runtime.block_on(ask_site(Arc::clone(&site), HeaderMap::new()));
        assert_eq!(first.0.status, StatusCode::OK);
        group.bench_function(BenchmarkId::new("page after a change of rules", &label), |bencher| {
            let ask = |()| ask_site(Arc::clone(&site), HeaderMap::new());
            bencher.to_async(&runtime).iter_batched(|| change(&policy), ask, BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("page with rules that stay", &label), |bencher| {
            bencher.to_async(&runtime).iter(|| ask_site(Arc::clone(&site), HeaderMap::new()));
        });
        group.bench_function(BenchmarkId::new("read rules", &label), |bencher| {
            bencher.iter(|| watch_rules(settings.clone(), Box::new(Nobody), Clock::system()));
        });
    }
    group.finish();
}

fn hits(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime can be started");
    let root = tempfile::tempdir().expect("a temporary directory can be made");
    let page = parsed(&upstream_page(270)).expect("a page that we wrote can be read");
    let reader = Reader::new(root.path()).expect("a token can be made");
    let (site, gated) = {
        let _inside = runtime.enter();
        let policy = watch_rules(PolicySettings::default(), Box::new(Nobody), Clock::system()).expect("no rules");
        let built =
            |dir: &str, read| site(&root.path().join(dir), &page, read, &reader, &policy).expect("a site can be built");
        (built("open", ReadPolicy::Open), built("gated", ReadPolicy::Identity))
    };
    let ask_of = |site: &Arc<Site>, headers: HeaderMap| ask_site(Arc::clone(site), headers);
    let ask = |headers: HeaderMap| ask_of(&site, headers);
    let (first, length) = runtime.block_on(ask(HeaderMap::new()));
    assert_eq!(first.status, StatusCode::OK);
    assert!(length > 0, "a page has bytes");
    let unchanged: HeaderMap = [(IF_NONE_MATCH, first.headers["etag"].clone())].into_iter().collect();
    let mut group = criterion.benchmark_group("hit");
    group.measurement_time(Duration::from_secs(5));
    group.bench_function("page", |bencher| bencher.to_async(&runtime).iter(|| ask(HeaderMap::new())));
    group.bench_function("not modified", |bencher| bencher.to_async(&runtime).iter(|| ask(unchanged.clone())));
    let shown = reader.credentials().expect("a token fits into a header");
    let read = runtime.block_on(ask_of(&gated, shown.clone()));
    assert_eq!(read.0.status, StatusCode::OK);
    group.bench_function("gated page", |bencher| {
        bencher.to_async(&runtime).iter(|| ask_of(&gated, shown.clone()));
    });
    group.finish();
}

criterion_group!(all, pages, policy, hits);
criterion_main!(all);

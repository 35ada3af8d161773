//! CodeArtifact's events: what happens beside a proxy shows on its pages within seconds, and a queue that brings junk,
//! or is away, changes nothing.
//!
//! The emulator tells the queues, as a rule of EventBridge does it. Without Redis each proxy has a queue of its own.

use std::net::SocketAddr;
use std::time::Duration;

use aws_sdk_codeartifact::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_codeartifact::types::{PackageFormat, PackageVersionStatus};
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use base64::Engine as _;
use tempfile::TempDir;
use tokio::time::Instant;

use super::servers::{Server, ministack};
use super::support::client::{Client, until};
use super::support::forms::{Form, content_type};
use super::support::process::{Program, ready};
use super::support::wheels::Sample;

const KEY: &str = "AKIAEMULATOR00000000";
const SECRET: &str = "wheelport-emulator-secret-key-0000000000";
pub(crate) const REGION: &str = "eu-central-1";
/// How soon an event must show.
const SOON: Duration = Duration::from_secs(5);

fn environment() -> [(&'static str, &'static str); 3] {
    [("AWS_REGION", REGION), ("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)]
}

fn credentials() -> Credentials {
    Credentials::new(KEY, SECRET, None, None, "tests")
}

/// A service that speaks SQS, and queues in it.
pub(crate) struct Queues {
    client: aws_sdk_sqs::Client,
}

impl Queues {
    pub(crate) fn at(port: u16) -> Self {
        let config = aws_sdk_sqs::Config::builder().behavior_version(BehaviorVersion::latest());
        let config = config.region(Region::new(REGION)).credentials_provider(credentials());
        let config = config.endpoint_url(format!("http://127.0.0.1:{port}")).build();
        Self { client: aws_sdk_sqs::Client::from_conf(config) }
    }

    pub(crate) async fn create(&self, name: &str, port: u16) -> String {
        let name = format!("{name}-{}", std::process::id());
        let made = self.client.create_queue().queue_name(name).send().await.expect("a queue");
        let mut url = url::Url::parse(made.queue_url().expect("its address")).expect("an address");
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(port)).expect("a port");
        url.to_string()
    }

    pub(crate) async fn send(&self, queue: &str, body: &str) {
        self.client.send_message().queue_url(queue).message_body(body).send().await.expect("a message is taken");
    }

    /// Sets an attribute of a queue.
    pub(crate) async fn set(&self, queue: &str, attribute: QueueAttributeName, value: &str) {
        let setting = self.client.set_queue_attributes().queue_url(queue).attributes(attribute, value);
        setting.send().await.expect("an attribute is taken");
    }

    /// What a queue says of one attribute.
    pub(crate) async fn get(&self, queue: &str, attribute: QueueAttributeName) -> String {
        let asking = self.client.get_queue_attributes().queue_url(queue).attribute_names(attribute.clone());
        let response = asking.send().await.expect("attributes");
        response.attributes().and_then(|found| found.get(&attribute)).cloned().unwrap_or_default()
    }

    /// How often the next message was received, this time included.
    pub(crate) async fn receives(&self, queue: &str) -> Option<String> {
        let count = MessageSystemAttributeName::ApproximateReceiveCount;
        let receiving = self.client.receive_message().queue_url(queue).message_system_attribute_names(count.clone());
        let received = receiving.send().await.expect("a response");
        received.messages().first()?.attributes()?.get(&count).cloned()
    }
}

/// The emulator, and what tests do to it beside the proxies.
struct Emulated {
    _program: Program,
    data: SocketAddr,
    control: SocketAddr,
    client: aws_sdk_codeartifact::Client,
}

impl Emulated {
    async fn start(queues: &[&str]) -> Self {
        let mut arguments = vec!["emulate", "--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--no-seed"];
        arguments.push("--no-public-index");
        for queue in queues {
            arguments.extend(["--events", queue]);
        }
        let program = Program::start(&arguments, &environment());
        let (data, control) = (program.address("data plane    http://"), program.address("control plane http://"));
        let config = aws_sdk_codeartifact::Config::builder().behavior_version(BehaviorVersion::latest());
        let config = config.region(Region::new(REGION)).credentials_provider(credentials());
        let config = config.endpoint_url(format!("http://{control}")).build();
        let client = aws_sdk_codeartifact::Client::from_conf(config);
        // A repository that has the first one upstream, so that events come from beyond the one that is served.
        let upstream = aws_sdk_codeartifact::types::UpstreamRepository::builder();
        let upstream = upstream.repository_name("python").build().expect("a name is all it needs");
        client.create_repository().domain("demo").repository("team").upstreams(upstream).send().await.expect("created");
        Self { _program: program, data, control, client }
    }

    async fn publish(&self, sample: &Sample) {
        let token = self.client.get_authorization_token().domain("demo").send().await.expect("a token");
        let token = token.authorization_token().expect("a token").to_owned();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("aws:{token}"));
        let form = Form::of(sample).with("version", &sample.version);
        let upload = Client(self.data).ask("POST", "/pypi/python/");
        let upload = upload.header("authorization", &format!("Basic {basic}"));
        upload.header("content-type", &content_type()).body(form.bytes()).send().await.expect(200);
    }

    async fn unlist(&self, version: &str) {
        let change = self.client.update_package_versions_status().domain("demo").repository("python").package("a-b");
        let change = change.format(PackageFormat::Pypi).versions(version);
        change.target_status(PackageVersionStatus::Unlisted).send().await.expect("a new status");
    }

    async fn delete(&self, version: &str) {
        let delete = self.client.delete_package_versions().domain("demo").repository("python").package("a-b");
        delete.format(PackageFormat::Pypi).versions(version).send().await.expect("deleted");
    }

    /// A proxy of the repository that has the other one upstream, whose pages stay fresh for an hour.
    async fn proxy(&self, dir: &TempDir, name: &str, queue: &str, more: &[&str]) -> Proxy {
        let cache = "[cache]\nfresh_for = \"1h\"\nmissing_for = \"1h\"\n";
        self.proxy_of("team", cache, dir, name, queue, more).await
    }

    async fn proxy_of(
        &self,
        repository: &str,
        config_text: &str,
        dir: &TempDir,
        name: &str,
        queue: &str,
        more: &[&str],
    ) -> Proxy {
        let config = dir.path().join(format!("{name}.toml"));
        std::fs::write(&config, config_text).expect("a file");
        let (config, cache) = (config.display().to_string(), dir.path().join(name).display().to_string());
        let control = format!("http://{}", self.control);
        let arguments = [
            ["--config", &config],
            ["--listen", "127.0.0.1:0"],
            ["--ops-listen", "127.0.0.1:0"],
            ["--domain", "demo"],
            ["--domain-owner", "111122223333"],
            ["--repository", repository],
            ["--cache-dir", &cache],
            ["--fleet-events", queue],
        ];
        let own = ["serve"].into_iter().chain(arguments.iter().flatten().copied());
        let arguments: Vec<&str> = own.chain(more.iter().copied()).collect();
        let own = [("AWS_ENDPOINT_URL_CODEARTIFACT", control.as_str()), ("AWS_ENDPOINT_URL_STS", control.as_str())];
        let program = Program::start(&arguments, &[environment().as_slice(), &own].concat());
        let client = program.proxy();
        let ops = Client(program.address("operations on http://"));
        ready(client).await;
        Proxy { client, ops, _program: program }
    }
}

struct Proxy {
    client: Client,
    ops: Client,
    _program: Program,
}

impl Proxy {
    async fn files(&self) -> Vec<String> {
        let response = self.client.get("/simple/a-b/").json().send().await;
        if response.status == 404 { Vec::new() } else { response.expect(200).file_names() }
    }

    /// Asserts that the page becomes this within seconds.
    async fn shows_soon(&self, samples: &[&Sample]) {
        let began = Instant::now();
        let wanted: Vec<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
        until("a page that shows what happened", async || (self.files().await == wanted).then_some(())).await;
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }

    /// Waits until a page is served from memory for longer than `fresh_for`. That takes half a minute after a change.
    async fn stays_fresh(&self) {
        let limit = Duration::from_mins(1);
        let (began, mut asked) = (Instant::now(), Instant::now());
        while asked.elapsed() < Duration::from_secs(4) {
            assert!(began.elapsed() < limit, "the page does not stay fresh: {}", self.events().await);
            let response = self.client.get("/simple/a-b/").json().send().await.expect(200);
            if response.header("cache-status") != Some("wheelport; hit") {
                asked = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn metric(&self, line: &str) -> Option<f64> {
        let metrics = self.ops.get("/metrics").send().await.expect(200).text();
        metrics.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    async fn events(&self) -> serde_json::Value {
        self.ops.get("/status").send().await.expect(200).value()["fleet"]["events"].clone()
    }

    /// Waits until the queue was read once.
    async fn receives(&self) {
        until("the first read of the queue", async || {
            (self.metric("wheelport_fleet_events_age_seconds").await.is_some()).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_beside_two_proxies_shows_within_seconds() {
    let (port, dir) = (ministack().port, tempfile::tempdir().expect("a directory"));
    let queues = Queues::at(port);
    let (first, second) = (queues.create("first", port).await, queues.create("second", port).await);
    let emulated = Emulated::start(&[&first, &second]).await;
    let proxies = [emulated.proxy(&dir, "a", &first, &[]).await, emulated.proxy(&dir, "b", &second, &[]).await];
    expect_that_changes_show(&emulated, &proxies).await;
    for proxy in &proxies {
        let events = proxy.events().await;
        assert_eq!((&events["working"], &events["unknown"]), (&true.into(), &0.into()), "{events}");
        assert!(events["relevant"].as_u64() >= Some(5), "{events}");
    }
}

/// Whichever replica receives an event tells the other one.
#[tokio::test(flavor = "multi_thread")]
async fn one_queue_is_enough_for_two_proxies_with_redis() {
    let (port, dir) = (ministack().port, tempfile::tempdir().expect("a directory"));
    let valkey = Server::start("valkey");
    let redis = format!("redis://127.0.0.1:{}", valkey.port);
    let queue = Queues::at(port).create("both", port).await;
    let emulated = Emulated::start(&[&queue]).await;
    let more = ["--fleet-redis", redis.as_str()];
    let proxies = [emulated.proxy(&dir, "a", &queue, &more).await, emulated.proxy(&dir, "b", &queue, &more).await];
    expect_that_changes_show(&emulated, &proxies).await;
    let mut received = 0;
    for proxy in &proxies {
        received += proxy.events().await["relevant"].as_u64().expect("a number");
    }
    assert_eq!(received, 5, "each event was received once");
}

/// A yank and a delete at CodeArtifact show within seconds although the page would stay fresh for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn the_domains_own_page_stays_fresh_for_an_hour_and_changes_show_within_seconds() {
    let (port, dir) = (ministack().port, tempfile::tempdir().expect("a directory"));
    let queue = Queues::at(port).create("own", port).await;
    let emulated = Emulated::start(&[&queue]).await;
    let (old, new, newest) = (Sample::wheel(), Sample::wheel_of("1.1", 10), Sample::wheel_of("1.2", 10));
    emulated.publish(&old).await;
    let cache = "[cache]\nfresh_for = \"1s\"\nstale_while_revalidate = \"0s\"\nfresh_for_internal = \"1h\"\n";
    let proxy = emulated.proxy_of("python", cache, &dir, "a", &queue, &["--fleet-events-own"]).await;
    proxy.receives().await;
    assert_eq!(proxy.files().await, [old.name.as_str()]);
    emulated.publish(&new).await;
    proxy.shows_soon(&[&old, &new]).await;
    emulated.publish(&newest).await;
    proxy.shows_soon(&[&old, &new, &newest]).await;
    until("events that are trusted", async || (proxy.events().await["trust"]["python"] == "trusted").then_some(()))
        .await;
    proxy.stays_fresh().await;
    emulated.unlist("1.1").await;
    proxy.shows_soon(&[&old, &newest]).await;
    proxy.stays_fresh().await;
    emulated.delete("1.0").await;
    proxy.shows_soon(&[&newest]).await;
}

/// A project that was missing, a new version, one that is taken from the index, and one that is deleted.
async fn expect_that_changes_show(emulated: &Emulated, proxies: &[Proxy]) {
    let (old, new) = (Sample::wheel(), Sample::wheel_of("1.1", 10));
    for proxy in proxies {
        assert!(proxy.files().await.is_empty());
    }
    emulated.publish(&old).await;
    for proxy in proxies {
        proxy.shows_soon(&[&old]).await;
    }
    emulated.publish(&new).await;
    for proxy in proxies {
        proxy.shows_soon(&[&old, &new]).await;
    }
    emulated.unlist("1.1").await;
    for proxy in proxies {
        proxy.shows_soon(&[&old]).await;
    }
    emulated.publish(&Sample::wheel_of("1.2", 10)).await;
    emulated.delete("1.0").await;
    for proxy in proxies {
        proxy.shows_soon(&[&Sample::wheel_of("1.2", 10)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_in_the_queue_is_counted_and_deleted_and_harms_nothing() {
    let (port, dir) = (ministack().port, tempfile::tempdir().expect("a directory"));
    let queues = Queues::at(port);
    let queue = queues.create("junk", port).await;
    let emulated = Emulated::start(&[&queue]).await;
    let sample = Sample::wheel();
    let proxy = emulated.proxy(&dir, "a", &queue, &[]).await;
    assert!(proxy.files().await.is_empty());
    let foreign = r#"{"source": "acme.tests", "detail-type": "x", "region": "eu-central-1", "detail": {}}"#;
    for body in ["no JSON", "[]", foreign, &"x".repeat(100_000)] {
        queues.send(&queue, body).await;
    }
    let unknown = "wheelport_fleet_events_total{result=\"unknown\"}";
    until("the junk to be counted", async || (proxy.metric(unknown).await >= Some(4.0)).then_some(())).await;
    emulated.publish(&sample).await;
    proxy.shows_soon(&[&sample]).await;
    assert_eq!(proxy.metric(unknown).await, Some(4.0), "junk was deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_queue_everything_goes_on_and_the_operator_is_told() {
    let (server, dir) = (Server::start("ministack"), tempfile::tempdir().expect("a directory"));
    let queue = Queues::at(server.port).create("away", server.port).await;
    let emulated = Emulated::start(&[]).await;
    let sample = Sample::wheel();
    emulated.publish(&sample).await;
    let proxy = emulated.proxy(&dir, "a", &queue, &[]).await;
    proxy.receives().await;
    drop(server);
    let failures = "wheelport_fleet_event_failures_total";
    until("a failure to be counted", async || (proxy.metric(failures).await >= Some(1.0)).then_some(())).await;
    proxy.client.get("/readyz").send().await.expect(200);
    assert_eq!(proxy.files().await, [sample.name.as_str()]);
    let events = proxy.events().await;
    assert!(events["last_error"].is_string() && events["failures_in_a_row"].as_u64() >= Some(1), "{events}");
}

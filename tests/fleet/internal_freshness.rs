//! Pages of the domain's own projects stay fresh beyond `fresh_for` while CodeArtifact's events tell of every change,
//! and no longer. The calendar and the clock of the test are moved, so a queue that is read meanwhile has to be read again.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use url::Url;
use wheelport_runtime::HumanDuration;

use super::events::Queues;
use super::servers::{Server, redis_of};
use super::support::client::until;
use super::support::proxy::{Builder, Proxy};
use super::support::scripted::{Reply, Scripted};
use super::support::wheels::{PAGE, Sample, page};

const HERE: &str = "/simple/a-b/";
const PACKAGE: &str = "GET /v1/package";
const VERSIONS: &str = "POST /v1/package/versions";
const SECOND: Duration = Duration::from_secs(1);
/// How soon an event must show.
const SOON: Duration = Duration::from_secs(5);
/// Shorter than the time after which a queue counts as away.
const STEP: Duration = Duration::from_secs(20);

struct Watched {
    proxy: Proxy,
    queues: Queues,
    queue: String,
}

/// A proxy with a queue on this server; whether versions may come from outside.
async fn watched(server: &Server, name: &str, may_come_from_outside: bool, set: impl FnOnce(&mut Builder)) -> Watched {
    let upstream = Scripted::start().await;
    upstream.on(PAGE, page(&[Sample::wheel().entry()]));
    watched_over(server, &upstream, name, may_come_from_outside, set).await
}

async fn watched_over(
    server: &Server,
    upstream: &Scripted,
    name: &str,
    may_come_from_outside: bool,
    set: impl FnOnce(&mut Builder),
) -> Watched {
    let queues = Queues::at(server.port);
    let queue = queues.create(name, server.port).await;
    let builder = Proxy::builder().upstream(upstream).set(|builder: &mut Builder| {
        builder.fleet.events = Some(Url::parse(&queue).expect("an address"));
        builder.fleet.events_own = true;
        builder.cache.fresh_for = HumanDuration::secs(1);
        builder.cache.stale_while_revalidate = HumanDuration::secs(0);
        builder.cache.fresh_for_internal = Some(HumanDuration::secs(3600));
        set(builder);
    });
    let proxy = builder.start().await;
    let word = if may_come_from_outside { "ALLOW" } else { "BLOCK" };
    let restrictions = json!({"publish": "ALLOW", "upstream": word});
    let package = json!({"format": "pypi", "name": "a-b", "originConfiguration": {"restrictions": restrictions}});
    let answer = |body: serde_json::Value| Reply::ok(body.to_string()).header("content-type", "application/json");
    proxy.control.on(PACKAGE, answer(json!({ "package": package })));
    let versions = json!([{"version": "1.0", "status": "Published", "origin": {"originType": "INTERNAL"}}]);
    proxy.control.on(VERSIONS, answer(json!({"format": "pypi", "package": "a-b", "versions": versions})));
    let watched = Watched { proxy, queues, queue };
    watched.is_read().await;
    watched
}

impl Watched {
    async fn announce(&self, project: &str) {
        let detail = json!({
            "domainName": "acme", "domainOwner": "111122223333", "repositoryName": "r1", "packageFormat": "pypi",
            "packageName": project, "packageVersion": "1.0", "operationType": "Updated",
        });
        let event = json!({
            "source": "aws.codeartifact", "detail-type": "CodeArtifact Package Version State Change",
            "region": "eu-central-1", "detail": detail,
        });
        self.queues.send(&self.queue, &event.to_string()).await;
    }

    async fn events(&self) -> serde_json::Value {
        self.proxy.ops.get("/status").send().await.expect(200).value()["fleet"]["events"].clone()
    }

    /// Has the queue read now: what is announced concerns no page.
    async fn is_read(&self) {
        let received = async || self.events().await["relevant"].as_u64().unwrap_or(0);
        let before = received().await;
        self.announce("other").await;
        until("the queue to be read", async || (received().await > before).then_some(())).await;
    }

    /// Lets time pass in steps, in which the queue is read.
    async fn pass(&self, steps: u32) {
        for _ in 0..steps {
            self.proxy.pass(STEP).await;
            self.is_read().await;
        }
    }

    async fn files(&self) -> Vec<String> {
        self.proxy.get(HERE).json().send().await.expect(200).file_names()
    }

    fn asked(&self) -> usize {
        self.proxy.asked(PAGE)
    }

    /// Changes the page at CodeArtifact, and expects the proxy to show it within seconds.
    async fn change(&self, samples: &[&Sample]) {
        self.files().await;
        let entries: Vec<_> = samples.iter().map(|sample| sample.entry()).collect();
        self.proxy.upstream.on(PAGE, page(&entries));
        let (began, wanted) = (Instant::now(), samples.iter().map(|sample| sample.name.clone()).collect::<Vec<_>>());
        self.announce("a-b").await;
        until("what was changed", async || (self.files().await == wanted).then_some(())).await;
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }

    async fn trust(&self) -> String {
        self.events().await["trust"]["main"].as_str().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn the_domains_own_page_is_asked_for_once_an_hour_while_events_are_right() {
    let server = Server::start("ministack");
    let watched = watched(&server, "fresh", false, |_| ()).await;
    let (old, new) = (Sample::wheel(), Sample::wheel_of("1.1", 10));
    watched.files().await;
    assert_eq!(watched.trust().await, "unproven");
    watched.pass(2).await;
    watched.files().await;
    assert_eq!(watched.asked(), 2, "no event was right yet");
    watched.change(&[&old, &new]).await;
    assert_eq!(watched.trust().await, "trusted");
    watched.pass(2).await;
    watched.files().await;
    watched.pass(1).await;
    // This one asks where the project comes from.
    watched.files().await;
    until("the origin", async || (!watched.proxy.control.requests_to(PACKAGE).is_empty()).then_some(())).await;
    watched.pass(1).await;
    watched.files().await;
    let asked = watched.asked();
    for _ in 0..5 {
        watched.pass(1).await;
        watched.files().await;
    }
    assert_eq!(watched.asked(), asked, "the events would have told");
    watched.change(&[&old]).await;
    assert!(watched.asked() > asked);
    // A page that came right after a change may be the one from before it.
    let asked = watched.asked();
    watched.pass(1).await;
    watched.files().await;
    assert!(watched.asked() > asked, "the index may have been late");
    let asked = watched.asked();
    // Nothing can be read any more.
    drop(server);
    watched.proxy.pass(SECOND * 61).await;
    assert_eq!(watched.trust().await, "silent");
    watched.files().await;
    watched.proxy.pass(SECOND * 2).await;
    watched.files().await;
    assert_eq!(watched.asked(), asked + 2, "by its age again");
}

#[tokio::test]
async fn what_may_come_from_outside_is_asked_for_as_often_as_before_unless_its_name_is_private() {
    let server = Server::start("ministack");
    for (name, private, is_asked) in [("foreign", None, true), ("private", Some("a-*"), false)] {
        let watched = watched(&server, name, true, |builder| {
            builder.rules = private.map(|glob: &str| (String::new(), vec![glob.to_owned()]));
        });
        let watched = watched.await;
        let (old, new) = (Sample::wheel(), Sample::wheel_of("1.1", 10));
        watched.files().await;
        watched.change(&[&old, &new]).await;
        watched.pass(2).await;
        watched.files().await;
        watched.pass(1).await;
        watched.files().await;
        if is_asked {
            let answers = async || (!watched.proxy.control.requests_to(VERSIONS).is_empty()).then_some(());
            until("the origin", answers).await;
        }
        watched.is_read().await;
        watched.pass(1).await;
        watched.files().await;
        assert_eq!(watched.trust().await, "trusted");
        let asked = watched.asked();
        for _ in 0..3 {
            watched.pass(1).await;
            watched.files().await;
        }
        assert_eq!(watched.asked() > asked, is_asked, "{name}");
    }
}

#[tokio::test]
async fn with_redis_a_replica_learns_from_another_that_events_come_and_stops_to_believe_without_it() {
    let (server, redis) = (Server::start("ministack"), Server::start("valkey"));
    let with_redis = |builder: &mut Builder| {
        builder.fleet = redis_of(&redis, builder.fleet.clone());
        builder.fleet.events_own = false;
    };
    let upstream = Scripted::start().await;
    upstream.on(PAGE, page(&[Sample::wheel().entry()]));
    let first = watched_over(&server, &upstream, "told-one", false, with_redis).await;
    let second = watched_over(&server, &upstream, "told-two", false, with_redis).await;
    for watched in [&first, &second] {
        until("a subscription", async || {
            watched.proxy.metrics().await.contains("wheelport_fleet_hearing 1").then_some(())
        })
        .await;
        watched.files().await;
    }
    first.change(&[&Sample::wheel(), &Sample::wheel_of("1.1", 10)]).await;
    until("what the other one found", async || (second.trust().await == "trusted").then_some(())).await;
    drop(redis);
    until("the end of trust", async || (second.trust().await == "unheard").then_some(())).await;
}

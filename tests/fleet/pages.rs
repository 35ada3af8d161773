//! Pages over several replicas: asked of upstream once, changed for all within a second, and what happens while Redis
//! or the store is away.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;
use wheelport::fleet::FleetSettings;
use wheelport_runtime::HumanDuration;

use super::replicas::{hearing, publishing, sharing, started};
use super::servers::{Server, ministack, new_bucket, redis_of};
use super::support::client::{Response, until};
use super::support::forms::{Form, content_type};
use super::support::proxy::{Builder, Proxy};
use super::support::scripted::{Reply, Scripted};
use super::support::wheels::{PAGE, Sample, page};

const HERE: &str = "/simple/a-b/";
const POST: &str = "POST /pypi/r/";
const SECOND: Duration = Duration::from_secs(1);

async fn listed(proxy: &Proxy) -> Vec<String> {
    let response = proxy.get(HERE).json().send().await;
    if response.status == 404 { Vec::new() } else { response.expect(200).file_names() }
}

async fn upload(proxy: &Proxy, sample: &Sample) -> Response {
    let form = Form::of(sample).bytes();
    proxy.client().ask("POST", "/").header("content-type", &content_type()).body(form).send().await
}

/// Two replicas that share Redis alone, and hold a page of one file.
struct Pair {
    upstream: Scripted,
    redis: Server,
    replicas: Vec<Proxy>,
}

impl Pair {
    async fn holding_a_page() -> Self {
        let upstream = Scripted::start().await;
        upstream.on(PAGE, page(&[Sample::wheel().entry()]));
        let redis = Server::start("valkey");
        let fleet = redis_of(&redis, FleetSettings::default());
        let replicas = started(2, || publishing(&upstream, &fleet)).await;
        hearing(&replicas).await;
        for replica in &replicas {
            assert_eq!(listed(replica).await.len(), 1);
        }
        Self { upstream, redis, replicas }
    }
}

/// Waits until a replica has shared the page that it fetched, and that its role may read.
async fn shared(replica: &Proxy) {
    until("the shared page", async || {
        let metrics = replica.metrics().await;
        metrics.contains("wheelport_fleet_tier_total{kind=\"page\",result=\"written\"} 1").then_some(())
    })
    .await;
}

/// Publishes on the first and expects the others to list it within a second.
async fn publish_is_seen_by_all(replicas: &[Proxy], upstream: &Scripted) {
    upstream.on(POST, Reply::ok("")).on(PAGE, page(&[Sample::wheel_of("0.9", 10).entry()]));
    for replica in replicas {
        assert_eq!(listed(replica).await.len(), 1);
    }
    let wheel = Sample::wheel();
    upload(&replicas[0], &wheel).await.expect(200);
    let published = Instant::now();
    for replica in replicas {
        until("the published file", async || listed(replica).await.contains(&wheel.name).then_some(())).await;
    }
    assert!(published.elapsed() < SECOND, "{:?}", published.elapsed());
}

#[tokio::test]
async fn a_page_is_asked_of_upstream_once_by_all_replicas_together() {
    let upstream = Scripted::start().await;
    upstream.on(PAGE, page(&[Sample::wheel().entry()]).delay(Duration::from_millis(300)));
    let redis = Server::start("valkey");
    let fleet = redis_of(&redis, new_bucket(ministack().port).await);
    let replicas = started(3, || publishing(&upstream, &fleet)).await;
    hearing(&replicas).await;
    // Each role has to have read once before it takes what others know.
    upstream.on("GET /pypi/r/simple/other/", page(&[]));
    for replica in &replicas {
        replica.get("/simple/other/").json().send().await.expect(200);
    }
    let ask = async |replica: &Proxy| {
        let asking = (0..20).map(|_| listed(replica));
        futures_util::future::join_all(asking).await
    };
    let lists = futures_util::future::join_all(replicas.iter().map(ask)).await;
    assert!(lists.iter().flatten().all(|list| list.len() == 1));
    assert_eq!(upstream.requests_to(PAGE).len(), 1);
}

#[tokio::test]
async fn a_publish_is_seen_by_all_replicas_within_a_second_with_redis() {
    let upstream = Scripted::start().await;
    let redis = Server::start("valkey");
    let fleet = redis_of(&redis, new_bucket(ministack().port).await);
    let replicas = started(3, || publishing(&upstream, &fleet)).await;
    hearing(&replicas).await;
    publish_is_seen_by_all(&replicas, &upstream).await;
}

#[tokio::test]
async fn a_publish_is_seen_by_all_replicas_within_a_second_without_redis() {
    let upstream = Scripted::start().await;
    let fleet = new_bucket(ministack().port).await;
    let replicas = started(3, || publishing(&upstream, &fleet)).await;
    publish_is_seen_by_all(&replicas, &upstream).await;
}

#[tokio::test]
async fn a_role_that_has_not_read_a_repository_takes_nothing_that_others_have_of_it() {
    let upstream = Scripted::start().await;
    upstream.on(PAGE, page(&[Sample::wheel().entry()]));
    let fleet = new_bucket(ministack().port).await;
    let other = |name: &'static str| {
        let replica = sharing(&upstream, &fleet).routes(&[name], Some(0));
        replica.set(|builder: &mut Builder| builder.own_roles = true)
    };
    let first = other("one").start().await;
    assert_eq!(listed(&first).await.len(), 1);
    shared(&first).await;
    let same = other("one").start().await;
    assert_eq!(listed(&same).await.len(), 1);
    assert_eq!(upstream.requests_to(PAGE).len(), 1, "a replica with the same role");
    let second = other("two").start().await;
    assert_eq!(listed(&second).await.len(), 1);
    assert_eq!(upstream.requests_to(PAGE).len(), 2, "another role asks itself");
}

#[tokio::test]
async fn an_empty_replica_serves_what_the_others_have_while_codeartifact_is_away() {
    let upstream = Scripted::start().await;
    upstream.on(PAGE, page(&[Sample::wheel().entry()]));
    let fleet = new_bucket(ministack().port).await;
    let first = started(1, || publishing(&upstream, &fleet)).await.remove(0);
    assert_eq!(listed(&first).await.len(), 1);
    shared(&first).await;
    upstream.on(PAGE, Reply::status(503));
    let empty = publishing(&upstream, &fleet).later(600).start().await;
    assert_eq!(listed(&empty).await.len(), 1, "stale, and better than nothing");
    assert!(upstream.requests_to(PAGE).len() > 1);
}

#[tokio::test]
async fn a_store_that_keeps_silent_costs_moments_and_no_client_sees_an_error() {
    let upstream = Scripted::start().await;
    let wheel = Sample::wheel();
    upstream.on(POST, Reply::ok("")).on(PAGE, page(&[Sample::wheel_of("0.9", 10).entry()]));
    let store = Server::start("ministack");
    let fleet = FleetSettings { store_timeout: HumanDuration::millis(300), ..new_bucket(store.port).await };
    let replicas = started(2, || publishing(&upstream, &fleet)).await;
    for replica in &replicas {
        assert_eq!(listed(replica).await.len(), 1);
    }
    store.signal(Signal::STOP);
    let began = Instant::now();
    upload(&replicas[0], &wheel).await.expect(200);
    assert!(listed(&replicas[0]).await.contains(&wheel.name), "CodeArtifact has it, and so has this replica");
    assert_eq!(listed(&replicas[1]).await.len(), 1);
    assert!(began.elapsed() < SECOND * 5, "{:?}", began.elapsed());
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(listed(&replicas[1]).await.len(), 1);
    }
    assert!(began.elapsed() < SECOND, "it is not waited for again and again: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_purge_reaches_every_replica() {
    let Pair { upstream, redis: _redis, replicas } = Pair::holding_a_page().await;
    upstream.on(PAGE, page(&[Sample::wheel().entry(), Sample::wheel_of("2.0", 10).entry()]));
    assert_eq!(listed(&replicas[1]).await.len(), 1, "it is fresh");
    replicas[0].ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    until("the purge", async || (listed(&replicas[1]).await.len() == 2).then_some(())).await;
}

#[tokio::test]
async fn while_redis_is_stopped_or_gone_no_client_sees_an_error_and_afterwards_nothing_was_missed() {
    let Pair { upstream, redis, replicas } = Pair::holding_a_page().await;
    redis.signal(Signal::STOP);
    until("the end of the subscription", async || {
        let metrics = replicas[1].metrics().await;
        metrics.contains("wheelport_fleet_hearing 0").then_some(())
    })
    .await;
    let began = Instant::now();
    for replica in &replicas {
        assert_eq!(listed(replica).await.len(), 1);
        replica.get("/simple/unknown/").json().send().await;
    }
    assert!(began.elapsed() < SECOND * 3, "{:?}", began.elapsed());
    // What changes now is not heard of.
    upstream.on(PAGE, page(&[Sample::wheel().entry(), Sample::wheel_of("2.0", 10).entry()]));
    assert_eq!(listed(&replicas[1]).await.len(), 1, "it is fresh");
    redis.signal(Signal::CONT);
    until("the page after the gap", async || (listed(&replicas[1]).await.len() == 2).then_some(())).await;
}

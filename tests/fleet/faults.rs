//! Parts that are full, slow, dead or back again, and replicas that are slow or die with a lease: clients notice
//! nothing, and nothing waits without an end.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use tokio::time::Instant;
use wheelport::fleet::{Acquired, Fleet, FleetSettings, LeaseKey, StoreTraits};
use wheelport_index::{ProjectName, Sha256};
use wheelport_runtime::{HumanDuration, Tasks, blocking};

use super::bad_store::{always, error, refusing_writes, settings_of};
use super::replicas::publishing;
use super::servers::{Server, client, ministack, new_bucket, redis_of};
use super::support::client::until;
use super::support::forms::{Form, content_type};
use super::support::proxy::Proxy;
use super::support::scripted::{Gate, Reply, Scripted, Seen};
use super::support::wheels::{PAGE, Sample, list, page, publish};

const HERE: &str = "/simple/a-b/";
const SECOND: Duration = Duration::from_secs(1);

async fn replica(upstream: &Scripted, fleet: &FleetSettings) -> Proxy {
    publishing(upstream, fleet).start().await
}

async fn listed(proxy: &Proxy) -> Vec<String> {
    proxy.get(HERE).json().send().await.expect(200).file_names()
}

async fn says(proxy: &Proxy, line: &str) {
    until(line, async || proxy.metrics().await.contains(line).then_some(())).await;
}

#[tokio::test]
async fn a_redis_that_was_killed_is_heard_again_and_nothing_was_missed() {
    let upstream = Scripted::start().await;
    upstream.on(PAGE, page(&[Sample::wheel().entry()]));
    let redis = Server::start("valkey");
    let fleet = redis_of(&redis, FleetSettings::default());
    let replicas = [replica(&upstream, &fleet).await, replica(&upstream, &fleet).await];
    for replica in &replicas {
        says(replica, "wheelport_fleet_hearing 1").await;
        assert_eq!(listed(replica).await.len(), 1);
    }
    let port = redis.port;
    drop(redis);
    for replica in &replicas {
        says(replica, "wheelport_fleet_hearing 0").await;
    }
    upstream.on(PAGE, page(&[Sample::wheel().entry(), Sample::wheel_of("2.0", 10).entry()]));
    assert_eq!(listed(&replicas[1]).await.len(), 1, "it is fresh, and nobody can say that it has changed");
    let _redis = Server::start_at("valkey", port);
    for replica in &replicas {
        until("the page after the gap", async || (listed(replica).await.len() == 2).then_some(())).await;
        says(replica, "wheelport_fleet_hearing 1").await;
    }
    upstream.on(PAGE, page(&[Sample::wheel().entry()]));
    replicas[0].ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    until("a hint after the restart", async || (listed(&replicas[1]).await.len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_full_store_costs_no_client_anything() {
    for reply in [error(507, "InsufficientStorage"), error(503, "SlowDown"), error(500, "InternalError")] {
        let (upstream, store) = (Scripted::start().await, refusing_writes(reply).await);
        let (old, new) = (Sample::wheel_of("0.9", 5000), Sample::wheel());
        publish(&upstream, &[&old]);
        upstream.on("POST /pypi/r/", Reply::ok(""));
        let proxy = replica(&upstream, &settings_of(&store, HumanDuration::millis(300))).await;
        let began = Instant::now();
        assert_eq!(proxy.get(&old.path()).send().await.expect(200).body, old.bytes);
        let (form, kind) = (Form::of(&new).bytes(), content_type());
        proxy.client().ask("POST", "/").header("content-type", &kind).body(form).send().await.expect(200);
        assert_eq!(listed(&proxy).await.len(), 2);
        assert_eq!(proxy.get(&new.path()).send().await.expect(200).body, new.bytes);
        assert!(began.elapsed() < SECOND * 6, "{:?}", began.elapsed());
        proxy.ops.get("/readyz").send().await.expect(200);
        let is_write = |seen: &Seen| seen.method == "PUT";
        until("an attempt to write", async || store.requests().iter().any(is_write).then_some(())).await;
    }
}

#[tokio::test]
async fn a_store_that_takes_three_seconds_for_each_answer_is_left_alone() {
    let (upstream, store) = (Scripted::start().await, always(error(404, "NoSuchKey").delay(SECOND * 3)).await);
    let samples: Vec<_> = (0..5).map(|minor| Sample::sdist(&format!("1.{minor}"), 3000)).collect();
    publish(&upstream, &samples.iter().collect::<Vec<_>>());
    let proxy = replica(&upstream, &settings_of(&store, HumanDuration::millis(200))).await;
    let began = Instant::now();
    for sample in &samples {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
    }
    assert!(began.elapsed() < SECOND * 4, "{:?}", began.elapsed());
    says(&proxy, "wheelport_fleet_breaker_open{part=\"store\"} 1").await;
}

/// A fleet of one replica over a store in which leases are proven.
async fn leasing(settings: &FleetSettings, tasks: &Tasks) -> Fleet {
    let fleet = Fleet::default().with_store(client(settings), tasks);
    until("the probe", async || fleet.store_traits().filter(StoreTraits::can_lease)).await;
    fleet
}

#[tokio::test]
async fn the_lease_of_a_replica_that_died_is_taken_over() {
    let (settings, tasks) = (new_bucket(ministack().port).await, Tasks::new());
    let key = LeaseKey::page("acme/python", &ProjectName::parse("hello").expect("a name"));
    // A runtime of its own dies as a process does: nothing of it goes on, and nothing is given back.
    let (of_dead, wanted) = (settings.clone(), key.clone());
    let died = blocking(move || {
        let process = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tasks = Tasks::new();
        let guard = process.block_on(async {
            let fleet = leasing(&of_dead, &tasks).await;
            let Acquired::Won(guard) = fleet.leases().acquire(wanted).await else { panic!("it was free") };
            guard
        });
        drop(process);
        guard
    });
    let _guard = died.await.expect("no panic");
    let second = leasing(&settings, &tasks).await;
    let began = Instant::now();
    assert!(matches!(second.leases().acquire(key.clone()).await, Acquired::Held(_)), "its holder may be alive");
    let won = until("the lease", async || match second.leases().acquire(key.clone()).await {
        Acquired::Won(guard) => Some(guard),
        Acquired::Held(_) | Acquired::Unleased => None,
    });
    let _guard = won.await;
    assert!(began.elapsed() >= SECOND * 5, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_replica_does_not_wait_for_one_that_fetches_slowly() {
    let redis = Server::start("valkey");
    for is_stalled in [true, false] {
        let (upstream, fleet) = (Scripted::start().await, redis_of(&redis, new_bucket(ministack().port).await));
        let sdist = Sample::sdist(if is_stalled { "1.0" } else { "2.0" }, 400_000);
        list(&upstream, &[&sdist]);
        let whole = Reply::ok(sdist.bytes.clone());
        let slow = if is_stalled { whole.clone().stall_after(2000) } else { whole.clone().drip(1000, SECOND / 10) };
        upstream.on_each(&sdist.upstream(), [slow, whole]);
        let (leader, other) = (replica(&upstream, &fleet).await, replica(&upstream, &fleet).await);
        assert_eq!(listed(&other).await.len(), 1, "its role has read");
        let mut led = leader.get(&sdist.path()).open().await;
        led.at_least(1000).await;
        let began = Instant::now();
        assert_eq!(other.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
        assert!(began.elapsed() < SECOND * 8, "{:?}", began.elapsed());
        assert_eq!(upstream.requests_to(&sdist.upstream()).len(), 2);
        let metrics = other.metrics().await;
        let is_reason = |line: &&str| line.contains("outcome=\"stalled\"") || line.contains("outcome=\"too-slow\"");
        let line = metrics.lines().filter(|line| line.starts_with("wheelport_fleet_leases_total")).find(is_reason);
        assert!(line.is_some(), "{metrics}");
    }
}

/// A store that holds these bytes of a file and says that they have its digest, and has nothing else.
async fn vouching(sample: &Sample, reply: Reply) -> Scripted {
    let store = refusing_writes(error(403, "AccessDenied")).await;
    let digest: Sha256 = sample.sha256().parse().expect("a digest");
    let reply = reply.header("etag", "\"1\"").header("x-amz-checksum-sha256", BASE64.encode(digest.0));
    store.on(&format!("GET {}", object(digest)), reply);
    store
}

fn object(digest: Sha256) -> String {
    let digest = digest.to_string();
    format!("/bucket/prefix/v1/blob/sha256/{}/{}", &digest[..2], &digest[2..])
}

#[tokio::test]
async fn a_large_file_that_the_store_has_checked_is_passed_on_as_it_comes() {
    let (upstream, sdist, gate) = (Scripted::start().await, Sample::sdist("1.0", 2 << 20), Gate::closed());
    publish(&upstream, &[&sdist]);
    let store = vouching(&sdist, Reply::ok(sdist.bytes.clone()).gate_after(1 << 20, &gate)).await;
    let proxy = replica(&upstream, &settings_of(&store, HumanDuration::secs(1))).await;
    proxy.get(HERE).send().await.expect(200);
    let mut opened = proxy.get(&sdist.path()).open().await;
    opened.at_least(1 << 19).await;
    gate.open();
    assert_eq!(opened.finish().await.expect(200).body, sdist.bytes);
    assert_eq!(upstream.requests_to(&sdist.upstream()).len(), 0);
}

#[tokio::test]
async fn a_large_file_that_the_store_has_not_kept_as_it_says_is_cut_once_and_then_right() {
    let (upstream, sdist) = (Scripted::start().await, Sample::sdist("1.0", 2 << 20));
    publish(&upstream, &[&sdist]);
    let mut wrong = sdist.bytes.to_vec();
    wrong[1 << 20] ^= 1;
    let store = vouching(&sdist, Reply::ok(wrong)).await;
    let proxy = replica(&upstream, &settings_of(&store, HumanDuration::secs(1))).await;
    proxy.get(HERE).send().await.expect(200);
    proxy.get(&sdist.path()).expect_broken().await;
    let removals = format!("DELETE {}", object(sdist.sha256().parse().expect("a digest")));
    until("the removal of the object", async || (store.requests_to(&removals).len() == 1).then_some(())).await;
    says(&proxy, "wheelport_fleet_tier_total{kind=\"blob\",result=\"wrong\"} 1").await;
    store.on(&removals.replace("DELETE", "GET"), error(404, "NoSuchKey"));
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
}

#[tokio::test]
async fn an_object_that_is_found_too_long_before_readers_see_it_is_not_blamed_on_upstream() {
    let (upstream, store) = (Scripted::start().await, Scripted::start().await);
    let sdist = Sample::sdist("1.0", 901_000);
    publish(&upstream, &[&sdist]);
    // The third part comes when readers are to be let in, and its beginning is too much.
    let too_long = [&sdist.bytes[..], &vec![b'x'; 450_000]].concat();
    let too_long = Reply::ok(too_long).chunked().drip(450_000, Duration::from_millis(1100));
    let digest = sdist.sha256();
    let reply =
        move |seen: &Seen| if seen.path().ends_with(&digest[2..]) { too_long.clone() } else { error(404, "NoSuchKey") };
    store.on("GET *", Reply::with(reply)).on("HEAD *", Reply::status(404)).on("DELETE *", Reply::status(204));
    store.on("PUT *", error(403, "AccessDenied"));
    let fleet = settings_of(&store, HumanDuration::secs(5));
    let proxy = Proxy::builder().upstream(&upstream).set(|builder| builder.fleet = fleet).start().await;
    // A page of its own shows that the role may read.
    proxy.get(HERE).send().await.expect(200);
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    assert!(store.requests().iter().any(|seen| seen.method == "DELETE"), "it is removed");
    says(&proxy, "wheelport_fleet_tier_total{kind=\"blob\",result=\"wrong\"} 1").await;
}

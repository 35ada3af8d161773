//! Files through several proxies over one object store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tempfile::TempDir;
use wheelport::fleet::{FleetSettings, ObjectKey, ObjectStore, ObjectWrite};
use wheelport::web::UploadPolicy;
use wheelport_runtime::HumanDuration;

use super::servers::{Server, client, ministack, moto, new_bucket};
use super::support::client::until;
use super::support::forms::{Form, content_type};
use super::support::proxy::Proxy;
use super::support::scripted::{Gate, Reply, Scripted};
use super::support::wheels::{PAGE, Sample, impostor, list, metadata, page, part, publish, requested};

/// A proxy with an empty cache beside others over one store, once it has seen what the store can do.
async fn replica(upstream: &Scripted, fleet: &FleetSettings) -> Proxy {
    let proxy = Proxy::builder().upstream(upstream).set(|builder| builder.fleet = fleet.clone()).start().await;
    until("the probe of the store", async || {
        let status = proxy.ops.get("/status").send().await.value();
        (status["fleet"]["store"]["leases"] == true).then_some(())
    })
    .await;
    proxy
}

async fn replicas(count: usize, upstream: &Scripted, fleet: &FleetSettings) -> Vec<Proxy> {
    join_all((0..count).map(|_| replica(upstream, fleet))).await
}

/// What came of something, from the metrics of a proxy.
async fn counted(proxy: &Proxy, line: &str) -> u64 {
    let metrics = proxy.metrics().await;
    let value = metrics.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or(0)
}

async fn hits(proxy: &Proxy) -> u64 {
    counted(proxy, "wheelport_fleet_tier_total{kind=\"blob\",result=\"hit\"}").await
}

fn blob(sample: &Sample) -> ObjectKey {
    ObjectKey::blob(sample.sha256().parse().expect("a digest"))
}

/// Resolves when the store has the file.
async fn shared(store: &ObjectStore, sample: &Sample) {
    until("the file in the store", async || store.head(&blob(sample)).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_of_three_replicas_cost_one_upstream_request() {
    let (upstream, fleet) = (Scripted::start().await, new_bucket(ministack().port).await);
    let wheel = Sample::wheel_of("1.0", 300_000);
    publish(&upstream, &[&wheel]);
    let proxies = replicas(3, &upstream, &fleet).await;
    let path = wheel.path();
    let asks = (0..100).map(|number| proxies[number % 3].get(&path).send());
    for response in join_all(asks).await {
        assert_eq!(response.expect(200).body, wheel.bytes);
    }
    assert_eq!(upstream.requests_to(&wheel.upstream()).len(), 1);
}

#[tokio::test]
async fn a_replica_with_nothing_serves_what_another_has_fetched_though_upstream_is_away() {
    let (upstream, fleet) = (Scripted::start().await, new_bucket(ministack().port).await);
    let wheel = Sample::wheel();
    publish(&upstream, &[&wheel]);
    let first = replica(&upstream, &fleet).await;
    first.get(&wheel.path()).send().await.expect(200);
    shared(&client(&fleet), &wheel).await;
    upstream.on(&wheel.upstream(), Reply::status(503));
    let second = replica(&upstream, &fleet).await;
    assert_eq!(second.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    assert_eq!((hits(&second).await, upstream.requests_to(&wheel.upstream()).len()), (1, 1));
    let part = second.get(&wheel.path()).header("range", "bytes=5-9").send().await.expect(206);
    assert_eq!(part.body, wheel.bytes[5..10]);
}

#[tokio::test]
async fn the_others_go_on_when_the_replica_that_fetches_dies() {
    let (upstream, fleet) = (Scripted::start().await, new_bucket(ministack().port).await);
    let (sdist, gate) = (Sample::sdist("1.0", 300_000), Gate::closed());
    list(&upstream, &[&sdist]);
    let whole = Reply::ok(sdist.bytes.clone());
    upstream.on_each(&sdist.upstream(), [whole.clone().gate_after(1000, &gate), whole]);
    let (leader, other) = (replica(&upstream, &fleet).await, replica(&upstream, &fleet).await);
    let mut led = leader.get(&sdist.path()).open().await;
    led.at_least(999).await;
    let waiting = other.get(&sdist.path()).send();
    drop((led, leader));
    assert_eq!(waiting.await.expect(200).body, sdist.bytes);
    assert_eq!(upstream.requests_to(&sdist.upstream()).len(), 2);
}

#[tokio::test]
async fn wrong_bytes_in_the_store_are_replaced_and_never_served() {
    // moto takes any bytes for any digest.
    for server in [ministack as fn() -> &'static Server, moto] {
        let (upstream, fleet) = (Scripted::start().await, new_bucket(server().port).await);
        let (wheel, sdist) = (Sample::wheel(), Sample::sdist("1.0", 5000));
        publish(&upstream, &[&wheel, &sdist]);
        let store = client(&fleet);
        // One of another length, and one of the same.
        store.put(&blob(&wheel), Bytes::from_static(b"wrong"), ObjectWrite::Create).await.expect("a write");
        store.put(&blob(&sdist), vec![b'x'; 5000].into(), ObjectWrite::Create).await.expect("a write");
        let proxy = Proxy::builder().upstream(&upstream).set(|builder| builder.fleet = fleet.clone()).start().await;
        // A page of its own shows that the role may read.
        proxy.get("/simple/a-b/").send().await.expect(200);
        for sample in [&wheel, &sdist] {
            assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
            until("the right bytes in the store", async || {
                let (bytes, _) = store.read(&blob(sample), None, 1 << 20).await.ok()?;
                (bytes == sample.bytes).then_some(())
            })
            .await;
        }
        let wrong = counted(&proxy, "wheelport_fleet_tier_total{kind=\"blob\",result=\"wrong\"}").await;
        let broken = counted(&proxy, "wheelport_fleet_tier_total{kind=\"blob\",result=\"error\"}").await;
        assert_eq!((wrong, broken, hits(&proxy).await), (2, 0, 0), "each counts once");
    }
}

#[tokio::test]
async fn clients_notice_nothing_of_a_store_that_keeps_silent() {
    let (upstream, silent) = (Scripted::start().await, Scripted::start().await);
    let samples: Vec<_> = (0..6).map(|minor| Sample::sdist(&format!("1.{minor}"), 3000)).collect();
    publish(&upstream, &samples.iter().collect::<Vec<_>>());
    let endpoint = silent.url("");
    let fleet = FleetSettings {
        store: Some("s3://bucket".parse().expect("a store")),
        store_endpoint: Some(endpoint.parse().expect("an address")),
        store_timeout: HumanDuration::millis(100),
        ..FleetSettings::default()
    };
    let never = Gate::closed();
    let quiet = Reply::ok("").before_head(&never);
    for method in ["GET", "PUT", "HEAD", "DELETE"] {
        silent.on(&format!("{method} *"), quiet.clone());
    }
    let dir = Arc::new(TempDir::new().expect("a directory"));
    let proxy = Proxy::builder().upstream(&upstream).dir(&dir).set(|builder| builder.fleet = fleet).start().await;
    let began = tokio::time::Instant::now();
    for sample in &samples {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "the breaker opens: {:?}", began.elapsed());
    proxy.ops.get("/readyz").send().await.expect(200);
}

#[tokio::test]
async fn core_metadata_that_another_replica_has_found_costs_no_wheel() {
    let (upstream, fleet) = (Scripted::start().await, new_bucket(ministack().port).await);
    let wheel = Sample::wheel();
    publish(&upstream, &[&wheel]);
    let path = format!("{}.metadata", wheel.path());
    let first = replica(&upstream, &fleet).await;
    first.get(&path).send().await.expect(200);
    let store = client(&fleet);
    let key = ObjectKey::metadata(wheel.sha256().parse().expect("a digest"));
    until("the metadata in the store", async || store.head(&key).await.ok()).await;
    shared(&store, &wheel).await;
    store.delete(&blob(&wheel), None).await.expect("a removal");
    let second = replica(&upstream, &fleet).await;
    assert_eq!(second.get(&path).send().await.expect(200).text(), metadata("1.0"));
    assert_eq!(upstream.requests_to(&wheel.upstream()).len(), 1);
    // Another replica's words are believed only as they were written.
    let (object, _) = store.read(&key, None, 1 << 20).await.expect("an object");
    store.put(&key, [&object, &b"x"[..]].concat().into(), ObjectWrite::Always).await.expect("a write");
    let third = replica(&upstream, &fleet).await;
    assert_eq!(third.get(&path).send().await.expect(200).text(), metadata("1.0"));
    assert_eq!(upstream.requests_to(&wheel.upstream()).len(), 2);
}

#[tokio::test]
async fn core_metadata_that_was_read_by_range_is_shared_when_the_wheel_has_been_read() {
    let (upstream, fleet) = (Scripted::start().await, new_bucket(ministack().port).await);
    let wheel = Sample::wheel_of("1.0", 200_000);
    list(&upstream, &[&wheel]);
    let (bytes, other) = (wheel.bytes.clone(), impostor(&wheel));
    let reply = Reply::with(move |seen| match requested(seen, other.len()) {
        Some((first, last)) => part(&other, first, last),
        None => Reply::ok(bytes.clone()),
    });
    upstream.on(&wheel.upstream(), reply);
    let (store, path) = (client(&fleet), format!("{}.metadata", wheel.path()));
    let key = ObjectKey::metadata(wheel.sha256().parse().expect("a digest"));
    let first = replica(&upstream, &fleet).await;
    assert_ne!(first.get(&path).send().await.expect(200).text(), metadata("1.0"));
    // Whatever it had begun to share is shared when it has stopped.
    let first = first.stop().await;
    assert!(store.head(&key).await.is_err(), "nothing vouches for it");
    let second = replica(&upstream, &fleet).await;
    assert_eq!(second.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    until("the metadata in the store", async || store.head(&key).await.ok()).await;
    shared(&store, &wheel).await;
    let asked = upstream.requests_to(&wheel.upstream()).len();
    let third = replica(&upstream, &fleet).await;
    assert_eq!(third.get(&path).send().await.expect(200).text(), metadata("1.0"), "the store comes before a part");
    let first = first.start().await;
    assert_ne!(first.get(&path).send().await.expect(200).text(), metadata("1.0"));
    assert_eq!(first.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    until("the wheel's own", async || {
        (first.get(&path).send().await.expect(200).text() == metadata("1.0")).then_some(())
    })
    .await;
    assert_eq!(counted(&first, "wheelport_metadata_mismatches_total").await, 1);
    assert_eq!(upstream.requests_to(&wheel.upstream()).len(), asked);
}

#[tokio::test]
async fn a_wheel_that_upstream_sends_in_place_of_its_part_is_shared() {
    let (upstream, fleet) = (Scripted::start().await, new_bucket(ministack().port).await);
    let wheel = Sample::wheel_of("1.0", 200_000);
    publish(&upstream, &[&wheel]);
    let first = replica(&upstream, &fleet).await;
    assert_eq!(first.get(&format!("{}.metadata", wheel.path())).send().await.expect(200).text(), metadata("1.0"));
    shared(&client(&fleet), &wheel).await;
    let second = replica(&upstream, &fleet).await;
    assert_eq!(second.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    assert_eq!((hits(&second).await, upstream.requests_to(&wheel.upstream()).len()), (1, 1));
}

#[tokio::test]
async fn an_upload_is_in_the_store_when_its_publisher_hears_of_a_success() {
    let (upstream, fleet) = (Scripted::start().await, new_bucket(ministack().port).await);
    upstream.on("POST /pypi/r/", Reply::ok("")).on(PAGE, page(&[]));
    let wheel = Sample::wheel_of("1.0", 100_000);
    let builder = Proxy::builder().upstream(&upstream).set(|builder| {
        builder.fleet = fleet.clone();
        builder.upload = UploadPolicy::Anonymous;
    });
    let proxy = builder.start().await;
    let (form, kind) = (Form::of(&wheel).bytes(), content_type());
    proxy.client().ask("POST", "/").header("content-type", &kind).body(form).send().await.expect(200);
    let stored = client(&fleet).read(&blob(&wheel), None, 1 << 20).await.expect("the file in the store");
    assert_eq!(stored.0, wheel.bytes);
}

#[tokio::test]
async fn a_role_that_has_not_read_the_repository_gets_nothing_of_the_store() {
    let (upstream, fleet) = (Scripted::start().await, new_bucket(ministack().port).await);
    let wheel = Sample::wheel();
    publish(&upstream, &[&wheel]);
    let allowed = replica(&upstream, &fleet).await;
    allowed.get(&wheel.path()).send().await.expect(200);
    shared(&client(&fleet), &wheel).await;
    upstream.on(PAGE, Reply::status(403)).on(&wheel.upstream(), Reply::status(403));
    let builder = Proxy::builder().upstream(&upstream).routes(&["other", "third"], Some(0));
    let denied = builder.set(|builder| {
        builder.fleet = fleet.clone();
        builder.own_roles = true;
    });
    let denied = denied.start().await;
    let response = denied.get(&wheel.path()).send().await;
    assert_ne!(response.status, 200, "the role of this route has never read");
    assert_eq!(hits(&denied).await, 0);
}

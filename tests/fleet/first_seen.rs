//! What files were when they were first seen, over several replicas: whoever sees other bytes notices, and what an
//! operator accepts on one replica holds on all.

use bytes::Bytes;
use wheelport::fleet::{FleetSettings, ObjectKey, ObjectWrite};
use wheelport::flow::ChangedFilePolicy;
use wheelport_index::ProjectName;

use super::replicas::sharing;
use super::servers::{Server, client, ministack, moto, new_bucket, redis_of};
use super::support::client::{Client, until};
use super::support::proxy::{Builder, Proxy};
use super::support::scripted::Scripted;
use super::support::wheels::{Sample, publish};

const HERE: &str = "/simple/a-b/";

/// A replica with an empty cache that refuses changed files.
async fn replica(upstream: &Scripted, fleet: &FleetSettings) -> Proxy {
    let refusing = |builder: &mut Builder| builder.changed_files = ChangedFilePolicy::Refuse;
    sharing(upstream, fleet).set(refusing).start().await
}

/// The same name with other bytes of the same length.
fn changed(sample: &Sample) -> Sample {
    let mut bytes = sample.bytes.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    Sample { bytes: bytes.into(), ..sample.clone() }
}

async fn digest(proxy: &Proxy) -> String {
    let page = proxy.get(HERE).json().send().await.expect(200).value();
    page["files"][0]["hashes"]["sha256"].as_str().expect("a digest").to_owned()
}

async fn purge(proxy: &Proxy) {
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
}

/// The number of changed files that a replica says are not accepted.
async fn pending(proxy: &Proxy) -> usize {
    let metrics = proxy.metrics().await;
    let value = |line: &str| line.strip_prefix("wheelport_changed_files{route=\"main\"} ")?.parse::<f64>().ok();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
    metrics.lines().find_map(value).map(|number| number as usize).expect("a metric")
}

/// Resolves when a replica has written its record where the others see it.
async fn recorded(proxy: &Proxy) {
    until("the record in the store", async || {
        let metrics = proxy.metrics().await;
        metrics.contains("wheelport_fleet_tier_total{kind=\"first-seen\",result=\"written\"} 1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_never_saw_the_first_bytes_refuses_others() {
    for server in [ministack as fn() -> &'static Server, moto] {
        let (upstream, fleet) = (Scripted::start().await, new_bucket(server().port).await);
        let old = Sample::wheel();
        publish(&upstream, &[&old]);
        let first = replica(&upstream, &fleet).await;
        assert_eq!(digest(&first).await, old.sha256());
        recorded(&first).await;
        publish(&upstream, &[&changed(&old)]);
        let second = replica(&upstream, &fleet).await;
        purge(&second).await;
        assert_eq!(digest(&second).await, old.sha256(), "the known bytes");
        assert_eq!(pending(&second).await, 1);
    }
}

#[tokio::test]
async fn what_is_accepted_on_one_replica_holds_on_all() {
    let (upstream, redis) = (Scripted::start().await, Server::start("valkey"));
    let fleet = redis_of(&redis, new_bucket(ministack().port).await);
    let old = Sample::wheel();
    let new = changed(&old);
    publish(&upstream, &[&old]);
    let (first, second) = (replica(&upstream, &fleet).await, replica(&upstream, &fleet).await);
    for proxy in [&first, &second] {
        until("a subscription", async || proxy.metrics().await.contains("wheelport_fleet_hearing 1").then_some(()))
            .await;
    }
    assert_eq!(digest(&first).await, old.sha256());
    recorded(&first).await;
    publish(&upstream, &[&new]);
    purge(&first).await;
    for proxy in [&first, &second] {
        assert_eq!((digest(proxy).await, pending(proxy).await), (old.sha256(), 1));
    }
    let accept = "/accept?route=main&project=a-b&reason=rebuilt";
    first.ops.ask("POST", accept).send().await.expect(200);
    assert_eq!(digest(&first).await, new.sha256());
    until("the acceptance", async || (digest(&second).await == new.sha256()).then_some(())).await;
    assert_eq!(pending(&second).await, 0);
    // One that has nothing but what is shared knows it, too.
    let third = replica(&upstream, &fleet).await;
    assert_eq!((digest(&third).await, pending(&third).await), (new.sha256(), 0));
}

#[tokio::test]
async fn records_of_replicas_that_wrote_at_the_same_time_are_merged() {
    let (upstream, fleet) = (Scripted::start().await, new_bucket(ministack().port).await);
    let old = Sample::wheel();
    publish(&upstream, &[&old]);
    let replicas = futures_util::future::join_all((0..3).map(|_| replica(&upstream, &fleet))).await;
    futures_util::future::join_all(replicas.iter().map(digest)).await;
    let object = until("a record", async || only_record(&fleet).await).await;
    publish(&upstream, &[&changed(&old)]);
    for proxy in &replicas {
        purge(proxy).await;
    }
    let digests = futures_util::future::join_all(replicas.iter().map(digest)).await;
    assert!(digests.iter().all(|digest| *digest == old.sha256()), "{digests:?}");
    let last = replica(&upstream, &fleet).await;
    until("all records in one", async || {
        purge(&last).await;
        (digest(&last).await == old.sha256() && pending(&last).await == 1).then_some(())
    })
    .await;
    // What cannot be read may be of a later version: it is left as it is.
    let store = client(&fleet);
    store.put(&object, Bytes::from_static(b"later"), ObjectWrite::Always).await.expect("a write");
    purge(&last).await;
    assert_eq!(digest(&last).await, old.sha256(), "its own record is enough");
    assert_eq!(store.read(&object, None, 100).await.expect("an object").0, "later");
}

/// The name of the only record, once it is there.
async fn only_record(fleet: &FleetSettings) -> Option<ObjectKey> {
    let bucket = &fleet.store.as_ref().expect("a store").bucket;
    let target = format!("/{bucket}?list-type=2&prefix=prefix/v1/first-seen/");
    let list = Client(([127, 0, 0, 1], ministack().port).into()).get(&target).send().await.expect(200).text();
    let (_, found) = list.split_once("<Key>prefix/v1/first-seen/")?;
    let (name, _) = found.split_once("</Key>")?;
    let (repository, project) = name.rsplit_once('/')?;
    Some(ObjectKey::first_seen(repository, &ProjectName::parse(project).expect("a name")))
}

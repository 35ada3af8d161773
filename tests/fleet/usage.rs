//! Downloads over several replicas: a report on any of them tells what all have counted, also those that are gone.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use wheelport::fleet::{FleetSettings, ObjectKey, ObjectWrite};
use wheelport_runtime::{Clock, HumanDuration};

use super::replicas::{sharing, started};
use super::servers::{Server, client, ministack, new_bucket};
use super::support::client::until;
use super::support::proxy::{Builder, Proxy};
use super::support::scripted::Scripted;
use super::support::wheels::{Sample, publish};

fn replica(upstream: &Scripted, fleet: &FleetSettings) -> Builder {
    sharing(upstream, fleet).set(|builder: &mut Builder| builder.usage.write_every = HumanDuration::millis(200))
}

async fn replicas(upstream: &Scripted, fleet: &FleetSettings) -> Vec<Proxy> {
    publish(upstream, &[&Sample::wheel()]);
    started(3, || replica(upstream, fleet)).await
}

async fn take(replica: &Proxy) {
    replica.get(&Sample::wheel().path()).send().await.expect(200);
}

async fn report(replica: &Proxy, query: &str) -> Value {
    replica.ops.get(&format!("/usage?{query}")).send().await.expect(200).value()
}

/// Waits until a replica reports so many downloads, and everything.
async fn all_told(replica: &Proxy, expected: u64) {
    let told = async || {
        let report = report(replica, "project=a-b").await;
        (report["downloads"] == expected && report["complete"] == true).then_some(())
    };
    until(&format!("{expected} downloads"), told).await;
}

#[tokio::test]
async fn a_report_on_any_replica_tells_what_all_have_counted_and_so_does_one_that_comes_later() {
    let upstream = Scripted::start().await;
    let fleet = new_bucket(ministack().port).await;
    let mut replicas = replicas(&upstream, &fleet).await;
    for (count, replica) in replicas.iter().enumerate() {
        for _ in 0..=count {
            take(replica).await;
        }
    }
    for replica in &replicas {
        all_told(replica, 6).await;
    }
    // One that stops shares what it has counted since its last record, and its disk goes with it.
    let leaving = replicas.pop().expect("three");
    take(&leaving).await;
    drop(leaving.stop().await);
    let late = replica(&upstream, &fleet).start().await;
    for replica in replicas.iter().chain([&late]) {
        all_told(replica, 7).await;
    }
    // One that starts again over its disk counts nothing twice.
    let again = replicas.remove(0).stop().await.start().await;
    take(&again).await;
    for replica in replicas.iter().chain([&late, &again]) {
        all_told(replica, 8).await;
    }
    late.ops.get("/usage?until=2020-01-01&since=2019-01-01").send().await.expect(400);
}

#[tokio::test]
async fn while_the_store_is_away_a_report_says_that_it_tells_what_this_replica_knows() {
    let upstream = Scripted::start().await;
    let store = Server::start("ministack");
    let fleet = FleetSettings { store_timeout: HumanDuration::millis(300), ..new_bucket(store.port).await };
    let replicas = replicas(&upstream, &fleet).await;
    for replica in &replicas {
        take(replica).await;
    }
    for replica in &replicas {
        all_told(replica, 3).await;
    }
    store.signal(Signal::STOP);
    take(&replicas[0]).await;
    let local = report(&replicas[0], "project=a-b").await;
    assert_eq!((local["downloads"].as_u64(), local["complete"].as_bool()), (Some(2), Some(false)), "{local}");
    assert!(local["notes"][0].as_str().is_some_and(|note| note.starts_with("the store")), "{local}");
    // A start that finds no store shares what the process before it could not.
    let mut replicas = replicas;
    let away = replicas.remove(0).stop().await;
    let back = away.start().await;
    store.signal(Signal::CONT);
    for replica in replicas.iter().chain([&back]) {
        all_told(replica, 4).await;
    }
    assert!(back.metrics().await.contains("wheelport_usage_write_failures_total{tier=\"disk\"} 0\n"));
}

#[tokio::test]
async fn what_is_no_record_is_said_and_what_is_too_old_leaves_the_store() {
    let upstream = Scripted::start().await;
    let fleet = new_bucket(ministack().port).await;
    let store = client(&fleet);
    let (today, old) = ("0000000000000bad", "00000000000000aa");
    let now = Clock::system().unix_seconds();
    let day = |ago: u64| {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(now - ago * 86_400);
        humantime::format_rfc3339_seconds(time).to_string()[..10].to_owned()
    };
    let put = async |key: ObjectKey, bytes: String| {
        store.put(&key, bytes.into(), ObjectWrite::Always).await.expect("a store");
    };
    let months_ago = day(62);
    for (day, writer) in [(day(0), today), (months_ago.clone(), old)] {
        put(ObjectKey::usage(&day, writer), "no record".to_owned()).await;
        put(ObjectKey::usage_index(&day[..7]), format!(r#"{{"days":{{"{day}":["{writer}"]}}}}"#)).await;
    }
    publish(&upstream, &[&Sample::wheel()]);
    let keep = |builder: &mut Builder| builder.usage.keep = HumanDuration::secs(86_400);
    let proxy = replica(&upstream, &fleet).set(keep).start().await;
    take(&proxy).await;
    let report = report(&proxy, "").await;
    assert_eq!((report["downloads"].as_u64(), report["complete"].as_bool()), (Some(1), Some(false)), "{report}");
    assert!(report["notes"][0].as_str().is_some_and(|note| note.starts_with("1 records are damaged")), "{report}");
    let gone = async |key: ObjectKey| {
        until("the removal", async || store.head(&key).await.is_err().then_some(())).await;
    };
    gone(ObjectKey::usage(&months_ago, old)).await;
    gone(ObjectKey::usage_index(&months_ago[..7])).await;
    store.head(&ObjectKey::usage(&day(0), today)).await.expect("it is kept");
}

//! Exceptions from the rules over several replicas: granted or taken back on one, in force on all within a second.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;
use wheelport::fleet::FleetSettings;
use wheelport_runtime::{Clock, HumanDuration};

use super::replicas::{hearing, sharing, started};
use super::servers::{Server, ministack, new_bucket, redis_of};
use super::support::client::until;
use super::support::proxy::{Builder, Proxy};
use super::support::scripted::Scripted;
use super::support::wheels::{Sample, publish};

/// Lets nothing of this project through.
const RULES: &str = "[[rule]]\nname = \"none\"\nprojects = [\"a-b\"]\nreason = \"Not yet.\"";
const SECOND: Duration = Duration::from_secs(1);

fn replica(upstream: &Scripted, fleet: &FleetSettings) -> Builder {
    sharing(upstream, fleet).rules(RULES, &[])
}

async fn replicas(upstream: &Scripted, fleet: &FleetSettings) -> Vec<Proxy> {
    publish(upstream, &[&Sample::wheel()]);
    started(3, || replica(upstream, fleet)).await
}

/// Grants an exception on a replica, and returns its id and how far it reaches.
async fn grant(replica: &Proxy, reason: &str) -> (String, String) {
    let expires = std::time::UNIX_EPOCH + Duration::from_secs(Clock::system().unix_seconds() + 3600);
    let expires = humantime::format_rfc3339_seconds(expires);
    let target = format!("/exceptions?project=a-b&reason={reason}&by=sec&expires={expires}");
    let granted = replica.ops.ask("POST", &target).send().await.expect(200).value();
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    (text(&granted["exception"]["id"]), text(&granted["spread"]))
}

async fn take_back(replica: &Proxy, id: &str) {
    let taken = replica.ops.ask("POST", &format!("/exceptions/remove?id={id}")).send().await.expect(200).value();
    assert_eq!(taken["spread"], "everywhere");
}

/// Waits until all replicas respond like this to a request of the file.
async fn all_respond(replicas: &[Proxy], status: u16) {
    let path = Sample::wheel().path();
    for replica in replicas {
        until("the response", async || (replica.get(&path).send().await.status == status).then_some(())).await;
    }
}

async fn an_exception_reaches_all(replicas: &[Proxy], limit: Duration) {
    all_respond(replicas, 403).await;
    let began = Instant::now();
    let (id, spread) = grant(&replicas[0], "a-fix").await;
    assert_eq!(spread, "everywhere");
    all_respond(replicas, 200).await;
    assert!(began.elapsed() < limit, "granted within {:?}", began.elapsed());
    let began = Instant::now();
    // Taken back on another than the one that granted it.
    take_back(&replicas[1], &id).await;
    all_respond(replicas, 403).await;
    assert!(began.elapsed() < limit, "taken back within {:?}", began.elapsed());
}

#[tokio::test]
async fn an_exception_is_in_force_on_all_replicas_within_a_second_and_so_is_its_end() {
    let upstream = Scripted::start().await;
    let redis = Server::start("valkey");
    let fleet = redis_of(&redis, new_bucket(ministack().port).await);
    let replicas = replicas(&upstream, &fleet).await;
    hearing(&replicas).await;
    an_exception_reaches_all(&replicas, SECOND).await;
}

#[tokio::test]
async fn an_exception_reaches_all_replicas_without_redis() {
    let upstream = Scripted::start().await;
    let fleet = new_bucket(ministack().port).await;
    let replicas = replicas(&upstream, &fleet).await;
    an_exception_reaches_all(&replicas, SECOND * 2).await;
}

#[tokio::test]
async fn exceptions_that_are_granted_at_the_same_time_all_hold_and_a_replica_that_comes_later_knows_them() {
    let upstream = Scripted::start().await;
    let fleet = new_bucket(ministack().port).await;
    let replicas = replicas(&upstream, &fleet).await;
    let granting = replicas.iter().map(|replica| grant(replica, "a-fix"));
    let granted = futures_util::future::join_all(granting).await;
    assert!(granted.iter().all(|(_, spread)| spread == "everywhere"), "{granted:?}");
    let late = replica(&upstream, &fleet).start().await;
    let count = async |replica: &Proxy| {
        let listed = replica.ops.get("/exceptions").send().await.expect(200).value();
        listed["exceptions"].as_array().map_or(0, Vec::len)
    };
    for replica in replicas.iter().chain([&late]) {
        until("all exceptions", async || (count(replica).await == 3).then_some(())).await;
    }
    for (id, _) in granted {
        take_back(&late, &id).await;
    }
    all_respond(&replicas, 403).await;
    // One that was away does not bring them back.
    let late = late.stop().await.start().await;
    assert_eq!(late.ops.get("/exceptions").send().await.expect(200).value()["exceptions"], json!([]));
}

#[tokio::test]
async fn while_the_store_is_away_an_exception_holds_where_it_was_granted_and_reaches_the_others_later() {
    let upstream = Scripted::start().await;
    let store = Server::start("ministack");
    let fleet = FleetSettings { store_timeout: HumanDuration::millis(300), ..new_bucket(store.port).await };
    let replicas = replicas(&upstream, &fleet).await;
    all_respond(&replicas, 403).await;
    store.signal(Signal::STOP);
    let (_, spread) = grant(&replicas[0], "a-fix").await;
    assert_eq!(spread, "later");
    all_respond(&replicas[..1], 200).await;
    store.signal(Signal::CONT);
    all_respond(&replicas, 200).await;
}

#[tokio::test]
async fn with_redis_alone_an_exception_holds_on_one_replica_and_its_operator_is_told() {
    let upstream = Scripted::start().await;
    let redis = Server::start("valkey");
    let replicas = replicas(&upstream, &redis_of(&redis, FleetSettings::default())).await;
    hearing(&replicas).await;
    all_respond(&replicas, 403).await;
    let (_, spread) = grant(&replicas[0], "a-fix").await;
    assert_eq!(spread, "here-alone");
    all_respond(&replicas[..1], 200).await;
    all_respond(&replicas[1..], 403).await;
}

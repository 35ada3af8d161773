//! A token that is given back to one replica is good for nothing on any.

use serde_json::json;
use tokio::time::{Duration, Instant};
use wheelport::fleet::FleetSettings;
use wheelport::identity::{IdentityRules, IdentityTables, SigningKeys};
use wheelport::web::ReadPolicy;
use wheelport_index::Sha256;

use super::servers::{Server, ministack, new_bucket, redis_of};
use super::support::client::until;
use super::support::issuer::{AUDIENCE, TokenIssuer, TokenKey};
use super::support::proxy::{Builder, Proxy};
use super::support::scripted::Scripted;
use super::support::wheels::{Sample, publish};

const STATIC: &str = "a-static-token";

fn rules(issuer: &TokenIssuer) -> IdentityRules {
    let digest = Sha256::of(STATIC.as_bytes()).to_string();
    let tables = IdentityTables {
        issuers: vec![
            serde_json::from_value(json!({"name": "ci", "url": issuer.url(), "audience": AUDIENCE})).expect("a table"),
        ],
        identities: vec![
            serde_json::from_value(json!({"name": "laptop", "token_sha256": digest, "read": ["*"]})).expect("a table"),
        ],
        publishers: Vec::new(),
    };
    IdentityRules::new(tables).expect("rules")
}

async fn replica(upstream: &Scripted, fleet: &FleetSettings, rules: &IdentityRules) -> Proxy {
    let builder = Proxy::builder().upstream(upstream).set(|builder: &mut Builder| {
        builder.fleet = fleet.clone();
        builder.identities = rules.clone();
        builder.signing_keys = SigningKeys::new(&["k".repeat(32)]).expect("a key");
        builder.read = ReadPolicy::Identity;
    });
    builder.start().await
}

async fn reads(proxy: &Proxy, token: &str) -> u16 {
    proxy.get("/simple/a-b/").header("authorization", &format!("Bearer {token}")).send().await.status
}

#[tokio::test]
async fn a_burnt_token_is_burnt_on_every_replica_within_a_second() {
    let (upstream, issuer) = (Scripted::start().await, TokenIssuer::start(&[&TokenKey::ec("one")]).await);
    publish(&upstream, &[&Sample::wheel()]);
    let redis = Server::start("valkey");
    let (fleet, rules) = (redis_of(&redis, FleetSettings::default()), rules(&issuer));
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(replica(&upstream, &fleet, &rules).await);
    }
    for replica in &replicas {
        until("a subscription", async || replica.metrics().await.contains("wheelport_fleet_hearing 1").then_some(()))
            .await;
    }
    let post = |path: &str, token: &str| {
        let ask = replicas[0].client().ask("POST", path).body(json!({ "token": token }).to_string());
        ask.send()
    };
    let mint = async || {
        let minted = post("/_/oidc/mint-token", STATIC).await.expect(200).value();
        minted["token"].as_str().expect("a token").to_owned()
    };
    let (burnt, kept) = (mint().await, mint().await);
    for replica in &replicas {
        assert_eq!((reads(replica, &burnt).await, reads(replica, &kept).await), (200, 200));
    }
    let began = Instant::now();
    post("/_/oidc/burn-token", &burnt).await.expect(202);
    for replica in &replicas {
        until("the end of a token", async || (reads(replica, &burnt).await == 401).then_some(())).await;
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(reads(&replicas[2], &kept).await, 200);
}

/// Mints a token on a replica.
async fn mint(replica: &Proxy) -> String {
    let ask = replica.client().ask("POST", "/_/oidc/mint-token").body(json!({ "token": STATIC }).to_string());
    ask.send().await.expect(200).value()["token"].as_str().expect("a token").to_owned()
}

async fn burn(replica: &Proxy, token: &str) {
    let ask = replica.client().ask("POST", "/_/oidc/burn-token").body(json!({ "token": token }).to_string());
    ask.send().await.expect(202);
}

#[tokio::test]
async fn a_token_that_is_burnt_while_redis_is_away_is_burnt_everywhere_when_it_is_back() {
    let (upstream, issuer) = (Scripted::start().await, TokenIssuer::start(&[&TokenKey::ec("one")]).await);
    publish(&upstream, &[&Sample::wheel()]);
    let redis = Server::start("valkey");
    let (fleet, rules) = (redis_of(&redis, FleetSettings::default()), rules(&issuer));
    let (first, second) = (replica(&upstream, &fleet, &rules).await, replica(&upstream, &fleet, &rules).await);
    let token = mint(&first).await;
    assert_eq!(reads(&second, &token).await, 200);
    let port = redis.port;
    drop(redis);
    until("the end of a subscription", async || {
        first.metrics().await.contains("wheelport_fleet_hearing 0").then_some(())
    })
    .await;
    burn(&first, &token).await;
    assert_eq!((reads(&first, &token).await, reads(&second, &token).await), (401, 200), "it cannot know yet");
    let _redis = Server::start_at("valkey", port);
    until("the end of a token", async || (reads(&second, &token).await == 401).then_some(())).await;
}

#[tokio::test]
async fn a_burnt_token_is_burnt_on_every_replica_without_redis_and_on_one_that_starts_later() {
    let (upstream, issuer) = (Scripted::start().await, TokenIssuer::start(&[&TokenKey::ec("one")]).await);
    publish(&upstream, &[&Sample::wheel()]);
    let (fleet, rules) = (new_bucket(ministack().port).await, rules(&issuer));
    let (first, second) = (replica(&upstream, &fleet, &rules).await, replica(&upstream, &fleet, &rules).await);
    let (one, other, kept) = (mint(&first).await, mint(&first).await, mint(&first).await);
    assert_eq!((reads(&second, &one).await, reads(&second, &kept).await), (200, 200));
    let began = Instant::now();
    tokio::join!(burn(&first, &one), burn(&second, &other));
    for replica in [&first, &second] {
        for token in [&one, &other] {
            until("the end of a token", async || (reads(replica, token).await == 401).then_some(())).await;
        }
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let later = replica(&upstream, &fleet, &rules).await;
    until("the end of a token", async || (reads(&later, &one).await == 401).then_some(())).await;
    assert_eq!((reads(&later, &kept).await, reads(&second, &kept).await), (200, 200));
}

//! The webhook: what operators hear of at once, and that no request ever waits for them.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;
use wheelport::notify::{NotifySettings, NotifyTable};
use wheelport_runtime::{Clock, HumanDuration};

use super::advisories::{advisory, export, replace, sourced};
use crate::support::client::until;
use crate::support::proxy::{Builder, MINT, Proxy, control_plane, refusal};
use crate::support::scripted::{Gate, Reply, Scripted, Seen};
use crate::support::wheels::{PAGE, Sample, list, publish};

const HERE: &str = "/simple/a-b/";
const HOOK: &str = "POST /hook";
const FIRST_SECRET: &str = "the first secret, of more than 24 bytes";
const SECOND_SECRET: &str = "whsec_c2Vjb25kIHNlY3JldCBvZiAyNCBieXRlcyBvciBtb3Jl";

/// A receiver of notices, and the file with the secret.
struct Receiver {
    server: Scripted,
    dir: TempDir,
}

impl Receiver {
    async fn start() -> Self {
        let (server, dir) = (Scripted::start().await, tempfile::tempdir().expect("a directory"));
        server.on(HOOK, Reply::status(204));
        let receiver = Self { server, dir };
        receiver.write_secrets(&[FIRST_SECRET]);
        receiver
    }

    fn secret_file(&self) -> PathBuf {
        self.dir.path().join("secret")
    }

    fn write_secrets(&self, secrets: &[&str]) {
        std::fs::write(self.secret_file(), secrets.join("\n")).expect("a file");
    }

    fn settings(&self, more: &Value) -> NotifySettings {
        let mut table = json!({ "url": self.server.url("/hook"), "secret_file": self.secret_file() });
        for (key, value) in more.as_object().into_iter().flatten() {
            table[key] = value.clone();
        }
        let table: NotifyTable = serde_json::from_value(table).expect("a table");
        NotifySettings::new(table).expect("settings").expect("a webhook")
    }

    fn builder(&self, more: &Value) -> Builder {
        let settings = self.settings(more);
        Proxy::builder().set(|builder| builder.notify = Some(settings))
    }

    /// Waits until so many requests have come, and returns all of them.
    async fn requests(&self, number: usize) -> Vec<Seen> {
        let look = async || Some(self.server.requests_to(HOOK)).filter(|seen| seen.len() >= number);
        until(&format!("{number} requests with notices"), look).await
    }

    /// The types of the notices so far.
    async fn types(&self, number: usize) -> Vec<String> {
        self.requests(number).await.iter().map(|seen| text(&document(seen)["type"])).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn document(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).expect("JSON")
}

/// Whether a request carries a signature of this key, made now.
fn is_signed(seen: &Seen, key: &[u8]) -> bool {
    let header = |name: &str| seen.header(name).expect("a header").to_owned();
    let time: u64 = header("webhook-timestamp").parse().expect("seconds");
    assert!(Clock::system().unix_seconds().abs_diff(time) < 60, "{time}");
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    mac.update(format!("{}.{time}.", header("webhook-id")).as_bytes());
    mac.update(&seen.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    header("webhook-signature").split(' ').any(|signature| signature == expected)
}

/// The same name with other bytes of the same length.
fn changed(sample: &Sample) -> Sample {
    let mut bytes = sample.bytes.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    Sample { bytes: bytes.into(), ..sample.clone() }
}

/// Shows the page with these files, and then with other ones under their names.
async fn change(proxy: &Proxy, samples: &[Sample]) {
    let others: Vec<_> = samples.iter().map(changed).collect();
    for files in [samples, &others] {
        publish(&proxy.upstream, &files.iter().collect::<Vec<_>>());
        proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
        proxy.get(HERE).send().await.expect(200);
    }
}

fn sdists(number: usize) -> Vec<Sample> {
    (0..number).map(|number| Sample::sdist(&format!("{number}.0"), 10)).collect()
}

async fn metric(proxy: &Proxy, line: &str) -> bool {
    proxy.metrics().await.lines().any(|found| found == line)
}

#[tokio::test]
async fn a_changed_file_is_told_once_and_signed() {
    let receiver = Receiver::start().await;
    let (proxy, wheel) = (receiver.builder(&json!({})).start().await, Sample::wheel());
    change(&proxy, std::slice::from_ref(&wheel)).await;
    let seen = receiver.requests(1).await.remove(0);
    assert!(is_signed(&seen, FIRST_SECRET.as_bytes()) && !is_signed(&seen, b"another key"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    let notice = document(&seen);
    for (key, value) in [("type", "changed-file"), ("route", "main"), ("project", "a-b"), ("file", &wheel.name)] {
        assert_eq!(notice[key], value, "{notice}");
    }
    assert!(text(&notice["time"]).ends_with('Z'), "{notice}");
    let detail = text(&notice["detail"]);
    assert!(detail.contains(&wheel.sha256()) && detail.contains(&changed(&wheel).sha256()), "{detail}");
    // The change is known, also to the next process.
    let proxy = proxy.stop().await.start().await;
    proxy.get(HERE).send().await.expect(200);
    let delivered = "wheelport_notices_total{outcome=\"delivered\"} 1";
    assert!(!metric(&proxy, delivered).await);
    assert_eq!(receiver.server.requests_to(HOOK).len(), 1);
}

#[tokio::test]
async fn a_notice_is_tried_until_it_is_taken_and_no_redirect_is_followed() {
    let receiver = Receiver::start().await;
    let elsewhere = receiver.server.url("/elsewhere");
    receiver.server.on("POST /elsewhere", Reply::status(204));
    let replies = [Reply::status(500), Reply::raw(""), Reply::redirect(307, elsewhere), Reply::status(204)];
    receiver.server.on_each(HOOK, replies);
    let proxy = receiver.builder(&json!({})).start().await;
    change(&proxy, &sdists(1)).await;
    let seen = receiver.requests(4).await;
    assert!(seen.iter().all(|seen| is_signed(seen, FIRST_SECRET.as_bytes())));
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("webhook-id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0] && id.is_some()), "one notice: {ids:?}");
    assert!(seen.iter().all(|again| again.body == seen[0].body));
    until("the delivery", async || {
        metric(&proxy, "wheelport_notices_total{outcome=\"delivered\"} 1").await.then_some(())
    })
    .await;
    assert!(metric(&proxy, "wheelport_notice_failures_total 3").await);
    assert!(receiver.server.requests_to("POST /elsewhere").is_empty());
}

#[tokio::test]
async fn a_receiver_that_does_not_want_a_notice_is_not_asked_again_and_gets_the_next() {
    let receiver = Receiver::start().await;
    receiver.server.on_each(HOOK, [Reply::status(422), Reply::status(204)]);
    let proxy = receiver.builder(&json!({})).start().await;
    change(&proxy, &sdists(2)).await;
    let seen = receiver.requests(2).await;
    assert_ne!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    until("the delivery", async || {
        metric(&proxy, "wheelport_notices_total{outcome=\"delivered\"} 1").await.then_some(())
    })
    .await;
    assert!(metric(&proxy, "wheelport_notices_total{outcome=\"refused\"} 1").await);
}

#[tokio::test]
async fn a_receiver_that_hangs_is_in_no_clients_way_and_the_queue_has_a_bound() {
    let (receiver, gate) = (Receiver::start().await, Gate::closed());
    receiver.server.on(HOOK, Reply::status(204).before_head(&gate));
    let proxy = receiver.builder(&json!({ "queue": 2, "timeout": "1h" })).start().await;
    change(&proxy, &sdists(5)).await;
    gate.reached().await;
    for sample in &sdists(5) {
        proxy.get(HERE).send().await.expect(200);
        proxy.get(&changed(sample).path()).send().await.expect(200);
    }
    assert!(metric(&proxy, "wheelport_notices_waiting 2").await);
    assert!(metric(&proxy, "wheelport_notices_total{outcome=\"dropped\"} 3").await);
    gate.open();
    receiver.requests(2).await;
    until("an empty queue", async || metric(&proxy, "wheelport_notices_waiting 0").await.then_some(())).await;
    assert_eq!(receiver.server.requests_to(HOOK).len(), 2);
}

#[tokio::test]
async fn an_attempt_has_a_deadline_and_a_notice_an_age() {
    let (receiver, gate) = (Receiver::start().await, Gate::closed());
    receiver.server.on_each(HOOK, [Reply::status(204).before_head(&gate), Reply::status(503)]);
    let proxy = receiver.builder(&json!({ "timeout": "200ms", "retry_for": "3s" })).start().await;
    change(&proxy, &sdists(1)).await;
    until("the end", async || metric(&proxy, "wheelport_notices_total{outcome=\"expired\"} 1").await.then_some(()))
        .await;
    assert!(receiver.requests(2).await.len() < 6);
    assert!(metric(&proxy, "wheelport_notices_waiting 0").await);
}

#[tokio::test]
async fn a_new_secret_signs_from_the_next_attempt_on() {
    let receiver = Receiver::start().await;
    let second = STANDARD.decode(&SECOND_SECRET["whsec_".len()..]).expect("base64");
    let proxy = receiver.builder(&json!({})).start().await;
    let samples = sdists(4);
    let mut upstream: Vec<&Sample> = samples.iter().collect();
    let others: Vec<_> = samples.iter().map(changed).collect();
    publish(&proxy.upstream, &upstream);
    proxy.get(HERE).send().await.expect(200);
    // Each step changes one file more.
    for (number, (secrets, signers)) in [
        (vec![FIRST_SECRET], (true, false)),
        (vec![FIRST_SECRET, SECOND_SECRET], (true, true)),
        (vec![SECOND_SECRET], (false, true)),
        (vec!["short"], (false, true)),
    ]
    .into_iter()
    .enumerate()
    {
        receiver.write_secrets(&secrets);
        upstream[number] = &others[number];
        publish(&proxy.upstream, &upstream);
        proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
        proxy.get(HERE).send().await.expect(200);
        let seen = receiver.requests(number + 1).await.remove(number);
        assert_eq!((is_signed(&seen, FIRST_SECRET.as_bytes()), is_signed(&seen, &second)), signers, "{number}");
    }
}

#[tokio::test]
async fn what_waits_at_the_stop_is_delivered_if_that_is_quick() {
    let (receiver, gate) = (Receiver::start().await, Gate::closed());
    receiver.server.on(HOOK, Reply::status(204).before_head(&gate));
    let proxy = receiver.builder(&json!({})).start().await;
    change(&proxy, &sdists(3)).await;
    gate.reached().await;
    proxy.begin_stop();
    gate.open();
    drop(proxy.stop().await);
    assert_eq!(receiver.server.requests_to(HOOK).len(), 3);

    let (receiver, gate) = (Receiver::start().await, Gate::closed());
    receiver.server.on(HOOK, Reply::status(204).before_head(&gate));
    let proxy = receiver.builder(&json!({ "timeout": "1h" })).start().await;
    change(&proxy, &sdists(1)).await;
    gate.reached().await;
    drop(proxy.stop().await);
}

#[tokio::test]
async fn a_route_that_closes_and_opens_again_is_told() {
    let receiver = Receiver::start().await;
    let windows = [60, 0, 86_400].map(HumanDuration::secs);
    let proxy = receiver.builder(&json!({})).windows(windows[0], windows[1], windows[2]).start().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).send().await.expect(200);
    proxy.pass(Duration::from_mins(2)).await;
    proxy.upstream.on(PAGE, refusal(403, "AccessDeniedException", "User: arn:aws:iam::111122223333:role/x"));
    proxy.get(HERE).send().await.expect(200);
    until("a new token", async || (proxy.control.requests_to(MINT).len() == 2).then_some(())).await;
    proxy.pass(Duration::from_secs(31)).await;
    until("the second denial", async || (proxy.get(HERE).send().await.status == 403).then_some(())).await;
    let closed = document(&receiver.requests(1).await[0]);
    assert_eq!((&closed["type"], &closed["route"]), (&json!("route-closed"), &json!("main")));
    assert!(!closed.to_string().contains("111122223333"), "{closed}");
    list(&proxy.upstream, &[&wheel]);
    // The first request after a quarter of a minute is a probe; one before it may just have been another.
    until("a probe", async || {
        proxy.pass(Duration::from_secs(16)).await;
        (proxy.get(HERE).send().await.status == 200).then_some(())
    })
    .await;
    assert_eq!(receiver.types(2).await, ["route-closed", "route-reopened"]);
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_is_told_and_so_is_the_next_one() {
    let (receiver, control) = (Receiver::start().await, control_plane().await);
    control.on(MINT, refusal(403, "AccessDeniedException", "User: arn:aws:iam::111122223333:role/x"));
    let proxy = receiver.builder(&json!({})).control(&control).routes(&["main", "team"], Some(0)).start_blind().await;
    for failures in 1..=3 {
        until("a refusal", async || (control.requests_to(MINT).len() >= failures).then_some(())).await;
        until("the failure", async || {
            metric(&proxy, &format!("wheelport_token_failures_in_a_row{{route=\"main\"}} {failures}.0"))
                .await
                .then_some(())
        })
        .await;
        if failures < 3 {
            proxy.pass(Duration::from_secs(61)).await;
        }
    }
    let failing = document(&receiver.requests(1).await[0]);
    assert_eq!(failing["type"], "token-failing");
    let detail = text(&failing["detail"]);
    assert!(detail.contains("the routes main, team: 3 attempts") && detail.contains("(denied)"), "{detail}");
    assert!(!failing.to_string().contains("111122223333"), "{failing}");
    let expires = Clock::system().unix_seconds() + 12 * 60 * 60;
    let token = json!({ "authorizationToken": "canary-9", "expiration": expires }).to_string();
    control.on(MINT, Reply::ok(token).header("content-type", "application/json"));
    proxy.pass(Duration::from_secs(61)).await;
    assert_eq!(receiver.types(2).await, ["token-failing", "token-recovered"]);
}

#[tokio::test]
async fn refused_malware_is_told_once_and_names_the_advisory() {
    let (receiver, wheel) = (Receiver::start().await, Sample::wheel());
    let source = receiver.dir.path().join("all.zip");
    replace(&source, &export(&[advisory("MAL-2026-1", "a-b", &["1.0"])]));
    let proxy = receiver.builder(&json!({})).set(sourced(&source)).start().await;
    publish(&proxy.upstream, &[&wheel]);
    let refused = proxy.get(&wheel.path()).send().await.expect(403);
    proxy.get(&format!("{}.metadata", wheel.path())).send().await.expect(403);
    let seen = receiver.requests(1).await;
    let notice = document(&seen[0]);
    assert_eq!((&notice["type"], &notice["project"]), (&json!("malware-refused"), &json!("a-b")), "{notice}");
    assert_eq!(notice["request"], refused.header("x-request-id").expect("an id"), "{notice}");
    assert!(text(&notice["detail"]).contains("MAL-2026-1"), "{notice}");
    assert_eq!(seen.len(), 1, "the same file is told of once");
}

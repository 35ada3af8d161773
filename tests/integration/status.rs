//! The pages of the listener for operations: status and savings, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};
use wheelport::identity::SecretDigest;
use wheelport::web::OperatorSecrets;

use crate::support::client::{Response, until};
use crate::support::proxy::{CANARY, Proxy};
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, Sample, publish};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const HERE: &str = "/simple/a-b/";
const PAGE_OF_OTHER: &str = "GET /pypi/r/simple/other/";
const PAGE_OF_NONE: &str = "GET /pypi/r/simple/not-there/";

async fn html(proxy: &Proxy, path: &str) -> Response {
    proxy.ops.get(path).header("accept", BROWSER).send().await.expect(200)
}

async fn data(proxy: &Proxy, path: &str) -> Value {
    proxy.ops.get(path).send().await.expect(200).value()
}

#[tokio::test]
async fn browsers_get_a_page_without_script_of_others_and_programs_the_json_of_before() {
    let proxy = Proxy::start().await;
    let (secret, wheel) = ("hunter2", Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).send().await.expect(200);
    for (path, title) in [("/status", "Status"), ("/savings", "Savings")] {
        let page = html(&proxy, path).await;
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("vary", "Accept"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(page.header(name), Some(value), "{path}");
        }
        let policy = page.header("content-security-policy").unwrap_or_default().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        let text = page.text();
        assert!(text.contains(&format!("<title>{title} · Wheelport</title>")), "{text}");
        for needless in [" style=", "src=", "http://", "https://", " onclick", CANARY, secret] {
            assert!(!text.contains(needless), "{needless} is in {text}");
        }
        let json = proxy.ops.get(path).header("accept", "*/*").send().await.expect(200);
        assert_eq!(json.header("content-type"), Some("application/json"));
        let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        assert_eq!(keys(&json.value()), keys(&data(&proxy, &format!("{path}.json")).await));
    }
    let status = data(&proxy, "/status").await;
    let before = ["ready", "degraded", "version", "policy", "routes"];
    assert!(before.iter().all(|key| status.get(key).is_some()), "scripts read these: {status}");
    assert_eq!(status["routes"][0]["repository"], "acme/r1");
    assert_eq!((&status["routes"][0]["upstream"], &status["routes"][0]["gated"]), (&json!("closed"), &json!(false)));
}

#[tokio::test]
async fn a_browser_is_asked_for_the_secret_and_may_have_any_user() {
    let operations = SecretDigest::of("hunter2");
    let secrets = OperatorSecrets { operations, metrics: None };
    let proxy = Proxy::builder().set(|builder| builder.operators = secrets).start_blind().await;
    for path in ["/status", "/status.json", "/savings", "/savings.json"] {
        let refused = proxy.ops.get(path).header("accept", BROWSER).send().await.expect(401);
        let challenge = "Basic realm=\"wheelport operations\", charset=\"UTF-8\"";
        assert_eq!(refused.header("www-authenticate"), Some(challenge), "{path}");
        assert!(!refused.text().contains("main"), "{path}: nothing is told before");
        // `anyone:hunter2` and `:hunter2`.
        for credentials in ["Basic YW55b25lOmh1bnRlcjI=", "Basic Omh1bnRlcjI="] {
            let ask = proxy.ops.get(path).header("accept", BROWSER).header("authorization", credentials);
            ask.send().await.expect(200);
        }
    }
}

#[tokio::test]
async fn a_page_refreshes_itself_by_a_header_when_it_is_asked_to() {
    let proxy = Proxy::start().await;
    assert_eq!(html(&proxy, "/status").await.header("refresh"), None);
    let live = html(&proxy, "/status?refresh=30").await;
    assert_eq!(live.header("refresh"), Some("30"));
    assert!(live.text().contains("<a href=\"status\">Stop refreshing</a>"));
    assert_eq!(proxy.ops.get("/status?refresh=soon").header("accept", BROWSER).send().await.status, 400);
}

#[tokio::test]
async fn the_last_failures_are_there_with_their_ids_and_nothing_of_them_is_markup() {
    let proxy = Proxy::builder().routes(&["main", "tools"], Some(0)).start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy.get("/pypi/tools/simple/a-b/?before").send().await.expect(200);
    proxy.upstream.on(PAGE_OF_NONE, Reply::status(404));
    proxy.get("/simple/not-there/").send().await.expect(404);
    proxy.upstream.on(PAGE_OF_OTHER, Reply::status(500));
    let failed = proxy.get("/pypi/tools/simple/other/?token=canary-in-a-query").send().await.expect(503);
    let hostile = proxy.client().raw(b"GET /simple/\"'&<script>x</script>/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(!hostile.starts_with("HTTP/1.1 2"), "{hostile}");
    let status = data(&proxy, "/status").await;
    let failures = status["failures"].as_array().cloned().unwrap_or_default();
    assert_eq!(failures.len(), 1, "a 404 and a bad address are no failures of ours: {failures:?}");
    let failure = &failures[0];
    assert_eq!(failure["request"].as_str(), failed.header("x-request-id"));
    assert_eq!((&failure["route"], &failure["status"]), (&json!("tools"), &json!(503)));
    assert_eq!(
        (&failure["path"], &failure["error"]),
        (&json!("/pypi/tools/simple/other/"), &json!("unavailable-upstream"))
    );
    let page = html(&proxy, "/status").await.text();
    assert!(page.contains(failed.header("x-request-id").unwrap_or("?")) && !page.contains(CANARY), "{page}");
}

#[tokio::test]
async fn the_ring_of_failures_is_bounded() {
    let proxy = Proxy::start().await;
    proxy.upstream.on(PAGE, Reply::status(500));
    for number in 0..60 {
        proxy.get(&format!("{HERE}?{number}")).send().await.expect(503);
    }
    let status = data(&proxy, "/status").await;
    assert_eq!(status["failures"].as_array().map(Vec::len), Some(50));
}

#[tokio::test]
async fn resources_and_quotas_are_those_of_the_process() {
    let proxy = Proxy::start().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).send().await.expect(200);
    proxy.get(&wheel.path()).send().await.expect(200);
    proxy.kept_by("blobs", 1).await;
    let status = data(&proxy, "/status").await;
    let (resources, quota) = (&status["resources"], &status["quota"]);
    assert!(resources["memory"]["used"].as_u64() > Some(1 << 20), "{resources}");
    assert!(resources["disk"]["used"].as_u64() >= Some(wheel.bytes.len() as u64), "{resources}");
    for part in ["memory", "disk", "records", "documents", "connections"] {
        let (used, limit) = (resources[part]["used"].as_u64(), resources[part]["limit"].as_u64());
        assert!(used.is_some() && used < limit, "{part}: {resources}");
    }
    assert_eq!((&quota["account"], &quota["token"], &quota["request_rate"]), (&json!(800), &json!(1200), &json!(350)));
    // One page, one file: two requests, in one second or in two.
    assert!(matches!(quota["busiest_second_of_day"].as_f64(), Some(1.0 | 2.0)), "{quota}");
    assert_eq!(quota["busiest_second_of_day"], quota["busiest_second_of_hour"]);
}

#[tokio::test]
async fn the_history_counts_what_happened_in_each_interval() {
    let proxy = Proxy::start().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    for _ in 0..4 {
        proxy.get(HERE).send().await.expect(200);
    }
    let seen = async || {
        let hour = data(&proxy, "/status").await["history"]["hour"].clone();
        hour["cache_share"].as_array().is_some_and(|share| share.iter().any(|share| !share.is_null())).then_some(hour)
    };
    proxy.pass(Duration::from_secs(31)).await;
    let hour = until("an interval to pass", seen).await;
    assert_eq!((&hour["step_seconds"], &hour["intervals"]), (&json!(30), &json!(120)));
    assert_eq!(hour["cache_share"], json!([0.75]));
    let sum = |figure: &str| hour[figure].as_array().into_iter().flatten().filter_map(Value::as_f64).sum::<f64>();
    assert!((sum("requests_per_second") * 31.0 - 4.0).abs() < 0.5, "{hour}");
    assert!(html(&proxy, "/status").await.text().contains("share: between 75 % and 75 %, last 75 %."));
}

#[tokio::test]
async fn savings_are_counted_priced_and_survive_a_restart() {
    let builder = Proxy::builder().set(|builder| {
        builder.prices =
            serde_json::from_value(json!({ "per_10k_requests": 5000.0, "currency": "EUR" })).expect("prices");
    });
    let (proxy, wheel) = (builder.start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    for _ in 0..10 {
        proxy.get(HERE).send().await.expect(200);
    }
    proxy.get(HERE).header("if-none-match", "\"x\"").send().await.expect(200);
    proxy.upstream.on(PAGE_OF_NONE, Reply::status(404));
    proxy.get("/simple/not-there/").send().await.expect(404);
    let report = data(&proxy, "/savings").await;
    let so_far = &report["so_far"];
    let upstream = (proxy.asked(PAGE) + proxy.asked(PAGE_OF_NONE)) as u64;
    assert_eq!((&so_far["requests"], &so_far["upstream_requests"]), (&json!(11), &json!(upstream)), "{report}");
    assert_eq!(so_far["spared_requests"], json!(11 - upstream));
    let money = &so_far["money"];
    assert_eq!((&money["currency"], money["without"].as_f64()), (&json!("EUR"), Some(5.5)), "{report}");
    assert_eq!((&report["projected"], &report["served"]["cache"]), (&Value::Null, &json!(10)));
    let page = html(&proxy, "/savings").await.text();
    assert!(page.contains("EUR</strong> spared this month"), "{page}");

    let again = proxy.stop().await;
    let proxy = again.start().await;
    let recalled = async || {
        let report = data(&proxy, "/savings").await;
        (report["so_far"]["requests"] == json!(11)).then_some(report)
    };
    let restarted = until("the record to be read", recalled).await;
    assert_eq!(restarted["since"], report["since"], "it goes on counting");
    assert_eq!(restarted["served"]["cache"], json!(0), "but a process has its own figures");
    proxy.get(HERE).send().await.expect(200);
    assert_eq!(data(&proxy, "/savings").await["so_far"]["requests"], json!(12));
}

#[tokio::test]
async fn a_month_is_projected_once_a_day_of_it_was_counted() {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy.get(HERE).send().await.expect(200);
    proxy.get(HERE).send().await.expect(200);
    let since = data(&proxy, "/savings").await["since"].as_i64().unwrap_or_default();
    let directory = proxy.kept("savings");
    assert!(directory.is_empty(), "it is written at the stop: {directory:?}");
    let proxy = proxy.stop().await.later(2 * 24 * 60 * 60).start().await;
    let recalled = async || {
        let report = data(&proxy, "/savings").await;
        (report["so_far"]["requests"] == json!(2) || !report["earlier"].as_array().is_some_and(Vec::is_empty))
            .then_some(report)
    };
    let report = until("the record to be read", recalled).await;
    if report["earlier"].as_array().is_some_and(|earlier| !earlier.is_empty()) {
        return; // The month has ended in between.
    }
    assert_eq!(report["since"].as_i64(), Some(since));
    assert!(report["projected"]["requests"].as_u64() >= Some(2), "{report}");
}

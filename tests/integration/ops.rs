//! What operators use: health, readiness, metrics, purge, the start page.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use wheelport::identity::SecretDigest;
use wheelport::web::OperatorSecrets;
use wheelport_runtime::HumanDuration;

use crate::support::client::until;
use crate::support::proxy::{CANARY, MINT, Proxy, files_below, refusal};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::wheels::{PAGE, Sample, list, publish};

const HERE: &str = "/simple/a-b/";

#[tokio::test]
async fn health_touches_nothing() {
    let proxy = Proxy::builder().start_blind().await;
    for client in [proxy.client(), proxy.ops] {
        let response = client.get("/healthz").send().await.expect(200);
        assert_eq!((response.text().as_str(), response.header("cache-control")), ("alive\n", Some("no-store")));
    }
    assert_eq!(proxy.upstream.requests().len(), 0);
}

/// A control plane that refuses to mint, from when the gate opens.
async fn refusing(gate: &Gate) -> Scripted {
    let control = Scripted::start().await;
    control.on(MINT, refusal(403, "AccessDeniedException", "User is not authorized").before_head(gate));
    control
}

#[tokio::test]
async fn without_token_and_cache_it_is_not_ready_and_only_operators_learn_why() {
    let proxy = Proxy::start().await;
    let ready = proxy.get("/readyz").send().await.expect(200);
    assert_eq!(ready.value(), json!({"ready": true, "degraded": false}), "no route, no version");
    assert_eq!(proxy.ops.get("/status").send().await.expect(200).value()["routes"][0]["route"], "main");
    let again = proxy.stop().await;

    let gate = Gate::closed();
    let proxy = again.control(&refusing(&gate).await).start_blind().await;
    let waiting = proxy.get("/readyz").send().await.expect(503);
    assert_eq!(waiting.header("retry-after"), Some("5"));
    gate.open();
    let refused = async || {
        let status = proxy.ops.get("/status").send().await.expect(200).value();
        status["routes"][0]["token_error"].as_str().map(|error| (status["ready"].clone(), error.to_owned()))
    };
    let (ready, error) = until("the refusal", refused).await;
    assert_eq!(ready, false);
    assert!(error.starts_with("denied: "), "{error}");
    for client in [proxy.client(), proxy.ops] {
        let response = client.get("/readyz").send().await.expect(503).value();
        let general = json!({
            "ready": false, "degraded": false, "reason": "upstream cannot be used, and nothing is cached",
        });
        assert_eq!(response, general);
    }
}

#[tokio::test]
async fn what_is_cached_makes_a_process_without_a_token_ready() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&wheel.path()).send().await.expect(200);
    proxy.kept_by("blobs", 1).await;
    let gate = Gate::closed();
    gate.open();
    let proxy = proxy.stop().await.control(&refusing(&gate).await).start_blind().await;
    let ready = async || Some(proxy.get("/readyz").send().await).filter(|response| response.status == 200);
    let ready = until("what is cached to be counted", ready).await.value();
    assert_eq!((&ready["ready"], &ready["degraded"]), (&json!(true), &json!(true)), "{ready}");
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
}

#[tokio::test]
async fn a_stopping_server_is_not_ready_and_still_serves() {
    let builder = Proxy::builder().set(|builder| builder.server.drain_delay = HumanDuration::secs(3600));
    let (proxy, wheel) = (builder.start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.begin_stop();
    let stopping = async || {
        let response = proxy.get("/readyz").send().await;
        (response.status == 503).then(|| response.value()["reason"].clone())
    };
    assert_eq!(until("the drain", stopping).await, "the server is stopping");
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
}

#[tokio::test]
async fn a_stop_lets_responses_in_progress_finish() {
    let (proxy, sdist, gate) = (Proxy::start().await, Sample::sdist("1.0", 100_000), Gate::closed());
    list(&proxy.upstream, &[&sdist]);
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(1000, &gate));
    let mut opened = proxy.get(&sdist.path()).open().await;
    opened.at_least(999).await;
    proxy.begin_stop();
    let refused = async || tokio::net::TcpStream::connect(proxy.address).await.is_err().then_some(());
    until("new connections to be refused", refused).await;
    gate.open();
    assert_eq!(opened.finish().await.expect(200).body, sdist.bytes);
    drop(proxy.stop().await);
}

/// The label sets of one metric.
fn series<'a>(metrics: &'a str, name: &str) -> HashSet<&'a str> {
    metrics.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.split(' ').next()).collect()
}

#[tokio::test]
async fn metrics_count_what_happened_with_labels_of_a_fixed_set() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    for _ in 0..3 {
        proxy.get(HERE).send().await.expect(200);
        proxy.get(&wheel.path()).send().await.expect(200);
    }
    let before = proxy.ops.get("/metrics").send().await.expect(200);
    assert_eq!(before.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = before.text();
    for line in [
        "wheelport_requests_total{kind=\"page\",status=\"200\",served=\"miss\"} 1",
        "wheelport_requests_total{kind=\"page\",status=\"200\",served=\"hit\"} 2",
        "wheelport_requests_total{kind=\"file\",status=\"200\",served=\"miss\"} 1",
        "wheelport_requests_total{kind=\"file\",status=\"200\",served=\"hit\"} 2",
        &format!("wheelport_sent_bytes_total{{kind=\"file\"}} {}", 3 * wheel.bytes.len()),
        "wheelport_token_usable{route=\"main\"} 1.0",
        "wheelport_requests_in_flight 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    let stranger = |n: usize| proxy.get(&format!("/simple/stranger-{n}/")).header("user-agent", &format!("agent-{n}"));
    stranger(0).send().await;
    proxy.client().ask("BREW", "/stranger").send().await;
    let few = proxy.metrics().await;
    for n in 1..40 {
        stranger(n).send().await;
        proxy.get(&format!("/stranger-{n}")).send().await;
        proxy.client().ask(&format!("BREW{n}"), "/stranger").send().await;
    }
    let many = proxy.metrics().await;
    assert!(!many.contains("stranger") && !many.contains("agent-") && !many.contains("BREW"), "{many}");
    for name in ["wheelport_requests_total", "wheelport_request_seconds_bucket", "wheelport_upstream"] {
        assert!(series(&many, name).len() <= series(&few, name).len() + 2 * 15, "{name} grows with its requests");
    }
}

#[tokio::test]
async fn counters_agree_with_what_upstream_saw() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    for _ in 0..5 {
        proxy.get(&wheel.path()).send().await.expect(200);
    }
    let attempts = "wheelport_upstream_attempts_total{route=\"main\"} 2";
    assert!(proxy.metrics().await.lines().any(|line| line == attempts), "{}", proxy.metrics().await);
    assert_eq!(proxy.upstream.requests().len(), 2);
}

#[tokio::test]
async fn purge_forgets_one_page_for_programs_and_for_no_web_page() {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy.get(HERE).send().await.expect(200);
    let purge = "/purge?route=main&project=A.b";
    for (header, value) in [("origin", "https://attacker.example.org"), ("sec-fetch-site", "cross-site")] {
        proxy.ops.ask("POST", purge).header(header, value).send().await.expect(403);
    }
    proxy.get(HERE).send().await.expect(200);
    assert_eq!(proxy.asked(PAGE), 1);
    proxy.ops.ask("POST", purge).send().await.expect(200);
    assert_eq!(proxy.kept("pages").len(), 0);
    proxy.get(HERE).send().await.expect(200);
    assert_eq!(proxy.asked(PAGE), 2);
    proxy.ops.ask("POST", "/purge?route=typo&project=a").send().await.expect(404);
    proxy.ops.ask("POST", "/purge?route=main&project=-").send().await.expect(404);
    proxy.ops.get(purge).send().await.expect(405);
}

#[tokio::test]
async fn a_purge_also_forgets_that_a_project_was_missing() {
    let proxy = Proxy::start().await;
    proxy.upstream.on(PAGE, Reply::status(404));
    proxy.get(HERE).send().await.expect(404);
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy.get(HERE).send().await.expect(404);
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    proxy.get(HERE).send().await.expect(200);
}

#[tokio::test]
async fn the_listener_for_clients_has_no_operations() {
    let proxy = Proxy::start().await;
    for target in ["/metrics", "/status"] {
        proxy.get(target).send().await.expect(404);
        proxy.ops.get(target).send().await.expect(200);
    }
    let purge = proxy.client().ask("POST", "/purge?route=main&project=a").send().await;
    assert_eq!(purge.status, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_query_of_operators_is_said_in_our_words() {
    let proxy = Proxy::start().await;
    for (method, target, reason) in [
        ("GET", "/why?project=a-b", "missing field `route`"),
        ("GET", "/status?refresh=soon", "refresh: invalid digit found in string"),
        ("GET", "/savings?refresh=-1", "refresh: invalid digit found in string"),
        ("GET", "/usage?limit=1&limit=2", "duplicate field `limit`"),
        ("POST", "/purge?route=main", "missing field `project`"),
        ("POST", "/accept?route=main&project=a", "missing field `reason`"),
        ("POST", "/exceptions?reason=x", "missing field `project`"),
        ("POST", "/exceptions/remove", "missing field `id`"),
        ("POST", "/policy/test", "missing field `route`"),
        ("POST", "/warm", "missing field `route`"),
        ("POST", "/audit?route=a&route=b", "duplicate field `route`"),
    ] {
        let refused = proxy.ops.ask(method, target).send().await.expect(400);
        let text = refused.text();
        assert_eq!(text, format!("this query is not understood: {reason}\n"), "{target}");
    }
    let page = proxy.ops.get("/usage?limit=1&limit=2").header("accept", "text/html").send().await.expect(400);
    assert!(page.text().contains("this query is not understood"), "{}", page.text());
    assert!(proxy.ops.get("/nothing").send().await.expect(404).text().starts_with("there is nothing"));
    let wrong = proxy.ops.get("/purge").send().await.expect(405);
    assert_eq!((wrong.text().as_str(), wrong.header("allow")), ("this address takes another method\n", Some("POST")));
}

#[tokio::test]
async fn operations_answer_to_no_public_name() {
    let builder = Proxy::builder().set(|builder| {
        builder.server.allowed_hosts = vec!["index.example.org".parse().expect("a pattern")];
    });
    let proxy = builder.start_blind().await;
    for (host, expected) in [
        ("localhost:9090", 200),
        ("10.1.2.3:9090", 200),
        ("wheelport.tools.svc", 200),
        ("index.example.org", 200),
        ("attacker.example.org", 421),
    ] {
        for path in ["/status", "/metrics"] {
            let response = proxy.ops.get(path).header("host", host).send().await;
            assert_eq!(response.status, expected, "{path} {host}");
        }
        let purge = proxy.ops.ask("POST", "/purge?route=main&project=a").header("host", host).send().await;
        assert_eq!(purge.status, expected, "{host}");
        proxy.ops.get("/healthz").header("host", host).send().await.expect(200);
    }
}

#[tokio::test]
async fn operations_may_take_a_secret_and_metrics_one_of_their_own() {
    let secret = |text| SecretDigest::of(text).expect("a secret");
    let (bearer, basic) = ("Bearer hunter2", "Basic dXNlcjpodW50ZXIy");
    for metrics in [None, Some(secret("scraper"))] {
        let secrets = OperatorSecrets { operations: Some(secret(" hunter2\n")), metrics: metrics.clone() };
        let proxy = Proxy::builder().set(|builder| builder.operators = secrets).start_blind().await;
        let status = async |credentials: Option<&str>, method: &str, path: &str| {
            let ask = proxy.ops.ask(method, path);
            let ask = match credentials {
                Some(credentials) => ask.header("authorization", credentials),
                None => ask,
            };
            ask.send().await.status
        };
        for (method, path) in [("GET", "/status"), ("POST", "/purge?route=main&project=a")] {
            for wrong in [None, Some("Bearer hunter"), Some("Bearer scraper"), Some("Basic hunter2"), Some("hunter2")] {
                assert_eq!(status(wrong, method, path).await, 401, "{method} {path} {wrong:?}");
            }
            for right in [bearer, basic] {
                assert_eq!(status(Some(right), method, path).await, 200, "{method} {path} {right}");
            }
        }
        let open = metrics.is_none();
        assert_eq!(status(None, "GET", "/metrics").await, if open { 200 } else { 401 });
        assert_eq!(status(Some("Bearer scraper"), "GET", "/metrics").await, 200);
        assert_eq!(status(None, "GET", "/healthz").await, 200);
        let refused = proxy.ops.get("/status").send().await.expect(401);
        assert!(refused.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Basic ")));
    }
}

#[tokio::test]
async fn the_start_page_names_the_address_it_was_requested_under() {
    let proxy = Proxy::start().await;
    let page = proxy.get("/").header("host", "index.internal:8443").send().await.expect(200);
    page.expect_headers(&[
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "*"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "*"),
        ("referrer-policy", "no-referrer"),
    ]);
    let text = page.text();
    assert!(text.contains("http://index.internal:8443/simple/"), "{text}");
    assert!(text.contains("acme") && text.matches("<script").count() == 1, "that of all pages, by its digest");
    // Only a trusted proxy may say that it was https.
    let claimed = proxy.get("/").header("x-forwarded-proto", "https").send().await.expect(200);
    assert!(!claimed.text().contains("https://127.0.0.1"), "{}", claimed.text());
}

#[tokio::test]
async fn a_token_is_never_exposed() {
    let builder = Proxy::builder().set(|builder| builder.client.response_timeout = HumanDuration::millis(1500));
    let (proxy, wheel) = (builder.start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    // An upstream that echoes what it was sent wherever it can.
    let echo = |status: u16| {
        Reply::with(move |seen| {
            let token = seen.header("authorization").unwrap_or_default().to_owned();
            Reply::status(status)
                .header("x-echo", token.clone())
                .header("www-authenticate", token.clone())
                .header("content-type", "application/json")
                .body(json!({"message": format!("{token} canary-1")}).to_string())
        })
    };
    let mut outputs = Vec::new();
    // Before upstream throttles: a request that fetches nothing cannot leak anything.
    for target in [HERE, &wheel.path(), "/", "/readyz", "/simple/", "/a-b/json"] {
        outputs.push(proxy.get(target).send().await);
    }
    for status in [200, 400, 403, 404, 500, 429] {
        let name = format!("echo{status}");
        proxy.upstream.on(&format!("GET /pypi/r/simple/{name}/"), echo(status));
        outputs.push(proxy.get(&format!("/simple/{name}/")).json().send().await);
    }
    for target in ["/metrics", "/status", "/readyz"] {
        outputs.push(proxy.ops.get(target).send().await);
    }
    let encoded = "YXdzOmNhbmFyeS";
    for response in outputs {
        let whole = format!("{} {:?} {}", response.reason, response.headers, response.text());
        assert!(!whole.contains(CANARY) && !whole.contains(encoded), "{whole}");
    }
    proxy.pass(Duration::from_millis(10)).await;
    let written = async || Some(files_below(proxy.dir.path())).filter(|kept| kept.len() > 3);
    let kept = until("what was fetched is on disk", written).await;
    for path in kept {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found(CANARY) && !found(encoded), "{}", path.display());
    }
}

//! Pages that are fetched before a client requests them: which, how often, and that no client notices a failure.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use wheelport::cache::Prefetch;
use wheelport_runtime::HumanDuration;

use crate::support::client::until;
use crate::support::proxy::{Builder, Proxy};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::wheels::{PAGE, Sample, document, publish, zipped};

const C: &str = "GET /pypi/r/simple/c/";
const D: &str = "GET /pypi/r/simple/d/";

/// A wheel of `a-b` that needs these.
fn needing(version: &str, requirements: &[&str]) -> Sample {
    let mut lines = vec!["Metadata-Version: 2.1".to_owned(), "Name: a-b".to_owned(), format!("Version: {version}")];
    lines.extend(requirements.iter().map(|requirement| format!("Requires-Dist: {requirement}")));
    let metadata = lines.join("\n") + "\n\n";
    let entry = format!("a_b-{version}.dist-info/METADATA");
    let bytes = zipped(&[("a_b/__init__.py", b""), (&entry, metadata.as_bytes())]);
    Sample::file(version, &format!("a_b-{version}-py3-none-any.whl"), bytes)
}

fn page_of(project: &str) -> Reply {
    let file = json!({"filename": format!("{project}-1.0-py3-none-any.whl"), "url": "1.0/x.whl",
        "hashes": {"sha256": "0".repeat(64)}});
    document(&json!({"meta": {"api-version": "1.1"}, "name": project, "files": [file]}))
}

fn lists(upstream: &Scripted, project: &str) {
    upstream.on(&format!("GET /pypi/r/simple/{project}/"), page_of(project));
}

async fn read_metadata(proxy: &Proxy, wheel: &Sample) {
    proxy.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
}

/// Resolves when this many prefetches have had this outcome.
async fn ended(proxy: &Proxy, result: &str, count: usize) {
    let line = format!("wheelport_prefetches_total{{result=\"{result}\"}} {count}\n");
    until(&line, async || proxy.metrics().await.contains(&line).then_some(())).await;
}

/// Everything requested from upstream, sorted.
fn asked(proxy: &Proxy) -> Vec<String> {
    let mut asked: Vec<_> =
        proxy.upstream.requests().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    asked.sort();
    asked
}

#[tokio::test]
async fn unconditional_dependencies_are_fetched_once_in_the_background() {
    let (proxy, gate) = (Proxy::start().await, Gate::closed());
    let wheel = needing(
        "1.0",
        &["C>=1", "d[extra] (>2)", "e; python_version > '3'", "f @ https://files.example.org/f.whl", "A.b[x]"],
    );
    publish(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(C, page_of("c").before_head(&gate));
    lists(&proxy.upstream, "d");
    join_all((0..10).map(|_| read_metadata(&proxy, &wheel))).await;
    gate.reached().await;
    gate.open();
    ended(&proxy, "fetched", 2).await;
    read_metadata(&proxy, &wheel).await;
    for page in ["/simple/c/", "/simple/d/"] {
        let response = proxy.get(page).json().send().await.expect(200);
        assert_eq!(response.header("cache-status"), Some("wheelport; hit"), "{page}");
    }
    assert_eq!(asked(&proxy), [PAGE, &wheel.upstream(), C, D]);
}

#[tokio::test]
async fn a_prefetch_triggers_no_further_prefetch() {
    let proxy = Proxy::start().await;
    let (first, second) = (needing("1.0", &["c"]), needing("2.0", &["c", "d"]));
    publish(&proxy.upstream, &[&first, &second]);
    lists(&proxy.upstream, "c");
    read_metadata(&proxy, &first).await;
    ended(&proxy, "fetched", 1).await;
    assert_eq!(asked(&proxy), [PAGE, &first.upstream(), C], "neither the wheel of c nor what it needs");
    // Nor does a wheel that is downloaded by itself: a client with a lock file requests no pages.
    proxy.get(&second.path()).send().await.expect(200);
    proxy.kept_by("metadata", 2).await;
    a_while(&proxy).await;
    assert_eq!(asked(&proxy), [PAGE, &first.upstream(), &second.upstream(), C]);
}

#[tokio::test]
async fn what_is_cached_or_was_requested_recently_is_not_prefetched() {
    let proxy = Proxy::start().await;
    let [first, second, third] = ["1.0", "2.0", "3.0"].map(|version| needing(version, &["c", "d"]));
    publish(&proxy.upstream, &[&first, &second, &third]);
    lists(&proxy.upstream, "c");
    proxy.upstream.on(D, Reply::status(404));
    proxy.get("/simple/c/").send().await.expect(200);
    read_metadata(&proxy, &first).await;
    ended(&proxy, "missing", 1).await;
    proxy.get("/simple/d/").send().await.expect(404);
    // Whether the missing project is missing was seen by asking for one of the two that exist.
    let asked = proxy.asked(C);
    // Long enough for another request upstream, had a client asked for the missing project.
    proxy.pass(Duration::from_secs(40)).await;
    read_metadata(&proxy, &second).await;
    proxy.get("/simple/c/").send().await.expect(200);
    a_while(&proxy).await;
    assert!(asked <= 2);
    assert_eq!((proxy.asked(C), proxy.asked(D)), (asked, 1));
    // Later it is fetched again, because the cached page is too old to be served without a refresh.
    proxy.pass(Duration::from_mins(15)).await;
    read_metadata(&proxy, &third).await;
    proxy.asked_by(C, asked + 1).await;
    proxy.asked_by(D, 2).await;
}

#[tokio::test]
async fn a_failed_prefetch_fails_no_request() {
    let (proxy, gate) = (Proxy::start().await, Gate::closed());
    let wheel = needing("1.0", &["c", "d"]);
    publish(&proxy.upstream, &[&wheel]);
    let broken = || Reply::ok("<x/>").header("content-type", "application/xml");
    proxy.upstream.on_each(C, [broken(), page_of("c")]);
    proxy.upstream.on_each(D, [broken().before_head(&gate), page_of("d")]);
    read_metadata(&proxy, &wheel).await;
    ended(&proxy, "failed", 1).await;
    proxy.get("/simple/c/").send().await.expect(200);
    assert_eq!(proxy.asked(C), 2);
    // A request that arrives during the failure waits for another attempt.
    gate.reached().await;
    let under_way = async {
        let line = "wheelport_requests_in_flight 1\n";
        until("a request", async || proxy.metrics().await.contains(line).then_some(())).await;
        gate.open();
    };
    let (response, ()) = tokio::join!(proxy.get("/simple/d/").send(), under_way);
    response.expect(200);
    ended(&proxy, "failed", 2).await;
    assert_eq!(proxy.asked(D), 2);
}

/// Much longer than it takes to start a prefetch: that many requests one after the other.
async fn a_while(proxy: &Proxy) {
    for _ in 0..20 {
        proxy.metrics().await;
    }
}

/// Reads metadata that needs `c`, waits a while, and says whether `c` was requested.
async fn is_prefetched(builder: Builder) -> bool {
    let (proxy, wheel) = (builder.start().await, needing("1.0", &["c"]));
    publish(&proxy.upstream, &[&wheel]);
    lists(&proxy.upstream, "c");
    read_metadata(&proxy, &wheel).await;
    a_while(&proxy).await;
    proxy.asked(C) > 0
}

#[tokio::test]
async fn it_can_be_turned_off() {
    assert!(is_prefetched(Proxy::builder()).await);
    assert!(!is_prefetched(Proxy::builder().set(|with| with.cache.prefetch = Some(Prefetch::Off))).await);
}

#[tokio::test]
async fn it_leaves_a_nearly_exhausted_budget_alone() {
    let with_budget = |burst| {
        let settings = move |with: &mut Builder| {
            with.client.request_rate = NonZeroU32::MIN;
            with.client.request_burst = NonZeroU32::new(burst).expect("not zero");
        };
        Proxy::builder().set(settings)
    };
    // The page and the wheel take two.
    assert!(is_prefetched(with_budget(4)).await);
    assert!(!is_prefetched(with_budget(3)).await);
}

#[tokio::test]
async fn nothing_starts_while_the_process_drains() {
    let draining = Proxy::builder().set(|with| with.server.drain_delay = HumanDuration::secs(30));
    let (proxy, wheel) = (draining.start().await, needing("1.0", &["c"]));
    publish(&proxy.upstream, &[&wheel]);
    lists(&proxy.upstream, "c");
    proxy.begin_stop();
    until("draining", async || (proxy.get("/readyz").send().await.status == 503).then_some(())).await;
    read_metadata(&proxy, &wheel).await;
    a_while(&proxy).await;
    assert_eq!(asked(&proxy), [PAGE, &wheel.upstream()]);
}

//! What is fetched because of what pip and uv say of themselves: the metadata that they will ask for, and the wheel.

use serde_json::json;
use wheelport::cache::Prefetch;

use crate::support::client::{Response, until};
use crate::support::proxy::{Builder, Proxy};
use crate::support::wheels::{Sample, document, list, metadata, noise, publish, ranged, zipped};

const HERE: &str = "/simple/a-b/";
const PIP: &str = r#"pip/26.3 {"cpu":"x86_64","distro":{"libc":{"lib":"glibc","version":"2.36"},"version":"12"},
"implementation":{"name":"CPython"},"installer":{"name":"pip"},"python":"3.11.7","system":{"name":"Linux"}}"#;

fn pip() -> String {
    PIP.replace('\n', "")
}

fn uv_lock() -> String {
    pip().replace("pip/26.3", "uv/0.13").replace(r#"{"name":"pip"}"#, r#"{"name":"uv","subcommand":["lock"]}"#)
}

/// A wheel at an upstream that honours ranges.
fn offers(proxy: &Proxy, wheel: &Sample) {
    proxy.upstream.on(&wheel.upstream(), ranged(&wheel.bytes));
}

async fn with_versions(builder: Builder) -> (Proxy, Sample, Sample) {
    let proxy = builder.start().await;
    let (old, new) = (Sample::wheel_of("1.0", 100_000), Sample::wheel_of("2.0", 100_000));
    list(&proxy.upstream, &[&old, &new]);
    offers(&proxy, &old);
    offers(&proxy, &new);
    (proxy, old, new)
}

fn ahead() -> Builder {
    Proxy::builder().set(|with| with.cache.prefetch = Some(Prefetch::Metadata))
}

async fn get(proxy: &Proxy, path: &str, agent: &str) -> Response {
    proxy.get(path).json().header("user-agent", agent).send().await.expect(200)
}

async fn counted(proxy: &Proxy, line: &str) {
    until(line, async || proxy.metrics().await.contains(&format!("{line}\n")).then_some(())).await;
}

/// Longer than it takes to begin anything: that many requests one after the other.
async fn a_while(proxy: &Proxy) {
    for _ in 0..50 {
        get(proxy, HERE, "curl/8").await;
    }
}

#[tokio::test]
async fn the_metadata_that_pip_will_choose_is_there_before_it_asks_and_the_wheel_follows() {
    let (proxy, _, new) = with_versions(ahead()).await;
    get(&proxy, HERE, &pip()).await;
    proxy.asked_by(&new.upstream(), 1).await;
    proxy.kept_by("metadata", 1).await;
    let path = format!("{}.metadata", new.path());
    let response = get(&proxy, &path, &pip()).await;
    assert_eq!((response.text(), response.header("cache-status")), (metadata("2.0"), Some("wheelport; hit")));
    counted(&proxy, "wheelport_metadata_guesses_total{result=\"right\"} 1").await;
    proxy.kept_by("blobs", 1).await;
    assert_eq!(proxy.asked(&new.upstream()), 2, "the end, and the wheel");
    let response = proxy.get(&new.path()).header("user-agent", &pip()).send().await.expect(200);
    assert_eq!((response.body.len(), proxy.asked(&new.upstream())), (new.bytes.len(), 2));
}

#[tokio::test]
async fn a_small_wheel_is_guessed_as_a_whole_and_its_dependencies_are_fetched_when_pip_asks() {
    let (proxy, wheel) = (ahead().start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let (c, there) = ("GET /pypi/r/simple/c/", json!({"meta": {"api-version": "1.1"}, "name": "c", "files": []}));
    proxy.upstream.on(c, document(&there));
    get(&proxy, HERE, &pip()).await;
    proxy.kept_by("metadata", 1).await;
    assert_eq!(proxy.asked(c), 0, "a guess leads to nothing further");
    let response = get(&proxy, &format!("{}.metadata", wheel.path()), &pip()).await;
    assert_eq!(response.header("cache-status"), Some("wheelport; hit"));
    proxy.asked_by(c, 1).await;
    counted(&proxy, "wheelport_metadata_guesses_total{result=\"right\"} 1").await;
    assert_eq!(proxy.asked(&wheel.upstream()), 1);
}

#[tokio::test]
async fn where_uv_locks_the_metadata_of_the_first_wheel_is_there_and_so_are_pages_for_other_platforms() {
    let proxy = ahead().start().await;
    let wheel = |tags: &str| {
        let more = "\nRequires-Dist: e; sys_platform == 'win32'\nRequires-Dist: d; extra == 'x'\n\n";
        let text = metadata("2.0").replacen("\n\n", more, 1);
        let entries = [("filling", &*noise(100_000)), ("a_b-2.0.dist-info/METADATA", text.as_bytes())];
        Sample::file("2.0", &format!("a_b-2.0-{tags}.whl"), zipped(&entries))
    };
    let (first, fitting) = (wheel("cp313-cp313-win32"), wheel("cp311-cp311-manylinux_2_17_x86_64"));
    list(&proxy.upstream, &[&first, &fitting]);
    offers(&proxy, &first);
    let there = |name: &str| document(&json!({"meta": {"api-version": "1.1"}, "name": name, "files": []}));
    let [c, d, e] = ["c", "d", "e"].map(|name| format!("GET /pypi/r/simple/{name}/"));
    // All of them, because nothing is prefetched for a while after an error of upstream.
    proxy.upstream.on(&c, there("c")).on(&d, there("d")).on(&e, there("e"));
    get(&proxy, HERE, &uv_lock()).await;
    proxy.kept_by("metadata", 1).await;
    get(&proxy, &format!("{}.metadata", first.path()), &uv_lock()).await;
    counted(&proxy, "wheelport_metadata_guesses_total{result=\"right\"} 1").await;
    proxy.asked_by(&e, 1).await;
    a_while(&proxy).await;
    assert_eq!((proxy.asked(&d), proxy.asked(&fitting.upstream())), (0, 0));
    assert!(proxy.kept("blobs").is_empty(), "it installs nothing");
}

#[tokio::test]
async fn a_client_that_only_locks_gets_no_wheel_and_a_wrong_guess_is_counted() {
    let (proxy, old, new) = with_versions(ahead()).await;
    get(&proxy, HERE, &pip()).await;
    proxy.asked_by(&new.upstream(), 1).await;
    get(&proxy, &format!("{}.metadata", old.path()), &uv_lock()).await;
    counted(&proxy, "wheelport_metadata_guesses_total{result=\"wrong\"} 1").await;
    a_while(&proxy).await;
    assert_eq!((proxy.asked(&old.upstream()), proxy.asked(&new.upstream())), (1, 1));
    assert!(proxy.kept("blobs").is_empty());
}

#[tokio::test]
async fn nothing_is_guessed_for_other_clients_or_where_it_is_off_or_where_ranges_are_not_known_to_work() {
    for (mode, agent) in [
        (Some(Prefetch::Metadata), "curl/8".to_owned()),
        (Some(Prefetch::Pages), pip()),
        (Some(Prefetch::Off), pip()),
        (None, pip()),
    ] {
        let (proxy, old, new) = with_versions(Proxy::builder().set(|with| with.cache.prefetch = mode)).await;
        get(&proxy, HERE, &agent).await;
        a_while(&proxy).await;
        assert_eq!((proxy.asked(&old.upstream()), proxy.asked(&new.upstream())), (0, 0), "{mode:?} {agent}");
    }
}

#[tokio::test]
async fn by_default_metadata_is_guessed_once_ranges_have_been_honoured() {
    let (proxy, old, new) = with_versions(Proxy::builder()).await;
    get(&proxy, &format!("{}.metadata", old.path()), "curl/8").await;
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    get(&proxy, HERE, &pip()).await;
    proxy.asked_by(&new.upstream(), 1).await;
    assert_eq!(proxy.asked(&old.upstream()), 1);
}

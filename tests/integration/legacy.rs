//! The older JSON interface, which some tools use to look up digests.

use serde_json::json;

use crate::support::client::Client;
use crate::support::proxy::Proxy;
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, Sample, document, page, publish};

#[tokio::test]
async fn every_shape_of_the_address_gives_the_same_document_with_digests() {
    let proxy = Proxy::start().await;
    let (wheel, sdist) = (Sample::wheel(), Sample::sdist("0.9", 100));
    publish(&proxy.upstream, &[&sdist, &wheel]);
    let first = proxy.get("/a-b/json").header("host", "localhost:1234").send().await.expect(200);
    first.expect_headers(&[
        ("content-type", "application/json"),
        ("content-length", "*"),
        ("etag", "*"),
        ("cache-control", "no-cache"),
        ("vary", "Host"),
        ("cache-status", "wheelport; fwd=miss; stored"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "*"),
    ]);
    let document = first.value();
    assert_eq!((&document["info"]["name"], &document["info"]["version"]), (&json!("a-b"), &json!("1.0")));
    let entry = &document["releases"]["1.0"][0];
    assert_eq!(entry, &document["urls"][0]);
    assert_eq!(entry["digests"], json!({"sha256": wheel.sha256()}));
    assert_eq!(entry["packagetype"], "bdist_wheel");
    assert_eq!(document["releases"]["0.9"][0]["packagetype"], "sdist");
    assert_eq!(entry["url"], format!("http://localhost:1234/simple/a-b/1.0/{}", wheel.name));
    let etag = first.header("etag").expect("an etag");
    proxy.get("/a-b/json").header("host", "localhost:1234").header("if-none-match", etag).send().await.expect(304);
    // The addresses lie below the requested index, because tools compare them with those of its page.
    let routed = first.text().replace("/simple/", "/pypi/main/simple/");
    for (target, expected) in [
        ("/pypi/a-b/json", &first.text()),
        ("/pypi/A.B/json", &first.text()),
        ("//a-b//json", &first.text()),
        ("/pypi/main/a-b/json", &routed),
        ("/pypi/main/pypi/a-b/json", &routed),
    ] {
        let other = proxy.get(target).header("host", "localhost:1234").send().await.expect(200);
        assert_eq!(&other.text(), expected, "{target}");
    }
    assert_eq!(proxy.asked(PAGE), 1);
}

#[tokio::test]
async fn the_address_of_a_file_in_it_works() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let document = proxy.get("/a-b/json").send().await.expect(200).value();
    let url = url::Url::parse(document["urls"][0]["url"].as_str().expect("an address")).expect("absolute");
    let address = url.socket_addrs(|| None).expect("an address")[0];
    assert_eq!(Client(address).get(url.path()).send().await.expect(200).body, wheel.bytes);
}

#[tokio::test]
async fn one_version_alone_and_what_does_not_exist() {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::sdist("0.9", 100), &Sample::wheel()]);
    for target in ["/a-b/0.9/json", "/pypi/a-b/0.9/json", "/pypi/main/pypi/a-b/0.9.0/json"] {
        let document = proxy.get(target).send().await.expect(200).value();
        assert_eq!(document["info"]["version"], "0.9", "{target}");
        let releases = document["releases"].as_object().expect("releases");
        assert_eq!(releases.keys().collect::<Vec<_>>(), ["0.9"], "{target}");
    }
    let response = proxy.get("/a-b/7.7/json").send().await.expect(404);
    assert_eq!(response.value()["code"], "no-such-version");
    proxy.upstream.on("GET /pypi/r/simple/none/", Reply::status(404));
    let response = proxy.get("/none/json").send().await.expect(404);
    assert_eq!(response.value()["code"], "no-such-project");
}

#[tokio::test]
async fn versions_are_those_of_upstream_however_old_names_are_spelled() {
    let proxy = Proxy::start().await;
    let file = |version: &str, name: &str| Sample::file(version, name, name.as_bytes().to_vec());
    let samples = [
        file("1.0.2", "a-b-1.0.2.tar.gz"),
        file("1.0.2.post2", "a-b-1.0.2-2.tar.gz"),
        file("1.0.3", "a-b-1.0.3.tar.gz"),
    ];
    let versions = json!(["1.0.2", "1.0.2.post2", "1.0.3"]);
    let entries: Vec<_> = samples.iter().map(Sample::entry).collect();
    proxy.upstream.on(PAGE, document(&json!({"versions": versions, "files": entries})));
    assert_eq!(proxy.get("/simple/a-b/").json().send().await.expect(200).value()["versions"], versions);
    let legacy = proxy.get("/a-b/json").send().await.expect(200).value();
    assert_eq!(legacy["info"]["version"], "1.0.3");
    assert_eq!(legacy["releases"]["1.0.2.post2"][0]["filename"], samples[1].name);
    proxy.get("/a-b/2/json").send().await.expect(404);
}

#[tokio::test]
async fn an_upstream_that_fails_is_503_here_too() {
    let proxy = Proxy::start().await;
    proxy.upstream.on(PAGE, Reply::raw(""));
    proxy.get("/a-b/json").send().await.expect_unavailable("unavailable-broken");
    proxy.upstream.on(PAGE, page(&[]));
    let empty = proxy.get("/a-b/json").send().await;
    assert_ne!(empty.status, 503, "upstream's word counts again at once");
}

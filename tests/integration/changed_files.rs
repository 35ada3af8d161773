//! Other bytes under the same name: the operator hears of it, refuses it where that is wanted, and may accept it.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use wheelport::flow::ChangedFilePolicy;
use wheelport_runtime::HumanDuration;

use crate::support::client::{Response, until};
use crate::support::proxy::{Builder, Proxy};
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, Sample, list, metadata, page, publish};

const HERE: &str = "/simple/a-b/";
const ACCEPT: &str = "/accept?route=main&project=A.b&reason=rebuilt";

fn refusing() -> Builder {
    Proxy::builder().set(|builder| builder.changed_files = ChangedFilePolicy::Refuse)
}

/// The same name with other bytes of the same length.
fn changed(sample: &Sample) -> Sample {
    let mut bytes = sample.bytes.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    Sample { bytes: bytes.into(), ..sample.clone() }
}

/// Deletes the files and publishes others under their names; the page is asked for again.
async fn replace(proxy: &Proxy, samples: &[&Sample]) {
    publish(&proxy.upstream, samples);
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
}

async fn metric(proxy: &Proxy, name: &str) -> u64 {
    let line = format!("{name}{{route=\"main\"}} ");
    let metrics = proxy.metrics().await;
    let value = |found: &str| found.strip_prefix(&line)?.split('.').next()?.parse().ok();
    metrics.lines().find_map(value).expect("a metric")
}

/// Changes that are not accepted, and changes that were noticed.
async fn counts(proxy: &Proxy) -> (u64, u64) {
    (metric(proxy, "wheelport_changed_files").await, metric(proxy, "wheelport_file_changes_total").await)
}

async fn digest_on_page(proxy: &Proxy) -> Value {
    let page = proxy.get(HERE).json().send().await.expect(200).value();
    page["files"][0]["hashes"]["sha256"].clone()
}

/// Removes the only stored file, as eviction does. A download that is still being committed would serve its bytes.
async fn evict(proxy: &Proxy) {
    let blob = proxy.kept_by("blobs", 1).await.remove(0);
    let idle = "wheelport_downloads_in_flight 0";
    until("the end of downloads", async || proxy.metrics().await.lines().any(|line| line == idle).then_some(())).await;
    fs::remove_file(blob).expect("a stored file");
}

async fn get(proxy: &Proxy, sample: &Sample) -> Response {
    proxy.get(&sample.path()).send().await
}

#[tokio::test]
async fn a_change_is_served_and_alarmed_once() {
    let (proxy, old) = (Proxy::start().await, Sample::wheel());
    let new = changed(&old);
    publish(&proxy.upstream, &[&old]);
    assert_eq!(get(&proxy, &old).await.expect(200).body, old.bytes);
    assert_eq!(counts(&proxy).await, (0, 0));
    for _ in 0..2 {
        replace(&proxy, &[&new]).await;
        assert_eq!(digest_on_page(&proxy).await, new.sha256());
        assert_eq!(get(&proxy, &new).await.expect(200).body, new.bytes);
        assert_eq!(counts(&proxy).await, (1, 1));
    }
    let status = proxy.ops.get("/status").send().await.expect(200).value();
    let listed = &status["routes"][0]["changed_files"];
    assert_eq!(listed["number"], 1);
    let file = &listed["files"][0];
    assert_eq!((&file["project"], &file["file"]), (&json!("a-b"), &json!(old.name)));
    assert_eq!(file["was"], format!("sha256={}", old.sha256()));
    assert_eq!(file["now"], format!("sha256={}", new.sha256()));
    // Neither a restart nor an empty cache is a new first time, nor another alarm.
    let again = proxy.stop().await;
    let proxy = again.start().await;
    proxy.get(HERE).send().await.expect(200);
    assert_eq!(counts(&proxy).await, (1, 0));
    replace(&proxy, &[&old]).await;
    assert_eq!(digest_on_page(&proxy).await, old.sha256());
    assert_eq!(counts(&proxy).await, (0, 0), "upstream is back at the first bytes");
}

#[tokio::test]
async fn refused_bytes_are_served_by_no_way_while_the_known_ones_are() {
    let old = Sample::wheel();
    let (mut proxy, new) = (refusing().start().await, changed(&old));
    publish(&proxy.upstream, &[&old]);
    assert_eq!(get(&proxy, &old).await.expect(200).body, old.bytes);
    let metadata_path = format!("{}.metadata", old.path());
    assert_eq!(proxy.get(&metadata_path).send().await.expect(200).text(), metadata("1.0"));
    proxy.kept_by("blobs", 1).await;
    proxy.kept_by("metadata", 1).await;

    replace(&proxy, &[&new]).await;
    for restarted in [false, true] {
        // The pair of page and file is the known one.
        assert_eq!(digest_on_page(&proxy).await, old.sha256(), "{restarted}");
        assert_eq!(get(&proxy, &old).await.expect(200).body, old.bytes);
        let head = proxy.head(&old.path()).send().await.expect(200);
        assert_eq!(head.header("etag"), Some(&*old.tag()));
        let part = proxy.get(&old.path()).header("range", "bytes=1-9").send().await.expect(206);
        assert_eq!(part.body, old.bytes.slice(1..10));
        proxy.get(&old.path()).header("if-none-match", &old.tag()).send().await.expect(304);
        assert_eq!(proxy.get(&metadata_path).send().await.expect(200).text(), metadata("1.0"));
        assert_eq!(counts(&proxy).await.0, 1);
        proxy = proxy.stop().await.start().await;
    }
    assert_eq!(proxy.asked(&old.upstream()), 1, "the new bytes were never fetched");
}

/// Every way to a file is 403 with the reason.
async fn expect_refused(proxy: &Proxy, sample: &Sample) {
    let (path, metadata) = (sample.path(), format!("{}.metadata", sample.path()));
    for ask in [
        proxy.get(&path),
        proxy.get(&path).header("range", "bytes=0-9"),
        proxy.get(&path).header("if-none-match", &sample.tag()),
        proxy.get(&format!("/pypi/main{path}")),
        proxy.head(&path),
        proxy.get(&metadata),
        proxy.head(&metadata),
    ] {
        let response = ask.send().await.expect(403);
        assert!(response.reason.contains("other bytes") && response.reason.contains(&sample.name), "{response:?}");
        if response.body.is_empty() {
            continue;
        }
        let problem = response.value();
        assert_eq!((&problem["code"], &problem["title"]), (&json!("changed-file"), &json!("Forbidden")));
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("wheelport cache accept")));
    }
}

#[tokio::test]
async fn without_the_known_bytes_a_changed_file_is_403_by_every_way() {
    let old = Sample::wheel();
    let (proxy, new) = (refusing().start().await, changed(&old));
    // Seen, never fetched.
    list(&proxy.upstream, &[&old]);
    proxy.get(HERE).send().await.expect(200);
    replace(&proxy, &[&new]).await;
    let listed = proxy.get(HERE).json().send().await.expect(200).value();
    assert_eq!(listed["files"][0]["hashes"]["sha256"], old.sha256(), "it stays on the page");
    assert_eq!(listed["files"][0]["core-metadata"], Value::Null, "metadata that cannot be had is not advertised");
    expect_refused(&proxy, &new).await;
    let legacy = proxy.get("/pypi/a-b/json").send().await.expect(200).value();
    assert_eq!(legacy["urls"][0]["digests"]["sha256"], old.sha256());

    // After a restart too, from the page on disk, while upstream is away.
    proxy.upstream.on(PAGE, Reply::raw(""));
    let proxy = proxy.stop().await.start().await;
    expect_refused(&proxy, &new).await;
    assert_eq!(proxy.asked(&new.upstream()), 0);
}

#[tokio::test]
async fn an_evicted_file_is_not_replaced_by_other_bytes() {
    let old = Sample::sdist("1.0", 5000);
    let (proxy, new) = (refusing().start().await, changed(&old));
    publish(&proxy.upstream, &[&old]);
    assert_eq!(get(&proxy, &old).await.expect(200).body, old.bytes);
    let blob = proxy.kept_by("blobs", 1).await.remove(0);
    let again = proxy.stop().await;
    // What eviction and `cache clear` leave.
    fs::remove_file(blob).expect("a stored file");
    for page in ["blobs", "pages"] {
        let _ = fs::remove_dir_all(again_dir(&again).join(page));
    }
    let proxy = again.start().await;
    publish(&proxy.upstream, &[&new]);
    expect_refused_file(&proxy, &new).await;
    proxy.ops.ask("POST", ACCEPT).send().await.expect(200);
    assert_eq!(get(&proxy, &new).await.expect(200).body, new.bytes);
}

fn again_dir(again: &Builder) -> std::path::PathBuf {
    again.directory().join("cache")
}

async fn expect_refused_file(proxy: &Proxy, sample: &Sample) {
    let refused = get(proxy, sample).await.expect(403);
    assert_eq!(refused.value()["code"], "changed-file");
}

#[tokio::test]
async fn an_accepted_change_is_served_at_once_and_after_a_restart_and_the_next_one_is_refused() {
    let old = Sample::wheel();
    let (proxy, new) = (refusing().start().await, changed(&old));
    list(&proxy.upstream, &[&old]);
    proxy.get(HERE).send().await.expect(200);
    replace(&proxy, &[&new]).await;
    expect_refused_file(&proxy, &new).await;

    for (target, status) in [
        ("/accept?route=main&project=a-b", 400),
        ("/accept?route=main&project=a-b&reason=%20", 400),
        ("/accept?route=typo&project=a-b&reason=x", 404),
        ("/accept?route=main&project=-&reason=x", 404),
        ("/accept?route=main&project=a-b&reason=x&file=..%2Fx", 400),
        ("/accept?route=main&project=a-b&reason=x&file=a_b-2.0.tar.gz", 404),
        ("/accept?route=main&project=other&reason=x", 404),
    ] {
        proxy.ops.ask("POST", target).send().await.expect(status);
        proxy.client().ask("POST", target).send().await.expect(404);
    }
    for (header, value) in [("origin", "https://attacker.example.org"), ("sec-fetch-site", "cross-site")] {
        proxy.ops.ask("POST", ACCEPT).header(header, value).send().await.expect(403);
    }
    proxy.ops.ask("POST", ACCEPT).header("host", "attacker.example.org").send().await.expect(421);
    proxy.ops.get(ACCEPT).send().await.expect(405);
    expect_refused_file(&proxy, &new).await;

    let accepted = format!("{ACCEPT}&by=ops&file={}", new.name);
    let accepted = proxy.ops.ask("POST", &accepted).send().await.expect(200).value();
    assert_eq!(accepted["accepted"][0]["now"], format!("sha256={}", new.sha256()));
    assert_eq!(counts(&proxy).await, (0, 1));
    assert_eq!(digest_on_page(&proxy).await, new.sha256());
    assert_eq!(get(&proxy, &new).await.expect(200).body, new.bytes);
    proxy.ops.ask("POST", ACCEPT).send().await.expect(404);

    let proxy = proxy.stop().await.start().await;
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    assert_eq!(digest_on_page(&proxy).await, new.sha256());
    replace(&proxy, &[&old]).await;
    assert_eq!(digest_on_page(&proxy).await, new.sha256(), "the accepted bytes are the known ones now");
    assert_eq!(counts(&proxy).await, (1, 1));
}

#[tokio::test]
async fn a_file_published_again_behind_a_held_page_is_right_in_the_same_request_or_the_next() {
    let old = Sample::sdist("1.0", 50_000);
    let longer = Sample::sdist("1.0", 50_001);
    let proxy = Proxy::start().await;
    list(&proxy.upstream, &[&old]);
    proxy.get(HERE).send().await.expect(200);
    // Of another length: nothing was sent yet, so the same request gets it.
    publish(&proxy.upstream, &[&longer]);
    assert_eq!(get(&proxy, &longer).await.expect(200).body, longer.bytes);
    // Of the same length: that shows at the end, so it is the next request.
    let same_length = changed(&longer);
    evict(&proxy).await;
    publish(&proxy.upstream, &[&same_length]);
    proxy.get(&same_length.path()).send().await.expect_broken();
    assert_eq!(get(&proxy, &same_length).await.expect(200).body, same_length.bytes);
    assert_eq!(digest_on_page(&proxy).await, same_length.sha256());
    assert_eq!(proxy.asked(PAGE), 3);
    assert_eq!(counts(&proxy).await, (1, 2));
}

#[tokio::test]
async fn a_file_past_the_cache_that_was_published_again_is_right_in_the_next_request() {
    let old = Sample::sdist("1.0", 3 << 20);
    let builder = Proxy::builder().set(|builder| builder.cache.max_size = wheelport_runtime::Size::mib(1));
    let (proxy, new) = (builder.start().await, changed(&old));
    list(&proxy.upstream, &[&old]);
    proxy.get(HERE).send().await.expect(200);
    publish(&proxy.upstream, &[&new]);
    proxy.get(&new.path()).send().await.expect_broken();
    assert_eq!(get(&proxy, &new).await.expect(200).body, new.bytes);
}

#[tokio::test]
async fn where_changes_are_refused_a_held_page_lets_no_other_bytes_through() {
    let old = Sample::sdist("1.0", 50_000);
    let (proxy, longer) = (refusing().start().await, Sample::sdist("1.0", 50_001));
    list(&proxy.upstream, &[&old]);
    proxy.get(HERE).send().await.expect(200);
    publish(&proxy.upstream, &[&longer]);
    expect_refused_file(&proxy, &longer).await;
    assert_eq!(counts(&proxy).await, (1, 1));
}

#[tokio::test]
async fn a_page_that_drops_its_digest_does_not_hide_a_change() {
    let old = Sample::sdist("1.0", 5000);
    let (proxy, new) = (refusing().start().await, changed(&old));
    publish(&proxy.upstream, &[&old]);
    proxy.get(HERE).send().await.expect(200);
    for hashes in [json!({}), json!({"md5": new.md5()}), json!({"sha512": new.sha512()})] {
        let mut entry = new.entry();
        entry["hashes"] = hashes;
        proxy.upstream.on(PAGE, page(&[entry]));
        proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
        expect_refused_file(&proxy, &new).await;
    }
}

#[tokio::test]
async fn one_route_that_refuses_refuses_for_the_repository_and_a_warm_page_costs_no_look() {
    let old = Sample::wheel();
    let (proxy, new) = (refusing().routes(&["main", "other"], Some(0)).start().await, changed(&old));
    list(&proxy.upstream, &[&old]);
    proxy.get(HERE).send().await.expect(200);
    replace(&proxy, &[&new]).await;
    for route in ["main", "other"] {
        proxy.get(&format!("/pypi/{route}{}", new.path())).send().await.expect(403);
    }
    // The record is read when a page is taken in: a warm look-up does without it.
    let record = proxy.kept_by("first-seen", 1).await.remove(0);
    fs::remove_file(record).expect("a record");
    expect_refused_file(&proxy, &new).await;
}

#[tokio::test]
async fn a_damaged_record_is_removed_and_counted_and_nothing_else_suffers() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).send().await.expect(200);
    let record = proxy.kept_by("first-seen", 1).await.remove(0);
    let mut bytes = fs::read(&record).expect("a record");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&record, bytes).expect("a directory of ours");
    replace(&proxy, &[&wheel]).await;
    assert_eq!(get(&proxy, &wheel).await.expect(200).body, wheel.bytes);
    let line = "wheelport_cache_damaged_total{kind=\"first-seen\"} 1";
    assert!(proxy.metrics().await.lines().any(|found| found == line));
    proxy.kept_by("first-seen", 1).await;
}

#[tokio::test]
async fn eviction_spares_the_record() {
    let builder = refusing().set(|builder| builder.cache.max_size = wheelport_runtime::Size::mib(1));
    let (proxy, old) = (builder.start().await, Sample::sdist("1.0", 400_000));
    let others: Vec<Sample> = (2..8).map(|n| Sample::sdist(&format!("{n}.0"), 400_000 + n)).collect();
    let all: Vec<&Sample> = [&old].into_iter().chain(&others).collect();
    publish(&proxy.upstream, &all);
    for sample in &all {
        assert_eq!(get(&proxy, sample).await.expect(200).body, sample.bytes);
    }
    assert_eq!(proxy.kept("first-seen").len(), 1);
    let new = Sample { bytes: Bytes::from_static(b"other"), ..old };
    replace(&proxy, &[&new]).await;
    proxy.pass(Duration::from_secs(31)).await;
    expect_refused_file(&proxy, &new).await;
}

#[tokio::test]
async fn a_change_comes_with_the_refresh_of_a_page() {
    let fresh = HumanDuration::secs(60);
    let builder = refusing().windows(fresh, HumanDuration::secs(1), HumanDuration::secs(86_400));
    let (proxy, old) = (builder.start().await, Sample::wheel());
    let new = changed(&old);
    list(&proxy.upstream, &[&old]);
    proxy.get(HERE).send().await.expect(200);
    publish(&proxy.upstream, &[&new]);
    proxy.pass(Duration::from_secs(62)).await;
    expect_refused_file(&proxy, &new).await;
    assert_eq!((proxy.asked(PAGE), proxy.asked(&new.upstream())), (2, 0));
}

#[tokio::test]
async fn a_file_that_no_page_lists_any_more_has_to_be_the_known_bytes() {
    let (old, other) = (Sample::sdist("1.0", 50_000), Sample::sdist("2.0", 60_000));
    let longer = Sample::sdist("1.0", 50_001);
    let proxy = refusing().start().await;
    publish(&proxy.upstream, &[&old, &other]);
    proxy.get(HERE).send().await.expect(200);
    list(&proxy.upstream, &[&other]);
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    assert_eq!(get(&proxy, &old).await.expect(200).body, old.bytes, "the lock file that names it still works");
    evict(&proxy).await;
    proxy.upstream.on(&longer.upstream(), Reply::ok(longer.bytes.clone()));
    expect_refused_file(&proxy, &longer).await;
    proxy.upstream.on(&longer.upstream(), Reply::ok(changed(&old).bytes));
    proxy.get(&old.path()).send().await.expect_broken();
}

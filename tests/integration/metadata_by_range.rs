//! Core metadata that is read from a part of its wheel: how little is requested for it, what becomes of every odd
//! response, and what is told of it until the wheel itself has been read.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};
use wheelport_index::Sha256;

use crate::support::client::{Response, until};
use crate::support::proxy::Proxy;
use crate::support::scripted::Reply;
use crate::support::wheels::{
    PAGE, Sample, document, impostor, list, metadata, noise, page, part, ranged, requested, zipped, zipped_raw,
};

const HERE: &str = "/simple/a-b/";
const METADATA: &str = "a_b-1.0.dist-info/METADATA";
const TAIL: usize = 16 << 10;

/// The bytes, with other replies to requests for a part, one after the other.
fn odd_parts(bytes: &Bytes, replies: impl IntoIterator<Item = Reply>) -> Reply {
    let (bytes, count, replies) = (bytes.clone(), Arc::new(AtomicUsize::new(0)), Vec::from_iter(replies));
    Reply::with(move |seen| match requested(seen, bytes.len()) {
        Some(_) => replies[count.fetch_add(1, Ordering::SeqCst).min(replies.len() - 1)].clone(),
        None => Reply::ok(bytes.clone()),
    })
}

/// The parts that were requested of a file, as first byte and length; `None` for all of it.
fn parts(proxy: &Proxy, wheel: &Sample) -> Vec<Option<(usize, usize)>> {
    let seen = proxy.upstream.requests_to(&wheel.upstream());
    seen.iter().map(|seen| requested(seen, wheel.bytes.len()).map(|(first, last)| (first, last - first + 1))).collect()
}

fn tail(wheel: &Sample) -> (usize, usize) {
    (wheel.bytes.len() - TAIL, TAIL)
}

async fn read(proxy: &Proxy, wheel: &Sample) -> Response {
    proxy.get(&format!("{}.metadata", wheel.path())).send().await
}

async fn announced(proxy: &Proxy) -> Value {
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    proxy.get(HERE).json().send().await.expect(200).value()["files"][0]["core-metadata"].clone()
}

async fn counts(proxy: &Proxy, line: &str) {
    until(line, async || proxy.metrics().await.contains(&format!("{line}\n")).then_some(())).await;
}

/// A wheel that is worth reading by range.
fn large() -> Sample {
    Sample::wheel_of("1.0", 200_000)
}

#[tokio::test]
async fn the_end_of_a_wheel_is_enough_and_nothing_is_vouched_for_until_the_wheel_is_read() {
    let (proxy, wheel) = (Proxy::start().await, large());
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), ranged(&wheel.bytes));
    let digest = Sha256::of(metadata("1.0").as_bytes()).to_string();
    for served in ["wheelport; fwd=miss; stored", "wheelport; hit"] {
        let response = read(&proxy, &wheel).await.expect(200);
        assert_eq!(response.text(), metadata("1.0"));
        let told = [response.header("cache-control"), response.header("cache-status")];
        assert_eq!(told, [Some("no-cache"), Some(served)]);
        assert_eq!(announced(&proxy).await, json!(true), "a digest that may have to be taken back is not told");
    }
    assert_eq!(parts(&proxy, &wheel), [Some(tail(&wheel))]);
    proxy.kept_by("metadata", 1).await;
    let proxy = proxy.stop().await.start().await;
    assert_eq!(read(&proxy, &wheel).await.expect(200).header("cache-status"), Some("wheelport; hit"));
    assert_eq!(announced(&proxy).await, json!(true), "after a restart as well");
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    until("the digest", async || (announced(&proxy).await == json!({"sha256": digest})).then_some(())).await;
    let proven = read(&proxy, &wheel).await.expect(200);
    assert_eq!(proven.header("cache-control"), Some("max-age=365000000, immutable"));
    assert_eq!(parts(&proxy, &wheel), [Some(tail(&wheel)), None]);
    assert!(proxy.metrics().await.contains("wheelport_metadata_mismatches_total 0\n"));
}

#[tokio::test]
async fn many_clients_cause_one_request() {
    let (proxy, wheel) = (Proxy::start().await, large());
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), ranged(&wheel.bytes));
    for response in futures_util::future::join_all((0..20).map(|_| read(&proxy, &wheel))).await {
        assert_eq!(response.expect(200).text(), metadata("1.0"));
    }
    assert_eq!(parts(&proxy, &wheel), [Some(tail(&wheel))]);
}

#[tokio::test]
async fn where_ranges_are_ignored_the_response_becomes_the_download_and_no_range_is_requested_for_an_hour() {
    let (proxy, wheel, other) = (Proxy::start().await, large(), Sample::wheel_of("2.0", 100_000));
    list(&proxy.upstream, &[&wheel, &other]);
    for sample in [&wheel, &other] {
        proxy.upstream.on(&sample.upstream(), Reply::ok(sample.bytes.clone()));
    }
    assert_eq!(read(&proxy, &wheel).await.expect(200).text(), metadata("1.0"));
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    assert_eq!(parts(&proxy, &wheel), [Some(tail(&wheel))], "nothing is requested twice");
    assert_eq!(read(&proxy, &other).await.expect(200).text(), metadata("2.0"));
    assert_eq!(parts(&proxy, &other), [None]);
    counts(&proxy, "wheelport_metadata_by_range_total{result=\"whole\"} 1").await;
}

#[tokio::test]
async fn a_small_wheel_is_fetched_as_a_whole() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel_of("1.0", 10_000));
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), ranged(&wheel.bytes));
    assert_eq!(read(&proxy, &wheel).await.expect(200).text(), metadata("1.0"));
    assert_eq!(parts(&proxy, &wheel), [None]);
}

#[tokio::test]
async fn a_refused_range_is_no_failure_of_upstream_and_some_in_a_row_are_a_pause() {
    let proxy = Proxy::start().await;
    let wheels: Vec<Sample> = (1..=6).map(|version| Sample::wheel_of(&format!("{version}.0"), 100_000)).collect();
    list(&proxy.upstream, &wheels.iter().collect::<Vec<_>>());
    let rate = async || {
        let metrics = proxy.metrics().await;
        metrics.lines().find(|line| line.starts_with("wheelport_upstream_rate_limit")).map(str::to_owned)
    };
    let before = rate().await;
    // What a prefetch asks for is there as well.
    let c = json!({"meta": {"api-version": "1.1"}, "name": "c", "files": []});
    proxy.upstream.on("GET /pypi/r/simple/c/", document(&c));
    for wheel in &wheels {
        // The service refuses ranges of a version that it has not imported yet.
        proxy.upstream.on(&wheel.upstream(), odd_parts(&wheel.bytes, [Reply::status(500)]));
        assert_eq!(read(&proxy, wheel).await.expect(200).text(), metadata(&wheel.version));
    }
    let asked: Vec<_> = wheels.iter().map(|wheel| parts(&proxy, wheel).len()).collect();
    assert_eq!(asked, [2, 2, 2, 2, 1, 1]);
    assert_eq!(rate().await, before);
    assert!(!proxy.metrics().await.contains("wheelport_upstream_retries_total{"), "nothing was repeated");
    counts(&proxy, "wheelport_metadata_by_range_total{result=\"failed\"} 4").await;
}

#[tokio::test]
async fn an_odd_response_to_a_range_leads_to_the_whole_wheel() {
    let wheel = large();
    let (length, bytes) = (wheel.bytes.len(), &wheel.bytes);
    let first = length - TAIL;
    let odd: Vec<(&str, Reply)> = vec![
        ("another range", part(bytes, first - 1, length - 1)),
        ("a shorter range", part(bytes, first, length - 2)),
        ("no range", Reply::status(206).body(bytes.slice(first..))),
        ("another length", {
            let range = format!("bytes {first}-{}/{}", length - 1, length + 1);
            Reply::status(206).header("content-range", range).body(bytes.slice(first..))
        }),
        ("cut off", part(bytes, first, length - 1).cut_after(1000)),
        ("fewer bytes than it says", {
            let range = format!("bytes {first}-{}/{length}", length - 1);
            Reply::status(206).header("content-range", range).body(bytes.slice(first..length - 1000))
        }),
        ("more bytes than it says", {
            let range = format!("bytes {first}-{}/{length}", length - 1);
            Reply::status(206).header("content-range", range).body([&bytes[first..], &[0; 1000]].concat())
        }),
        ("compressed", part(bytes, first, length - 1).header("content-encoding", "gzip")),
        ("404", Reply::status(404)),
        ("403", Reply::status(403)),
        ("416", Reply::status(416)),
        ("no response", Reply::raw("")),
        ("other bytes", {
            let range = format!("bytes {first}-{}/{length}", length - 1);
            Reply::status(206).header("content-range", range).body(noise(TAIL))
        }),
    ];
    for (what, reply) in odd {
        let proxy = Proxy::start().await;
        list(&proxy.upstream, &[&wheel]);
        proxy.upstream.on(&wheel.upstream(), odd_parts(bytes, [reply]));
        let response = read(&proxy, &wheel).await.expect(200);
        assert_eq!(response.text(), metadata("1.0"), "{what}");
        assert_eq!(response.header("cache-control"), Some("max-age=365000000, immutable"), "{what}");
        assert_eq!(parts(&proxy, &wheel), [Some(tail(&wheel)), None], "{what}");
        let result = if what == "other bytes" { "unreadable" } else { "failed" };
        let line = format!("wheelport_metadata_by_range_total{{result=\"{result}\"}} 1\n");
        assert!(proxy.metrics().await.contains(&line), "{what}");
    }
}

/// A wheel whose metadata is at its beginning, far from the directory.
fn metadata_first() -> Sample {
    let (text, filling) = (metadata("1.0"), noise(300_000));
    let entries =
        [(METADATA, text.as_bytes()), ("a_b/x.bin", filling.as_slice()), ("a_b-1.0.dist-info/RECORD", b"".as_slice())];
    Sample::file("1.0", "a_b-1.0-py3-none-any.whl", zipped(&entries))
}

#[tokio::test]
async fn metadata_that_is_elsewhere_takes_a_second_request_of_just_that() {
    let (proxy, wheel) = (Proxy::start().await, metadata_first());
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), ranged(&wheel.bytes));
    assert_eq!(read(&proxy, &wheel).await.expect(200).text(), metadata("1.0"));
    let parts = parts(&proxy, &wheel);
    assert_eq!((parts.len(), parts[0]), (2, Some(tail(&wheel))));
    let (first, length) = parts[1].expect("a part");
    assert!(first == 0 && length < 1000, "{length}");
}

#[tokio::test]
async fn a_directory_that_begins_earlier_takes_a_second_request_that_brings_the_metadata_as_well() {
    let names: Vec<String> = (0..500).map(|number| format!("a_b/module_{number}.py")).collect();
    let mut entries: Vec<_> = names.iter().map(|name| (name.as_str(), 0, &b"A = 1"[..], &b"A = 1"[..])).collect();
    let text = metadata("1.0");
    entries.push((METADATA, 0, text.as_bytes(), text.as_bytes()));
    let wheel = Sample::file("1.0", "a_b-1.0-py3-none-any.whl", zipped_raw(&entries));
    let proxy = Proxy::start().await;
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), ranged(&wheel.bytes));
    assert_eq!(read(&proxy, &wheel).await.expect(200).text(), text);
    let parts = parts(&proxy, &wheel);
    assert_eq!((parts.len(), parts[0]), (2, Some(tail(&wheel))));
}

#[tokio::test]
async fn between_two_parts_the_file_may_not_change() {
    type Second = fn(&Bytes, usize, usize) -> Reply;
    // The condition makes a server send the new file as a whole; another one forgets to look at it.
    let seconds: [(Second, usize); 3] = [
        (|bytes, _, _| Reply::ok(bytes.clone()).header("etag", "\"two\"").header("accept-ranges", "bytes"), 2),
        (|bytes, first, last| part(bytes, first, last).header("etag", "\"two\""), 3),
        (
            |bytes, first, last| {
                let range = format!("bytes {first}-{last}/{}", bytes.len() + 1);
                Reply::status(206).header("content-range", range).body(bytes.slice(first..=last))
            },
            3,
        ),
    ];
    for (second, expected) in seconds {
        let (proxy, wheel) = (Proxy::start().await, metadata_first());
        list(&proxy.upstream, &[&wheel]);
        let bytes = wheel.bytes.clone();
        let reply = Reply::with(move |seen| match (requested(seen, bytes.len()), seen.header("if-range")) {
            (Some((first, last)), None) => part(&bytes, first, last).header("etag", "\"one\""),
            (Some((first, last)), Some("\"one\"")) => second(&bytes, first, last),
            _ => Reply::ok(bytes.clone()),
        });
        proxy.upstream.on(&wheel.upstream(), reply);
        let response = read(&proxy, &wheel).await.expect(200);
        assert_eq!(response.text(), metadata("1.0"));
        assert_eq!(response.header("cache-control"), Some("max-age=365000000, immutable"));
        assert_eq!(parts(&proxy, &wheel).len(), expected);
    }
}

#[tokio::test]
async fn a_hostile_directory_makes_no_large_part_be_held() {
    let mut bytes = noise(6 << 20);
    let at = bytes.len();
    // An end record whose directory is nearly everything before it.
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    bytes.extend_from_slice(&u32::try_from(at - 10).expect("small").to_le_bytes());
    bytes.extend_from_slice(&[10, 0, 0, 0, 0, 0]);
    let (proxy, wheel) = (Proxy::start().await, Sample::file("1.0", "a_b-1.0-py3-none-any.whl", bytes));
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), ranged(&wheel.bytes));
    let response = read(&proxy, &wheel).await.expect(404);
    assert_eq!(response.value()["code"], "no-core-metadata");
    assert_eq!(parts(&proxy, &wheel), [Some(tail(&wheel)), None]);
    counts(&proxy, "wheelport_metadata_by_range_total{result=\"unreadable\"} 1").await;
}

#[tokio::test]
async fn metadata_that_is_not_that_of_the_wheel_is_replaced_logged_and_counted() {
    let (proxy, wheel) = (Proxy::start().await, large());
    list(&proxy.upstream, &[&wheel]);
    let (bytes, other) = (wheel.bytes.clone(), impostor(&wheel));
    let reply = Reply::with(move |seen| match requested(seen, other.len()) {
        Some((first, last)) => part(&other, first, last),
        None => Reply::ok(bytes.clone()),
    });
    proxy.upstream.on(&wheel.upstream(), reply);
    let wrong = read(&proxy, &wheel).await.expect(200);
    assert!(wrong.text().contains("Requires-Dist: d>=1"));
    assert_eq!(announced(&proxy).await, json!(true), "so that no client compares with the wrong digest");
    proxy.get(&wheel.path()).send().await.expect(200);
    counts(&proxy, "wheelport_metadata_mismatches_total 1").await;
    let replaced = until("the wheel's own", async || {
        Some(read(&proxy, &wheel).await.expect(200)).filter(|response| response.text() == metadata("1.0"))
    });
    let right = replaced.await;
    let tag = wrong.header("etag").expect("a tag");
    assert_ne!(right.header("etag"), Some(tag));
    // A client that kept the wrong one asks, and gets the right one.
    let again = proxy.get(&format!("{}.metadata", wheel.path())).header("if-none-match", tag).send().await.expect(200);
    assert_eq!(again.text(), metadata("1.0"));
}

#[tokio::test]
async fn what_upstream_announces_of_the_metadata_is_compared_at_once() {
    let (proxy, wheel) = (Proxy::start().await, large());
    let mut entry = wheel.entry();
    let digest = Sha256::of(metadata("1.0").as_bytes()).to_string();
    entry["core-metadata"] = json!({"sha256": digest});
    proxy.upstream.on(PAGE, page(&[entry]));
    let (bytes, other) = (wheel.bytes.clone(), impostor(&wheel));
    let reply = Reply::with(move |seen| match requested(seen, other.len()) {
        Some((first, last)) => part(&other, first, last),
        None => Reply::ok(bytes.clone()),
    });
    proxy.upstream.on(&wheel.upstream(), reply);
    assert_eq!(read(&proxy, &wheel).await.expect(200).text(), metadata("1.0"));
    assert_eq!(announced(&proxy).await, json!({"sha256": digest}));
    assert_eq!(parts(&proxy, &wheel), [Some(tail(&wheel)), None]);
}

#[tokio::test]
async fn without_a_length_on_the_page_the_last_bytes_are_requested() {
    let (proxy, wheel) = (Proxy::start().await, large());
    proxy.upstream.on(PAGE, page(&[wheel.entry_without(&["size"])]));
    proxy.upstream.on(&wheel.upstream(), ranged(&wheel.bytes));
    assert_eq!(read(&proxy, &wheel).await.expect(200).text(), metadata("1.0"));
    let seen = proxy.upstream.requests_to(&wheel.upstream());
    let ranges: HashSet<_> = seen.iter().map(|seen| seen.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, HashSet::from([Some(format!("bytes=-{TAIL}"))]));
}

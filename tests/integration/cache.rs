//! What the cache keeps: freshness windows, restarts, and a cache directory that is small, damaged or gone.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use wheelport_runtime::{HumanDuration, Size};

use crate::support::client::{Opened, until};
use crate::support::proxy::{MINT, Proxy, refusal};
use crate::support::scripted::{Gate, Reply};
use crate::support::wheels::{PAGE, Sample, list, metadata, page, publish};

const HERE: &str = "/simple/a-b/";

#[tokio::test]
async fn a_fresh_page_needs_no_upstream_and_a_stale_one_is_refreshed_once_in_the_background() {
    let (proxy, wheel, gate) = (Proxy::start().await, Sample::wheel(), Gate::closed());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).json().send().await.expect(200);
    proxy.pass(Duration::from_secs(58)).await;
    proxy.get(HERE).json().send().await.expect(200);
    assert_eq!(proxy.asked(PAGE), 1);

    proxy.upstream.on(PAGE, page(&[]).before_head(&gate));
    proxy.pass(Duration::from_secs(3)).await;
    // Upstream does not respond, and yet every client gets a response.
    for response in join_all((0..10).map(|_| proxy.get(HERE).json().send())).await {
        assert_eq!(response.expect(200).file_names().len(), 1);
    }
    gate.reached().await;
    assert_eq!(proxy.asked(PAGE), 2, "one question for all of them");
    gate.open();
    let renewed = async || proxy.get(HERE).json().send().await.file_names().is_empty().then_some(());
    until("the renewed page", renewed).await;
    assert_eq!(proxy.asked(PAGE), 2);
}

#[tokio::test]
async fn a_page_past_both_windows_waits_for_upstream_and_an_expired_one_is_not_served() {
    let builder = Proxy::builder().windows(HumanDuration::secs(60), HumanDuration::secs(60), HumanDuration::secs(3600));
    let (proxy, wheel) = (builder.start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).json().send().await.expect(200);
    list(&proxy.upstream, &[]);
    proxy.pass(Duration::from_secs(121)).await;
    let renewed = proxy.get(HERE).json().send().await.expect(200);
    assert_eq!((renewed.file_names().len(), renewed.header("cache-status")), (0, Some("wheelport; fwd=miss; stored")));
    proxy.upstream.on(PAGE, Reply::raw(""));
    proxy.pass(Duration::from_hours(1)).await;
    proxy.get(HERE).json().send().await.expect(200);
    proxy.pass(Duration::from_secs(61)).await;
    proxy.get(HERE).json().send().await.expect_unavailable("unavailable-broken");
}

#[tokio::test]
async fn concurrent_requests_for_a_cold_page_share_one_fetch() {
    let (proxy, gate) = (Proxy::start().await, Gate::closed());
    proxy.upstream.on(PAGE, page(&[Sample::wheel().entry()]).before_head(&gate));
    let opening = async {
        gate.reached().await;
        gate.open();
    };
    let (responses, ()) = tokio::join!(join_all((0..50).map(|_| proxy.get(HERE).json().send())), opening);
    let mut stored = 0;
    for response in responses {
        stored += usize::from(response.header("cache-status") == Some("wheelport; fwd=miss; stored"));
        assert_eq!(response.expect(200).file_names().len(), 1);
    }
    assert_eq!((proxy.asked(PAGE), stored), (1, 1));
}

#[tokio::test]
async fn after_a_restart_without_upstream_pages_files_and_metadata_are_served() {
    let (proxy, wheel, sdist) = (Proxy::start().await, Sample::wheel(), Sample::sdist("1.0", 5000));
    publish(&proxy.upstream, &[&wheel, &sdist]);
    proxy.get(&sdist.path()).send().await.expect(200);
    proxy.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
    for request in [PAGE, &wheel.upstream(), &sdist.upstream()] {
        proxy.upstream.on(request, Reply::raw(""));
    }
    proxy.control.on(MINT, refusal(403, "AccessDeniedException", "gone"));
    let again = proxy.stop().await;
    // Not only right away: a minute short of a day later, the page is as stale as it may be.
    for away in [0, 24 * 60 * 60 - 60] {
        let proxy = again.clone().later(away).start_blind().await;
        let listed = proxy.get(HERE).json().send().await.expect(200);
        assert_eq!(listed.file_names(), [wheel.name.as_str(), sdist.name.as_str()]);
        for sample in [&wheel, &sdist] {
            let response = proxy.get(&sample.path()).send().await.expect(200);
            assert_eq!((&response.body, response.header("cache-status")), (&sample.bytes, Some("wheelport; hit")));
        }
        let found = proxy.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
        assert_eq!(found.text(), metadata("1.0"));
        drop(proxy.stop().await);
    }
    // Only the page ages; a file does not, and what the page says of it stays true.
    let proxy = again.later(48 * 60 * 60).start_blind().await;
    proxy.get(HERE).json().send().await.expect_unavailable("unavailable-token");
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
}

#[tokio::test]
async fn a_restart_does_not_make_a_page_younger() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).send().await.expect(200);
    let again = proxy.stop().await;
    let proxy = again.clone().later(30).start().await;
    proxy.get(HERE).send().await.expect(200);
    assert_eq!(proxy.asked(PAGE), 1, "it is still fresh");
    drop(proxy.stop().await);
    let proxy = again.later(61).start().await;
    proxy.get(HERE).send().await.expect(200);
    proxy.asked_by(PAGE, 2).await;
}

#[tokio::test]
async fn a_full_cache_evicts_and_no_reader_notices() {
    const MIB: usize = 1 << 20;
    let builder = Proxy::builder().set(|builder| builder.cache.max_size = Size::mib(14));
    let proxy = builder.start().await;
    let samples = ["1.0", "2.0", "3.0"].map(|version| Sample::sdist(version, 6 * MIB));
    publish(&proxy.upstream, &samples.iter().collect::<Vec<_>>());
    let [first, rest @ ..] = &samples;
    proxy.get(&first.path()).send().await.expect(200);
    proxy.kept_by("blobs", 1).await;
    // Two clients are in the middle of the stored file: one reads all of it, one a range.
    let whole = proxy.get(&first.path()).open().await;
    let part = proxy.get(&first.path()).header("range", "bytes=100-").open().await;
    assert_eq!(whole.header("cache-status"), Some("wheelport; hit"));
    for sample in rest {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
        let kept: u64 = proxy
            .kept_by("blobs", 2)
            .await
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .map(|file| file.len())
            .sum();
        assert!(kept <= 14 * MIB as u64, "{kept} bytes are stored");
    }
    assert!(proxy.metrics().await.contains("wheelport_requests_in_flight 2"), "both are in the middle");
    assert_eq!(part.finish().await.expect(206).body, first.bytes.slice(100..));
    assert_eq!(whole.finish().await.expect(200).body, first.bytes);
    // It was evicted, and is fetched again.
    proxy.get(&first.path()).send().await.expect(200);
    assert_eq!(proxy.asked(&first.upstream()), 2);
}

#[tokio::test]
async fn a_file_larger_than_the_cache_is_streamed_and_verified() {
    let builder = Proxy::builder().set(|builder| builder.cache.max_size = Size(100_000));
    let (proxy, sdist) = (builder.start().await, Sample::sdist("1.0", 300_000));
    publish(&proxy.upstream, &[&sdist]);
    for _ in 0..2 {
        let response = proxy.get(&sdist.path()).send().await.expect(200);
        assert_eq!((&response.body, response.header("content-length")), (&sdist.bytes, Some("300000")));
        assert_eq!(response.header("cache-status"), Some("wheelport; fwd=miss"));
        assert_eq!(response.header("etag"), Some(sdist.tag().as_str()));
    }
    let part = proxy.get(&sdist.path()).header("range", "bytes=250000-250009").send().await.expect(206);
    assert_eq!(part.body, sdist.bytes.slice(250_000..250_010));
    let mut altered = sdist.bytes.to_vec();
    altered[1000] ^= 1;
    proxy.upstream.on(&sdist.upstream(), Reply::ok(altered));
    proxy.get(&sdist.path()).expect_broken().await;
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).cut_after(200_000));
    proxy.get(&sdist.path()).expect_broken().await;
    assert_eq!((proxy.kept("blobs").len(), proxy.temporaries().len()), (0, 0));
}

#[tokio::test]
async fn a_cache_directory_that_cannot_be_written_costs_speed_and_nothing_else() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    // Root may write to a read-only directory, so the test puts a file in its place instead.
    let cache = proxy.dir.path().join("cache");
    fs::remove_dir_all(&cache).expect("a directory that is there");
    fs::write(&cache, "in the way").expect("a directory of ours");
    let response = proxy.get(HERE).json().send().await.expect(200);
    assert_eq!(response.file_names(), [wheel.name.as_str()]);
    for _ in 0..2 {
        assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    }
    let ready = proxy.get("/readyz").send().await.expect(200).value();
    assert_eq!((&ready["degraded"], &ready["reason"]), (&json!(true), &json!("the cache directory cannot be written")));
    let wrong = Sample::sdist("1.0", 5000);
    list(&proxy.upstream, &[&wheel, &wrong]);
    proxy.upstream.on(&wrong.upstream(), Reply::ok(vec![7; 5000]));
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await;
    proxy.get(&wrong.path()).expect_broken().await;
    // It recovers without a restart.
    fs::remove_file(&cache).expect("a file that is there");
    proxy.get(&wheel.path()).send().await.expect(200);
    proxy.kept_by("blobs", 1).await;
    proxy.get("/readyz").send().await.expect(200);
}

#[tokio::test]
async fn a_disk_that_fills_up_midway_does_not_break_the_response() {
    let builder = Proxy::builder().set(|builder| builder.cache.max_size = Size(200_000));
    let (proxy, sdist) = (builder.start().await, Sample::sdist("1.0", 400_000));
    // Without a length, the proxy learns only midway that the cache is too small for the file.
    proxy.upstream.on(PAGE, page(&[sdist.entry_without(&["size"])]));
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).chunked());
    let response = proxy.get(&sdist.path()).send().await.expect(200);
    assert_eq!(response.body, sdist.bytes);
    assert_eq!(proxy.kept("blobs").len(), 0);
}

#[tokio::test]
async fn damage_on_disk_is_repaired_from_upstream() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&wheel.path()).send().await.expect(200);
    until("the metadata", async || (!proxy.kept("metadata").is_empty()).then_some(())).await;
    let truncate = |path: &std::path::Path| {
        let bytes = fs::read(path).expect("a file that is there");
        fs::write(path, &bytes[..bytes.len() / 2]).expect("a directory of ours");
    };
    for part in ["blobs", "metadata"] {
        proxy.kept(part).iter().for_each(|path| truncate(path));
    }
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    let found = proxy.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
    assert_eq!((found.text(), proxy.asked(&wheel.upstream())), (metadata("1.0"), 2));
    // A persisted page is read again only after a restart.
    proxy.kept("pages").iter().for_each(|path| truncate(path));
    let proxy = proxy.stop().await.start().await;
    assert_eq!(proxy.get(HERE).json().send().await.expect(200).file_names(), [wheel.name.as_str()]);
    assert_eq!(proxy.asked(PAGE), 2);
}

#[tokio::test]
async fn a_foreign_file_or_link_among_the_blobs_is_never_served() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&wheel.path()).send().await.expect(200);
    let outside = proxy.dir.path().join("outside");
    fs::write(&outside, b"foreign").expect("a directory of ours");
    let blob = proxy.kept_by("blobs", 1).await.remove(0);
    fs::remove_file(&blob).expect("a file that is there");
    std::os::unix::fs::symlink(&outside, &blob).expect("a directory of ours");
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    assert_eq!(fs::read(&outside).expect("a file that is there"), b"foreign");
}

#[tokio::test]
async fn two_proxies_may_share_a_directory() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let other = Proxy::builder().dir(&proxy.dir).upstream(&proxy.upstream).start().await;
    let opened: Vec<Opened> = vec![proxy.get(&wheel.path()).open().await, other.get(&wheel.path()).open().await];
    for response in join_all(opened.into_iter().map(Opened::finish)).await {
        assert_eq!(response.expect(200).body, wheel.bytes);
    }
    let later = other.get(&wheel.path()).send().await.expect(200);
    assert_eq!(later.header("cache-status"), Some("wheelport; hit"));
}

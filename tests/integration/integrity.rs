//! Damage in the cache directory: no client gets all of a wrong file or a wrong page, and the cache heals by itself.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;

use crate::support::proxy::Proxy;
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, Sample, list, metadata, page, publish};

const HERE: &str = "/simple/a-b/";
const MIB: usize = 1 << 20;

/// Changes one bit of a file and nothing else, as a failing disk does.
fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).expect("a file that is there");
    bytes[byte] ^= 1;
    fs::write(path, bytes).expect("a directory of ours");
}

async fn damaged(proxy: &Proxy, kind: &str) -> u64 {
    let line = format!("wheelport_cache_damaged_total{{kind=\"{kind}\"}} ");
    let metrics = proxy.metrics().await;
    metrics.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).expect("a counter")
}

/// A proxy that has this file, all of it.
async fn with_stored(sample: &Sample) -> Proxy {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[sample]);
    proxy.get(&sample.path()).send().await.expect(200);
    proxy.kept_by("blobs", 1).await;
    proxy
}

#[tokio::test]
async fn a_damaged_small_file_is_fetched_again_before_a_byte_of_it_is_served() {
    for length in [5000, MIB] {
        let sdist = Sample::sdist("1.0", length);
        let proxy = with_stored(&sdist).await;
        flip(&proxy.kept("blobs")[0], length - 1);
        for _ in 0..2 {
            assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
        }
        assert_eq!((proxy.asked(&sdist.upstream()), damaged(&proxy, "blobs").await), (2, 1));
        // Found after a restart, too, and by a request for a part.
        flip(&proxy.kept_by("blobs", 1).await[0], 10);
        let proxy = proxy.stop().await.start().await;
        let part = proxy.get(&sdist.path()).header("range", "bytes=100-199").send().await.expect(206);
        assert_eq!(part.body, sdist.bytes.slice(100..200));
        assert_eq!((proxy.asked(&sdist.upstream()), damaged(&proxy, "blobs").await), (3, 1));
    }
}

#[tokio::test]
async fn a_shortened_larger_file_is_fetched_again_before_a_byte_of_it_is_served() {
    let sdist = Sample::sdist("1.0", 3 * MIB);
    let proxy = with_stored(&sdist).await;
    let blob = fs::File::options().write(true).open(&proxy.kept("blobs")[0]).expect("a file that is there");
    blob.set_len(2 * MIB as u64).expect("a directory of ours");
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    assert_eq!((proxy.asked(&sdist.upstream()), damaged(&proxy, "blobs").await), (2, 1));
}

#[tokio::test]
async fn no_response_about_a_damaged_larger_file_ends_cleanly_and_the_next_one_is_right() {
    let sdist = Sample::sdist("1.0", 3 * MIB);
    // The first and the last byte, and parts that do not even hold the wrong byte.
    for (byte, range) in [
        (0, None),
        (3 * MIB - 1, None),
        (0, Some("bytes=2000000-2999999")),
        (2 * MIB, Some("bytes=0-99")),
        (MIB, Some("bytes=-1")),
    ] {
        let proxy = with_stored(&sdist).await;
        for restart in [false, true] {
            flip(&proxy.kept_by("blobs", 1).await[0], byte);
            if restart {
                break;
            }
            let ask = proxy.get(&sdist.path());
            let ask = if let Some(range) = range { ask.header("range", range) } else { ask };
            let responses = join_all((0..3).map(|_| ask.clone().send())).await;
            for response in responses {
                // One that came late may have found the file gone already.
                let right = response.body == sdist.bytes || range.is_some() && response.complete;
                assert!(!response.complete || right && proxy.asked(&sdist.upstream()) > 1, "{byte} {range:?}");
            }
            assert_eq!(damaged(&proxy, "blobs").await, 1);
            assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
            assert_eq!(proxy.asked(&sdist.upstream()), 2);
        }
        let proxy = proxy.stop().await.start().await;
        let ask = proxy.get(&sdist.path());
        let ask = if let Some(range) = range { ask.header("range", range) } else { ask };
        assert!(!ask.send().await.complete, "{byte} {range:?} after a restart");
        assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
        assert_eq!((proxy.asked(&sdist.upstream()), damaged(&proxy, "blobs").await), (3, 1));
    }
}

#[tokio::test]
async fn files_are_checked_after_a_restart_and_a_day_later_and_clients_notice_nothing() {
    let sdist = Sample::sdist("1.0", 3 * MIB);
    let proxy = with_stored(&sdist).await.stop().await.start().await;
    let whole = || proxy.get(&sdist.path()).send();
    let part = || proxy.get(&sdist.path()).header("range", "bytes=1500000-1500099").send();
    for _ in 0..2 {
        for response in join_all((0..5).map(|_| whole())).await {
            let response = response.expect(200);
            assert_eq!((&response.body, response.header("cache-status")), (&sdist.bytes, Some("wheelport; hit")));
        }
        assert_eq!(part().await.expect(206).body, sdist.bytes.slice(1_500_000..1_500_100));
    }
    proxy.pass(Duration::from_hours(25)).await;
    assert_eq!(part().await.expect(206).body, sdist.bytes.slice(1_500_000..1_500_100));
    assert_eq!(whole().await.expect(200).body, sdist.bytes);
    assert_eq!((proxy.asked(&sdist.upstream()), damaged(&proxy, "blobs").await), (1, 0));
}

#[tokio::test]
async fn a_part_of_a_very_large_file_does_not_wait_for_its_check() {
    let sdist = Sample::sdist("1.0", 65 * MIB);
    let proxy = with_stored(&sdist).await;
    let blob = proxy.kept("blobs")[0].clone();
    let proxy = proxy.stop().await.start().await;
    let part = proxy.get(&sdist.path()).header("range", "bytes=100-199").send().await.expect(206);
    assert_eq!(part.body, sdist.bytes.slice(100..200));
    flip(&blob, 64 * MIB);
    proxy.get(&sdist.path()).send().await.expect_broken();
    assert!(!blob.exists());
}

#[tokio::test]
async fn a_part_of_a_very_large_file_is_cut_when_its_check_fails_meanwhile() {
    let sdist = Sample::sdist("1.0", 80 * MIB);
    let proxy = with_stored(&sdist).await;
    let blob = proxy.kept("blobs")[0].clone();
    flip(&blob, 79 * MIB);
    // The part does not hold the wrong byte, and is more than a connection holds for a client that does not read.
    let range = format!("bytes=0-{}", 78 * MIB);
    let mut part = proxy.get(&sdist.path()).header("range", &range).open().await;
    part.at_least(1).await;
    crate::support::client::until("the check", async || (!blob.exists()).then_some(())).await;
    assert!(!part.finish().await.complete);
}

#[tokio::test]
async fn a_damaged_page_is_never_served() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let right = proxy.get(HERE).json().send().await.expect(200);
    let path = proxy.kept_by("pages", 1).await.remove(0);
    let length = fs::read(&path).expect("a page").len();
    proxy.upstream.on(PAGE, Reply::raw(""));
    let mut again = proxy.stop().await;
    let stored = fs::read(&path).expect("a page");
    for byte in (0..length).step_by(37) {
        fs::write(&path, &stored).expect("a directory of ours");
        let proxy = again.start().await;
        assert_eq!(proxy.get(HERE).json().send().await.expect(200).body, right.body);
        again = proxy.stop().await;
        flip(&path, byte);
        let proxy = again.start().await;
        proxy.get(HERE).json().send().await.expect_unavailable("unavailable-broken");
        assert_eq!(damaged(&proxy, "pages").await, 1, "byte {byte} of {length}");
        assert!(!path.exists());
        again = proxy.stop().await;
    }
}

#[tokio::test]
async fn damaged_metadata_and_links_are_made_again() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(
        PAGE,
        page(&[{
            let mut entry = wheel.entry();
            entry["hashes"] = serde_json::json!({"sha512": wheel.sha512()});
            entry
        }]),
    );
    proxy.get(&wheel.path()).send().await.expect(200);
    let metadata_path = format!("{}.metadata", wheel.path());
    assert_eq!(proxy.get(&metadata_path).send().await.expect(200).text(), metadata("1.0"));
    let mut proxy = proxy;
    for kind in ["metadata", "links"] {
        let record = proxy.kept_by(kind, 1).await.remove(0);
        flip(&record, fs::read(&record).expect("a record").len() - 1);
        proxy = proxy.stop().await.start().await;
        assert_eq!(proxy.get(&metadata_path).send().await.expect(200).text(), metadata("1.0"));
        assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
        assert_eq!(damaged(&proxy, kind).await, 1);
    }
}

#[tokio::test]
async fn metadata_is_never_taken_out_of_a_damaged_wheel() {
    let wheel = Sample::wheel_of("1.0", 2 * MIB);
    let proxy = with_stored(&wheel).await;
    let records = proxy.kept_by("metadata", 1).await;
    let proxy = proxy.stop().await.start().await;
    fs::remove_file(&records[0]).expect("a record");
    flip(&proxy.kept("blobs")[0], MIB);
    let found = proxy.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
    assert_eq!((found.text(), proxy.asked(&wheel.upstream())), (metadata("1.0"), 2));
}

#[tokio::test]
async fn a_deleted_cache_directory_is_made_again() {
    let (wheel, sdist) = (Sample::wheel(), Sample::sdist("1.0", 2 * MIB));
    let proxy = with_stored(&wheel).await;
    publish(&proxy.upstream, &[&wheel, &sdist]);
    // The last thing that is written behind the response.
    proxy.kept_by("metadata", 1).await;
    fs::remove_dir_all(proxy.dir.path().join("cache")).expect("a directory that is there");
    list(&proxy.upstream, &[&wheel, &sdist]);
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    for sample in [&wheel, &sdist] {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
    }
    proxy.kept_by("blobs", 2).await;
    proxy.kept_by("pages", 1).await;
    proxy.get("/readyz").send().await.expect(200);
    let again = proxy.stop().await;
    let proxy = again.start().await;
    for sample in [&wheel, &sdist] {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).header("cache-status"), Some("wheelport; hit"));
    }
    assert_eq!(proxy.asked(PAGE), 2);
}

#[tokio::test]
async fn the_scrub_finds_damage_before_a_client_does() {
    let sdist = Sample::sdist("1.0", 3 * MIB);
    let proxy = with_stored(&sdist).await;
    let blob = proxy.kept("blobs")[0].clone();
    flip(&blob, MIB);
    // It begins a minute after the start, and then reads a few MiB per second.
    for _ in 0..90 {
        proxy.pass(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    crate::support::client::until("the scrub", async || (!blob.exists()).then_some(())).await;
    assert_eq!(damaged(&proxy, "blobs").await, 1);
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
}

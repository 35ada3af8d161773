//! Byte ranges of files, both stored and still downloading.

use futures_util::future::join_all;

use crate::support::proxy::Proxy;
use crate::support::scripted::{Gate, Reply};
use crate::support::wheels::{Sample, list, publish};

const LENGTH: usize = 300_000;

async fn stored() -> (Proxy, Sample) {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", LENGTH));
    publish(&proxy.upstream, &[&sdist]);
    proxy.get(&sdist.path()).send().await.expect(200);
    (proxy, sdist)
}

#[tokio::test]
async fn a_single_range_returns_exactly_those_bytes() {
    let (proxy, sdist) = stored().await;
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=0-", 0, LENGTH - 1),
        ("bytes=299999-", LENGTH - 1, LENGTH - 1),
        ("bytes=-1", LENGTH - 1, LENGTH - 1),
        ("bytes=-10000", LENGTH - 10_000, LENGTH - 1),
        ("bytes=-999999999", 0, LENGTH - 1),
        ("bytes=299990-99999999999999999999999", 299_990, LENGTH - 1),
        ("bytes=131071-131072", 131_071, 131_072),
    ] {
        let response = proxy.get(&sdist.path()).header("range", range).send().await.expect(206);
        assert_eq!(response.body, sdist.bytes.slice(first..=last), "{range}");
        response.expect_headers(&[
            ("content-type", "application/octet-stream"),
            ("content-length", &(last - first + 1).to_string()),
            ("content-range", &format!("bytes {first}-{last}/{LENGTH}")),
            ("content-disposition", "attachment; filename=\"a_b-1.0.tar.gz\""),
            ("etag", &sdist.tag()),
            ("cache-control", "max-age=365000000, immutable"),
            ("accept-ranges", "bytes"),
            ("cache-status", "wheelport; hit"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "*"),
        ]);
    }
}

#[tokio::test]
async fn anything_but_a_single_byte_range_returns_the_complete_file() {
    let (proxy, sdist) = stored().await;
    for range in ["bytes=0-1,5-6", "bytes=9-5", "bytes=a-b", "bytes=-", "lines=1-2", "bytes 0-1", "bytes=0 - 1", ""] {
        let response = proxy.get(&sdist.path()).header("range", range).send().await.expect(200);
        assert_eq!((response.body.len(), response.header("content-range")), (LENGTH, None), "{range}");
    }
    let twice = proxy.get(&sdist.path()).header("range", "bytes=0-1").header("range", "bytes=2-3");
    assert_eq!(twice.send().await.expect(200).body, sdist.bytes);
}

#[tokio::test]
async fn a_range_past_the_end_is_416_with_the_length() {
    let (proxy, sdist) = stored().await;
    for range in ["bytes=300000-", "bytes=300000-400000", "bytes=-0"] {
        let response = proxy.get(&sdist.path()).header("range", range).send().await.expect(416);
        assert_eq!(response.header("content-range"), Some("bytes */300000"), "{range}");
        assert_eq!(response.value()["code"], "range-not-satisfiable");
    }
}

#[tokio::test]
async fn if_range_needs_the_same_strong_etag() {
    let (proxy, sdist) = stored().await;
    let tag = sdist.tag();
    for (condition, status) in [
        (tag.clone(), 206),
        (format!("W/{tag}"), 200),
        ("\"other\"".to_owned(), 200),
        ("Thu, 01 Jan 2026 00:00:00 GMT".to_owned(), 200),
    ] {
        let asking = proxy.get(&sdist.path()).header("range", "bytes=1-2").header("if-range", &condition);
        let response = asking.send().await.expect(status);
        let expected = if status == 206 { sdist.bytes.slice(1..3) } else { sdist.bytes.clone() };
        assert_eq!(response.body, expected, "{condition}");
    }
    let has_it = proxy.get(&sdist.path()).header("range", "bytes=1-2").header("if-none-match", &tag);
    has_it.send().await.expect(304);
}

#[tokio::test]
async fn head_ignores_ranges() {
    let (proxy, sdist) = stored().await;
    let response = proxy.head(&sdist.path()).header("range", "bytes=1-2").send().await.expect(200);
    assert_eq!(response.header("content-length"), Some("300000"));
}

#[tokio::test]
async fn many_random_ranges_are_exact() {
    let (proxy, sdist) = stored().await;
    let mut random = fastrand::Rng::with_seed(7);
    let ranges: Vec<_> = (0..200)
        .map(|_| {
            let first = random.usize(0..LENGTH);
            (first, random.usize(first..LENGTH))
        })
        .collect();
    for some in ranges.chunks(20) {
        join_all(some.iter().map(async |&(first, last)| {
            let range = format!("bytes={first}-{last}");
            let response = proxy.get(&sdist.path()).header("range", &range).send().await.expect(206);
            assert_eq!(response.body, sdist.bytes.slice(first..=last), "{range}");
        }))
        .await;
    }
    assert_eq!(proxy.asked(&sdist.upstream()), 1);
}

#[tokio::test]
async fn a_range_of_a_file_still_downloading_streams_and_ends_after_verification() {
    let (proxy, sdist, gate) = (Proxy::start().await, Sample::sdist("1.0", LENGTH), Gate::closed());
    list(&proxy.upstream, &[&sdist]);
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(150_000, &gate));
    let range = |range: &str| proxy.get(&sdist.path()).header("range", range);
    let mut early = range("bytes=1000-100000").open().await;
    assert_eq!(early.header("content-range"), Some("bytes 1000-100000/300000"));
    early.at_least(99_000).await;
    range("bytes=300000-").send().await.expect(416);
    let late = range("bytes=-16384").open().await;
    let across = range("bytes=149000-151000").open().await;
    assert_eq!((late.status, across.status), (206, 206));
    gate.open();
    assert_eq!(early.finish().await.expect(206).body, sdist.bytes.slice(1000..=100_000));
    assert_eq!(late.finish().await.expect(206).body, sdist.bytes.slice(LENGTH - 16_384..));
    assert_eq!(across.finish().await.expect(206).body, sdist.bytes.slice(149_000..=151_000));
    let asked = proxy.upstream.requests_to(&sdist.upstream());
    assert_eq!(
        (asked.len(), asked[0].header("range")),
        (1, None),
        "the complete file is requested from upstream, once"
    );
}

#[tokio::test]
async fn a_range_of_a_corrupt_file_never_ends_cleanly() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", LENGTH));
    list(&proxy.upstream, &[&sdist]);
    let mut altered = sdist.bytes.to_vec();
    altered[5] ^= 1;
    proxy.upstream.on(&sdist.upstream(), Reply::ok(altered));
    for range in ["bytes=-100", "bytes=0-99", "bytes=7-7"] {
        let response = proxy.get(&sdist.path()).header("range", range).send().await;
        assert_eq!((response.status, response.complete), (206, false), "{range}: {} bytes", response.body.len());
    }
}

#[tokio::test]
async fn a_large_file_is_exact_in_full_and_from_any_offset() {
    const LARGE: usize = (5 << 20) + 4321;
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", LARGE));
    publish(&proxy.upstream, &[&sdist]);
    for _cold_then_warm in 0..2 {
        assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    }
    for (first, last) in
        [(1, LARGE - 1), (4095, (2 << 20) + 4096), ((1 << 20) - 1, LARGE - 2), (LARGE - 200_000, LARGE - 1)]
    {
        let range = format!("bytes={first}-{last}");
        let response = proxy.get(&sdist.path()).header("range", &range).send().await.expect(206);
        assert_eq!(response.body, sdist.bytes.slice(first..=last), "{range}");
    }
}

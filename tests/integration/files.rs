//! Files: exact bytes, one fetch for many clients, readers of a growing file, and upstreams that break off.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use wheelport_runtime::{HumanDuration, Size};

use crate::support::client::{Ask, Opened, until};
use crate::support::proxy::Proxy;
use crate::support::scripted::{Gate, Reply};
use crate::support::wheels::{PAGE, Sample, list, noise, page, publish};

/// The headers of a response with a wheel.
fn headers<'a>(tag: &'a str, served: &'a str) -> [(&'a str, &'a str); 9] {
    [
        ("content-type", "application/octet-stream"),
        ("content-length", "*"),
        ("content-disposition", "attachment; filename=\"a_b-1.0-py3-none-any.whl\""),
        ("etag", tag),
        ("cache-control", "max-age=365000000, immutable"),
        ("accept-ranges", "bytes"),
        ("cache-status", served),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "*"),
    ]
}

#[tokio::test]
async fn a_file_comes_exact_with_all_its_headers_first_from_upstream_then_from_disk() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let tag = wheel.tag();
    for served in ["wheelport; fwd=miss; stored", "wheelport; hit"] {
        let response = proxy.get(&wheel.path()).send().await.expect(200);
        response.expect_headers(&headers(&tag, served));
        assert_eq!(response.body, wheel.bytes);
        assert_eq!(response.header("content-length"), Some(wheel.bytes.len().to_string().as_str()));
    }
    assert_eq!(proxy.asked(&wheel.upstream()), 1);
    let asked = &proxy.upstream.requests_to(&wheel.upstream())[0];
    assert_eq!((asked.header("accept-encoding"), asked.header("range")), (Some("identity"), None));
}

#[tokio::test]
async fn concurrent_requests_for_a_cold_file_share_one_fetch() {
    let (proxy, sdist, gate) = (Proxy::start().await, Sample::sdist("1.0", 300_000), Gate::closed());
    list(&proxy.upstream, &[&sdist]);
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(1000, &gate));
    let path = sdist.path();
    let mut opened = join_all((0..40).map(|_| proxy.get(&path).open())).await;
    // Every client has the beginning before upstream has sent the end.
    for one in &mut opened {
        assert_eq!(one.at_least(999).await[..], sdist.bytes[..999]);
    }
    gate.open();
    for response in join_all(opened.into_iter().map(Opened::finish)).await {
        assert_eq!(response.expect(200).body, sdist.bytes);
    }
    assert_eq!((proxy.asked(&sdist.upstream()), proxy.asked(PAGE)), (1, 1));
    proxy.kept_by("blobs", 1).await;
}

#[tokio::test]
async fn a_file_is_a_hit_as_soon_as_one_client_has_all_of_it() {
    let proxy = Proxy::start().await;
    let samples: Vec<_> = (0..30).map(|minor| Sample::sdist(&format!("1.{minor}"), 3000)).collect();
    publish(&proxy.upstream, &samples.iter().collect::<Vec<_>>());
    // By then it is committed, about to be, or in between; no client may notice which.
    for sample in &samples {
        for served in ["wheelport; fwd=miss; stored", "wheelport; hit", "wheelport; hit"] {
            let response = proxy.get(&sample.path()).send().await.expect(200);
            assert_eq!((&response.body, response.header("cache-status")), (&sample.bytes, Some(served)));
        }
        assert_eq!(proxy.asked(&sample.upstream()), 1);
    }
    proxy.kept_by("blobs", samples.len()).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_committed_is_served_completely_and_counted() {
    let (proxy, sdist, gate) = (Proxy::start().await, Sample::sdist("1.0", 200_000), Gate::closed());
    list(&proxy.upstream, &[&sdist]);
    let whole = Reply::ok(sdist.bytes.clone());
    proxy.upstream.on_each(&sdist.upstream(), [whole.clone().gate_after(150_000, &gate), whole]);
    let mut first = proxy.get(&sdist.path()).open().await;
    first.at_least(100_000).await;
    // A temporary file that is gone cannot be renamed into place later.
    let [temporary] = &proxy.temporaries()[..] else { panic!("one file is being written") };
    std::fs::remove_file(temporary).expect("a file that is there");
    gate.open();
    assert_eq!(first.finish().await.expect(200).body, sdist.bytes);
    let counted = async || proxy.metrics().await.contains("wheelport_commit_failures_total 1\n").then_some(());
    until("the failure to be counted", counted).await;
    assert_eq!((proxy.kept("blobs").len(), proxy.temporaries().len()), (0, 0), "nothing is left half-committed");
    let idle = async || proxy.metrics().await.contains("wheelport_downloads_in_flight 0\n").then_some(());
    until("the download to end", idle).await;
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    proxy.kept_by("blobs", 1).await;
    assert_eq!(proxy.asked(&sdist.upstream()), 2);
}

#[tokio::test]
async fn a_stop_waits_for_files_that_are_being_committed() {
    let proxy = Proxy::start().await;
    let samples: Vec<_> = (0..24).map(|minor| Sample::sdist(&format!("1.{minor}"), 1 << 20)).collect();
    publish(&proxy.upstream, &samples.iter().collect::<Vec<_>>());
    let paths: Vec<_> = samples.iter().map(Sample::path).collect();
    for response in join_all(paths.iter().map(|path| proxy.get(path).send())).await {
        assert_eq!(response.expect(200).body.len(), 1 << 20);
    }
    let proxy = proxy.stop().await.start_blind().await;
    assert_eq!((proxy.kept("blobs").len(), proxy.temporaries().len()), (samples.len(), 0));
}

#[tokio::test]
async fn a_client_that_joins_later_reads_from_the_start_and_is_marked_collapsed() {
    let (proxy, sdist, gate) = (Proxy::start().await, Sample::sdist("1.0", 200_000), Gate::closed());
    list(&proxy.upstream, &[&sdist]);
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(150_000, &gate));
    let mut first = proxy.get(&sdist.path()).open().await;
    first.at_least(140_000).await;
    let mut second = proxy.get(&sdist.path()).open().await;
    assert_eq!(second.header("cache-status"), Some("wheelport; fwd=miss; stored; collapsed"));
    assert_eq!(second.at_least(140_000).await[..140_000], sdist.bytes[..140_000]);
    gate.open();
    assert_eq!(first.finish().await.expect(200).body, sdist.bytes);
    assert_eq!(second.finish().await.expect(200).body, sdist.bytes);
    assert_eq!(proxy.asked(&sdist.upstream()), 1);
}

#[tokio::test]
async fn the_first_client_may_disconnect_and_the_file_still_downloads_completely() {
    let (proxy, sdist, gate) = (Proxy::start().await, Sample::sdist("1.0", 200_000), Gate::closed());
    list(&proxy.upstream, &[&sdist]);
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(2000, &gate));
    let mut first = proxy.get(&sdist.path()).open().await;
    first.at_least(1000).await;
    drop(first);
    let gone = async || proxy.metrics().await.contains("wheelport_requests_in_flight 0").then_some(());
    until("the proxy to notice", gone).await;
    gate.open();
    until("the file to be stored", async || (!proxy.kept("blobs").is_empty()).then_some(())).await;
    let later = proxy.get(&sdist.path()).send().await.expect(200);
    assert_eq!((later.body, proxy.asked(&sdist.upstream())), (sdist.bytes.clone(), 1));
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_no_other() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 6 << 20));
    publish(&proxy.upstream, &[&sdist]);
    let slow = proxy.get(&sdist.path()).open().await;
    let fast = proxy.get(&sdist.path()).send().await.expect(200);
    assert_eq!(fast.body, sdist.bytes);
    assert!(proxy.metrics().await.contains("wheelport_requests_in_flight 1"), "the slow one is in the middle");
    assert_eq!(slow.finish().await.expect(200).body, sdist.bytes);
    assert_eq!(proxy.asked(&sdist.upstream()), 1);
}

#[tokio::test]
async fn an_address_from_a_lock_file_works_without_its_page() {
    let proxy = Proxy::start().await;
    let file = Sample::file("1.0+x", "a_b-1.0+x.tar.gz", noise(100));
    publish(&proxy.upstream, &[&file]);
    proxy.upstream.on("GET /pypi/r/simple/a-b/1.0%2Bx/a_b-1.0%2Bx.tar.gz", Reply::ok(file.bytes.clone()));
    for path in [
        "/pypi/main/simple/a-b/1.0%2Bx/a_b-1.0%2Bx.tar.gz",
        "/simple/a-b/1.0+x/a_b-1.0+x.tar.gz",
        "/simple/A.B/1.0%2bx/a_b-1.0+x.tar.gz",
        "//simple//a-b/1.0+x/a_b-1.0+x.tar.gz?a=b",
    ] {
        assert_eq!(proxy.get(path).send().await.expect(200).body, file.bytes, "{path}");
    }
    proxy.kept_by("blobs", 1).await;
    assert_eq!(proxy.upstream.requests().len(), 2, "the page and the file, once each");
}

#[tokio::test]
async fn a_file_that_no_page_lists_is_streamed_uncached() {
    let (proxy, listed, unlisted) = (Proxy::start().await, Sample::wheel(), Sample::sdist("0.1", 5000));
    publish(&proxy.upstream, &[&listed]);
    proxy.upstream.on(&unlisted.upstream(), Reply::ok(unlisted.bytes.clone()));
    for _ in 0..2 {
        let response = proxy.get(&unlisted.path()).send().await.expect(200);
        assert_eq!(response.body, unlisted.bytes);
        response.expect_headers(&[
            ("content-type", "application/octet-stream"),
            ("content-length", "5000"),
            ("content-disposition", "attachment; filename=\"a_b-0.1.tar.gz\""),
            ("cache-control", "no-cache"),
            ("cache-status", "*"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "*"),
        ]);
    }
    assert_eq!(proxy.asked(&unlisted.upstream()), 2);
    assert_eq!(proxy.kept("blobs").len(), 0);
    assert_eq!(proxy.temporaries().len(), 0);
}

#[tokio::test]
async fn a_file_under_another_version_is_not_that_file() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.upstream.on("GET /pypi/r/simple/a-b/2.0/a_b-1.0-py3-none-any.whl", Reply::status(404));
    let response = proxy.get("/simple/a-b/2.0/a_b-1.0-py3-none-any.whl").send().await.expect(404);
    assert_eq!(response.value()["code"], "no-such-file");
}

#[tokio::test]
async fn other_digests_than_sha256_verify_too_and_a_file_without_any_is_not_cached() {
    let sdist = Sample::sdist("1.0", 4000);
    for (hashes, asked) in [
        (json!({"sha512": sdist.sha512()}), 1),
        (json!({"sha512": sdist.sha512(), "md5": "0".repeat(32)}), 1),
        (json!({"md5": sdist.md5()}), 1),
        (json!({}), 2),
    ] {
        let proxy = Proxy::start().await;
        let mut entry = sdist.entry();
        entry["hashes"] = hashes.clone();
        proxy.upstream.on(PAGE, page(&[entry]));
        proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()));
        assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes, "{hashes}");
        proxy.kept_by("links", usize::from(asked == 1)).await;
        let second = proxy.get(&sdist.path()).send().await.expect(200);
        assert_eq!(second.body, sdist.bytes, "{hashes}");
        assert_eq!(proxy.asked(&sdist.upstream()), asked, "{hashes}");
        let known = (asked == 1).then(|| sdist.tag());
        assert_eq!(second.header("etag").map(str::to_owned), known, "{hashes}");
    }
}

#[tokio::test]
async fn bytes_other_than_the_page_promises_never_end_cleanly_and_leave_nothing() {
    let sdist = Sample::sdist("1.0", 50_000);
    let altered = noise(50_000).into_iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
    let mut last_byte = sdist.bytes.to_vec();
    last_byte[49_999] ^= 1;
    for (hashes, bytes) in [
        (json!({"sha256": sdist.sha256()}), altered.clone()),
        (json!({"sha256": sdist.sha256()}), last_byte),
        (json!({"sha512": sdist.sha512()}), altered),
    ] {
        for chunked in [false, true] {
            let proxy = Proxy::start().await;
            let mut entry = sdist.entry();
            entry["hashes"] = hashes.clone();
            proxy.upstream.on(PAGE, page(&[entry]));
            let reply = Reply::ok(bytes.clone());
            let reply = if chunked { reply.chunked() } else { reply };
            proxy.upstream.on(&sdist.upstream(), reply);
            let response = proxy.get(&sdist.path()).send().await.expect_broken();
            assert!(response.body.len() < sdist.bytes.len(), "the last byte is held back");
            assert_eq!((proxy.kept("blobs").len(), proxy.kept("links").len()), (0, 0));
            until("the temporary file to go", async || proxy.temporaries().is_empty().then_some(())).await;
            // The next client gets the right bytes if upstream has them again.
            proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()));
            assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
        }
    }
}

#[tokio::test]
async fn a_length_other_than_the_pages_is_refused_before_a_byte_goes_out() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 5000));
    list(&proxy.upstream, &[&sdist]);
    proxy.upstream.on(&sdist.upstream(), Reply::ok(noise(4999)));
    proxy.get(&sdist.path()).send().await.expect_unavailable("integrity");
    assert_eq!(proxy.kept("blobs").len(), 0);
}

#[tokio::test]
async fn too_few_or_too_many_bytes_never_look_like_the_complete_file() {
    // Also where the cache is too small for the file, which then bypasses it.
    for (max_size, length) in [(1 << 30, 5000), (4000, 5000)] {
        let proxy = Proxy::builder().set(|builder| builder.cache.max_size = Size(max_size)).start().await;
        let sdist = Sample::sdist("1.0", length);
        list(&proxy.upstream, &[&sdist]);
        // Without a length in upstream's response, it shows at the end or as soon as there are too many bytes.
        for sent in [length - 1, length + 1, length * 20] {
            let mut bytes = sdist.bytes.to_vec();
            bytes.resize(sent, 7);
            proxy.upstream.on(&sdist.upstream(), Reply::ok(bytes).chunked().drip(length, Duration::from_millis(1)));
            let response = proxy.get(&sdist.path()).send().await;
            assert!(response.status == 503 || !response.complete, "{max_size} {sent}: {response:?}");
        }
        assert_eq!(proxy.kept("blobs").len(), 0);
    }
}

#[tokio::test]
async fn a_file_of_unknown_length_is_sent_chunked_and_cached() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 70_000));
    proxy.upstream.on(PAGE, page(&[sdist.entry_without(&["size"])]));
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).chunked());
    let first = proxy.get(&sdist.path()).send().await.expect(200);
    assert_eq!((first.header("content-length"), first.header("transfer-encoding")), (None, Some("chunked")));
    assert_eq!(first.body, sdist.bytes);
    let second = proxy.get(&sdist.path()).send().await.expect(200);
    assert_eq!((second.header("content-length"), &second.body), (Some("70000"), &sdist.bytes));
    assert_eq!(proxy.asked(&sdist.upstream()), 1);
}

#[tokio::test]
async fn a_broken_download_starts_over_where_upstream_has_not_shown_ranges() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 300_000));
    list(&proxy.upstream, &[&sdist]);
    let whole = Reply::ok(sdist.bytes.clone());
    proxy.upstream.on_each(
        &sdist.upstream(),
        [whole.clone().cut_after(100_000), whole.clone().cut_after(0), whole.clone().cut_after(299_999), whole],
    );
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    let asked = proxy.upstream.requests_to(&sdist.upstream());
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|seen| seen.header("range").is_none()), "{asked:?}");
    proxy.kept_by("blobs", 1).await;
}

#[tokio::test]
async fn a_download_that_breaks_off_before_its_first_byte_is_requested_again() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 300_000));
    list(&proxy.upstream, &[&sdist]);
    let whole = Reply::ok(sdist.bytes.clone());
    proxy.upstream.on_each(&sdist.upstream(), [whole.clone().cut_after(0), whole]);
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    assert_eq!(proxy.asked(&sdist.upstream()), 2);
}

#[tokio::test]
async fn a_broken_download_resumes_where_upstream_has_shown_ranges() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 300_000));
    list(&proxy.upstream, &[&sdist]);
    let bytes = sdist.bytes.clone();
    let shown = |reply: Reply| reply.header("accept-ranges", "bytes").header("etag", "\"v1\"");
    let rest = Reply::with(move |seen| {
        let from = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let from: usize = from.and_then(|from| from.parse().ok()).expect("an open range");
        Reply::status(206)
            .header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))
            .header("etag", "\"v1\"")
            .body(bytes.slice(from..))
    });
    let cut = shown(Reply::ok(sdist.bytes.clone())).cut_after(100_000);
    proxy.upstream.on_each(&sdist.upstream(), [cut, rest]);
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    let asked = proxy.upstream.requests_to(&sdist.upstream());
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].header("range"), asked[1].header("if-range")), (None, Some("\"v1\"")));
    assert!(asked[1].header("range").is_some());
}

#[tokio::test]
async fn a_resumption_that_gets_the_complete_file_or_an_error_still_succeeds() {
    for refusal in
        [Reply::status(416), Reply::status(500), Reply::status(206), Reply::ok(Sample::sdist("1.0", 90_000).bytes)]
    {
        let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 90_000));
        list(&proxy.upstream, &[&sdist]);
        let whole = Reply::ok(sdist.bytes.clone()).header("accept-ranges", "bytes");
        proxy.upstream.on_each(&sdist.upstream(), [whole.clone().cut_after(40_000), refusal, whole]);
        assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    }
}

#[tokio::test]
async fn an_upstream_that_keeps_breaking_off_breaks_the_response_and_leaves_nothing() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 300_000));
    list(&proxy.upstream, &[&sdist]);
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).cut_after(100_000));
    let response = proxy.get(&sdist.path()).send().await.expect_broken();
    assert_eq!(response.body[..], sdist.bytes[..response.body.len()]);
    assert_eq!(proxy.asked(&sdist.upstream()), 4, "a bounded number of attempts");
    assert_eq!(proxy.kept("blobs").len(), 0);
    until("the temporary file to go", async || proxy.temporaries().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_chunked_response_that_breaks_off_does_not_end_cleanly_either() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 100_000));
    proxy.upstream.on(PAGE, page(&[sdist.entry_without(&["size"])]));
    proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).chunked().cut_after(60_000));
    let response = proxy.get(&sdist.path()).send().await.expect_broken();
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(proxy.kept("blobs").len(), 0);
}

#[tokio::test]
async fn a_listed_file_that_is_not_imported_yet_is_waited_for() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    list(&proxy.upstream, &[&wheel]);
    let missing = Reply::status(404);
    proxy.upstream.on_each(&wheel.upstream(), [missing.clone(), missing, Reply::ok(wheel.bytes.clone())]);
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    assert_eq!(proxy.asked(&wheel.upstream()), 3);
}

#[tokio::test]
async fn a_listed_file_that_stays_missing_is_believed_gone_only_when_the_page_agrees() {
    let quick = Proxy::builder().set(|builder| {
        builder.client.import_patience = HumanDuration::millis(100);
    });
    let (proxy, wheel) = (quick.start().await, Sample::wheel());
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), Reply::status(404));
    proxy.get(&wheel.path()).send().await.expect_unavailable("unavailable-upstream");
    // The page is a second old now and is fetched again; it no longer lists the file.
    list(&proxy.upstream, &[]);
    proxy.pass(Duration::from_secs(2)).await;
    let response = proxy.get(&wheel.path()).send().await.expect(404);
    assert_eq!(response.value()["code"], "no-such-file");
    proxy.asked_by(PAGE, 2).await;
}

#[tokio::test]
async fn a_head_or_conditional_request_for_a_cold_file_needs_only_its_page() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let tag = wheel.tag();
    let head = proxy.head(&wheel.path()).send().await.expect(200);
    head.expect_headers(&headers(&tag, "*"));
    assert_eq!(head.header("content-length"), Some(wheel.bytes.len().to_string().as_str()));
    let unchanged = proxy.get(&wheel.path()).header("if-none-match", &tag).send().await.expect(304);
    assert_eq!(unchanged.header("etag"), Some(tag.as_str()));
    assert_eq!(proxy.asked(&wheel.upstream()), 0, "no response needed the file");
    let changed = proxy.get(&wheel.path()).header("if-none-match", "\"other\"").send().await.expect(200);
    assert_eq!(changed.body, wheel.bytes);
    assert!(proxy.upstream.requests().iter().all(|seen| seen.method == "GET"), "upstream never sees a HEAD");
}

#[tokio::test]
async fn two_routes_do_not_mix_what_they_fetch_but_share_the_bytes() {
    let proxy = Proxy::builder().routes(&["one", "two"], None).start().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    for route in ["one", "two"] {
        let path = format!("/pypi/{route}{}", wheel.path());
        assert_eq!(proxy.get(&path).send().await.expect(200).body, wheel.bytes);
    }
    let nameless = proxy.get(&wheel.path()).send().await.expect(404);
    assert_eq!(nameless.value()["code"], "no-default-route");
    proxy.kept_by("blobs", 1).await;
}

/// A proxy that tells clients apart by the address that the test gives them, and 48 cold files that upstream does not
/// send to their end.
async fn slow_files(size: usize) -> (Proxy, Vec<Sample>, Gate) {
    let proxy = Proxy::builder().set(|builder| {
        builder.server.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
        builder.client.stall_timeout = HumanDuration::secs(600);
    });
    let (proxy, gate) = (proxy.start().await, Gate::closed());
    let samples: Vec<_> = (0..48).map(|minor| Sample::sdist(&format!("1.{minor}"), size)).collect();
    for sample in &samples {
        proxy.upstream.on(&sample.upstream(), Reply::ok(sample.bytes.clone()).gate_after(size / 3, &gate));
    }
    (proxy, samples, gate)
}

fn from(proxy: &Proxy, client: u8, sample: &Sample) -> Ask {
    proxy.get(&sample.path()).header("x-forwarded-for", &format!("10.0.0.{client}"))
}

/// Waits for a line of the metrics.
async fn measured(proxy: &Proxy, line: &str) {
    let line = format!("{line}\n");
    until(&line, async || proxy.metrics().await.contains(&line).then_some(())).await;
}

#[tokio::test]
async fn a_client_with_many_slow_files_holds_up_no_other_and_they_end_when_it_has_gone() {
    for (size, queued) in [(2 << 20, 48 - 24), (300_000, 48 - 32)] {
        let (proxy, samples, _gate) = slow_files(size).await;
        let others = [Sample::wheel_of("2.0", 2 << 20), Sample::wheel_of("3.0", 0)];
        list(&proxy.upstream, &samples.iter().chain(&others).collect::<Vec<_>>());
        for other in &others {
            proxy.upstream.on(&other.upstream(), Reply::ok(other.bytes.clone()));
        }
        let greedy = join_all(samples.iter().map(|sample| from(&proxy, 1, sample).send()));
        let modest = async {
            measured(&proxy, &format!("wheelport_upstream_queued{{route=\"main\",queue=\"in-flight\"}} {queued}"))
                .await;
            for other in &others {
                assert_eq!(from(&proxy, 2, other).send().await.expect(200).body, other.bytes);
            }
            let metadata = format!("{}.metadata", others[0].path());
            proxy.get(&metadata).send().await.expect(200);
        };
        tokio::select! {
            _ = greedy => panic!("the files have no end"),
            () = modest => {}
        }
        // The first client has gone.
        measured(&proxy, "wheelport_requests_in_flight 0").await;
        proxy.pass(Duration::from_secs(31)).await;
        measured(&proxy, "wheelport_downloads_in_flight 0").await;
        until("the temporary files to go", async || proxy.temporaries().is_empty().then_some(())).await;
    }
}

#[tokio::test]
async fn the_metadata_of_a_large_wheel_does_not_stand_behind_large_files() {
    let (proxy, samples, _gate) = slow_files(2 << 20).await;
    let wheel = Sample::wheel_of("2.0", 2 << 20);
    list(&proxy.upstream, &samples.iter().chain([&wheel]).collect::<Vec<_>>());
    proxy.upstream.on(&wheel.upstream(), Reply::ok(wheel.bytes.clone()));
    let greedy = join_all(samples.iter().map(|sample| from(&proxy, 1, sample).send()));
    let metadata = async {
        measured(&proxy, "wheelport_upstream_queued{route=\"main\",queue=\"in-flight\"} 24").await;
        let path = format!("{}.metadata", wheel.path());
        proxy.get(&path).header("x-forwarded-for", "10.0.0.1").send().await.expect(200);
    };
    tokio::select! {
        _ = greedy => panic!("the files have no end"),
        () = metadata => {}
    }
}

#[tokio::test]
async fn a_download_without_readers_can_be_joined_for_a_while_and_ends_if_more_than_half_is_there() {
    let patient = Proxy::builder().set(|builder| builder.client.stall_timeout = HumanDuration::secs(600));
    let (proxy, sdist) = (patient.start().await, Sample::sdist("1.0", 200_000));
    list(&proxy.upstream, &[&sdist]);
    let gone = async || measured(&proxy, "wheelport_requests_in_flight 0").await;
    for (sent, asked) in [(90_000, 1), (150_000, 2)] {
        let gate = Gate::closed();
        proxy.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(sent, &gate));
        for _ in 0..2 {
            // It leaves, and comes back in time.
            proxy.get(&sdist.path()).open().await.at_least(sent - 1).await;
            gone().await;
            proxy.pass(Duration::from_secs(20)).await;
        }
        assert_eq!(proxy.asked(&sdist.upstream()), asked);
        proxy.pass(Duration::from_secs(31)).await;
        if asked == 1 {
            measured(&proxy, "wheelport_downloads_in_flight 0").await;
            // Records are written meanwhile, and pass through temporary files, too.
            until("nothing is left", async || proxy.temporaries().is_empty().then_some(())).await;
            assert!(proxy.kept("blobs").is_empty());
        } else {
            gate.open();
            proxy.kept_by("blobs", 1).await;
        }
    }
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    assert_eq!(proxy.asked(&sdist.upstream()), 2);
}

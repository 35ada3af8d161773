//! Core metadata: extracted from the wheel, true to its digest, advertised only where it is available.

use futures_util::future::join_all;
use serde_json::{Value, json};
use wheelport_index::Sha256;
use wheelport_runtime::Size;

use crate::support::client::until;
use crate::support::proxy::{MINT, Proxy, refusal};
use crate::support::scripted::{Gate, Reply};
use crate::support::wheels::{PAGE, RawEntry, Sample, list, metadata, noise, page, publish, zipped, zipped_raw};

const HERE: &str = "/simple/a-b/";
const METADATA: &str = "a_b-1.0.dist-info/METADATA";

fn of(sample: &Sample) -> String {
    format!("{}.metadata", sample.path())
}

async fn announced(proxy: &Proxy) -> Vec<Value> {
    let listed = proxy.get(HERE).json().send().await.expect(200).value();
    let files = listed["files"].as_array().expect("files");
    files.iter().map(|file| file["core-metadata"].clone()).collect()
}

#[tokio::test]
async fn it_is_the_wheels_own_file_with_all_its_headers() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let expected = metadata("1.0");
    let tag = format!("\"{}\"", Sha256::of(expected.as_bytes()));
    for served in ["wheelport; fwd=miss; stored", "wheelport; hit"] {
        let response = proxy.get(&of(&wheel)).send().await.expect(200);
        assert_eq!(response.text(), expected);
        response.expect_headers(&[
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", &expected.len().to_string()),
            ("etag", &tag),
            ("cache-control", "max-age=365000000, immutable"),
            ("accept-ranges", "bytes"),
            ("cache-status", served),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "*"),
        ]);
    }
    proxy.get(&of(&wheel)).header("if-none-match", &tag).send().await.expect(304);
    let part = proxy.get(&of(&wheel)).header("range", "bytes=0-15").send().await.expect(206);
    assert_eq!(part.text(), "Metadata-Version");
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    assert_eq!(proxy.asked(&wheel.upstream()), 1, "the wheel was fetched for both");
    assert!(!proxy.upstream.requests().iter().any(|seen| seen.target.contains("metadata")));
}

#[tokio::test]
async fn it_is_advertised_without_a_digest_first_and_with_one_after_a_refresh() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    assert_eq!(announced(&proxy).await, [json!(true)]);
    let response = proxy.get(&of(&wheel)).send().await.expect(200);
    let digest = Sha256::of(&response.body).to_string();
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    assert_eq!(announced(&proxy).await, [json!({"sha256": digest})]);
    let html = proxy.get(HERE).send().await.expect(200).text();
    for attribute in ["data-core-metadata", "data-dist-info-metadata"] {
        assert!(html.contains(&format!("{attribute}=\"sha256={digest}\"")), "{html}");
    }
}

#[tokio::test]
async fn it_is_advertised_only_where_it_can_be_served() {
    let proxy = Proxy::start().await;
    let wheel = Sample::wheel();
    let other = |name: &str| Sample::file("1.0", name, name.as_bytes().to_vec());
    let mut too_large = other("a_b-1.0-2-py3-none-any.whl").entry();
    too_large["size"] = json!(1_u64 << 50);
    let mut claimed = other("a_b-1.0.zip").entry();
    claimed["core-metadata"] = json!(true);
    let entries = [
        wheel.entry(),
        Sample::sdist("1.0", 10).entry(),
        other("a_b.whl").entry(),
        other("a_b-1.0-py2-none-any.whl").entry_without(&["hashes"]),
        too_large,
        claimed,
    ];
    proxy.upstream.on(PAGE, page(&entries));
    let mut expected = vec![json!(true)];
    expected.resize(entries.len(), Value::Null);
    let found: Vec<Value> = announced(&proxy)
        .await
        .into_iter()
        .map(|value| if value == json!(false) { Value::Null } else { value })
        .collect();
    assert_eq!(found, expected);
    for name in ["a_b.whl", "a_b-1.0-py2-none-any.whl", "a_b-1.0-2-py3-none-any.whl"] {
        let response = proxy.get(&of(&other(name))).send().await.expect(404);
        assert_eq!(response.value()["code"], "no-core-metadata", "{name}");
    }
    assert_eq!(proxy.upstream.requests().len(), 1, "none of them was fetched to find out");
}

#[tokio::test]
async fn a_wheel_without_usable_metadata_is_no_longer_advertised() {
    let bad = [
        ("no METADATA", zipped(&[("a_b/__init__.py", b"")])),
        ("not a ZIP archive", b"not a zip".to_vec()),
        ("a method that installers cannot read", zipped_raw(&[(METADATA, 9, b"x", b"x")])),
        ("two of them", zipped(&[("a_b-1.dist-info/METADATA", b"x"), ("A_b-1.0.dist-info/METADATA", b"x")])),
    ];
    for (what, bytes) in bad {
        let proxy = Proxy::start().await;
        let wheel = Sample::file("1.0", "a_b-1.0-py3-none-any.whl", bytes);
        publish(&proxy.upstream, &[&wheel]);
        assert_eq!(announced(&proxy).await, [json!(true)], "{what}");
        let before = proxy.get(HERE).json().send().await.expect(200);
        let response = proxy.get(&of(&wheel)).send().await.expect(404);
        assert_eq!(response.value()["code"], "no-core-metadata", "{what}");
        // At once, without another upstream request, and for every client that has the old page.
        let tag = before.header("etag").expect("a tag");
        let after = proxy.get(HERE).json().header("if-none-match", tag).send().await.expect(200);
        assert!(!after.text().contains("core-metadata\":true"), "{what}: {}", after.text());
        assert_eq!(proxy.asked(PAGE), 1, "{what}");
        // The wheel itself is still served.
        assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes, "{what}");
    }
}

/// `Metadata-Version: 2.1`, `Name: A.b`, `Version: 1.0`: as it is, and as Python's `zipfile` compresses it.
const SHORT: &[u8] = b"Metadata-Version: 2.1\nName: A.b\nVersion: 1.0\n";
const BZIP2: &str = "425a6839314159265359806df6780000095f800010400370102003010036239c002000314006234\
    d34682549a7a260266a36\
                     890bc9d7ee74a1314cbeaeb31eea56f94561366cc0c23f82ee48a70a12100dbecf00";
const LZMA: &str = "090405005d000080000026994a862301a60271fc8bc5a8791c59001b0ee5b1176acba45fdd3eae66\
    8c668fef10f2446a23a817ff\
                    ff94d52000";

/// Wheels that installers take, odd as they are, each with its metadata.
fn odd_wheels() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let decoded = |text: &str| const_hex::decode(text).expect("hexadecimal");
    let (module, other) = (b"A = 1\n", b"A = 2\n");
    let stored = |name: &'static str, bytes: &'static [u8]| (name, 0, bytes, bytes);
    let strange: &[u8] = b"Metadata-Version: 2.1\r\nName: other\r\nVersion: 0.9\r\n";
    vec![
        (
            "a module twice",
            zipped_raw(&[stored("a_b.py", module), stored("a_b.py", other), stored(METADATA, SHORT)]),
            SHORT.to_vec(),
        ),
        (
            "a directory twice",
            zipped_raw(&[
                stored("a_b-1.0.dist-info/", b""),
                stored(METADATA, SHORT),
                stored("a_b-1.0.dist-info/", b""),
            ]),
            SHORT.to_vec(),
        ),
        (
            "the metadata twice, of which the last one counts",
            zipped_raw(&[stored(METADATA, b"Name: first"), stored(METADATA, SHORT)]),
            SHORT.to_vec(),
        ),
        ("another name and version", zipped_raw(&[stored(METADATA, strange)]), strange.to_vec()),
        ("another directory", zipped_raw(&[stored("a_b-0.9.dist-info/METADATA", strange)]), strange.to_vec()),
        ("no field at all", zipped_raw(&[stored(METADATA, b"")]), Vec::new()),
        ("BZIP2", zipped_raw(&[(METADATA, 12, &decoded(BZIP2), SHORT)]), SHORT.to_vec()),
        ("LZMA", zipped_raw(&[(METADATA, 14, &decoded(LZMA), SHORT)]), SHORT.to_vec()),
        (
            "Zstandard",
            zipped_raw(&[(METADATA, 93, &zstd::bulk::compress(SHORT, 3).expect("memory"), SHORT)]),
            SHORT.to_vec(),
        ),
    ]
}

#[tokio::test]
async fn what_is_announced_is_served_byte_for_byte_also_from_odd_wheels() {
    for (what, bytes, expected) in odd_wheels() {
        let proxy = Proxy::start().await;
        let wheel = Sample::file("1.0", "a_b-1.0-py3-none-any.whl", bytes);
        publish(&proxy.upstream, &[&wheel]);
        assert_eq!(announced(&proxy).await, [json!(true)], "{what}");
        assert_eq!(proxy.get(&of(&wheel)).send().await.expect(200).body, expected, "{what}");
    }
}

#[tokio::test]
async fn a_wheel_with_many_entries_has_its_metadata_like_any_other() {
    let names: Vec<String> = (0..70_000).map(|number| format!("a_b/{number}.py")).collect();
    let mut entries: Vec<RawEntry<'_>> = names.iter().map(|name| (name.as_str(), 0, &b""[..], &b""[..])).collect();
    entries.insert(12_345, (METADATA, 0, SHORT, SHORT));
    let (proxy, wheel) = (Proxy::start().await, Sample::file("1.0", "a_b-1.0-py3-none-any.whl", zipped_raw(&entries)));
    publish(&proxy.upstream, &[&wheel]);
    assert_eq!(proxy.get(&of(&wheel)).send().await.expect(200).body, SHORT);
}

/// Root may write to a read-only directory, so a file takes the directory's place.
fn break_storage(proxy: &Proxy) {
    let cache = proxy.dir.path().join("cache");
    std::fs::remove_dir_all(&cache).expect("a directory that is there");
    std::fs::write(&cache, "in the way").expect("a directory of ours");
}

#[tokio::test]
async fn it_does_not_need_storage() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel_of("1.0", 3_000_000));
    publish(&proxy.upstream, &[&wheel]);
    break_storage(&proxy);
    assert_eq!(announced(&proxy).await, [json!(true)]);
    let responses = join_all((0..5).map(|_| proxy.get(&of(&wheel)).send())).await;
    for response in responses {
        assert_eq!(response.expect(200).text(), metadata("1.0"));
    }
    let again = proxy.get(&of(&wheel)).send().await.expect(200);
    assert_eq!(again.header("cache-status"), Some("wheelport; hit"));
    // Nor a digest that says where to look: what was found is remembered by the wheel's place in the index.
    let blake = Sample::wheel_of("3.0", 10);
    let mut entry = blake.entry();
    entry["hashes"] = json!({"sha512": blake.sha512()});
    proxy.upstream.on(PAGE, page(&[entry])).on(&blake.upstream(), Reply::ok(blake.bytes.clone()));
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await;
    for _ in 0..3 {
        assert_eq!(proxy.get(&of(&blake)).send().await.expect(200).text(), metadata("3.0"));
    }
    assert_eq!(proxy.asked(&blake.upstream()), 2, "once in vain, because it cannot be stored");
    // Bytes that are not those that the index announces give no metadata either.
    let other = Sample::wheel_of("2.0", 100);
    list(&proxy.upstream, &[&wheel, &other]);
    proxy.upstream.on(&other.upstream(), Reply::ok(Sample::wheel_of("2.0", 101).bytes));
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await;
    proxy.get(&of(&other)).send().await.expect_unavailable("integrity");
}

#[tokio::test]
async fn it_is_found_in_the_middle_of_a_large_wheel_without_storage() {
    let proxy = Proxy::start().await;
    let filling = noise(18 << 20);
    let (before, after) = filling.split_at(5 << 20);
    let bytes = zipped(&[
        ("a_b/before.bin", before),
        ("a_b-1.0.dist-info/METADATA", metadata("1.0").as_bytes()),
        ("a_b/after.bin", after),
        ("a_b-1.0.dist-info/RECORD", b""),
    ]);
    let wheel = Sample::file("1.0", "a_b-1.0-py3-none-any.whl", bytes);
    publish(&proxy.upstream, &[&wheel]);
    break_storage(&proxy);
    for _ in 0..2 {
        assert_eq!(proxy.get(&of(&wheel)).send().await.expect(200).text(), metadata("1.0"));
    }
    assert_eq!(proxy.asked(&wheel.upstream()), 3, "once in vain, because it cannot be stored, then once for each part");
}

#[tokio::test]
async fn it_does_not_need_room_for_the_wheel() {
    let builder = Proxy::builder().set(|builder| builder.cache.max_size = Size(200_000));
    let (proxy, wheel) = (builder.start().await, Sample::wheel_of("1.0", 400_000));
    // Without a length, the proxy learns only midway that the cache is too small for the wheel.
    proxy.upstream.on(PAGE, page(&[wheel.entry_without(&["size"])]));
    proxy.upstream.on(&wheel.upstream(), Reply::ok(wheel.bytes.clone()).chunked());
    assert_eq!(announced(&proxy).await, [json!(true)]);
    assert_eq!(proxy.get(&of(&wheel)).send().await.expect(200).text(), metadata("1.0"));
    assert_eq!(proxy.kept("blobs").len(), 0);
}

#[tokio::test]
async fn concurrent_requests_share_one_fetch_of_the_wheel() {
    let (proxy, wheel, gate) = (Proxy::start().await, Sample::wheel(), Gate::closed());
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), Reply::ok(wheel.bytes.clone()).before_head(&gate));
    let path = of(&wheel);
    let opening = async {
        gate.reached().await;
        gate.open();
    };
    let (responses, ()) = tokio::join!(join_all((0..20).map(|_| proxy.get(&path).send())), opening);
    for response in responses {
        assert_eq!(response.expect(200).text(), metadata("1.0"));
    }
    assert_eq!(proxy.asked(&wheel.upstream()), 1);
    proxy.kept_by("metadata", 1).await;
}

#[tokio::test]
async fn metadata_is_extracted_from_a_fetched_wheel_before_it_is_requested() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&wheel.path()).send().await.expect(200);
    until("the metadata", async || (!proxy.kept("metadata").is_empty()).then_some(())).await;
    let response = proxy.get(&of(&wheel)).send().await.expect(200);
    assert_eq!(response.header("cache-status"), Some("wheelport; hit"));
}

#[tokio::test]
async fn it_survives_a_restart_and_the_loss_of_the_wheel() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&of(&wheel)).send().await.expect(200);
    for blob in proxy.kept_by("blobs", 1).await {
        std::fs::remove_file(blob).expect("a file that is there");
    }
    let (upstream, control) = (proxy.upstream.clone(), proxy.control.clone());
    upstream.on(PAGE, Reply::raw("")).on(&wheel.upstream(), Reply::raw(""));
    control.on(MINT, refusal(403, "AccessDeniedException", "gone"));
    let proxy = proxy.stop().await.start_blind().await;
    let response = proxy.get(&of(&wheel)).send().await.expect(200);
    assert_eq!(response.text(), metadata("1.0"));
    let digest = Sha256::of(&response.body).to_string();
    assert_eq!(announced(&proxy).await, [json!({"sha256": digest})]);
}

#[tokio::test]
async fn it_is_503_and_never_404_while_the_wheel_is_unavailable() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), Reply::raw(""));
    proxy.get(&of(&wheel)).send().await.expect_unavailable("unavailable-broken");
    let mut altered = wheel.bytes.to_vec();
    altered[100] ^= 1;
    proxy.upstream.on(&wheel.upstream(), Reply::ok(altered));
    proxy.get(&of(&wheel)).send().await.expect_unavailable("integrity");
    proxy.upstream.on(&wheel.upstream(), Reply::ok(wheel.bytes.clone()));
    assert_eq!(proxy.get(&of(&wheel)).send().await.expect(200).text(), metadata("1.0"));
}

#[tokio::test]
async fn other_files_have_none() {
    let (proxy, sdist) = (Proxy::start().await, Sample::sdist("1.0", 10));
    publish(&proxy.upstream, &[&sdist]);
    proxy.upstream.on(&format!("{}.metadata", sdist.upstream()), Reply::status(404));
    proxy.get(&of(&sdist)).send().await.expect(404);
    let unlisted = proxy.get("/simple/a-b/3.0/a_b-3.0-py3-none-any.whl.metadata").send().await.expect(404);
    assert_eq!(unlisted.value()["code"], "no-such-file");
}

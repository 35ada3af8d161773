//! Uploads: what upstream gets, what response the publisher gets, and what the next reader finds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wheelport::identity::{IdentityRules, IdentityTables, PublisherTable};
use wheelport::web::UploadPolicy;
use wheelport_index::Sha256;
use wheelport_runtime::{HumanDuration, Size};

use crate::support::client::{Ask, Response, soon, until};
use crate::support::forms::{BOUNDARY, Between, Form, content_type, fields, parts};
use crate::support::proxy::{Builder, CANARY, Proxy};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::wheels::{
    PAGE, RawEntry, Sample, document, list, metadata, noise, page, publish, zipped, zipped_raw,
};

const POST: &str = "POST /pypi/r/";
const PAGE_HERE: &str = "/simple/a-b/";
const REFUSED: &str = "AccessDeniedException";

fn open() -> Builder {
    Proxy::builder().set(|builder| builder.upload = UploadPolicy::Anonymous)
}

/// A proxy that every client may publish through, over an upstream that is empty and accepts everything.
async fn proxy() -> Proxy {
    let proxy = open().start().await;
    proxy.upstream.on(POST, Reply::ok("")).on(PAGE, Reply::status(404));
    proxy
}

fn ask(proxy: &Proxy, form: impl Into<Bytes>) -> Ask {
    proxy.client().ask("POST", "/").header("content-type", &content_type()).body(form)
}

async fn upload(proxy: &Proxy, sample: &Sample) -> Response {
    ask(proxy, Form::of(sample).bytes()).send().await
}

async fn listed(proxy: &Proxy) -> Vec<String> {
    let response = proxy.get(PAGE_HERE).json().send().await;
    if response.status == 404 { Vec::new() } else { response.expect(200).file_names() }
}

/// Asserts that an upload left no trace: not upstream, not for a reader, not on disk.
async fn nothing_happened(proxy: &Proxy) {
    assert_eq!(proxy.asked(POST), 0);
    assert_eq!(listed(proxy).await, Vec::<String>::new());
    until("tidy temporary files", async || proxy.temporaries().is_empty().then_some(())).await;
    assert!(proxy.kept("blobs").is_empty() && proxy.kept("published").is_empty());
}

fn conflict(message: &str) -> Reply {
    Reply::status(409).header("content-type", "application/json").body(json!({"message": message}).to_string())
}

fn denied(message: &str) -> Reply {
    crate::support::proxy::refusal(403, REFUSED, message)
}

fn source() -> Sample {
    use std::io::Write as _;
    let metadata = b"Metadata-Version: 2.1\nName: A.b\nVersion: 1.0\nRequires-Python: >=3.8\n";
    let mut header = [0_u8; 512];
    header[..14].copy_from_slice(b"A.b-1.0/PKG-IN");
    header[14..16].copy_from_slice(b"FO");
    header[124..135].copy_from_slice(format!("{:011o}", metadata.len()).as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = [&header[..], metadata].concat();
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar).expect("memory can be written");
    Sample::file("1.0", "A.b-1.0.tar.gz", packed.finish().expect("memory can be written"))
}

#[tokio::test]
async fn upstream_gets_one_form_of_ours_with_the_same_file_and_only_our_credentials() {
    let (proxy, wheel) = (proxy().await, Sample::wheel_of("1.0", 3_000_000));
    let sent = Form::of(&wheel).with("description", "Wörter\r\n--x\r\n\r\nand lines").with("md5_digest", &wheel.md5());
    let form = sent.bytes();
    for target in ["/", "/legacy/", "/legacy", "/pypi/main/", "/pypi/main"] {
        let response = proxy
            .client()
            .ask("POST", target)
            .header("content-type", &content_type())
            .header("authorization", "Basic c2VjcmV0OnNlY3JldA==")
            .header("cookie", "secret=1")
            .body(form.clone())
            .send()
            .await
            .expect(200);
        assert_eq!(response.reason, "OK");
        response.expect_headers(&[
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", "*"),
            ("cache-control", "no-store"),
            ("vary", "Accept"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "*"),
        ]);
    }
    let seen = &proxy.upstream.requests_to(POST)[0];
    assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string().as_str()));
    assert!(seen.header("content-type").is_some_and(|form| !form.contains(BOUNDARY)), "{:?}", seen.headers);
    let mut arrived = fields(seen);
    assert_eq!(arrived.iter().filter(|(name, _)| name == "classifiers").count(), 2);
    let mut expected = sent.fields.clone();
    arrived.sort_unstable();
    expected.sort_unstable();
    assert_eq!(arrived, expected);
    let (file, content) = parts(seen).pop().expect("a part");
    assert_eq!((file.name.as_str(), file.file_name), ("content", Some(wheel.name.clone())));
    assert_eq!(content, wheel.bytes);
    assert_eq!(seen.header("transfer-encoding"), None);
    assert_eq!(seen.header("cookie"), None);
    let authorization: Vec<_> = seen.headers.iter().filter(|(name, _)| name == "authorization").collect();
    assert_eq!(authorization.len(), 1);
    assert_ne!(authorization[0].1, "Basic c2VjcmV0OnNlY3JldA==");
}

#[tokio::test]
async fn a_published_file_is_served_at_once_although_upstream_lags() {
    let (proxy, wheel, sdist, old) = (proxy().await, Sample::wheel(), source(), Sample::wheel_of("0.9", 0));
    assert_eq!(listed(&proxy).await, Vec::<String>::new(), "the project is known to be missing");
    upload(&proxy, &wheel).await.expect(200);
    upload(&proxy, &sdist).await.expect(200);
    let names = [wheel.name.clone(), sdist.name.clone()];
    let page_now = proxy.get(PAGE_HERE).json().send().await.expect(200);
    assert_eq!(page_now.file_names(), names);
    let entries = page_now.value()["files"].clone();
    assert_eq!(entries[0]["hashes"]["sha256"], wheel.sha256());
    assert_eq!(entries[0]["size"], wheel.bytes.len());
    assert_eq!(entries[1]["requires-python"], ">=3.8");
    assert!(entries[0]["upload-time"].as_str().is_some_and(|time| time.ends_with('Z')), "{entries}");
    let metadata = proxy.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
    assert_eq!(entries[0]["core-metadata"]["sha256"], Sha256::of(&metadata.body).to_string());
    assert_eq!(metadata.header("cache-status"), Some("wheelport; hit"));
    let html = proxy.get(PAGE_HERE).send().await.expect(200).text();
    assert!(names.iter().all(|name| html.contains(&format!("/{name}#sha256="))), "{html}");
    for sample in [&wheel, &sdist] {
        let file = proxy.get(&sample.path()).send().await.expect(200);
        assert_eq!((file.header("cache-status"), &file.body), (Some("wheelport; hit"), &sample.bytes));
        assert_eq!(proxy.asked(&sample.upstream()), 0);
    }
    // Upstream serves an older page for a while, also across a restart here.
    list(&proxy.upstream, &[&old]);
    let proxy = proxy.stop().await.start().await;
    proxy.pass(Duration::from_secs(100)).await;
    let expected = [std::slice::from_ref(&old.name), &names[..]].concat();
    until("the older page", async || (listed(&proxy).await == expected).then_some(())).await;
    // Once it lists them, its page alone decides.
    list(&proxy.upstream, &[&old, &wheel, &sdist]);
    proxy.pass(Duration::from_secs(100)).await;
    until("upstream's own entry", async || {
        let page = proxy.get(PAGE_HERE).json().send().await.expect(200).value();
        (page["files"][1]["upload-time"] == wheel.entry()["upload-time"]).then_some(())
    })
    .await;
    until("its record to be forgotten", async || proxy.kept("published").is_empty().then_some(())).await;
    assert_eq!(listed(&proxy).await, expected);
    list(&proxy.upstream, &[&old]);
    proxy.pass(Duration::from_secs(100)).await;
    until("the deletion", async || (listed(&proxy).await == [old.name.clone()]).then_some(())).await;
}

#[tokio::test]
async fn a_published_file_stays_listed_when_another_follows_and_upstream_lags() {
    let (proxy, old, first, second) =
        (proxy().await, Sample::wheel_of("0.9", 0), Sample::wheel(), Sample::wheel_of("2.0", 0));
    list(&proxy.upstream, &[&old]);
    assert_eq!(listed(&proxy).await.len(), 1);
    upload(&proxy, &first).await.expect(200);
    proxy.pass(Duration::from_secs(40)).await;
    upload(&proxy, &second).await.expect(200);
    let expected = [&old, &first, &second].map(|sample| sample.name.clone());
    assert_eq!(listed(&proxy).await, expected);
    // From the copy on disk, which is from before, and from upstream, which still lags.
    let proxy = proxy.stop().await.start().await;
    assert_eq!(listed(&proxy).await, expected);
    let asked = proxy.asked(PAGE);
    proxy.pass(Duration::from_secs(121)).await;
    assert_eq!((listed(&proxy).await.as_slice(), proxy.asked(PAGE)), (expected.as_slice(), asked + 1));
}

#[tokio::test]
async fn a_published_file_is_remembered_until_the_page_that_lists_it_is_on_disk() {
    let (proxy, wheel, old) = (proxy().await, Sample::wheel(), Sample::wheel_of("0.9", 0));
    list(&proxy.upstream, &[&old]);
    assert_eq!(listed(&proxy).await.len(), 1);
    let [copy] = &proxy.kept("pages")[..] else { panic!("one page") };
    upload(&proxy, &wheel).await.expect(200);
    // Something is in the way of the next copy.
    std::fs::remove_file(copy).expect("our own file");
    std::fs::create_dir(copy).expect("our own directory");
    list(&proxy.upstream, &[&old, &wheel]);
    let renewed = async |proxy: &Proxy| {
        let asked = proxy.asked(PAGE);
        proxy.pass(Duration::from_secs(121)).await;
        assert_eq!(listed(proxy).await, [old.name.clone(), wheel.name.clone()]);
        assert_eq!(proxy.asked(PAGE), asked + 1);
    };
    renewed(&proxy).await;
    assert_eq!(proxy.kept("published").len(), 1);
    std::fs::remove_dir(copy).expect("our own directory");
    renewed(&proxy).await;
    until("its record to be forgotten", async || proxy.kept("published").is_empty().then_some(())).await;
    assert_eq!(proxy.kept("pages").len(), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_off_anywhere_publishes_nothing() {
    let (proxy, form) = (proxy().await, Form::of(&Sample::wheel_of("1.0", 200_000)).bytes());
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
        proxy.address,
        content_type(),
        form.len()
    );
    let sent = [head.as_bytes(), &form].concat();
    let points = [1, head.len() - 1, head.len(), head.len() + 1, head.len() + 60, head.len() + 700];
    for cut in points.into_iter().chain((1..6).map(|part| head.len() + form.len() * part / 6)).chain([sent.len() - 1]) {
        let mut socket = TcpStream::connect(proxy.address).await.expect("loopback works");
        socket.write_all(&sent[..cut]).await.expect("loopback works");
        socket.shutdown().await.expect("loopback works");
        let mut response = Vec::new();
        let _ = soon("the end", socket.read_to_end(&mut response)).await;
        assert!(!response.starts_with(b"HTTP/1.1 2"), "{cut}: {}", String::from_utf8_lossy(&response));
    }
    nothing_happened(&proxy).await;
    // A length that is too short cuts the form, and what comes behind is no request.
    let short =
        head.replace(&format!("content-length: {}", form.len()), &format!("content-length: {}", form.len() - 9));
    let response = proxy.client().raw(&[short.as_bytes(), &form].concat()).await;
    assert!(response.starts_with("HTTP/1.1 400"), "{response}");
    nothing_happened(&proxy).await;
}

#[tokio::test]
async fn the_same_bytes_again_are_a_success_whatever_upstream_says() {
    let wheel = Sample::wheel();
    for says in [Reply::ok(""), conflict("exists"), denied("no"), Reply::status(400)] {
        let proxy = proxy().await;
        publish(&proxy.upstream, &[&wheel]);
        proxy.upstream.on(POST, says);
        upload(&proxy, &wheel).await.expect(200);
        assert_eq!(listed(&proxy).await, std::slice::from_ref(&wheel.name));
    }
    // A page that lags does not matter either: the file itself is looked up.
    let proxy = proxy().await;
    proxy.upstream.on(POST, conflict("exists")).on(&wheel.upstream(), Reply::ok(wheel.bytes.clone()));
    upload(&proxy, &wheel).await.expect(200);
    // A file known to be upstream is not even sent.
    let posts = proxy.asked(POST);
    upload(&proxy, &wheel).await.expect(200);
    assert_eq!(proxy.asked(POST), posts);
    // Unless it was deleted meanwhile.
    proxy.upstream.on(POST, Reply::ok("")).on(&wheel.upstream(), Reply::status(404));
    upload(&proxy, &wheel).await.expect(200);
    assert_eq!(proxy.asked(POST), posts + 1);
}

#[tokio::test]
async fn other_bytes_under_the_same_name_are_a_conflict_that_says_so() {
    let (wheel, other) = (Sample::wheel(), Sample::wheel_of("1.0", 10));
    for late in [false, true] {
        let proxy = proxy().await;
        publish(&proxy.upstream, &[&other]);
        if late {
            proxy.upstream.on(PAGE, page(&[]));
        }
        proxy.upstream.on(POST, conflict("exists"));
        let response = upload(&proxy, &wheel).await.expect(409);
        assert!(response.reason.starts_with("File already exists"), "{response:?}");
        assert!(response.text().contains("File already exists"), "{response:?}");
        assert_eq!(response.value()["code"], "file-exists");
        assert_ne!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
        assert!(proxy.kept("published").is_empty());
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_form_sent_again_from_disk() {
    let (proxy, wheel) = (proxy().await, Sample::wheel_of("1.0", 2_000_000));
    proxy.upstream.on_each(POST, [Reply::status(401), Reply::ok("")]);
    upload(&proxy, &wheel).await.expect(200);
    let posts = proxy.upstream.requests_to(POST);
    assert_eq!((posts.len(), &posts[0].body), (2, &posts[1].body));
    assert_ne!(posts[0].header("authorization"), posts[1].header("authorization"));
}

#[tokio::test]
async fn a_429_is_waited_out() {
    let (proxy, wheel) = (proxy().await, Sample::wheel());
    proxy.upstream.on_each(POST, [Reply::status(429), Reply::ok("")]);
    upload(&proxy, &wheel).await.expect(200);
    assert_eq!(proxy.asked(POST), 2);
}

#[tokio::test]
async fn a_broken_exchange_is_looked_up_before_the_publisher_gets_a_response() {
    let wheel = Sample::wheel();
    for broken in [Reply::raw(""), Reply::raw("HTTP/1.1 200 O"), Reply::status(500), Reply::status(503)] {
        // It was accepted: found on the page, or at its address.
        for late in [false, true] {
            let proxy = proxy().await;
            publish(&proxy.upstream, &[&wheel]);
            if late {
                proxy.upstream.on(PAGE, Reply::status(404));
            }
            proxy.upstream.on(POST, broken.clone());
            upload(&proxy, &wheel).await.expect(200);
            assert_eq!((proxy.asked(POST), listed(&proxy).await), (1, vec![wheel.name.clone()]));
        }
        // It was not: it is sent once more.
        let proxy = proxy().await;
        proxy.upstream.on(&wheel.upstream(), Reply::status(404));
        proxy.upstream.on_each(POST, [broken.clone(), Reply::ok("")]);
        upload(&proxy, &wheel).await.expect(200);
        assert_eq!(proxy.asked(POST), 2);
        // The outcome is unknown: the response says exactly that, and no page lists the file.
        proxy.upstream.on(POST, broken.clone());
        let second = Sample::wheel_of("2.0", 0);
        proxy.upstream.on(&second.upstream(), Reply::status(404));
        let response = upload(&proxy, &second).await;
        response.expect_unavailable("unavailable-outcome-unknown");
        assert!(response.reason.contains("uploading the same file again is safe"), "{response:?}");
        assert_eq!(listed(&proxy).await, std::slice::from_ref(&wheel.name));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_byte_of_the_form_does_not_fail_the_upload() {
    let wheel = Sample::wheel_of("1.0", 200_000);
    // What upstream gets is a little longer or shorter.
    for after in [0, 1, 100, 600, 70_000, Form::of(&wheel).bytes().len() - 500] {
        let upstream = Scripted::start().await;
        let file = wheel.upstream();
        upstream.on(POST, Reply::ok("")).on(PAGE, Reply::status(404)).on(&file, Reply::status(404));
        let between = Between::hanging_up(upstream.address(), 1, after).await;
        let endpoint = format!("http://{}/pypi/r/", between.address);
        let proxy = open().upstream(&upstream).endpoint(&endpoint).start().await;
        upload(&proxy, &wheel).await.expect(200);
        assert_eq!((between.left(), listed(&proxy).await), (0, vec![wheel.name.clone()]), "{after}");
        let whole = upstream.requests_to(POST);
        let (_, content) = parts(whole.last().expect("a form")).pop().expect("a part");
        assert_eq!(content, wheel.bytes, "{after}");
    }
}

#[tokio::test]
async fn bad_uploads_are_refused_in_words_and_upstream_sees_nothing() {
    let (proxy, wheel) = (proxy().await, Sample::wheel());
    let good = Form::of(&wheel);
    let with_metadata = |metadata: &[u8]| {
        let bytes = zipped(&[("a_b-1.0.dist-info/METADATA", metadata)]);
        Form::of(&Sample::file("1.0", &wheel.name, bytes))
    };
    let packed = |entries: &[RawEntry<'_>]| Form::of(&Sample::file("1.0", &wheel.name, zipped_raw(entries)));
    let named = |name: &str| good.clone().set(|form| name.clone_into(&mut form.file_name));
    let bad = [
        (good.clone().with("sha256_digest", &"0".repeat(64)), "sha256_digest"),
        (good.clone().with("md5_digest", "d41d8cd98f00b204e9800998ecf8427e"), "md5_digest"),
        (good.clone().with("blake2_256_digest", &"0".repeat(64)), "blake2_256_digest"),
        (good.clone().without("sha256_digest"), "no digest"),
        (good.clone().without("name"), "'name'"),
        (good.clone().without("version"), "'version'"),
        (good.clone().without("filetype"), "'filetype'"),
        (good.clone().with("name", "other"), "does not belong"),
        (good.clone().with("version", "2.0"), "does not belong"),
        (good.clone().with("filetype", "sdist"), "says otherwise"),
        (good.clone().with(":action", "submit"), "registration"),
        (good.clone().set(|form| form.fields.push(("name".to_owned(), "a-b".to_owned()))), "'name' twice"),
        (good.clone().with("Name", "other"), "too much like 'name'"),
        (named("other-1.0-py3-none-any.whl"), "does not belong"),
        (named("../a_b-1.0-py3-none-any.whl"), "not valid"),
        (named("/etc/a_b-1.0-py3-none-any.whl"), "not valid"),
        (named("a_b-1.0.exe"), "neither a wheel"),
        (Form::of(&Sample::file("1.0", &wheel.name, "no zip")), "not a readable ZIP"),
        (Form::of(&Sample::file("1.0", &wheel.name, wheel.bytes.slice(..wheel.bytes.len() - 30))), "ZIP"),
        (Form::of(&Sample::file("1.0", "a_b-1.0.tar.gz", noise(500))), "not a readable archive"),
        (with_metadata(b"Name: other\nVersion: 1.0\n"), "Name"),
        (with_metadata(b"Name: a-b\nVersion: 3.0\n"), "Version"),
        (packed(&[("a_b/METADATA", 0, b"x", b"x")]), "no `.dist-info/METADATA`"),
        (packed(&[("a_b-1.0.dist-info/METADATA", 9, b"x", b"x")]), "method 9"),
        (
            good.clone().set(|form| form.fields.extend((0..2000).map(|n| (format!("f{n}"), String::new())))),
            "2000 fields",
        ),
    ];
    for (form, part) in bad {
        let response = ask(&proxy, form.bytes()).send().await.expect(400);
        assert!(response.text().contains(part) && response.reason.contains("refused"), "{part}: {response:?}");
        assert_eq!(response.value()["code"], "upload-refused");
    }
    let whole = good.bytes();
    for end in [0, 10, 100, whole.len() / 2, whole.len() - 5] {
        let response = ask(&proxy, whole.slice(..end)).header("x-length", "").send().await;
        assert_eq!(response.status, 400, "{end}: {response:?}");
    }
    let no_form = proxy.client().ask("POST", "/").header("content-type", "text/plain").body("x").send().await;
    assert!(no_form.expect(400).text().contains("multipart/form-data"));
    let zipped = ask(&proxy, whole).header("content-encoding", "gzip").send().await;
    assert!(zipped.expect(400).text().contains("compressed"));
    nothing_happened(&proxy).await;
}

#[tokio::test]
async fn a_published_file_is_not_offered_while_its_project_is_in_quarantine() {
    let (proxy, wheel) = (proxy().await, Sample::wheel());
    upload(&proxy, &wheel).await.expect(200);
    let status = json!({"status": "quarantined"});
    proxy.upstream.on(PAGE, document(&json!({"files": [], "project-status": status})));
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    assert_eq!(listed(&proxy).await, Vec::<String>::new());
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(403).value()["code"], "quarantined");
}

#[tokio::test]
async fn odd_wheels_that_installers_take_are_published() {
    const PATH: &str = "a_b-1.0.dist-info/METADATA";
    let metadata = metadata("1.0").into_bytes();
    let stored = |name: &'static str, bytes: &'static [u8]| (name, 0, bytes, bytes);
    let own = (PATH, 0, &metadata[..], &metadata[..]);
    let packed = zstd::bulk::compress(&metadata, 3).expect("memory");
    for (what, entries) in [
        ("a module twice", vec![stored("a_b.py", b"A = 1"), stored("a_b.py", b"A = 2"), own]),
        ("a directory twice", vec![stored("a_b/", b""), stored("a_b/", b""), own]),
        ("the metadata twice", vec![stored(PATH, b"Name: other"), own]),
        ("another compression", vec![(PATH, 93, &packed[..], &metadata[..])]),
    ] {
        let (proxy, wheel) = (proxy().await, Sample::file("1.0", "a_b-1.0-py3-none-any.whl", zipped_raw(&entries)));
        upload(&proxy, &wheel).await.expect(200);
        assert_eq!(listed(&proxy).await, std::slice::from_ref(&wheel.name), "{what}");
        let served = proxy.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
        assert_eq!(served.body, metadata, "{what}");
    }
    // What the repository says of one of them reaches the publisher.
    let proxy = proxy().await;
    let twice = zipped_raw(&[stored("a_b.py", b""), stored("a_b.py", b""), own]);
    proxy
        .upstream
        .on(POST, Reply::status(400).header("content-type", "application/json").body(r#"{"message": "entry twice"}"#));
    let refused = upload(&proxy, &Sample::file("1.0", "a_b-1.0-py3-none-any.whl", twice)).await.expect(400);
    assert!(refused.text().contains("entry twice"), "{refused:?}");
}

#[tokio::test]
async fn every_size_is_bounded() {
    let small = |builder: &mut Builder| {
        builder.uploads.max_file_size = Size(10_000);
        builder.uploads.max_fields_size = Size(2_000);
    };
    let proxy = open().set(small).start().await;
    proxy.upstream.on(POST, Reply::ok("")).on(PAGE, Reply::status(404));
    let large = Form::of(&Sample::wheel_of("1.0", 10_000));
    let response = ask(&proxy, large.bytes()).send().await.expect(413);
    assert!(response.reason.contains("too large: a file may have at most 10000 bytes"), "{response:?}");
    let field = Form::of(&Sample::wheel()).with("description", &"x".repeat(3_000));
    assert!(ask(&proxy, field.bytes()).send().await.expect(413).text().contains("fields of a form"));
    let head = Form::of(&Sample::wheel()).with(&"n".repeat(9_000), "x");
    assert!(ask(&proxy, head.bytes()).send().await.expect(400).text().contains("headers of a form field"));
    // A length above the limit is refused before a byte of the body is read.
    let raw = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\nexpect: 100-continue\r\ncontent-type: {}\r\ncontent-length: 99999999999\r\n\
         connection: close\r\n\r\n",
        proxy.address,
        content_type()
    );
    let response = proxy.client().raw(raw.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 413 The upload is too large"), "{response}");
    nothing_happened(&proxy).await;
}

#[tokio::test]
async fn a_route_that_takes_no_uploads_refuses_before_it_reads() {
    let proxy = Proxy::start().await;
    let raw = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\nexpect: 100-continue\r\ncontent-type: {}\r\ncontent-length: 1000\r\n\
         connection: close\r\n\r\n",
        proxy.address,
        content_type()
    );
    let response = proxy.client().raw(raw.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 403 Uploads are off for route 'main'"), "{response}");
    let response = upload(&proxy, &Sample::wheel()).await.expect(403);
    assert_eq!(response.value()["code"], "upload-off");
    assert_eq!(proxy.asked(POST), 0);
}

#[tokio::test]
async fn a_sender_that_reads_nothing_before_it_has_sent_everything_learns_why_it_is_refused() {
    // More than a connection holds for a server that does not read.
    let (proxy, large) = (Proxy::start().await, Sample::wheel_of("1.0", 24 << 20));
    let response = ask(&proxy, Form::of(&large).bytes()).send().await.expect(403);
    assert_eq!(response.value()["code"], "upload-off");
}

#[tokio::test]
async fn a_token_is_needed_where_configured_and_covers_only_its_projects() {
    let table: Vec<PublisherTable> = serde_json::from_value(json!([
        {"name": "ci", "token_sha256": Sha256::of(b"right").to_string(), "projects": ["A.*"]},
        {"name": "other", "token_sha256": Sha256::of(b"other").to_string(), "projects": ["x*"]},
        {"name": "elsewhere", "token_sha256": Sha256::of(b"elsewhere").to_string(), "routes": ["second"]},
    ]))
    .expect("tables");
    let tables = IdentityTables { publishers: table, ..IdentityTables::default() };
    let identities = IdentityRules::new(tables).expect("publishers");
    let proxy = Proxy::builder()
        .set(|builder| {
            builder.upload = UploadPolicy::Token;
            builder.identities = identities;
        })
        .start()
        .await;
    proxy.upstream.on(POST, Reply::ok("")).on(PAGE, Reply::status(404));
    let form = Form::of(&Sample::wheel()).bytes();
    let with = |value: &str| ask(&proxy, form.clone()).header("authorization", value);
    with("Bearer elsewhere").send().await.expect(403);
    for wrong in ["Basic Og==", "Bearer wrong", "Basic cmlnaHQ6"] {
        let response = with(wrong).send().await.expect(401);
        assert_eq!(response.header("www-authenticate"), Some("Basic realm=\"wheelport\", charset=\"UTF-8\""));
        assert!(response.reason.contains("__token__"), "{response:?}");
    }
    ask(&proxy, form.clone()).send().await.expect(401);
    let response = with("Bearer other").send().await.expect(403);
    assert_eq!(response.value()["code"], "upload-forbidden");
    // The name is enough for that, and nothing of the file has to come.
    let refused = String::from_utf8(beginning(&proxy, 1)).expect("text");
    let refused =
        refused.replacen("\r\n", "\r\nexpect: 100-continue\r\nauthorization: Bearer other\r\nconnection: close\r\n", 1);
    let response = proxy.client().raw(refused.as_bytes()).await;
    assert!(response.contains("HTTP/1.1 403 This token may not publish the project 'a-b'"), "{response}");
    nothing_happened(&proxy).await;
    // `__token__:right`
    with("Basic X190b2tlbl9fOnJpZ2h0").send().await.expect(200);
    with("Bearer right").send().await.expect(200);
    for seen in proxy.upstream.requests() {
        assert!(!format!("{:?}", seen.headers).contains("cmlnaHQ"), "{seen:?}");
        assert!(!format!("{:?}", seen.headers).contains("Bearer"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_web_page_cannot_publish() {
    let proxy = proxy().await;
    let form = Form::of(&Sample::wheel()).bytes();
    for (name, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("host", "evil.example", 421),
    ] {
        for target in ["/", "/legacy/", "/pypi/main/"] {
            let asked = proxy.client().ask("POST", target).header("content-type", &content_type());
            let response = asked.header(name, value).body(form.clone()).send().await;
            assert_eq!(response.status, status, "{name}: {value}: {response:?}");
        }
    }
    nothing_happened(&proxy).await;
    let own = format!("http://{}", proxy.address);
    ask(&proxy, form).header("origin", &own).header("sec-fetch-site", "same-origin").send().await.expect(200);
}

#[tokio::test]
async fn of_two_uploads_under_one_name_one_wins() {
    let (proxy, wheel, other) = (proxy().await, Sample::wheel(), Sample::wheel_of("1.0", 10));
    let gate = Gate::closed();
    proxy.upstream.on(POST, Reply::ok("").before_head(&gate));
    let uploads = async {
        let one = upload(&proxy, &wheel);
        let two = upload(&proxy, &other);
        let again = upload(&proxy, &wheel);
        let release = async {
            gate.reached().await;
            until("all three uploads", async || (proxy.temporaries().len() == 6).then_some(())).await;
            gate.open();
        };
        let (one, two, again, ()) = tokio::join!(one, two, again, release);
        (one.status, two.status, again.status)
    };
    let statuses = soon("three uploads", uploads).await;
    assert!(matches!(statuses, (200, 409, 200) | (409, 200, 409)), "{statuses:?}");
    assert_eq!(proxy.asked(POST), 1, "the same bytes are sent once");
    let winner = if statuses.0 == 200 { &wheel } else { &other };
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, winner.bytes);
}

#[tokio::test]
async fn the_loser_gets_its_chance_when_the_first_one_fails() {
    let (proxy, wheel, other) = (proxy().await, Sample::wheel(), Sample::wheel_of("1.0", 10));
    let gate = Gate::closed();
    proxy.upstream.on_each(POST, [Reply::status(402).before_head(&gate), Reply::ok("")]);
    proxy.upstream.on(&wheel.upstream(), Reply::status(404));
    let first = upload(&proxy, &wheel);
    let then = async {
        gate.reached().await;
        let second = upload(&proxy, &other);
        let release = async {
            until("the second upload", async || (proxy.temporaries().len() == 4).then_some(())).await;
            gate.open();
        };
        tokio::join!(second, release).0
    };
    let (first, second) = tokio::join!(first, then);
    assert!(first.expect(400).text().contains("quota"));
    second.expect(200);
}

#[tokio::test]
async fn a_publisher_that_disconnects_cancels_nothing() {
    let (proxy, wheel, gate) = (proxy().await, Sample::wheel(), Gate::closed());
    proxy.upstream.on(POST, Reply::ok("").before_head(&gate));
    let leaving = ask(&proxy, Form::of(&wheel).bytes());
    tokio::select! {
        response = leaving.send() => panic!("{response:?}"),
        () = gate.reached() => {}
    }
    gate.open();
    until("the file", async || (listed(&proxy).await == [wheel.name.clone()]).then_some(())).await;
    proxy.upstream.on(&wheel.upstream(), Reply::ok(wheel.bytes.clone()));
    upload(&proxy, &wheel).await.expect(200);
    assert_eq!(proxy.asked(POST), 1);
}

#[tokio::test]
async fn a_publisher_that_waits_too_long_gets_503_and_the_work_goes_on() {
    let (proxy, wheel, gate) = (proxy().await, Sample::wheel(), Gate::closed());
    proxy.upstream.on(POST, Reply::ok("").before_head(&gate));
    let waiting = upload(&proxy, &wheel);
    let passing = async {
        gate.reached().await;
        proxy.pass(Duration::from_secs(9)).await;
    };
    let (response, ()) = tokio::join!(waiting, passing);
    response.expect_unavailable("unavailable-outcome-unknown");
    gate.open();
    until("the file", async || (listed(&proxy).await == [wheel.name.clone()]).then_some(())).await;
    proxy.upstream.on(&wheel.upstream(), Reply::ok(wheel.bytes.clone()));
    upload(&proxy, &wheel).await.expect(200);
    assert_eq!(proxy.asked(POST), 1);
}

#[tokio::test]
async fn a_form_may_come_in_any_shape_that_tools_send() {
    let (proxy, wheel) = (proxy().await, Sample::wheel());
    let form = Form::of(&wheel).set(|form| form.content_first = true).bytes();
    let chunked: Vec<u8> = form
        .chunks(1000)
        .flat_map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
        .chain(*b"0\r\n\r\n")
        .collect();
    let head = format!(
        "POST /legacy/ HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\nconnection: close\r\n",
        proxy.address,
        content_type()
    );
    let sent = [format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes(), &chunked].concat();
    assert!(proxy.client().raw(&sent).await.starts_with("HTTP/1.1 200 OK"));
    let seen = &proxy.upstream.requests_to(POST)[0];
    assert_eq!(parts(seen).pop().expect("a part").1, wheel.bytes);
    assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string().as_str()));
    let expecting = format!("{head}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", form.len());
    let response = proxy.client().raw(&[expecting.as_bytes(), &form].concat()).await;
    assert!(response.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{response}");
}

#[tokio::test]
async fn what_a_form_says_twice_alike_is_accepted_and_reaches_upstream_once() {
    let (proxy, wheel) = (proxy().await, Sample::wheel());
    let form = Form::of(&wheel).set(|form| {
        // As .NET writes it.
        form.disposition = format!("form-data; name=content; filename={0}; filename*=utf-8''{0}", wheel.name);
        for (name, value) in [(":action", "file_upload"), ("name", "A.b"), ("version", "1.0"), ("_charset_", "koi8-r")]
        {
            form.fields.push((name.to_owned(), value.to_owned()));
        }
    });
    ask(&proxy, form.bytes()).send().await.expect(200);
    let seen = &proxy.upstream.requests_to(POST)[0];
    let fields = fields(seen);
    for (name, count) in [(":action", 1), ("name", 1), ("version", 1), ("_charset_", 0), ("classifiers", 2)] {
        assert_eq!(fields.iter().filter(|(known, _)| known == name).count(), count, "{name}");
    }
    assert!(!String::from_utf8_lossy(&seen.body).contains("filename*"));
    // Where the two differ, nothing can say which is meant.
    let form = form.set(|form| {
        form.disposition = format!("form-data; name=content; filename={}; filename*=utf-8''other.whl", wheel.name);
    });
    ask(&proxy, form.bytes()).send().await.expect(400);
    assert_eq!(proxy.asked(POST), 1);
}

#[tokio::test]
async fn no_boundary_in_a_field_or_file_can_end_it() {
    let (proxy, wheel) = (proxy().await, Sample::wheel());
    upload(&proxy, &wheel).await.expect(200);
    // Not even the one that upstream got before.
    let first = proxy.upstream.requests_to(POST)[0].clone();
    let boundary = first.header("content-type").and_then(|form| form.split_once("boundary=")).expect("a boundary").1;
    let injected = format!("x\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nother");
    let second = Sample::wheel_of("2.0", 10);
    ask(&proxy, Form::of(&second).with("description", &injected).bytes()).send().await.expect(200);
    let seen = &proxy.upstream.requests_to(POST)[1];
    let fields = fields(seen);
    assert!(fields.contains(&("description".to_owned(), injected)));
    assert_eq!(fields.iter().filter(|(name, _)| name == "name").count(), 1);
}

#[tokio::test]
async fn a_request_with_two_lengths_is_read_in_chunks_and_nothing_behind_it_is_handled() {
    let (proxy, wheel) = (proxy().await, Sample::wheel());
    let form = Form::of(&wheel).bytes();
    let body = [format!("{:x}\r\n", form.len()).as_bytes(), &form, b"\r\n0\r\n\r\n"].concat();
    // Of the bytes that Content-Length counts, the rest would be another request.
    for lengths in
        ["content-length: 7\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 7"]
    {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\n{lengths}\r\n\r\n",
            proxy.address,
            content_type()
        );
        let behind = format!("GET /simple/behind/ HTTP/1.1\r\nhost: {}\r\n\r\n", proxy.address);
        // Ends when the server closes the connection.
        let response = proxy.client().raw(&[head.as_bytes(), &body, behind.as_bytes()].concat()).await;
        assert!(response.starts_with("HTTP/1.1 200 OK") && response.contains("connection: close"), "{response}");
        assert_eq!(response.matches("HTTP/1.1").count(), 1, "{response}");
    }
    assert!(proxy.upstream.requests().iter().all(|seen| !seen.target.contains("behind")));
    let (_, content) = parts(&proxy.upstream.requests_to(POST)[0]).pop().expect("a part");
    assert_eq!(content, wheel.bytes);
    // The same on a request that has no use for a body.
    let raw = format!(
        "GET /healthz HTTP/1.1\r\nhost: {0}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /healthz HTTP/1.1\r\nhost: {0}\r\n\r\n",
        proxy.address
    );
    let response = proxy.client().raw(raw.as_bytes()).await;
    assert_eq!(response.matches("HTTP/1.1 200").count(), 1, "{response}");
}

#[tokio::test]
async fn refusals_arrive_as_sentences() {
    let wheel = Sample::wheel();
    for (says, status, part) in [
        (
            denied(
                "User: arn:aws:sts::111122223333:assumed-role/x is not authorized to perform: \
                 codeartifact:PublishPackageVersion",
            ),
            403,
            "codeartifact:PublishPackageVersion",
        ),
        (denied("publishing is blocked by origin controls"), 400, "set 'Publish' to 'Allow'"),
        (conflict("Version 1.0 of a-b exists in an upstream"), 400, "'Upstream' to 'Block'"),
        (Reply::status(402), 400, "Service Quotas"),
        (Reply::status(413), 400, "larger than CodeArtifact takes"),
        (Reply::redirect(307, "/elsewhere"), 503, "incomplete or unreadable"),
        (Reply::status(404), 503, "denies the existence"),
    ] {
        let proxy = proxy().await;
        proxy.upstream.on(&wheel.upstream(), Reply::status(404)).on(POST, says);
        let response = upload(&proxy, &wheel).await.expect(status);
        assert!(response.reason.contains(part) || response.text().contains(part), "{response:?}");
        assert!(!response.text().contains("111122223333") && !response.text().contains(CANARY), "{response:?}");
        assert_eq!(listed(&proxy).await, Vec::<String>::new());
        assert!(proxy.kept("published").is_empty() && proxy.kept("blobs").is_empty());
    }
}

/// The beginning of an upload by this client: headers that announce a length, and the fields before the file.
fn beginning(proxy: &Proxy, client: u8) -> Vec<u8> {
    let form = Form::of(&Sample::wheel()).bytes();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\nx-forwarded-for: 10.0.0.{client}\r\ncontent-type: {}\r\ncontent-length: \
         1000000\r\n\r\n",
        proxy.address,
        content_type()
    );
    let fields = form.windows(14).position(|window| window == b"name=\"content\"").expect("a file");
    [head.as_bytes(), &form[..fields]].concat()
}

fn behind_a_proxy() -> Builder {
    open().set(|builder| builder.server.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")])
}

#[tokio::test]
async fn more_uploads_than_can_be_received_at_once_wait_for_their_turn() {
    let proxy = proxy().await;
    proxy.upstream.on(POST, Reply::ok("").delay(Duration::from_millis(100))).on(PAGE, Reply::status(404));
    let wheels: Vec<_> = (0..24).map(|minor| Sample::wheel_of(&format!("1.{minor}"), 100)).collect();
    let responses = futures_util::future::join_all(wheels.iter().map(|wheel| upload(&proxy, wheel))).await;
    for response in responses {
        response.expect(200);
    }
    assert_eq!(proxy.asked(POST), 24);
}

#[tokio::test]
async fn an_upload_waits_as_long_as_its_publisher_and_the_wait_counts() {
    let proxy = open().set(|builder| builder.uploads.max_at_once = 1).start().await;
    let (gate, wheels) = (Gate::closed(), [1, 2].map(|minor| Sample::wheel_of(&format!("1.{minor}"), 0)));
    proxy.upstream.on(POST, Reply::ok("").before_head(&gate)).on(PAGE, Reply::status(404));
    let [first, second] = [upload(&proxy, &wheels[0]), upload(&proxy, &wheels[1])].map(Box::pin);
    let passing = async {
        gate.reached().await;
        let waiting = async || proxy.metrics().await.contains("wheelport_requests_in_flight 2\n").then_some(());
        until("both uploads", waiting).await;
        proxy.pass(Duration::from_secs(9)).await;
    };
    let (first, second, ()) = tokio::join!(first, second, passing);
    first.expect_unavailable("unavailable-outcome-unknown");
    second.expect_unavailable("unavailable-busy");
    assert_eq!(proxy.asked(POST), 1);
    // What waited for five seconds has four left.
    let third = upload(&proxy, &wheels[1]);
    let passing = async {
        let waiting = async || proxy.metrics().await.contains("wheelport_requests_in_flight 1\n").then_some(());
        until("the upload", waiting).await;
        proxy.pass(Duration::from_secs(5)).await;
        let slow = Gate::closed();
        proxy.upstream.on(POST, Reply::ok("").before_head(&slow));
        gate.open();
        slow.reached().await;
        proxy.pass(Duration::from_secs(4)).await;
        slow.open();
    };
    let (third, ()) = tokio::join!(third, passing);
    third.expect_unavailable("unavailable-outcome-unknown");
    until("the file", async || (listed(&proxy).await.len() == 2).then_some(())).await;
}

#[tokio::test]
async fn a_client_that_sends_slowly_leaves_room_for_others_and_is_cut() {
    let proxy = behind_a_proxy().set(|builder| builder.uploads.max_at_once = 3).start().await;
    proxy.upstream.on(POST, Reply::ok("")).on(PAGE, Reply::status(404));
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(proxy.address).await.expect("the proxy listens");
        socket.write_all(&beginning(&proxy, 1)).await.expect("the connection is open");
        sockets.push(socket);
    }
    // Two of three are its share; each upload that is being received has two temporary files.
    until("two uploads", async || (proxy.temporaries().len() == 4).then_some(())).await;
    ask(&proxy, Form::of(&Sample::wheel()).bytes()).header("x-forwarded-for", "10.0.0.2").send().await.expect(200);
    // One falls silent, the other one trickles.
    let mut seconds = 0;
    while !proxy.temporaries().is_empty() {
        seconds += 10;
        // Time that passes while a byte is on its way or being written counts as nothing.
        assert!(seconds <= 300, "they hold on");
        let _ = sockets[0].write_all(b"x").await;
        proxy.pass(Duration::from_secs(10)).await;
        // Everything that has become due has happened once there is a response.
        proxy.metrics().await;
    }
    for socket in &mut sockets {
        let mut response = Vec::new();
        let _ = soon("a response", socket.read_to_end(&mut response)).await;
        let response = String::from_utf8_lossy(&response).into_owned();
        assert!(response.starts_with("HTTP/1.1 400") || response.starts_with("HTTP/1.1 503"), "{response}");
    }
    assert_eq!(proxy.asked(POST), 1);
}

#[tokio::test]
async fn all_uploads_together_have_a_limit_on_disk() {
    let proxy = open().set(|builder| builder.uploads.spool_max = Size(300_000)).start().await;
    let gate = Gate::closed();
    proxy.upstream.on(POST, Reply::ok("").before_head(&gate)).on(PAGE, Reply::status(404));
    let large = upload(&proxy, &Sample::wheel_of("1.0", 400_000)).await.expect(413);
    assert!(large.text().contains("300000"), "{large:?}");
    let (one, two) = (Sample::wheel_of("1.1", 200_000), Sample::wheel_of("1.2", 200_000));
    let first = upload(&proxy, &one);
    let then = async {
        gate.reached().await;
        assert!(proxy.metrics().await.contains("wheelport_upload_spool_bytes 20"));
        upload(&proxy, &two).await.expect_unavailable("unavailable-busy");
        gate.open();
    };
    let (first, ()) = tokio::join!(first, then);
    first.expect(200);
    until("the spool to be empty", async || {
        proxy.metrics().await.contains("wheelport_upload_spool_bytes 0\n").then_some(())
    })
    .await;
    upload(&proxy, &two).await.expect(200);
}

#[tokio::test]
async fn a_429_that_asks_for_more_patience_than_a_publisher_has_is_passed_on() {
    let (proxy, wheel) = (proxy().await, Sample::wheel());
    let throttled = |seconds: &str| Reply::status(429).header("retry-after", seconds);
    proxy.upstream.on_each(POST, [throttled("6"), Reply::ok("")]);
    let waiting = async {
        let line = "wheelport_upstream_throttles_total{route=\"main\"} 1\n";
        until(line, async || proxy.metrics().await.contains(line).then_some(())).await;
        proxy.pass(Duration::from_secs(7)).await;
    };
    let (response, ()) = tokio::join!(upload(&proxy, &wheel), waiting);
    response.expect(200);
    proxy.upstream.on(POST, throttled("20"));
    let second = Sample::wheel_of("2.0", 0);
    let response = upload(&proxy, &second).await;
    response.expect_unavailable("unavailable-throttled");
    assert_eq!(response.header("retry-after"), Some("5"), "{response:?}");
}

#[tokio::test]
async fn a_silent_publisher_times_out() {
    let quick = |builder: &mut Builder| builder.uploads.stall_timeout = HumanDuration::millis(50);
    let proxy = open().set(quick).start().await;
    proxy.upstream.on(PAGE, Reply::status(404));
    let raw = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\ncontent-length: 1000\r\nexpect: nothing\r\n\r\n\
         --{BOUNDARY}",
        proxy.address,
        content_type()
    );
    let response = proxy.client().raw(raw.as_bytes()).await;
    assert!(response.contains(" 400 ") || response.contains(" 417 "), "{response}");
    nothing_happened(&proxy).await;
}

#[tokio::test]
async fn the_next_start_removes_what_a_dead_process_spooled() {
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let dead = dir.path().join("cache/tmp/wdead");
    std::fs::create_dir_all(&dead).expect("a directory");
    for file in ["lock", "f1", "f2"] {
        std::fs::write(dead.join(file), "half a form").expect("a file");
    }
    let proxy = open().dir(&dir).start().await;
    proxy.upstream.on(PAGE, Reply::status(404));
    assert!(!dead.exists());
    nothing_happened(&proxy).await;
}

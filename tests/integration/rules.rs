//! Rules in the corners: ages that only the repository knows, bytes that no page names, licences, what standards ask
//! for, and the holes that other products' firewalls had.

use std::time::Duration;

use serde_json::{Value, json};
use wheelport::web::UploadPolicy;
use wheelport_runtime::Clock;

use crate::support::client::{HTML_V1, Response, until};
use crate::support::forms::{Form, content_type};
use crate::support::proxy::Proxy;
use crate::support::scripted::{Gate, Reply};
use crate::support::wheels::{PAGE, Sample, document, page, publish, zipped};

const HERE: &str = "/simple/a-b/";
const DAY: u64 = 86_400;
/// The control plane's calls.
const PACKAGE: &str = "GET /v1/package";
const VERSIONS: &str = "POST /v1/package/versions";
const VERSION: &str = "GET /v1/package/version";
const COOLDOWN: &str = "[[rule]]\nname = \"cooldown\"\nyounger_than = \"1 day\"\nreason = \"Wait.\"";
const FROM_TWO: &str = "[[rule]]\nname = \"not-two\"\nversions = \">=2\"\nreason = \"Two is broken.\"";

fn answer(body: &Value) -> Reply {
    Reply::ok(body.to_string()).header("content-type", "application/json")
}

/// A project from outside, with versions that the repository took in so many seconds ago.
fn taken_in(proxy: &Proxy, versions: &[(&'static str, u64)]) {
    let restrictions = json!({"publish": "BLOCK", "upstream": "ALLOW"});
    let package = json!({"format": "pypi", "name": "a-b", "originConfiguration": {"restrictions": restrictions}});
    proxy.control.on(PACKAGE, answer(&json!({"package": package})));
    let listed: Vec<Value> =
        versions.iter().map(|(version, _)| json!({"version": version, "status": "Published"})).collect();
    proxy.control.on(VERSIONS, answer(&json!({"format": "pypi", "package": "a-b", "versions": listed})));
    let (versions, now) = (versions.to_vec(), Clock::system().unix_seconds());
    let describe = move |seen: &crate::support::scripted::Seen| {
        let asked = seen.target.split(['?', '&']).find_map(|part| part.strip_prefix("version=")).unwrap_or_default();
        let ago = versions.iter().find(|(version, _)| *version == asked).map_or(0, |(_, ago)| *ago);
        answer(&json!({"packageVersion": {"format": "pypi", "version": asked, "publishedTime": now - ago}}))
    };
    proxy.control.on(VERSION, Reply::with(describe));
}

fn undated(sample: &Sample) -> Value {
    sample.entry_without(&["upload-time"])
}

/// What a refusal says to people.
fn message(response: &Response) -> &str {
    response.header("x-error-message").unwrap_or_default()
}

async fn marks(proxy: &Proxy) -> Vec<(String, Value)> {
    let page = proxy.get(HERE).json().send().await.expect(200).value();
    let files = page["files"].as_array().cloned().unwrap_or_default();
    files
        .iter()
        .map(|file| (file["filename"].as_str().unwrap_or_default().to_owned(), file["yanked"].clone()))
        .collect()
}

#[tokio::test]
async fn what_the_repository_took_in_long_ago_is_old_and_what_was_added_to_it_later_is_not() {
    let proxy = Proxy::builder().rules(COOLDOWN, &[]).start().await;
    taken_in(&proxy, &[("1.0", 30 * DAY), ("2.0", 60)]);
    let (old, new, absent) = (Sample::wheel(), Sample::wheel_of("2.0", 10), Sample::sdist("3.0", 10));
    let late = Sample::sdist("1.0", 100);
    publish(&proxy.upstream, &[&old, &new, &late]);
    proxy.upstream.on(PAGE, page(&[undated(&old), undated(&new), undated(&absent)]));
    let allowed = json!(false);
    let shown = marks(&proxy).await;
    assert_eq!(shown[0].1, allowed);
    assert!(
        shown[1..].iter().all(|(_, mark)| mark.as_str().is_some_and(|mark| mark.starts_with("Wait."))),
        "{shown:?}"
    );
    assert_eq!(proxy.get(&old.path()).send().await.expect(200).body, old.bytes);
    proxy.get(&new.path()).send().await.expect(403);
    let why = proxy.ops.get("/why?route=main&project=a-b").send().await.expect(200).value();
    let from: Vec<_> = (0..3).map(|at| why["files"][at]["date_from"].as_str().unwrap_or_default()).collect();
    assert_eq!(from, ["in the repository since then", "in the repository since then", "first seen here"]);
    // One list, and one question for each version that the repository has.
    assert_eq!((proxy.control.requests_to(VERSIONS).len(), proxy.control.requests_to(VERSION).len()), (1, 2));

    // A file that is added to the old version comes on a later page.
    proxy.upstream.on(PAGE, page(&[undated(&old), undated(&late)]));
    proxy.pass(Duration::from_mins(2)).await;
    let late_mark = async || marks(&proxy).await.into_iter().find(|(name, _)| *name == late.name).map(|(_, mark)| mark);
    let mark = until("the later page", late_mark).await;
    assert!(mark.as_str().is_some_and(|mark| mark.starts_with("Wait.")), "{mark}");
    proxy.get(&late.path()).send().await.expect(403);
    proxy.get(&old.path()).send().await.expect(200);

    // What was found out is kept, and is right also while the control plane is away.
    for call in [PACKAGE, VERSIONS, VERSION] {
        proxy.control.on(call, Reply::status(500));
    }
    let asked = proxy.control.requests_to(VERSION).len();
    let proxy = proxy.stop().await.start().await;
    assert_eq!(proxy.get(&old.path()).send().await.expect(200).body, old.bytes);
    proxy.get(&new.path()).send().await.expect(403);
    proxy.get(&late.path()).send().await.expect(403);
    assert_eq!(proxy.control.requests_to(VERSION).len(), asked);
}

#[tokio::test]
async fn where_the_repository_does_not_tell_ages_nothing_is_taken_for_old() {
    let proxy = Proxy::builder().rules(COOLDOWN, &[]).start().await;
    taken_in(&proxy, &[("1.0", 30 * DAY)]);
    proxy.control.on(VERSION, crate::support::proxy::refusal(403, "AccessDeniedException", "no"));
    let old = Sample::wheel();
    publish(&proxy.upstream, &[&old]);
    proxy.upstream.on(PAGE, page(&[undated(&old)]));
    proxy.get(&old.path()).send().await.expect(403);
    // The right was given: it counts within minutes, without a new page.
    taken_in(&proxy, &[("1.0", 30 * DAY)]);
    proxy.pass(Duration::from_secs(301)).await;
    let served = async || (proxy.get(&old.path()).send().await.status == 200).then_some(());
    until("the age of the file", served).await;
}

fn revoked(sample: &Sample) -> String {
    format!("[[rule]]\nname = \"revoked\"\nsha256 = [\"{}\"]\nreason = \"Revoked.\"", sample.sha256())
}

#[tokio::test]
async fn bytes_that_no_page_names_are_judged_before_a_client_has_all_of_them() {
    let (bad, good) = (Sample::sdist("2.0", 200_000), Sample::sdist("1.0", 200_000));
    let proxy = Proxy::builder().rules(&revoked(&bad), &[]).start().await;
    proxy.upstream.on(PAGE, page(&[]));
    for sample in [&bad, &good] {
        proxy.upstream.on(&sample.upstream(), Reply::ok(sample.bytes.clone()));
    }
    for _ in 0..2 {
        let refused = proxy.get(&bad.path()).json().send().await.expect(403);
        assert_eq!(message(&refused), "Revoked. [rule revoked]");
        assert_eq!(refused.value()["rule"], "revoked");
        assert_eq!(proxy.get(&good.path()).send().await.expect(200).body, good.bytes);
    }
    proxy.head(&bad.path()).send().await.expect(403);
    for range in ["bytes=0-3", "bytes=-1", "bytes=100-"] {
        proxy.get(&bad.path()).header("range", range).send().await.expect(403);
        // A part of bytes without a name is no part that a client could check, so it gets all of them.
        proxy.get(&good.path()).header("range", range).send().await.expect(200);
    }

    // A file that takes longer is passed on, and its end is not.
    for (sample, is_refused) in [(&bad, true), (&good, false)] {
        let gate = Gate::closed();
        proxy.upstream.on(&sample.upstream(), Reply::ok(sample.bytes.clone()).gate_after(100_000, &gate));
        let path = sample.path();
        let patience = async {
            gate.reached().await;
            proxy.pass(Duration::from_secs(3)).await;
        };
        let (opened, ()) = tokio::join!(proxy.get(&path).open(), patience);
        assert_eq!(opened.status, 200);
        gate.open();
        let outcome = opened.finish().await;
        if is_refused {
            outcome.expect_broken();
        } else {
            assert_eq!(outcome.expect(200).body, sample.bytes);
        }
    }
}

/// The entry of a file of which the page names no SHA-256.
fn by_md5(sample: &Sample) -> Value {
    let mut entry = sample.entry();
    entry["hashes"] = json!({"md5": sample.md5()});
    entry
}

#[tokio::test]
async fn a_page_marks_what_it_names_by_another_digest_once_the_bytes_are_known() {
    let (bad, good, third) = (Sample::wheel_of("2.0", 10), Sample::wheel(), Sample::wheel_of("3.0", 10));
    let by_version = "[[rule]]\nname = \"three\"\nversions = \"==3.0\"\nreason = \"No three.\"";
    let proxy = Proxy::builder().rules(&format!("{}\n{by_version}", revoked(&bad)), &[]).start().await;
    publish(&proxy.upstream, &[&bad, &good, &third]);
    proxy.upstream.on(PAGE, page(&[by_md5(&bad), by_md5(&good), by_md5(&third)]));
    let expect = async |proxy: &Proxy, reasons: [Option<&str>; 3]| {
        let shown = marks(proxy).await.into_iter().map(|(_, mark)| mark);
        assert!(shown.eq(reasons.map(|reason| reason.map_or(json!(false), Value::from))), "{reasons:?}");
        let html = proxy.get(HERE).header("accept", HTML_V1).send().await.expect(200).text();
        let marked = |line: &&str| line.contains("data-yanked");
        let lines: Vec<&str> = html.lines().filter(marked).collect();
        assert_eq!(lines.len(), reasons.iter().flatten().count(), "{html}");
        for (reason, line) in reasons.iter().flatten().zip(lines) {
            assert!(line.contains(&format!("data-yanked=\"{reason}\"")), "{html}");
        }
    };
    // A rule by version depends on no digest.
    let three = Some("No three. [rule three]");
    expect(&proxy, [None, None, three]).await;
    proxy.get(&third.path()).send().await.expect(403);
    proxy.get(&bad.path()).send().await.expect(403);
    proxy.get(&good.path()).send().await.expect(200);
    proxy.kept_by("links", 2).await;
    proxy.pass(Duration::from_secs(31)).await;
    let all = [Some("Revoked. [rule revoked]"), None, three];
    expect(&proxy, all).await;
    let why = proxy.ops.get("/why?route=main&project=a-b").send().await.expect(200).value();
    let rules: Vec<_> = (0..3).map(|at| why["files"][at]["rule"].as_str()).collect();
    assert_eq!(rules, [Some("revoked"), None, Some("three")], "{why}");
    let proxy = proxy.stop().await.start().await;
    expect(&proxy, all).await;
}

#[tokio::test]
async fn a_page_that_names_another_digest_only_is_no_way_round_a_rule_with_digests() {
    let (bad, good) = (Sample::wheel_of("2.0", 10), Sample::wheel());
    let proxy = Proxy::builder().rules(&revoked(&bad), &[]).start().await;
    publish(&proxy.upstream, &[&bad, &good]);
    proxy.upstream.on(PAGE, page(&[by_md5(&bad), by_md5(&good)]));
    let metadata = |sample: &Sample| format!("{}.metadata", sample.path());
    proxy.get(&metadata(&bad)).send().await.expect(403);
    proxy.get(&bad.path()).send().await.expect(403);
    proxy.get(&metadata(&good)).send().await.expect(200);
    assert_eq!(proxy.get(&good.path()).send().await.expect(200).body, good.bytes);
    proxy.kept_by("links", 2).await;
    for path in [metadata(&bad), bad.path()] {
        let refused = proxy.get(&path).send().await.expect(403);
        assert_eq!(message(&refused), "Revoked. [rule revoked]");
    }
    assert_eq!(proxy.get(&good.path()).send().await.expect(200).body, good.bytes);
}

#[tokio::test]
async fn two_routes_that_share_a_download_are_judged_each_by_its_own_rules() {
    let bad = Sample::sdist("2.0", 200_000);
    let rule = format!("{}\nroutes = [\"main\"]", revoked(&bad));
    let proxy =
        Proxy::builder().set(|builder| *builder = builder.clone().routes(&["main", "open"], Some(0))).rules(&rule, &[]);
    let proxy = proxy.start().await;
    proxy.upstream.on(PAGE, page(&[]));
    let gate = Gate::closed();
    proxy.upstream.on(&bad.upstream(), Reply::ok(bad.bytes.clone()).gate_after(100_000, &gate));
    let open = proxy.get(&format!("/pypi/open{}", bad.path())).open().await;
    gate.reached().await;
    let closed = proxy.get(&bad.path()).send();
    let opening = async {
        tokio::task::yield_now().await;
        gate.open();
    };
    let (closed, ()) = tokio::join!(closed, opening);
    closed.expect(403);
    assert_eq!(open.finish().await.expect(200).body, bad.bytes);
}

fn licensed(version: &str, field: &str) -> Sample {
    let directory = format!("a_b-{version}.dist-info");
    let metadata = format!("Metadata-Version: 2.4\nName: a-b\nVersion: {version}\n{field}\n");
    let bytes =
        zipped(&[(&format!("{directory}/METADATA"), metadata.as_bytes()), (&format!("{directory}/RECORD"), b"")]);
    Sample::file(version, &format!("a_b-{version}-py3-none-any.whl"), bytes)
}

#[tokio::test]
async fn a_licence_counts_from_when_the_metadata_is_held_and_only_as_an_expression() {
    let rules = "[[rule]]\nname = \"copyleft\"\nlicence = [\"GPL-3.0*\", \"AGPL-*\"]";
    let proxy = Proxy::builder().rules(rules, &[]).start().await;
    let samples = [
        licensed("1.0", "License-Expression: MIT OR (Apache-2.0 AND gpl-3.0-or-later)"),
        licensed("2.0", "License-Expression: LGPL-3.0-only"),
        licensed("3.0", "License: GPL-3.0\nClassifier: License :: OSI Approved :: GNU General Public License v3"),
        licensed("4.0", "License-Expression: GPL-3.0-only WITH Classpath-exception-2.0"),
        Sample::sdist("5.0", 100),
    ];
    publish(&proxy.upstream, &samples.each_ref());
    let blocked = async || -> Vec<String> {
        let blocked = marks(&proxy).await.into_iter().filter(|(_, mark)| *mark != json!(false));
        blocked.map(|(name, _)| name).collect()
    };
    // Nothing is held, so nothing is known, and the first request of a file is served.
    assert_eq!(blocked().await, Vec::<String>::new());
    for sample in &samples {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
    }
    proxy.kept_by("metadata", 4).await;
    proxy.pass(Duration::from_secs(31)).await;
    assert_eq!(blocked().await, [samples[0].name.clone(), samples[3].name.clone()]);
    for (sample, status) in samples.iter().zip([403, 200, 200, 403, 200]) {
        proxy.get(&sample.path()).send().await.expect(status);
    }
    proxy.get(&format!("{}.metadata", samples[0].path())).send().await.expect(403);
}

#[tokio::test]
async fn standards_hold_on_pages_that_rules_change() {
    let proxy = Proxy::builder().rules("[[rule]]\nname = \"all\"\nreason = \"No.\"", &[]).start().await;
    let samples = [
        Sample::wheel(),
        // The fourth part is the label of a variant (PEP 825).
        Sample::file("1.0", "a_b-1.0-py3-none-any-x86_64_v3.whl", "wheel of a variant"),
        Sample::file("1.0", "a_b-1.0-variants.json", "{}"),
    ];
    publish(&proxy.upstream, &samples.each_ref());
    let mut entries = samples.each_ref().map(Sample::entry);
    entries[0]["_of-a-file"] = json!({"deep": [1, null]});
    let status = json!({"status": "archived", "reason": "No longer maintained."});
    let upstream = json!({
        "meta": {"api-version": "1.5", "_of-meta": 1}, "name": "a-b", "files": entries, "namespace": {"owner": "x"},
        "project-status": status,
    });
    proxy.upstream.on(PAGE, document(&upstream));
    let shown = proxy.get(HERE).json().send().await.expect(200).value();
    assert_eq!(shown["project-status"], status, "a project that is wholly explained keeps its status");
    assert_eq!((&shown["namespace"], &shown["meta"]["_of-meta"]), (&json!({"owner": "x"}), &json!(1)));
    assert_eq!(shown["files"][0]["_of-a-file"], json!({"deep": [1, null]}));
    for file in shown["files"].as_array().expect("files") {
        assert_eq!(file["yanked"], "No. [rule all]", "{file}");
    }
    for accept in ["text/html", HTML_V1] {
        let html = proxy.get(HERE).header("accept", accept).send().await.expect(200).text();
        assert!(html.contains("<meta name=\"pypi:repository-version\" content=\"1.4\">"), "{html}");
        assert!(html.contains("<meta name=\"pypi:project-status\" content=\"archived\">"), "{html}");
        assert_eq!(html.matches("data-yanked=\"No. [rule all]\"").count(), samples.len(), "{html}");
        assert!(!html.contains("namespace") && !html.contains("_of-a-file"), "{html}");
    }
    for sample in &samples {
        proxy.get(&sample.path()).send().await.expect(403);
    }
    proxy.change_rules("[[rule]]\nname = \"two\"\nversions = \">=2\"").await;
    for sample in &samples {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
    }
    let variants = proxy.get(&samples[2].path()).send().await.expect(200);
    assert_eq!(variants.header("cache-control"), Some("no-cache"), "an index may change it");
    let wheel = proxy.get(&samples[1].path()).send().await.expect(200);
    assert!(wheel.header("cache-control").is_some_and(|value| value.contains("immutable")));
}

#[tokio::test]
async fn newer_core_metadata_is_published_as_it_is() {
    let proxy = Proxy::builder().set(|builder| builder.upload = UploadPolicy::Anonymous).start().await;
    proxy.upstream.on("POST /pypi/r/", Reply::ok("")).on(PAGE, Reply::status(404));
    for (version, metadata) in [("1.0", "2.5"), ("2.0", "2.6")] {
        let directory = format!("a_b-{version}.dist-info");
        let text = format!(
            "Metadata-Version: {metadata}\nName: a-b\nVersion: {version}\nImport-Name: a_b\nX-Later: something\n\n"
        );
        let bytes =
            zipped(&[(&format!("{directory}/METADATA"), text.as_bytes()), (&format!("{directory}/RECORD"), b"")]);
        let sample = Sample::file(version, &format!("a_b-{version}-py3-none-any.whl"), bytes);
        let form = Form::of(&sample).with("metadata_version", metadata).with("import_names", "a_b");
        let ask = proxy.client().ask("POST", "/").header("content-type", &content_type()).body(form.bytes());
        ask.send().await.expect(200);
        let served = proxy.get(&format!("{}.metadata", sample.path())).send().await.expect(200);
        assert_eq!(served.text(), text);
    }
}

#[tokio::test]
async fn what_was_published_here_a_moment_ago_is_judged_like_the_rest() {
    let builder = Proxy::builder().set(|builder| builder.upload = UploadPolicy::Anonymous).rules(FROM_TWO, &[]);
    let proxy = builder.start().await;
    proxy.upstream.on("POST /pypi/r/", Reply::ok("")).on(PAGE, Reply::status(404));
    for sample in [Sample::wheel(), Sample::wheel_of("2.0", 10)] {
        let form = Form::of(&sample).bytes();
        proxy.client().ask("POST", "/").header("content-type", &content_type()).body(form).send().await.expect(200);
    }
    let shown = marks(&proxy).await;
    let yanked: Vec<_> = shown.iter().map(|(_, mark)| mark.is_string()).collect();
    assert_eq!(yanked, [false, true], "{shown:?}");
    let (one, two) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    assert_eq!(proxy.get(&one.path()).send().await.expect(200).body, one.bytes);
    for path in [two.path(), format!("{}.metadata", two.path())] {
        proxy.get(&path).send().await.expect(403);
    }
}

#[tokio::test]
async fn addresses_that_are_none_lead_nowhere() {
    let proxy = Proxy::builder().rules(FROM_TWO, &[]).start().await;
    let two = Sample::wheel_of("2.0", 10);
    publish(&proxy.upstream, &[&two]);
    proxy.change_rules("").await;
    proxy.get(&two.path()).send().await.expect(200);
    proxy.kept_by("blobs", 1).await;
    proxy.change_rules(FROM_TWO).await;
    let name = &two.name;
    let date = "2026-06-01";
    for path in [
        format!("/simple/a-b/2.0/{name}/"),
        format!("/simple/a-b/{name}"),
        format!("/simple/a-b/2.0/x/{name}"),
        format!("/simple/a-b/2.0/../2.0/{name}"),
        format!("/simple/a-b/2.0/%2E/{name}"),
        format!("/simple/a-b/1.0%2F..%2F2.0/{name}"),
        format!("/simple/../simple/a-b/2.0/{name}"),
        format!("/a-b/2.0/{name}"),
        format!("/pypi/a-b/2.0/{name}"),
        format!("/pypi/main/a-b/2.0/{name}"),
        format!("/packages/a-b/2.0/{name}"),
        format!("/legacy/simple/a-b/2.0/{name}"),
        format!("/legacy/+simple/a-b/2.0/{name}"),
        format!("/pypi/main@{date}/simple/a-b/2.0/{name}"),
        format!("/pypi/main@{date}//+simple//a-b/2.0/{name}"),
        format!("/pypi//main//simple//a-b//2.0//{name}"),
        format!("/SIMPLE/a-b/2.0/{name}"),
        format!("/simple/a-b/2.0/{}", name.to_uppercase()),
        format!("/simple/a-b/2.0/{name}.asc"),
        format!("/simple/a-b/2.0/{name}.provenance"),
        format!("/simple/a-b/2.0/{name}.metadata"),
        format!("/simple/a-b/2.0/{name}%00"),
        format!("/simple/a-b/2.0/{name};x"),
    ] {
        for method in ["GET", "HEAD"] {
            let response = proxy.client().ask(method, &path).send().await;
            assert!(response.status >= 300, "{path}: {}", response.status);
            assert!(!two.bytes.starts_with(&response.body) || response.body.is_empty(), "{path}");
        }
    }
    // A whole address in the request line is the same address.
    let raw =
        format!("GET http://{0}{1} HTTP/1.1\r\nHost: {0}\r\nConnection: close\r\n\r\n", proxy.address, two.path());
    let response = proxy.client().raw(raw.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 403 Two is broken."), "{response}");
}

#[tokio::test]
async fn holes_of_other_firewalls_the_html_page_is_filtered_like_the_json_one() {
    let hide = FROM_TWO.replace("reason", "mode = \"hide\"\nreason");
    for (rules, in_html) in [(FROM_TWO, "data-yanked=\"Two is broken. [rule not-two]\""), (hide.as_str(), "")] {
        let proxy = Proxy::builder().rules(rules, &[]).start().await;
        let (one, two) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
        publish(&proxy.upstream, &[&one, &two]);
        for target in [HERE, "/pypi/main/simple/a-b/", "/+simple/a-b/", "//simple//a-b//"] {
            let html = proxy.get(target).header("accept", "text/html").send().await.expect(200).text();
            let json = proxy.get(target).json().send().await.expect(200);
            assert_eq!(html.contains(&two.name), json.file_names().contains(&two.name), "{target}");
            assert_eq!(html.contains(&two.name), !in_html.is_empty(), "{target}");
            assert!(html.contains(in_html), "{target}: {html}");
        }
        // Hidden is not merely unlisted: the address that a client remembers is refused too.
        proxy.get(&two.path()).send().await.expect(403);
        proxy.get(&format!("{}.metadata", two.path())).send().await.expect(403);
    }
}

#[tokio::test]
async fn holes_of_other_firewalls_links_of_upstream_are_never_passed_on() {
    let two = Sample::wheel_of("2.0", 10);
    // Relative, absolute, with a prefix, from another host: wherever upstream has it, a client is sent here.
    for url in [
        format!("2.0/{}", two.name),
        format!("../../simple/a-b/2.0/{}", two.name),
        format!("/pypi/r/simple/a-b/2.0/{}", two.name),
        format!("https://files.example.org/packages/{}", two.name),
        format!("../../packages/{}#sha256=0", two.name),
    ] {
        let proxy = Proxy::builder().rules(FROM_TWO, &[]).start().await;
        let mut entry = two.entry();
        entry["url"] = json!(url);
        proxy.upstream.on(PAGE, page(&[entry]));
        let shown = proxy.get(HERE).json().send().await.expect(200).value();
        let link = shown["files"][0]["url"].as_str().expect("an address");
        assert!(!link.contains(':') && !link.starts_with('/') && !link.contains(".."), "{url}: {link}");
        proxy.get(&format!("{HERE}{link}")).send().await.expect(403);
    }
}

#[tokio::test]
async fn holes_of_other_firewalls_age_does_not_count_from_the_first_fetch_and_quarantine_has_a_way_out() {
    let proxy = Proxy::builder().rules(COOLDOWN, &[]).start().await;
    taken_in(&proxy, &[]);
    let (old, new) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    publish(&proxy.upstream, &[&old, &new]);
    let mut fresh = new.entry();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(Clock::system().unix_seconds() - 60);
    fresh["upload-time"] = json!(humantime::format_rfc3339_seconds(time).to_string());
    proxy.upstream.on(PAGE, page(&[old.entry(), fresh]));
    // Uploaded long ago and never asked for: there is nothing to wait for.
    assert_eq!(proxy.get(&old.path()).send().await.expect(200).body, old.bytes);
    let refused = proxy.get(&new.path()).json().send().await.expect(403);
    assert!(refused.value()["until"].is_string(), "the refusal says when it ends");
    // The way out needs no deployment and ends by itself.
    let grant = "/exceptions?project=a-b&versions=%3D%3D2.0&reason=a%20fix&by=sec&expires=2999-01-01";
    proxy.ops.ask("POST", grant).send().await.expect(200);
    assert_eq!(proxy.get(&new.path()).send().await.expect(200).body, new.bytes);
}

#[tokio::test]
async fn a_thousand_rules_are_read_while_every_request_is_answered() {
    let proxy = Proxy::builder().rules(FROM_TWO, &[]).start().await;
    let (one, two) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    publish(&proxy.upstream, &[&one, &two]);
    let many = |number: usize| {
        let rule = |at| format!("\n[[rule]]\nname = \"r{at}\"\nprojects = [\"p{at}-*\"]\nversions = \">=1, <2\"");
        (0..number).fold(FROM_TWO.to_owned(), |text, at| text + &rule(at))
    };
    let done = std::cell::Cell::new(false);
    let asking = async {
        let mut asked = 0;
        while !done.get() {
            proxy.get(&one.path()).send().await.expect(200);
            proxy.get(&two.path()).send().await.expect(403);
            proxy.get(HERE).send().await.expect(200);
            asked += 1;
        }
        asked
    };
    let changing = async {
        for number in [1000, 10, 1000] {
            proxy.change_rules(&many(number)).await;
        }
        done.set(true);
    };
    let (asked, ()) = tokio::join!(asking, changing);
    assert!(asked > 3, "{asked}");
    assert!(proxy.metrics().await.contains("wheelport_policy_rules 1001"));
}

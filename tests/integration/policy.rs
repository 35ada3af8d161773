//! Rules: what they refuse is refused at every address there is and explained wherever a client looks.

use std::time::Duration;

use serde_json::{Value, json};
use wheelport_runtime::Clock;

use crate::support::client::{HTML_V1, Response, until};
use crate::support::proxy::Proxy;
use crate::support::scripted::{Gate, Reply};
use crate::support::wheels::{PAGE, Sample, metadata, page, publish};

const HERE: &str = "/simple/a-b/";
/// The control plane's calls for the origin of a project.
const PACKAGE: &str = "GET /v1/package";
const VERSIONS: &str = "POST /v1/package/versions";
const FROM_TWO: &str = "[[rule]]\nname = \"not-two\"\nversions = \">=2\"\nreason = \"Two is broken.\"\n\
                        help = \"https://wiki.example.org/two\"";
const EXPLANATION: &str = "Two is broken. [rule not-two] https://wiki.example.org/two";

/// What the control plane says of where `a-b` comes from; versions with whether they came from outside.
fn origin(proxy: &Proxy, publish: bool, upstream: bool, versions: &[(&str, bool)]) {
    let word = |allowed| if allowed { "ALLOW" } else { "BLOCK" };
    let restrictions = json!({"publish": word(publish), "upstream": word(upstream)});
    let package = json!({"format": "pypi", "name": "a-b", "originConfiguration": {"restrictions": restrictions}});
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, is_external)| {
            let origin = if *is_external { "EXTERNAL" } else { "INTERNAL" };
            json!({"version": version, "status": "Published", "origin": {"originType": origin}})
        })
        .collect();
    let answer = |body: Value| Reply::ok(body.to_string()).header("content-type", "application/json");
    proxy.control.on(PACKAGE, answer(json!({"package": package})));
    proxy.control.on(VERSIONS, answer(json!({"format": "pypi", "package": "a-b", "versions": versions})));
}

/// The entry of a sample that was uploaded so many seconds ago.
fn uploaded(sample: &Sample, ago: u64) -> Value {
    let mut entry = sample.entry();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(Clock::system().unix_seconds() - ago);
    entry["upload-time"] = json!(humantime::format_rfc3339_seconds(time).to_string());
    entry
}

/// The yank marks of the page, by file name.
async fn yanked(proxy: &Proxy) -> Vec<(String, Value)> {
    let page = proxy.get(HERE).json().send().await.expect(200).value();
    let files = page["files"].as_array().cloned().unwrap_or_default();
    let name = |file: &Value| file["filename"].as_str().unwrap_or_default().to_owned();
    files.iter().map(|file| (name(file), file["yanked"].clone())).collect()
}

/// Checks that a response is the refusal of the rule, in every place where a client may show it.
fn refused(response: &Response, what: &str) {
    assert_eq!(response.status, 403, "{what}: {}", response.text());
    assert_eq!(response.header("x-error-message"), Some(EXPLANATION), "{what}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(response.reason, EXPLANATION, "{what}");
    for header in ["etag", "content-range", "last-modified"] {
        assert_eq!(response.header(header), None, "{what}");
    }
}

/// Every spelling of the address of a file below the page's.
fn spellings(path: &str) -> Vec<String> {
    let below = path.strip_prefix("/simple/").expect("an address of the index");
    let (_, rest) = below.split_once('/').expect("a project");
    let (version, name) = rest.split_once('/').expect("a version");
    let prefixes = [
        "/simple",
        "//simple/",
        "/+simple",
        "/%2Bsimple",
        "/legacy/+simple",
        "/pypi/main/simple",
        "/pypi/main/+simple",
        "//pypi//main//simple//",
        "/pypi/main@2026-02-01/simple",
        "//pypi/main@2026-02-01T12:00Z//%2Bsimple",
    ];
    let mut all: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}/{below}")).collect();
    for project in ["A.b", "a_b", "a--b", "A%2Eb", "%61-b"] {
        all.push(format!("/simple/{project}/{rest}"));
    }
    // The version in the address is the client's to choose.
    for version in [version, "2", "v2.0", "2.0.0", "1.0", "9.9", "-", "odd!", "%32.0"] {
        all.push(format!("/simple/a-b/{version}/{name}"));
        all.push(format!("/simple/a-b//{version}///{name}"));
    }
    all.push(format!("/simple/a-b/{version}/{}", name.replace('_', "%5F")));
    all.push(format!("{path}?x=1"));
    all
}

/// Asks for the files in every way and finds each refused.
async fn no_way_round(proxy: &Proxy, blocked: &[&Sample], phase: &str) {
    for sample in blocked {
        let mut paths = spellings(&sample.path());
        paths.extend(
            spellings(&format!("{}.metadata", sample.path())).into_iter().filter(|_| !sample.name.ends_with(".tar.gz")),
        );
        for path in paths {
            let what = format!("{phase}: {path}");
            let whole = proxy.get(&path).json().send().await;
            refused(&whole, &what);
            let problem = whole.value();
            assert_eq!((&problem["rule"], &problem["code"]), (&json!("not-two"), &json!("blocked")), "{what}");
            assert_eq!(problem["help"], "https://wiki.example.org/two", "{what}");
            assert_eq!(problem["request_id"].as_str(), whole.header("x-request-id"), "{what}");
        }
        let path = sample.path();
        for path in [path.clone(), format!("{path}.metadata")] {
            if !path.ends_with(".tar.gz.metadata") {
                refused(&proxy.head(&path).send().await, "HEAD");
                let listed = proxy.get(&path).header("if-none-match", "*");
                refused(&listed.send().await, "If-None-Match");
            }
        }
        for (name, value) in [
            ("range", "bytes=0-3"),
            ("range", "bytes=-1"),
            ("if-none-match", &*sample.tag()),
            ("if-none-match", "*"),
            ("if-match", "*"),
            ("accept-encoding", "gzip"),
        ] {
            refused(&proxy.get(&path).header(name, value).send().await, &format!("{phase}: {name}: {value}"));
        }
        let part = proxy.get(&path).header("range", "bytes=0-3").header("if-range", &sample.tag());
        refused(&part.send().await, "If-Range");
    }
}

#[tokio::test]
async fn a_blocked_file_is_refused_at_every_address() {
    let proxy = Proxy::builder().rules("", &[]).start().await;
    let (one, two, sdist) = (Sample::wheel(), Sample::wheel_of("2.0", 10), Sample::sdist("2.0", 100));
    publish(&proxy.upstream, &[&one, &two, &sdist]);
    // Everything is cached before the rule comes.
    for sample in [&one, &two, &sdist] {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
    }
    assert_eq!(proxy.get(&format!("{}.metadata", two.path())).send().await.expect(200).text(), metadata("2.0"));
    proxy.kept_by("blobs", 3).await;

    proxy.change_rules(FROM_TWO).await;
    no_way_round(&proxy, &[&two, &sdist], "cached").await;
    assert_eq!(proxy.get(&one.path()).send().await.expect(200).body, one.bytes, "the others are served");
    proxy.get(&format!("{}.metadata", one.path())).send().await.expect(200);

    let explained = json!(EXPLANATION);
    let marks = yanked(&proxy).await;
    assert_eq!(
        marks,
        [
            (one.name.clone(), json!(false)),
            (two.name.clone(), explained.clone()),
            (sdist.name.clone(), explained.clone())
        ]
    );
    for accept in ["text/html", HTML_V1] {
        let page = proxy.get(HERE).header("accept", accept).send().await.expect(200).text();
        assert_eq!(page.matches("data-yanked").count(), 2, "{page}");
        assert!(page.contains("data-yanked=\"Two is broken. [rule not-two] https://wiki.example.org/two\""), "{page}");
    }
    for target in
        ["/a-b/json", "/pypi/a-b/json", "/pypi/main/a-b/json", "/a-b/2.0/json", "/pypi/main/pypi/a-b/2.0/json"]
    {
        let legacy = proxy.get(target).send().await.expect(200).value();
        let two = &legacy["releases"]["2.0"][0];
        assert_eq!((&two["yanked"], &two["yanked_reason"]), (&json!(true), &explained), "{target}");
    }
    let latest = proxy.get("/a-b/json").send().await.expect(200).value();
    assert_eq!(latest["info"]["version"], "1.0", "nothing offers the blocked version as the newest one");

    // With upstream away, and again in another process, from what is cached alone.
    proxy.upstream.on(PAGE, Reply::status(500));
    for sample in [&two, &sdist] {
        proxy.upstream.on(&sample.upstream(), Reply::status(500));
    }
    let again = proxy.stop().await.set(|builder| builder.rules = Some((FROM_TWO.to_owned(), Vec::new())));
    let proxy = again.later(7200).start().await;
    no_way_round(&proxy, &[&two, &sdist], "upstream away").await;
    assert_eq!(yanked(&proxy).await, marks);

    // The rule goes, and with it the refusal, on the next request.
    proxy.change_rules("").await;
    assert_eq!(proxy.get(&two.path()).send().await.expect(200).body, two.bytes);
    assert_eq!(yanked(&proxy).await.iter().filter(|(_, mark)| *mark == json!(false)).count(), 3);
}

#[tokio::test]
async fn a_blocked_file_is_not_fetched_and_a_download_under_way_is_no_way_in() {
    let proxy = Proxy::builder().rules("", &[]).start().await;
    let two = Sample::sdist("2.0", 100_000);
    let gate = Gate::closed();
    publish(&proxy.upstream, &[&two]);
    proxy.upstream.on(&two.upstream(), Reply::ok(two.bytes.clone()).gate_after(50_000, &gate));
    let opened = proxy.get(&two.path()).open().await;
    gate.reached().await;
    proxy.change_rules(FROM_TWO).await;
    no_way_round(&proxy, &[&two], "while it is fetched").await;
    gate.open();
    assert_eq!(opened.finish().await.expect(200).body, two.bytes, "what was begun before is finished");

    let fresh = Proxy::builder().rules(FROM_TWO, &[]).start().await;
    let wheel = Sample::wheel_of("2.0", 10);
    publish(&fresh.upstream, &[&wheel]);
    no_way_round(&fresh, &[&wheel], "never cached").await;
    assert_eq!(fresh.asked(&wheel.upstream()), 0);
    // A page that cannot be had, and a file that no page lists.
    let unlisted = Proxy::builder().rules(FROM_TWO, &[]).start().await;
    unlisted.upstream.on(PAGE, page(&[]));
    unlisted.upstream.on(&wheel.upstream(), Reply::ok(wheel.bytes.clone()));
    refused(&unlisted.get(&wheel.path()).send().await, "unlisted");
    unlisted.upstream.on(PAGE, Reply::status(500));
    refused(&unlisted.get(&wheel.path()).send().await, "no page");
    assert_eq!(unlisted.asked(&wheel.upstream()), 0);
}

#[tokio::test]
async fn hidden_files_leave_the_page_and_a_wholly_hidden_project_is_in_quarantine() {
    let hide = |versions: &str| {
        format!("[[rule]]\nname = \"h\"\nmode = \"hide\"\nversions = \"{versions}\"\nreason = \"No.\"")
    };
    let proxy = Proxy::builder().rules(&hide(">=2"), &[]).start().await;
    let (one, two) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    publish(&proxy.upstream, &[&one, &two]);
    let shown = proxy.get(HERE).json().send().await.expect(200).value();
    assert_eq!((&shown["versions"], shown["files"].as_array().map(Vec::len)), (&json!(["1.0"]), Some(1)));
    assert_eq!(shown.get("project-status"), None);
    let etag = proxy.get(HERE).json().send().await.header("etag").map(str::to_owned);
    assert!(!proxy.get(HERE).header("accept", "text/html").send().await.expect(200).text().contains(&two.name));
    proxy.get(&two.path()).send().await.expect(403);
    proxy.get("/a-b/2.0/json").send().await.expect(403);
    let legacy = proxy.get("/a-b/json").send().await.expect(200).value();
    assert_eq!((&legacy["info"]["version"], legacy["releases"].get("2.0")), (&json!("1.0"), None));

    proxy.change_rules(&hide(">=1")).await;
    let shown =
        proxy.get(HERE).json().header("if-none-match", &etag.expect("an etag")).send().await.expect(200).value();
    assert_eq!(shown["files"], json!([]));
    assert_eq!(shown["project-status"], json!({"status": "quarantined", "reason": "No. [rule h]"}));
    proxy.get("/a-b/json").send().await.expect(403);

    proxy.change_rules("[[rule]]\nname = \"all\"").await;
    let shown = proxy.get(HERE).json().send().await.expect(200).value();
    assert_eq!(shown.get("project-status"), None, "each file says why, and the project keeps its status");
    assert_eq!(shown["files"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn what_becomes_allowed_at_a_moment_is_allowed_then_without_upstream() {
    let rules = "[[rule]]\nname = \"cooldown\"\nyounger_than = \"1 day\"\nreason = \"Wait a day.\"";
    let proxy = Proxy::builder()
        .rules(rules, &[])
        .set(|builder| builder.cache.fresh_for = "7d".parse().expect("a duration"))
        .start()
        .await;
    origin(&proxy, false, true, &[]);
    let (old, new) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    publish(&proxy.upstream, &[&old, &new]);
    proxy.upstream.on(PAGE, page(&[uploaded(&old, 90_000), uploaded(&new, 86_300)]));
    let marks = yanked(&proxy).await;
    assert_eq!(marks[0].1, json!(false));
    assert!(
        marks[1].1.as_str().is_some_and(|mark| mark.starts_with("Wait a day. [rule cooldown, until 20")),
        "{marks:?}"
    );
    let problem = proxy.get(&new.path()).json().send().await.expect(403).value();
    assert!(problem["until"].as_str().is_some_and(|until| until.ends_with('Z')), "{problem}");
    assert_eq!(proxy.get(&old.path()).send().await.expect(200).body, old.bytes);
    proxy.pass(Duration::from_secs(101)).await;
    assert!(yanked(&proxy).await.iter().all(|(_, mark)| *mark == json!(false)));
    assert_eq!(proxy.get(&new.path()).send().await.expect(200).body, new.bytes);
    assert_eq!(proxy.asked(PAGE), 1);
}

#[tokio::test]
async fn files_without_a_date_age_from_when_they_were_first_seen_also_over_a_restart() {
    let rules = "[[rule]]\nname = \"cooldown\"\nyounger_than = \"1 day\"";
    let proxy = Proxy::builder().rules(rules, &[]).start().await;
    origin(&proxy, false, true, &[]);
    let undated = Sample::wheel();
    publish(&proxy.upstream, &[&undated]);
    proxy.upstream.on(PAGE, page(&[undated.entry_without(&["upload-time"])]));
    proxy.get(&undated.path()).send().await.expect(403);
    let again = proxy.stop().await;
    let proxy = again.clone().later(80_000).start().await;
    proxy.get(&undated.path()).send().await.expect(403);
    proxy.stop().await;
    let proxy = again.later(86_500).start().await;
    assert_eq!(proxy.get(&undated.path()).send().await.expect(200).body, undated.bytes);
}

#[tokio::test]
async fn internal_packages_have_no_cooldown_and_private_names_never_come_from_outside() {
    let rules = "[[rule]]\nname = \"cooldown\"\nyounger_than = \"100 years\"\n\
                 [[exception]]\nprojects = [\"other\"]\nreason = \"x\"\nby = \"y\"\nexpires = 2100-01-01";
    let proxy = Proxy::builder().rules(rules, &[]).start().await;
    let (one, two) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    publish(&proxy.upstream, &[&one, &two]);
    origin(&proxy, true, false, &[]);
    proxy.get(&one.path()).send().await.expect(200);

    let private = Proxy::builder().rules("", &["A.*"]).start().await;
    publish(&private.upstream, &[&one, &two]);
    // Nothing is known: that is no refusal, and no way in.
    private.get(&one.path()).send().await.expect(503);
    private.get(HERE).send().await.expect(503);
    origin(&private, true, true, &[("1.0", false), ("2", true)]);
    let known = async || (private.get(HERE).send().await.status == 200).then_some(());
    private.pass(Duration::from_secs(20)).await;
    until("origins", known).await;
    assert_eq!(private.get(&one.path()).send().await.expect(200).body, one.bytes);
    let problem = private.get(&two.path()).json().send().await.expect(403).value();
    assert_eq!(problem["rule"], "private-names");
    let marks = yanked(&private).await;
    assert_eq!(marks[0].1, json!(false));
    assert!(marks[1].1.as_str().is_some_and(|mark| mark.contains("comes from outside")), "{marks:?}");
    // With the control plane away, and in another process.
    private.control.on(PACKAGE, Reply::status(500));
    let private = private.stop().await.later(90_000).start().await;
    assert_eq!(private.get(&one.path()).send().await.expect(200).body, one.bytes);
    private.get(&two.path()).send().await.expect(403);
}

#[tokio::test]
async fn the_version_in_an_address_makes_no_file_from_outside_one_of_the_domain() {
    let proxy = Proxy::builder().rules("", &["a-b"]).start().await;
    let (one, two) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    publish(&proxy.upstream, &[&one]);
    origin(&proxy, true, true, &[("1.0", false), ("2.0", true)]);
    proxy.get(&one.path()).send().await.expect(200);
    // A repository that does not mind which version a file is asked for by.
    let chosen = two.path().replace("/2.0/", "/1.0/");
    proxy.upstream.on(&two.upstream().replace("/2.0/", "/1.0/"), Reply::ok(two.bytes.clone()));
    let problem = proxy.get(&chosen).json().send().await.expect(403).value();
    assert_eq!(problem["rule"], "private-names");
}

#[tokio::test]
async fn digests_licences_and_audit_work_on_what_is_held() {
    let (one, two) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    let revoked = format!("[[rule]]\nname = \"revoked\"\nsha256 = [\"{}\"]", two.sha256());
    let proxy = Proxy::builder().rules(&revoked, &[]).start().await;
    publish(&proxy.upstream, &[&one, &two]);
    proxy.get(&two.path()).send().await.expect(403);
    proxy.get(&one.path()).send().await.expect(200);
    // A page that names another digest only: the bytes are known once they were fetched.
    proxy.change_rules("[[rule]]\nname = \"look\"\nmode = \"audit\"\nversions = \"==1.0\"").await;
    for _ in 0..2 {
        proxy.get(&one.path()).send().await.expect(200);
    }
    proxy.get(&two.path()).send().await.expect(200);
    assert_eq!(yanked(&proxy).await[0].1, json!(false));
    let metrics = proxy.metrics().await;
    for line in [
        "wheelport_policy_refusals_total{rule=\"revoked\"} 1",
        "wheelport_policy_findings_total{rule=\"look\"} 2",
        "wheelport_policy_rules 1",
        "wheelport_policy_stale 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn an_index_as_of_a_date_lacks_what_came_later_and_is_judged_now() {
    let proxy = Proxy::builder().rules("", &[]).start().await;
    let (old, new) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    publish(&proxy.upstream, &[&old, &new]);
    let mut dated = [old.entry(), new.entry()];
    dated[0]["upload-time"] = json!("2026-01-01T12:00:30Z");
    dated[1]["upload-time"] = json!("2026-02-01T12:00:00Z");
    proxy.upstream.on(PAGE, page(&dated));
    let at = |date: &str, path: &str| format!("/pypi/main@{date}{path}");
    // Times are cut to the minute, and a date is its first moment.
    for (date, files) in [
        ("2026-01-01", 0),
        ("2026-01-01T12:00:59Z", 0),
        ("2026-01-01T12:01:00Z", 1),
        ("2026-01-01T14:01%2B02:00", 1),
        ("2026-02-01", 1),
        ("2026-02-01T12:00:00Z", 2),
    ] {
        let shown = proxy.get(&at(date, HERE)).json().send().await.expect(200);
        assert_eq!(shown.file_names().len(), files, "{date}");
        let versions = shown.value()["versions"].as_array().map(Vec::len);
        assert_eq!(versions, Some(files), "{date}");
    }
    let dated = "2026-01-15";
    let first = proxy.get(&at(dated, HERE)).json().send().await.expect(200);
    let again = proxy.get(&at(dated, HERE)).json().header("if-none-match", first.header("etag").expect("an etag"));
    again.send().await.expect(304);
    assert_eq!(proxy.get(&at(dated, &old.path())).send().await.expect(200).body, old.bytes);
    for path in [new.path(), format!("{}.metadata", new.path())] {
        assert_eq!(proxy.get(&at(dated, &path)).json().send().await.expect(404).value()["code"], "no-such-file");
        proxy.get(&path).send().await.expect(200);
        // Cached by now, and still later.
        proxy.get(&at(dated, &path)).send().await.expect(404);
    }
    let legacy = proxy.get(&at(dated, "/a-b/json")).send().await.expect(200).value();
    assert_eq!(legacy["info"]["version"], "1.0");
    let link = legacy["urls"][0]["url"].as_str().expect("an address");
    assert!(link.contains("/pypi/main@2026-01-15/simple/a-b/"), "{link}");
    proxy.get(&at(dated, "/simple/A.b")).send().await.expect(301);
    for date in ["2999-01-01", "soon", "", "2026-13-01"] {
        let refused = proxy.get(&at(date, HERE)).json().send().await.expect(400).value();
        assert_eq!(refused["code"], "bad-date", "{date}");
    }
    proxy.get("/pypi/typo@2026-01-01/simple/a-b/").send().await.expect(404);
    proxy.client().ask("POST", "/pypi/main@2026-01-01/").send().await.expect(405);
    assert_eq!(proxy.asked(PAGE), 1);
    // No date is a way round a rule of today.
    proxy.change_rules("[[rule]]\nname = \"one\"\nversions = \"==1.0\"").await;
    proxy.get(&at(dated, &old.path())).send().await.expect(403);
    let shown = proxy.get(&at(dated, HERE)).json().send().await.expect(200).value();
    assert_eq!(shown["files"][0]["yanked"], "The rule 'one' does not let this file through. [rule one]");
}

#[tokio::test]
async fn an_exception_holds_at_once_and_over_a_restart_until_it_expires() {
    let proxy = Proxy::builder().rules(FROM_TWO, &[]).start().await;
    let two = Sample::wheel_of("2.0", 10);
    publish(&proxy.upstream, &[&two]);
    proxy.get(&two.path()).send().await.expect(403);
    let expires = Clock::system().unix_seconds() + 3600;
    let expires = std::time::UNIX_EPOCH + Duration::from_secs(expires);
    let expires = humantime::format_rfc3339_seconds(expires);
    let grant = format!("/exceptions?project=A.b&versions=%3D%3D2.0&reason=a%20fix&by=sec&expires={expires}");
    for (target, status) in [
        ("/exceptions?project=a-b&reason=x&by=y".to_owned(), 400),
        (format!("/exceptions?project=a-b&reason=&by=y&expires={expires}"), 400),
        ("/exceptions?project=a-b&reason=x&by=y&expires=2020-01-01".to_owned(), 400),
        ("/exceptions/remove?id=nothing".to_owned(), 404),
    ] {
        proxy.ops.ask("POST", &target).send().await.expect(status);
    }
    proxy.ops.ask("POST", &grant).header("origin", "https://attacker.example.org").send().await.expect(403);
    proxy.client().ask("POST", &grant).send().await.expect(404);
    proxy.get(&two.path()).send().await.expect(403);

    let granted = proxy.ops.ask("POST", &grant).send().await.expect(200).value();
    assert_eq!(proxy.get(&two.path()).send().await.expect(200).body, two.bytes);
    let why = proxy.ops.get("/why?route=main&project=A_b").send().await.expect(200).value();
    let file = &why["files"][0];
    assert_eq!((&file["ruling"], &file["date_from"]), (&json!("allow"), &json!("upload-time")));
    assert!(file["exception"].as_str().is_some_and(|label| label.starts_with("a fix (sec")), "{file}");
    let proxy = proxy.stop().await.start().await;
    assert_eq!(proxy.get(&two.path()).send().await.expect(200).body, two.bytes);
    assert_eq!(proxy.ops.get("/status").send().await.expect(200).value()["policy"]["exceptions"], 1);
    proxy.pass(Duration::from_secs(3601)).await;
    proxy.get(&two.path()).send().await.expect(403);
    let listed = proxy.ops.get("/exceptions").send().await.expect(200).value();
    assert_eq!(listed["exceptions"][0]["holds"], false);
    let id = granted["exception"]["id"].as_str().expect("an id");
    proxy.ops.ask("POST", &format!("/exceptions/remove?id={id}")).send().await.expect(200);
    assert_eq!(proxy.ops.get("/exceptions").send().await.expect(200).value()["exceptions"], json!([]));
    let why = proxy.ops.get("/why?route=main&project=a-b").send().await.expect(200).value();
    assert_eq!((&why["files"][0]["ruling"], &why["files"][0]["rule"]), (&json!("explain"), &json!("not-two")));
}

#[tokio::test]
async fn a_broken_file_of_rules_keeps_the_old_ones_and_is_told() {
    let proxy = Proxy::builder().rules(FROM_TWO, &[]).start().await;
    let two = Sample::wheel_of("2.0", 10);
    publish(&proxy.upstream, &[&two]);
    std::fs::write(proxy.dir.path().join("rules/rules.toml"), "[[rule]]\nname = \"x\"\nversions = \"two\"")
        .expect("rules");
    let error = async || {
        let status = proxy.ops.get("/status").send().await.expect(200).value();
        status["policy"]["error"].as_str().map(str::to_owned)
    };
    let error = until("a complaint", error).await;
    assert!(error.contains("rules.toml, line 3"), "{error}");
    proxy.get(&two.path()).send().await.expect(403);
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("wheelport_policy_stale 1") && metrics.contains("wheelport_policy_failures_total 1"));
}

#[tokio::test]
async fn rules_can_be_tried_before_they_are_in_force() {
    let proxy = Proxy::builder().rules(FROM_TWO, &[]).start().await;
    let (one, two) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
    publish(&proxy.upstream, &[&one, &two]);
    proxy.get(HERE).send().await.expect(200);
    proxy.kept_by("pages", 1).await;
    let test = async |text: &str| proxy.ops.ask("POST", "/policy/test?route=main").body(text.to_owned()).send().await;
    let trial = test("[[rule]]\nname = \"one\"\nversions = \"==1.0\"").await.expect(200).value();
    let counts = [&trial["projects"], &trial["newly_refused"], &trial["newly_allowed"]].map(Value::as_u64);
    assert_eq!(counts, [Some(1), Some(1), Some(1)], "{trial}");
    assert_eq!((&trial["files"][0]["file"], &trial["files"][0]["rule"]), (&json!(one.name), &json!("one")));
    assert!(test("[[rule]]\nname = \"a\"\nversions = \"x\"").await.expect(400).text().contains("line 3"));
    proxy.ops.ask("POST", "/policy/test?route=typo").send().await.expect(404);
    proxy.get(&one.path()).send().await.expect(200);
    proxy.get(&two.path()).send().await.expect(403);
}

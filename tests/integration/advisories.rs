//! Advisories: what they report as malware is refused everywhere, vulnerabilities are listed, and a feed that fails
//! changes nothing.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use wheelport::advisories::{AdvisorySettings, AdvisorySource};
use wheelport_runtime::HumanDuration;

use crate::support::client::{Response, until};
use crate::support::process::Program;
use crate::support::proxy::{Builder, Proxy};
use crate::support::scripted::{Reply, Scripted};
use crate::support::wheels::{Sample, metadata, publish, zipped};

const PAGE: &str = "/simple/a-b/";
const REASON: &str = "MAL-2026-1 reports this version as malicious. [rule malware]";

/// An advisory about versions of a project.
pub(crate) fn advisory(id: &str, project: &str, versions: &[&str]) -> Value {
    json!({
        "id": id, "modified": "2026-01-02T03:04:05.678Z", "summary": format!("{id} of {project}"),
        "affected": [{"package": {"ecosystem": "PyPI", "name": project}, "versions": versions}],
    })
}

/// An advisory about all versions of a project.
fn of_everything(id: &str, project: &str) -> Value {
    let mut advisory = advisory(id, project, &[]);
    advisory["affected"][0]["ranges"] = json!([{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]);
    advisory
}

/// An archive as OSV exports it.
pub(crate) fn export(advisories: &[Value]) -> Vec<u8> {
    let entries: Vec<(String, String)> =
        advisories.iter().map(|it| (format!("{}.json", it["id"].as_str().expect("an id")), it.to_string())).collect();
    zipped(&entries.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect::<Vec<_>>())
}

fn many(count: usize) -> Vec<Value> {
    (0..count).map(|number| advisory(&format!("MAL-2025-{number}"), &format!("other-{number}"), &["1.0"])).collect()
}

/// Puts an export into the place of another, as a mirror does.
pub(crate) fn replace(path: &Path, export: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, export).and_then(|()| fs::rename(&new, path)).expect("a directory of ours");
}

pub(crate) fn sourced(path: &Path) -> impl FnOnce(&mut Builder) {
    let source = Some(AdvisorySource::Path(path.to_owned()));
    move |builder| builder.advisories = AdvisorySettings { source, ..AdvisorySettings::default() }
}

async fn status(proxy: &Proxy) -> Value {
    proxy.ops.get("/status").send().await.expect(200).value()["advisories"].clone()
}

/// How often the source was looked at with this outcome.
async fn outcomes(proxy: &Proxy, outcome: &str) -> u64 {
    let name = format!("wheelport_advisory_refreshes_total{{outcome=\"{outcome}\"}} ");
    let metrics = proxy.metrics().await;
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

async fn in_force(proxy: &Proxy, count: usize) {
    until("the advisories", async || (status(proxy).await["advisories"] == count).then_some(())).await;
}

fn refused(response: &Response, what: &str) {
    assert_eq!((response.status, response.reason.as_str()), (403, REASON), "{what}: {}", response.text());
    assert_eq!(response.header("x-error-message"), Some(REASON), "{what}");
}

struct World {
    dir: tempfile::TempDir,
    proxy: Proxy,
    one: Sample,
    two: Sample,
}

impl World {
    async fn start(advisories: &[Value]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("all.zip");
        replace(&path, &export(advisories));
        let proxy = Proxy::builder().set(sourced(&path)).start().await;
        let (one, two) = (Sample::wheel(), Sample::wheel_of("2.0", 10));
        publish(&proxy.upstream, &[&one, &two]);
        Self { dir, proxy, one, two }
    }

    fn replace(&self, advisories: &[Value]) {
        replace(&self.dir.path().join("all.zip"), &export(advisories));
    }
}

#[tokio::test]
async fn reported_malware_is_refused_wherever_it_is_asked_for_and_nothing_else_is() {
    let world = World::start(&[advisory("GHSA-1", "a-b", &["1.0"])]).await;
    let World { proxy, one, two, .. } = &world;
    // Cached before anything is known of it.
    for sample in [one, two] {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
    }
    assert_eq!(proxy.get(&format!("{}.metadata", two.path())).send().await.expect(200).text(), metadata("2.0"));
    proxy.kept_by("blobs", 2).await;
    let before = proxy.get(PAGE).json().send().await.expect(200);
    assert!(before.value()["files"].as_array().is_some_and(|files| files.iter().all(|file| file["yanked"] == false)));

    // The name as its publisher wrote it.
    world.replace(&[advisory("GHSA-1", "a-b", &["1.0"]), advisory("MAL-2026-1", "A.B", &["2.0"])]);
    in_force(proxy, 2).await;
    let after = proxy.get(PAGE).json().send().await.expect(200);
    assert_ne!(after.header("etag"), before.header("etag"), "the page is shown again at once");
    let yanked: Vec<_> =
        after.value()["files"].as_array().into_iter().flatten().map(|it| it["yanked"].clone()).collect();
    assert_eq!(yanked, [json!(false), json!(REASON)]);
    for path in [
        two.path(),
        format!("{}.metadata", two.path()),
        format!("/pypi/main{}", two.path()),
        two.path().replace("/a-b/", "/A_b/"),
        two.path().replace("/2.0/", "/1.0/"),
        two.path().replace("/2.0/", "/-/"),
    ] {
        refused(&proxy.get(&path).send().await, &path);
    }
    refused(&proxy.get(&two.path()).header("range", "bytes=0-3").send().await, "a part");
    refused(&proxy.head(&two.path()).send().await, "HEAD");
    let problem = proxy.get(&two.path()).json().send().await.value();
    assert_eq!((&problem["rule"], &problem["advisory"]), (&json!("malware"), &json!("MAL-2026-1")));
    assert_eq!(proxy.get(&one.path()).send().await.expect(200).body, one.bytes, "a vulnerability refuses nothing");
    let why = proxy.ops.get("/why?route=main&project=a-b").send().await.expect(200).value();
    assert_eq!(why["files"][0]["vulnerabilities"], json!(["GHSA-1"]));
    assert_eq!((&why["files"][1]["advisory"], &why["files"][1]["ruling"]), (&json!("MAL-2026-1"), &json!("explain")));
    let metrics = proxy.metrics().await;
    for line in [
        "wheelport_advisories{kind=\"malware\"} 1",
        "wheelport_advisories{kind=\"other\"} 1",
        "wheelport_advisories_stale 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    assert!(metrics.contains("wheelport_policy_refusals_total{rule=\"malware\"}"), "{metrics}");
    world.replace(&[advisory("GHSA-1", "a-b", &["1.0"])]);
    in_force(proxy, 1).await;
    proxy.get(&two.path()).send().await.expect(200);
}

#[tokio::test]
async fn a_project_that_is_malware_as_a_whole_is_refused_as_a_whole_until_that_is_withdrawn() {
    let world = World::start(&[of_everything("MAL-2026-1", "a-b")]).await;
    let World { proxy, one, two, .. } = &world;
    for sample in [one, two] {
        refused(&proxy.get(&sample.path()).send().await, &sample.name);
    }
    // What no page lists any more, as a lock file may name it.
    refused(&proxy.get("/simple/a-b/0.1.dev1/a_b-0.1.dev1.tar.gz").send().await, "an old version");
    refused(&proxy.get("/simple/a-b/-/a_b-odd!.tar.gz").send().await, "what is no version");
    let page = proxy.get(PAGE).json().send().await.expect(200).value();
    assert!(page["files"].as_array().is_some_and(|files| files.iter().all(|file| file["yanked"] == REASON)), "{page}");
    let mut withdrawn = of_everything("MAL-2026-1", "a-b");
    withdrawn["withdrawn"] = json!("2026-02-01T00:00:00Z");
    world.replace(&[withdrawn]);
    until("the end", async || (proxy.get(&one.path()).send().await.status == 200).then_some(())).await;
    let document = proxy.get("/osv/v1/vulns/MAL-2026-1").send().await.expect(200).value();
    assert_eq!(document["withdrawn"], "2026-02-01T00:00:00Z");
}

#[tokio::test]
async fn only_an_exception_that_names_the_advisory_lifts_it() {
    let world = World::start(&[advisory("MAL-2026-1", "a-b", &["2.0"]), of_everything("MAL-2026-2", "a-b")]).await;
    let (proxy, two) = (&world.proxy, &world.two);
    let grant = async |advisory: &str| {
        let target = format!("/exceptions?project=a-b&reason=checked&by=sec&expires=2100-01-01{advisory}");
        proxy.ops.ask("POST", &target).send().await.expect(200);
    };
    let status = async || proxy.get(&two.path()).send().await.status;
    grant("").await;
    assert_eq!(status().await, 403, "an exception from the rules lifts no malware");
    grant("&advisory=MAL-2026-1").await;
    assert_eq!(status().await, 403, "another advisory is still there");
    grant("&advisory=MAL-2026-2").await;
    assert_eq!(status().await, 200);
    let why = proxy.ops.get("/why?route=main&project=a-b").send().await.expect(200).value();
    assert!(why["files"][1]["exception"].as_str().is_some_and(|exception| exception.contains("checked")), "{why}");
}

#[tokio::test]
async fn a_feed_that_is_broken_empty_or_shrunken_changes_nothing_and_is_told() {
    let mut all = many(40);
    all.push(advisory("MAL-2026-1", "a-b", &["2.0"]));
    let world = World::start(&all).await;
    let World { proxy, one, two, dir } = &world;
    in_force(proxy, 41).await;
    let path = dir.path().join("all.zip");
    let whole = export(&all);
    let mut unreadable = all.clone();
    unreadable[40]["affected"] = json!("nothing");
    for (broken, outcome) in [
        (b"<html>not found</html>".to_vec(), "unreadable"),
        (whole[..whole.len() / 2].to_vec(), "unreadable"),
        (export(&[]), "unreadable"),
        (export(&unreadable), "unreadable"),
        (export(&[advisory("GHSA-1", "a-b", &["1.0"])]), "shrunken"),
        (export(&all[..15]), "shrunken"),
    ] {
        let before = outcomes(proxy, outcome).await;
        replace(&path, &broken);
        until(outcome, async || (outcomes(proxy, outcome).await > before).then_some(())).await;
        refused(&proxy.get(&two.path()).send().await, "what was malware");
        proxy.get(&one.path()).send().await.expect(200);
        let status = status(proxy).await;
        assert!(status["advisories"] == 41 && status["error"].is_string(), "{status}");
        assert!(proxy.metrics().await.contains("wheelport_advisories_stale 1"), "{outcome}");
    }
    fs::remove_file(&path).expect("a file of ours");
    until("the alarm", async || (outcomes(proxy, "unreachable").await > 0).then_some(())).await;
    refused(&proxy.get(&two.path()).send().await, "without a source");
    replace(&path, &export(&all[5..]));
    in_force(proxy, 36).await;
    until("the end of the alarm", async || status(proxy).await["error"].is_null().then_some(())).await;
}

#[tokio::test]
async fn a_smaller_feed_is_taken_where_that_is_wanted() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("all.zip");
    replace(&path, &export(&many(40)));
    let accept = |builder: &mut Builder| builder.advisories.accept_shrunken = true;
    let proxy = Proxy::builder().set(sourced(&path)).set(accept).start().await;
    in_force(&proxy, 40).await;
    replace(&path, &export(&many(3)));
    in_force(&proxy, 3).await;
}

#[tokio::test]
async fn the_last_good_copy_outlives_a_restart_without_the_source_and_a_damaged_one_is_noticed() {
    let world = World::start(&[advisory("MAL-2026-1", "a-b", &["2.0"])]).await;
    let (one, two) = (world.one.clone(), world.two.clone());
    refused(&world.proxy.get(&two.path()).send().await, "at first");
    fs::remove_file(world.dir.path().join("all.zip")).expect("a file of ours");
    let proxy = world.proxy.stop().await.start().await;
    refused(&proxy.get(&two.path()).send().await, "the first request after the restart");
    let document = proxy.get("/osv/v1/vulns/MAL-2026-1").send().await.expect(200).value();
    assert_eq!(document["summary"], "MAL-2026-1 of a-b");
    let stopped = proxy.stop().await;
    let copy = stopped.directory().join("cache/advisories/osv");
    let mut bytes = fs::read(&copy).expect("a copy");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&copy, bytes).expect("a copy");
    let proxy = stopped.start().await;
    assert!(!copy.exists(), "a damaged copy is removed");
    assert_eq!(proxy.get(&one.path()).send().await.status, 200);
    replace(&world.dir.path().join("all.zip"), &export(&[advisory("MAL-2026-1", "a-b", &["2.0"])]));
    in_force(&proxy, 1).await;
    refused(&proxy.get(&two.path()).send().await, "from the source again");
}

#[tokio::test]
async fn an_address_is_asked_with_the_version_that_is_known() {
    let mirror = Scripted::start().await;
    let bytes = export(&[advisory("MAL-2026-1", "a-b", &["2.0"])]);
    let reply = Reply::with(move |seen| {
        if seen.header("if-none-match") == Some("\"v1\"") {
            Reply::status(304)
        } else {
            Reply::ok(bytes.clone()).header("etag", "\"v1\"")
        }
    });
    mirror.on("GET /osv/all.zip", reply);
    let source = AdvisorySource::parse(&mirror.url("/osv/all.zip")).ok();
    let refresh = HumanDuration::millis(50);
    let settings = AdvisorySettings { source, refresh, ..AdvisorySettings::default() };
    let proxy = Proxy::builder().set(|builder: &mut Builder| builder.advisories = settings).start().await;
    in_force(&proxy, 1).await;
    until("a 304", async || (outcomes(&proxy, "unchanged").await > 1).then_some(())).await;
    assert_eq!(outcomes(&proxy, "taken").await, 1);
    // A restart knows the version too.
    let proxy = proxy.stop().await.start().await;
    until("a 304", async || (outcomes(&proxy, "unchanged").await > 0).then_some(())).await;
    assert_eq!(outcomes(&proxy, "taken").await, 0);
    mirror.on("GET /osv/all.zip", Reply::status(500));
    until("the alarm", async || (outcomes(&proxy, "unreachable").await > 0).then_some(())).await;
    assert_eq!(status(&proxy).await["advisories"], 1);
    mirror.on("GET /osv/all.zip", Reply::ok(export(&many(3))).cut_after(100));
    let before = outcomes(&proxy, "unreachable").await;
    until("the alarm", async || (outcomes(&proxy, "unreachable").await > before).then_some(())).await;
    assert_eq!(status(&proxy).await["advisories"], 1);
    until("no rest", async || proxy.temporaries().is_empty().then_some(())).await;
}

async fn asked(proxy: &Proxy, call: &str, body: &Value) -> Response {
    proxy.client().ask("POST", &format!("/osv/v1/{call}")).body(body.to_string()).send().await
}

#[tokio::test]
async fn advisories_are_asked_for_as_in_the_api_of_osv() {
    let (mal, ghsa) = (advisory("MAL-2026-1", "a-b", &["2.0"]), advisory("GHSA-1", "a-b", &["1.0", "2.0"]));
    let world = World::start(&[mal.clone(), ghsa.clone()]).await;
    let proxy = &world.proxy;
    let named = json!({"package": {"name": "A_B", "ecosystem": "PyPI"}, "version": "2.0.0"});
    assert_eq!(asked(proxy, "query", &named).await.expect(200).value(), json!({"vulns": [mal, ghsa]}));
    let purl = json!({"package": {"purl": "pkg:pypi/a-b@1.0"}, "page_token": "x"});
    assert_eq!(asked(proxy, "query", &purl).await.expect(200).value(), json!({"vulns": [ghsa]}));
    let fine = json!({"package": {"purl": "pkg:pypi/a-b@3.0"}});
    assert_eq!(asked(proxy, "query", &fine).await.expect(200).value(), json!({}));
    let batch = asked(proxy, "querybatch", &json!({"queries": [named, fine, {"commit": "00"}]})).await.expect(200);
    let short = |id: &str| json!({"id": id, "modified": "2026-01-02T03:04:05Z"});
    let expected = json!({"results": [{"vulns": [short("MAL-2026-1"), short("GHSA-1")]}, {}, {}]});
    assert_eq!(batch.value(), expected);
    assert_eq!(batch.header("content-type"), Some("application/json"));
    assert_eq!(proxy.get("/osv/v1/vulns/GHSA-1").send().await.expect(200).value(), ghsa);

    for (call, body, status, code) in [
        ("query", json!({}), 400, 3),
        ("query", json!({"package": {"name": "a b", "ecosystem": "PyPI"}}), 400, 3),
        ("querybatch", json!({"queries": vec![json!({"commit": "00"}); 1001]}), 400, 3),
        ("querybatch", json!({"queries": [], "x": "y".repeat(2 << 20)}), 400, 3),
        ("vulns/GHSA-1", json!({}), 405, 12),
    ] {
        let response = asked(proxy, call, &body).await;
        let error = response.value();
        assert_eq!((response.status, &error["code"]), (status, &json!(code)), "{call}: {error}");
        assert!(error["message"].is_string(), "{error}");
    }
    let missing = proxy.get("/osv/v1/vulns/GHSA-2").send().await;
    assert_eq!((missing.status, &missing.value()["code"]), (404, &json!(5)));
    proxy.get("/osv/v1/query").send().await.expect(405);
    let without = Proxy::start().await;
    for response in [without.get("/osv/v1/vulns/GHSA-1").send().await, asked(&without, "query", &fine).await] {
        assert_eq!((response.status, &response.value()["code"]), (404, &json!(5)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_files_are_audited_from_the_command_line() {
    let flaw = advisory("GHSA-1", "a-b", &["1.0"]);
    let world = World::start(&[flaw, advisory("MAL-2026-1", "a-b", &["2.0"]), of_everything("MAL-9", "gone")]).await;
    let (one, two) = (&world.one, &world.two);
    let ops = world.proxy.ops.0.to_string();
    let run = |arguments: &[&str]| {
        let arguments = [&["audit", "--route", "main"], arguments].concat();
        Program::run(&arguments, &[("WHEELPORT_OPS_LISTEN", &ops)])
    };
    let lock = world.dir.path().join("uv.lock");
    let package = |sample: &Sample| {
        let digest = wheelport_index::Sha256::of(&sample.bytes);
        format!(
            "[[package]]\nname = \"a-b\"\nversion = \"{}\"\nsource = {{ registry = \"http://h/simple/\" }}\nwheels = \
             [{{ url = \"http://h/{}\", hash = \"sha256:{digest}\" }}]\n",
            sample.version, sample.name
        )
    };
    fs::write(&lock, format!("version = 1\n{}{}", package(one), package(two))).expect("a lock");
    let lock = lock.display().to_string();
    let done = run(&[&lock]);
    assert_eq!(done.code, Some(1), "{done:?}");
    for line in [
        format!("{}: vulnerable\n  GHSA-1 GHSA-1 of a-b\n", one.name),
        format!("{}: malware by rule malware: MAL-2026-1 reports this version as malicious.\n", two.name),
        "2 files looked at, 2 with findings\n".to_owned(),
    ] {
        assert!(done.out.contains(&line), "{line} in {done:?}");
    }
    let report: Value = serde_json::from_str(&run(&["--format", "json", &lock]).out).expect("JSON");
    assert_eq!((&report["checked"], &report["files"][1]["verdict"]), (&json!(2), &json!("malware")));
    let pins = world.dir.path().join("requirements.txt");
    let pinned = |text: &str| {
        fs::write(&pins, text).expect("requirements");
        run(&[&pins.display().to_string()])
    };
    let fine = pinned("a-b==3.0\n");
    assert_eq!(fine.code, Some(0), "nothing is known of it: {fine:?}");
    assert_eq!(pinned("a-b==1.0\n").code, Some(1));
    let gone = pinned("gone==7.0\n");
    assert!(gone.code == Some(1) && gone.out.starts_with("gone 7.0: malware"), "{gone:?}");
    let gone = pinned("gone==7.0 --hash=sha256:00\n");
    assert!(gone.code == Some(1) && gone.out.starts_with("gone 7.0: malware"), "{gone:?}");
    let hashed = pinned(&format!("a-b==1.0 --hash=sha256:{}\n", wheelport_index::Sha256::of(&one.bytes)));
    assert!(hashed.code == Some(1) && hashed.out.contains("1 files looked at"), "{hashed:?}");
    let other = pinned(&format!("a-b==1.0 --hash=sha256:{}\n", "0".repeat(64)));
    assert!(other.code == Some(1) && other.out.contains(": changed: "), "{other:?}");
    assert_eq!(pinned("a-b==1\n").out, pinned("a-b==1.0\n").out, "an installer takes the same for both");
    assert_eq!(pinned("a-b>=1.0\n").code, Some(2));
    let elsewhere = Program::run(&["audit", "--route", "main", "--ops-listen", "127.0.0.1:1", &lock], &[]);
    assert_eq!(elsewhere.code, Some(2), "{elsewhere:?}");
    assert_eq!(Program::run(&["audit", "--route", "other", "--ops-listen", &ops, &lock], &[]).code, Some(2));
}

#[tokio::test]
async fn a_response_about_advisories_has_an_end() {
    // Long documents about one project, as a stranger would ask for them again and again.
    let long = |number: usize| {
        let mut advisory = advisory(&format!("GHSA-{number}"), "a-b", &["1.0"]);
        advisory["details"] = json!("x".repeat(300_000));
        advisory
    };
    let world = World::start(&(0..60).map(long).collect::<Vec<_>>()).await;
    let about = json!({"package": {"ecosystem": "PyPI", "name": "a-b"}});
    let refused = asked(&world.proxy, "query", &about).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("too long"), "{}", refused.text());
    // Ids are short: a thousand questions about them are too many only together.
    let few = asked(&world.proxy, "querybatch", &json!({"queries": vec![&about; 100]})).await.expect(200).value();
    assert_eq!(few["results"][99]["vulns"].as_array().map(Vec::len), Some(60));
    let many = asked(&world.proxy, "querybatch", &json!({"queries": vec![&about; 1000]})).await;
    assert_eq!(many.status, 400, "{}", many.text());
}

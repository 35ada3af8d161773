//! Who has what: what counts as a download, what outlives a restart and a kill, and what operators are told.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use wheelport::identity::SecretDigest;
use wheelport::identity::{IdentityRules, IdentityTables};
use wheelport::usage::UsageSettings;
use wheelport::web::{OperatorSecrets, ReadPolicy};
use wheelport_index::Sha256;
use wheelport_runtime::HumanDuration;

use crate::support::client::{Client, until};
use crate::support::process::{Program, World, ready};
use crate::support::proxy::{Builder, Proxy, files_below};
use crate::support::scripted::Reply;
use crate::support::wheels::{Sample, publish};

const DAY: u64 = 86_400;

/// Identities with a static token each, which is their name.
fn identities(names: &[&str]) -> IdentityRules {
    let table = |name: &&str| {
        let digest = Sha256::of(name.as_bytes()).to_string();
        serde_json::from_value(json!({"name": name, "token_sha256": digest, "read": ["*"]})).expect("a table")
    };
    let identities = names.iter().map(table).collect();
    IdentityRules::new(IdentityTables { identities, ..IdentityTables::default() }).expect("rules")
}

fn gated(names: &[&str]) -> Builder {
    let known = identities(names);
    Proxy::builder().routes(&["main", "open"], Some(0)).set(|builder| {
        builder.identities = known;
        builder.read = ReadPolicy::Identity;
    })
}

/// Downloads a file as this identity.
async fn take(proxy: &Proxy, file: &Sample, token: &str) {
    let authorization = format!("Bearer {token}");
    let response = proxy.get(&file.path()).header("authorization", &authorization).send().await.expect(200);
    assert_eq!(response.body, file.bytes);
}

async fn usage(ops: Client, query: &str) -> Value {
    ops.get(&format!("/usage?{query}")).send().await.expect(200).value()
}

/// Names and numbers of the rows.
fn rows(report: &Value) -> Vec<(Option<&str>, u64)> {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter().map(|row| (row["name"].as_str(), row["downloads"].as_u64().expect("a number"))).collect()
}

fn downloads(report: &Value) -> u64 {
    report["downloads"].as_u64().expect("a number")
}

#[tokio::test]
async fn which_pipelines_took_a_version_and_when_last_is_one_question() {
    let proxy = gated(&["ci:web", "ci:api"]).start().await;
    let (bad, good) = (Sample::wheel_of("1.0", 3000), Sample::wheel_of("1.1", 3000));
    publish(&proxy.upstream, &[&bad, &good]);
    for token in ["ci:web", "ci:api", "ci:web"] {
        take(&proxy, &bad, token).await;
    }
    proxy.pass(Duration::from_secs(7)).await;
    take(&proxy, &bad, "ci:api").await;
    proxy.pass(Duration::from_secs(7)).await;
    take(&proxy, &good, "ci:api").await;
    proxy.get(&format!("/pypi/open{}", bad.path())).send().await.expect(200);

    let report = usage(proxy.ops, "project=A.b&version=1.0.0&route=main").await;
    assert_eq!(rows(&report), [(Some("ci:api"), 2), (Some("ci:web"), 2)], "the last one first");
    let at = |row: usize, key: &str| {
        humantime::parse_rfc3339(report["rows"][row][key].as_str().expect("a time")).expect("a time")
    };
    let apart = at(0, "last").duration_since(at(1, "last")).expect("in this order").as_secs();
    assert!((6..=60).contains(&apart), "{report}");
    assert_eq!((report["complete"].as_bool(), downloads(&report)), (Some(true), 4));
    let everywhere = usage(proxy.ops, "project=a-b%3D%3D1.0").await;
    assert_eq!(rows(&everywhere).iter().filter(|(name, _)| name.is_none()).count(), 1, "the open route: {everywhere}");
    assert_eq!(rows(&usage(proxy.ops, "project=a-b&route=main").await), [(Some("1.1"), 1), (Some("1.0"), 4)]);
    assert_eq!(rows(&usage(proxy.ops, "route=main").await), [(Some("a-b"), 5)]);
    assert_eq!(rows(&usage(proxy.ops, "identity=ci%3Aweb").await), [(Some("a-b"), 2)]);
    assert_eq!(downloads(&usage(proxy.ops, "project=other").await), 0);
    assert!(!proxy.metrics().await.contains("ci:"), "names are no labels");
}

#[tokio::test]
async fn only_what_brings_a_file_from_its_beginning_is_a_download() {
    let proxy = Proxy::start().await;
    let wheel = Sample::wheel_of("1.0", 3000);
    publish(&proxy.upstream, &[&wheel]);
    proxy.upstream.on("GET /pypi/r/simple/gone/", Reply::status(404));
    proxy.upstream.on(&wheel.upstream().replace("a-b", "gone"), Reply::status(404));
    let metadata = format!("{}.metadata", wheel.path());
    let etag = proxy.head(&wheel.path()).send().await.expect(200).header("etag").expect("a tag").to_owned();
    proxy.get("/simple/a-b/").send().await.expect(200);
    proxy.get(&metadata).send().await.expect(200);
    proxy.get(&wheel.path()).header("if-none-match", &etag).send().await.expect(304);
    proxy.get(&wheel.path().replace("a-b", "gone")).send().await.expect(404);
    assert_eq!(downloads(&usage(proxy.ops, "").await), 0);
    let part = async |range: &str, status: u16| {
        proxy.get(&wheel.path()).header("range", range).send().await.expect(status);
        downloads(&usage(proxy.ops, "").await)
    };
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    assert_eq!(part("bytes=100-", 206).await, 1, "the rest of one that is counted");
    assert_eq!(part("bytes=-100", 206).await, 1, "the directory of a wheel");
    assert_eq!(part("bytes=999999-", 416).await, 1);
    assert_eq!(part("bytes=0-99", 206).await, 2);
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    assert_eq!(downloads(&usage(proxy.ops, "").await), 3, "a hit like a miss");
}

/// A process that writes records this often.
fn serve(world: &World, write_every: &str) -> (Program, Client) {
    let file = world.dir.path().join("wheelport.toml");
    std::fs::write(&file, format!("[usage]\nwrite_every = \"{write_every}\"\n")).expect("a directory of ours");
    let program = world.serve(&["--config", &file.display().to_string()]);
    let ops = Client(program.address("operations on http://"));
    (program, ops)
}

fn records(world: &World) -> Vec<PathBuf> {
    files_below(&world.dir.path().join("cache/usage"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_nothing_and_a_kill_what_was_counted_since_the_last_record() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    let take = async |program: &Program| {
        ready(program.proxy()).await;
        program.proxy().get(&wheel.path()).send().await.expect(200);
    };
    let (program, _) = serve(&world, "200ms");
    take(&program).await;
    until("a record", async || (!records(&world).is_empty()).then_some(())).await;
    program.signal(Signal::KILL);
    drop(program.ended());

    let (program, ops) = serve(&world, "1h");
    assert_eq!(downloads(&usage(ops, "").await), 1, "what was recorded outlives a kill");
    take(&program).await;
    assert_eq!(downloads(&usage(ops, "").await), 2);
    program.signal(Signal::KILL);
    drop(program.ended());

    let (program, ops) = serve(&world, "1h");
    assert_eq!(downloads(&usage(ops, "").await), 1, "a kill loses what was not recorded, and no more");
    take(&program).await;
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(0));
    let (_program, ops) = serve(&world, "1h");
    let report = usage(ops, "project=a-b").await;
    assert_eq!((rows(&report), records(&world).len()), (vec![(Some("1.0"), 2)], 2), "a stop loses nothing");
}

#[tokio::test]
async fn days_are_told_apart_and_kept_as_long_as_configured() {
    let builder = Proxy::builder().set(|builder| builder.usage.keep = HumanDuration::secs(3 * DAY));
    let proxy = builder.start().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    let take = async || drop(proxy.get(&wheel.path()).send().await.expect(200));
    let today = async || usage(proxy.ops, "").await["until"].as_str().expect("a day").to_owned();
    take().await;
    let first = today().await;
    proxy.pass(Duration::from_secs(DAY)).await;
    // Written before time passes again, which does not wait for it.
    proxy.kept_by("usage", 1).await;
    take().await;
    take().await;
    let second = today().await;
    assert_ne!(first, second);
    proxy.pass(Duration::from_secs(90)).await;
    proxy.kept_by("usage", 2).await;
    assert_eq!(downloads(&usage(proxy.ops, &format!("until={first}")).await), 1);
    assert_eq!(downloads(&usage(proxy.ops, &format!("since={second}")).await), 2);
    assert_eq!(downloads(&usage(proxy.ops, "").await), 3);

    let closed = async || proxy.metrics().await.contains("wheelport_usage_entries 1\n").then_some(());
    until("the end of the first day's table", closed).await;
    // The calendar goes back over midnight and on again, and the record of that day is not begun again.
    proxy.clock().shift(-i64::try_from(DAY).expect("a day"));
    take().await;
    proxy.pass(Duration::from_secs(90)).await;
    until("the record", async || (downloads(&usage(proxy.ops, &format!("until={first}")).await) == 2).then_some(()))
        .await;
    proxy.clock().shift(i64::try_from(DAY).expect("a day"));
    assert_eq!(downloads(&usage(proxy.ops, "").await), 4);

    proxy.pass(Duration::from_secs(2 * DAY)).await;
    proxy.kept_by("usage", 1).await;
    assert_eq!(downloads(&usage(proxy.ops, &format!("since={first}")).await), 2, "what is too old is gone");
}

#[tokio::test]
async fn a_damaged_record_is_said_and_the_rest_is_told() {
    let proxy = Proxy::start().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&wheel.path()).send().await.expect(200);
    let proxy = proxy.stop().await.start().await;
    let record = proxy.kept("usage").pop().expect("a record");
    proxy.get(&wheel.path()).send().await.expect(200);
    assert_eq!(downloads(&usage(proxy.ops, "").await), 2);
    let mut bytes = std::fs::read(&record).expect("a record");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&record, bytes).expect("a record");
    let report = usage(proxy.ops, "").await;
    assert_eq!((downloads(&report), report["complete"].as_bool()), (1, Some(false)));
    assert!(report["notes"][0].as_str().is_some_and(|note| note.starts_with("1 records are damaged")), "{report}");
    assert!(proxy.metrics().await.contains("wheelport_cache_damaged_total{kind=\"usage\"} 1\n"));
    let verified =
        Program::run(&["cache", "verify", "--cache-dir", &proxy.dir.path().join("cache").display().to_string()], &[]);
    assert!(verified.out.ends_with(", 0 damaged\n"), "{verified:?}");
}

#[tokio::test]
async fn counters_are_bounded_and_what_loses_its_own_is_said() {
    let builder = gated(&["a", "b", "c"]).set(|builder| {
        builder.usage = UsageSettings { max_entries: 4, max_identities: 1, ..UsageSettings::default() };
    });
    let proxy = builder.start().await;
    let files: Vec<Sample> = (0..6).map(|number| Sample::wheel_of(&format!("{number}.0"), 100)).collect();
    publish(&proxy.upstream, &files.iter().collect::<Vec<_>>());
    for token in ["a", "b", "c", "a"] {
        take(&proxy, &files[0], token).await;
    }
    let of_version = usage(proxy.ops, "project=a-b&version=0.0").await;
    let others = |report: &Value| {
        let rows = report["rows"].as_array().expect("rows");
        rows.iter().filter(|row| row["others"] == true).map(|row| row["downloads"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!((others(&of_version), downloads(&of_version)), (vec![Some(2)], 4), "{of_version}");
    for file in &files[1..] {
        take(&proxy, file, "a").await;
    }
    let all = usage(proxy.ops, "project=a-b").await;
    let unattributed = all["unattributed"].as_u64().expect("a number");
    assert_eq!((downloads(&all) + unattributed, all["complete"].as_bool()), (9, Some(false)), "{all}");
    assert!(unattributed > 0, "{all}");
    let metrics = proxy.metrics().await;
    let folded = format!("wheelport_usage_folded_total {}\n", unattributed + 2);
    assert!(metrics.contains(&folded) && metrics.contains("wheelport_usage_entries 4\n"), "{folded}: {metrics}");
}

#[tokio::test]
async fn it_can_be_off_and_it_can_be_without_identities() {
    let wheel = Sample::wheel();
    for enabled in [false, true] {
        let builder = gated(&["ci:web"]).set(|builder| {
            builder.usage = UsageSettings { enabled, identities: false, ..UsageSettings::default() };
        });
        let proxy = builder.start().await;
        publish(&proxy.upstream, &[&wheel]);
        take(&proxy, &wheel, "ci:web").await;
        let response = proxy.ops.get("/usage?project=a-b&version=1.0").send().await;
        if enabled {
            assert_eq!(rows(&response.expect(200).value()), [(None, 1)]);
        } else {
            assert!(response.expect(404).text().contains("[usage] enabled is false"));
        }
        let stopped = proxy.stop().await;
        let written = files_below(&stopped.directory().join("cache/usage"));
        assert_eq!(written.len(), usize::from(enabled));
    }
}

#[tokio::test]
async fn a_browser_gets_a_page_that_runs_nothing_of_others_and_needs_the_secret() {
    let secret = SecretDigest::of("hunter2").expect("a secret");
    let secrets = OperatorSecrets { operations: Some(secret), metrics: None };
    let proxy = Proxy::builder().set(|builder| builder.operators = secrets).start_blind().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    until("the file", async || (proxy.get(&wheel.path()).send().await.status == 200).then_some(())).await;
    proxy.ops.get("/usage").header("accept", "text/html").send().await.expect(401);
    let show = async |query: &str| {
        let ask = proxy.ops.get(&format!("/usage?{query}")).header("authorization", "Bearer hunter2");
        ask.header("accept", "text/html,application/xhtml+xml,*/*;q=0.8").send().await
    };
    let page = show("").await.expect(200);
    let of = |name: &str| page.header(name).unwrap_or_default().to_owned();
    assert!(
        of("content-type").starts_with("text/html") && of("content-security-policy").starts_with("default-src 'none'")
    );
    assert_eq!(
        (of("cache-control"), of("vary"), of("x-content-type-options")),
        ("no-store".into(), "Accept".into(), "nosniff".into())
    );
    assert!(page.text().contains("href=\"/usage?project=a%2Db&amp;route=main\""), "{}", page.text());
    let hostile = show("project=a-b%3D%3D1.0&identity=%3Cscript%3Ealert(1)%3C%2Fscript%3E").await.expect(200).text();
    assert!(!hostile.contains("<script>alert"), "{hostile}");
    assert!(hostile.contains("name=\"version\" value=\"1.0\""), "it comes back as a version: {hostile}");
    for (query, word) in
        [("project=..%2Fx", "`project`"), ("since=1", "`since`"), ("sinse=1", "sinse"), ("limit=x", "`limit`")]
    {
        let refused = show(query).await.expect(400).text();
        assert!(refused.contains("role=\"alert\"") && refused.contains(word), "{query}: {refused}");
        let ask = proxy.ops.get(&format!("/usage?{query}")).header("authorization", "Bearer hunter2");
        let plain = ask.send().await.expect(400).text();
        assert!(plain.contains(word) && !plain.contains('<'), "{query}: {plain}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_prints_the_same() {
    let proxy = gated(&["ci:web"]).start().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    take(&proxy, &wheel, "ci:web").await;
    let ops = proxy.ops.0.to_string();
    let run = |arguments: &[&str]| Program::run(&[&["usage"], arguments].concat(), &[("WHEELPORT_OPS_LISTEN", &ops)]);
    let printed = run(&["A.b==1.0"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let (head, row) = printed.out.split_once('\n').expect("lines");
    assert!(head.starts_with("IDENTITY  ROUTE  DOWNLOADS  LAST"), "{printed:?}");
    assert!(row.starts_with("ci:web    main           1  20") && row.contains("\n1 download from 20"), "{printed:?}");
    let json: Value = serde_json::from_str(&run(&["a-b", "--format", "json"]).out).expect("JSON");
    assert_eq!((rows(&json), json["by"].as_str()), (vec![(Some("1.0"), 1)], Some("version")));
    assert_eq!(run(&["a-b", "--route", "open"]).code, Some(0), "nothing was taken there");
    let mistyped = run(&["a-b", "--route", "mian"]);
    assert!(mistyped.code == Some(2) && mistyped.err.contains("no such route: mian; there is main"), "{mistyped:?}");
    let refused = run(&["a-b", "--since", "tomorrow"]);
    assert!(refused.code == Some(2) && refused.err.contains("`since` is not a date"), "{refused:?}");
}

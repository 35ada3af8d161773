//! The built program: what it prints, how it ends, and what it leaves behind when it is killed.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::client::{Client, until};
use crate::support::process::Program;
use crate::support::proxy::{CANARY, MINT, control_plane, files_below, refusal};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::wheels::{PAGE, Sample, list, page, publish};

/// Everything a served process needs around it.
struct World {
    upstream: Scripted,
    control: Scripted,
    dir: TempDir,
}

impl World {
    async fn new() -> Self {
        let (upstream, control) = (Scripted::start().await, control_plane().await);
        Self { upstream, control, dir: tempfile::tempdir().expect("a directory") }
    }

    fn cache(&self) -> String {
        self.dir.path().join("cache").display().to_string()
    }

    /// `wheelport serve` in this world, with more arguments.
    fn serve(&self, more: &[&str]) -> Program {
        let (endpoint, cache) = (self.upstream.url("/pypi/r/"), self.cache());
        let mut arguments = vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
            "--domain",
            "acme",
            "--repository",
            "r1",
            "--endpoint",
            &endpoint,
            "--cache-dir",
            &cache,
        ];
        arguments.extend(more);
        let control = self.control.url("");
        Program::start(
            &arguments,
            &[
                ("AWS_ENDPOINT_URL", &control),
                ("AWS_REGION", "eu-central-1"),
                ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "an-example-of-a-secret-key"),
            ],
        )
    }
}

async fn ready(client: Client) {
    until("readiness", async || (client.get("/readyz").send().await.status == 200).then_some(())).await;
}

#[test]
fn bad_arguments_and_configuration_are_exit_code_2_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a directory of ours");
        path.display().to_string()
    };
    let typo = file("typo.toml", "\n[cache]\nmax_siz = \"1GiB\"\n");
    let two = file(
        "two.toml",
        "[[route]]\nname = \"a\"\ndomain = \"acme\"\nrepository = \"r1\"\ndefault = true\n[[route]]\nname = \"b\"\ndomain = \"acme\"\nrepository = \"r2\"\ndefault = true\n",
    );
    for (arguments, part) in [
        (vec![], "Usage"),
        (vec!["serve"], "wheelport demo"),
        (vec!["serve", "--domain", "acme"], "--repository"),
        (vec!["serve", "--domain", "Bad Domain", "--repository", "r1"], "domain"),
        (vec!["serve", "--listen", "nowhere"], "--listen"),
        (vec!["serve", "--nonsense"], "--nonsense"),
        (vec!["serve", "--config", "/nonexistent/x.toml"], "/nonexistent/x.toml"),
        (vec!["serve", "--config", &typo], "max_siz"),
        (vec!["serve", "--config", &typo], "line 3"),
        (vec!["serve", "--config", &two], "more than one"),
        (vec!["serve", "--domain", "acme", "--repository", "r1", "--cache-max-size", "1MiB"], "64MiB"),
        (vec!["serve", "--log", "nonsense=="], "nonsense=="),
        (vec!["demo", "--listen", "0.0.0.0:0"], "loopback"),
        (vec!["cache", "stats"], "--cache-dir"),
    ] {
        let outcome = Program::run(&arguments, &[]);
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {outcome:?}");
        assert!(outcome.err.contains(part) && outcome.out.is_empty(), "{arguments:?}: {outcome:?}");
    }
}

#[test]
fn help_and_version_are_exit_code_0() {
    for arguments in [["--help"], ["--version"], ["help"]] {
        let outcome = Program::run(&arguments, &[]);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(outcome.out.to_lowercase().contains("wheelport"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_is_exit_code_1_with_what_to_do() {
    let world = World::new().await;
    let taken = world.upstream.address().to_string();
    let blocked = world.dir.path().join("a-file");
    fs::write(&blocked, "not a directory").expect("a directory of ours");
    let strange = world.dir.path().join("strange");
    fs::create_dir(&strange).expect("a directory of ours");
    fs::write(strange.join("format"), "wheelport cache 999\n").expect("a directory of ours");
    let (blocked, strange) = (blocked.display().to_string(), strange.display().to_string());
    for (more, parts) in [
        (["--listen", taken.as_str()], ["cannot be listened on", "--listen"]),
        (["--ops-listen", taken.as_str()], ["cannot be listened on", taken.as_str()]),
        (["--cache-dir", blocked.as_str()], ["cannot be used", "--cache-dir"]),
        (["--cache-dir", strange.as_str()], ["another cache format", "wheelport cache clear"]),
    ] {
        let kind = more[0];
        let (endpoint, cache) = (world.upstream.url("/pypi/r/"), world.cache());
        let mut arguments = vec![
            "serve",
            "--domain",
            "acme",
            "--repository",
            "r1",
            "--endpoint",
            &endpoint,
            "--region",
            "eu-central-1",
        ];
        if kind != "--cache-dir" {
            arguments.extend(["--cache-dir", &cache]);
        }
        if kind != "--listen" {
            arguments.extend(["--listen", "127.0.0.1:0"]);
        }
        arguments.extend(more);
        let outcome = Program::run(&arguments, &[]);
        assert_eq!(outcome.code, Some(1), "{more:?}: {outcome:?}");
        assert!(parts.iter().all(|part| outcome.err.contains(part)), "{more:?}: {outcome:?}");
    }
    let cache = world.cache();
    let regionless =
        ["serve", "--domain", "acme", "--repository", "r1", "--listen", "127.0.0.1:0", "--cache-dir", &cache];
    let outcome = Program::run(&regionless, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.err.contains("AWS_REGION"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_which_ports_it_got_serves_and_ends_with_0_on_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let (world, wheel) = (World::new().await, Sample::wheel());
        publish(&world.upstream, &[&wheel]);
        let program = world.serve(&[]);
        let (client, ops) = (program.proxy(), Client(program.address("operations on http://")));
        assert_ne!(client.0.port(), 0);
        ready(client).await;
        assert_eq!(client.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
        ops.get("/metrics").send().await.expect(200);
        program.signal(signal);
        let outcome = program.ended();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(files_below(&world.dir.path().join("cache/tmp")).is_empty(), "nothing temporary is left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_under_way_is_finished_before_it_ends() {
    let (world, sdist, gate) = (World::new().await, Sample::sdist("1.0", 400_000), Gate::closed());
    list(&world.upstream, &[&sdist]);
    world.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(5000, &gate));
    let program = world.serve(&[]);
    let client = program.proxy();
    let mut opened = client.get(&sdist.path()).open().await;
    opened.at_least(4000).await;
    program.signal(Signal::TERM);
    let refused = async || tokio::net::TcpStream::connect(client.0).await.is_err().then_some(());
    until("new connections to be refused", refused).await;
    gate.open();
    assert_eq!(opened.finish().await.expect(200).body, sdist.bytes);
    let outcome = program.ended();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(files_below(&world.dir.path().join("cache/blobs")).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let (world, sdist, gate) = (World::new().await, Sample::sdist("1.0", 400_000), Gate::closed());
    list(&world.upstream, &[&sdist]);
    world.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(5000, &gate));
    let program = world.serve(&[]);
    let opened = program.proxy().get(&sdist.path()).open().await;
    program.signal(Signal::TERM);
    program.logged("stopping: answers under way are finished first");
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(130));
    assert!(!opened.finish().await.complete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_fill_it_leaves_nothing_that_the_next_one_would_serve() {
    let (world, sdist, gate) = (World::new().await, Sample::sdist("1.0", 400_000), Gate::closed());
    list(&world.upstream, &[&sdist]);
    world.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(200_000, &gate));
    let program = world.serve(&[]);
    let mut opened = program.proxy().get(&sdist.path()).open().await;
    opened.at_least(150_000).await;
    program.signal(Signal::KILL);
    assert_eq!(program.ended().code, None);
    assert!(!opened.finish().await.complete);
    let cache = world.dir.path().join("cache");
    assert!(!files_below(&cache.join("tmp")).is_empty(), "half a file is left behind");
    assert_eq!(files_below(&cache.join("blobs")).len(), 0);

    world.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()));
    let program = world.serve(&[]);
    let client = program.proxy();
    let left: Vec<_> =
        files_below(&cache.join("tmp")).into_iter().filter(|path| !path.ends_with("lock")).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new(), "it was swept");
    let answer = client.get(&sdist.path()).send().await.expect(200);
    assert_eq!(answer.body, sdist.bytes);
    assert_eq!(
        client.get(&sdist.path()).send().await.expect(200).header("cache-status"),
        Some("wheelport; hit")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_never_serves_a_wrong_byte() {
    let (world, sdist) = (World::new().await, Sample::sdist("1.0", 300_000));
    list(&world.upstream, &[&sdist]);
    for killed_at in [0, 1, 100_000, 299_000, 299_999] {
        let gate = Gate::closed();
        world.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(killed_at, &gate));
        let program = world.serve(&[]);
        let client = program.proxy();
        if killed_at > 0 {
            let opened = client.get(&sdist.path()).open().await;
            gate.reached().await;
            drop(opened);
        }
        program.signal(Signal::KILL);
        drop(program.ended());
    }
    world.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()));
    let program = world.serve(&[]);
    assert_eq!(program.proxy().get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(0));
    let verified = Program::run(&["cache", "verify", "--cache-dir", &world.cache()], &[]);
    assert_eq!((verified.code, verified.out.as_str()), (Some(0), "1 good, 0 damaged\n"), "{verified:?}");
}

/// Writes into the middle of a file without changing its length.
fn rot(path: &Path) {
    let mut bytes = fs::read(path).expect("a file that is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a directory of ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_can_be_looked_at_healed_and_emptied() {
    let (world, wheel, sdist) = (World::new().await, Sample::wheel(), Sample::sdist("1.0", 5000));
    publish(&world.upstream, &[&wheel, &sdist]);
    let (cache, root) = (world.cache(), world.dir.path().join("cache"));
    let missing = Program::run(&["cache", "stats", "--cache-dir", &cache], &[]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.err.contains("not a cache directory"), "{missing:?}");

    let program = world.serve(&[]);
    let client = program.proxy();
    client.get(&sdist.path()).send().await.expect(200);
    client.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
    let run = |action: &str| Program::run(&["cache", action], &[("WHEELPORT_CACHE_DIR", &cache)]);
    let stats = run("stats");
    assert_eq!(stats.code, Some(0));
    let row = |kind: &str| {
        let line = stats.out.lines().find(|line| line.starts_with(kind)).expect(kind);
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok())
    };
    assert_eq!(
        (row("blobs"), row("pages"), row("sidecars"), row("all")),
        (Some(2), Some(1), Some(1), Some(4))
    );

    let rotten = files_below(&root.join("blobs"))
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|file| file.len() == 5000));
    rot(&rotten.expect("the source distribution"));
    let verified = run("verify");
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(verified.out.contains("damaged, removed: ") && verified.out.ends_with("1 good, 1 damaged\n"));
    assert_eq!(run("verify").code, Some(0), "what was damaged is gone");
    // The running proxy fetches it again.
    assert_eq!(client.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    assert_eq!(world.upstream.requests_to(&sdist.upstream()).len(), 2);

    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(0));
    let cleared = run("clear");
    assert_eq!((cleared.code, cleared.out.as_str()), (Some(0), "4 files removed\n"));
    assert_eq!(run("stats").code, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_finest_log_level_no_secret_is_printed_and_the_request_id_is_found() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    let program = world.serve(&["--log", "trace", "--log-format", "json"]);
    let client = program.proxy();
    ready(client).await;
    let answer = client
        .get("/simple/a-b/?token=query-secret")
        .header("authorization", "Basic Y2xpZW50OnNlY3JldA==")
        .header("cookie", "session=cookie-secret")
        .send()
        .await
        .expect(200);
    client.get(&wheel.path()).send().await.expect(200);
    client.get("/simple/").send().await;
    for (status, name) in [(401, "refused"), (403, "denied"), (500, "broken")] {
        world.upstream.on(&format!("GET /pypi/r/simple/{name}/"), Reply::status(status));
        client.get(&format!("/simple/{name}/")).send().await;
    }
    let elsewhere = "https://user:password-secret@bucket.example.org/x?X-Amz-Signature=signature-secret";
    world.upstream.on("GET /pypi/r/simple/away/", Reply::redirect(307, elsewhere));
    client.get("/simple/away/").send().await;
    world.upstream.on(
        "GET /pypi/r/simple/linked/",
        page(&[{
            let mut entry = wheel.entry();
            entry["url"] = elsewhere.into();
            entry
        }]),
    );
    client.get("/simple/linked/").send().await.expect(200);
    client.get(&wheel.path().replace("a-b", "linked")).send().await;
    program.signal(Signal::TERM);
    let outcome = program.ended();
    assert_eq!(outcome.code, Some(0));
    let printed = format!("{}{}", outcome.out, outcome.err);
    assert!(printed.contains("\"level\":\"DEBUG\"") && printed.contains("asked upstream"), "{printed}");
    assert!(
        printed.contains("\"span\":{\"task\":\"fetch page\",\"name\":\"task\"}"),
        "no key twice: {printed}"
    );
    for secret in [
        CANARY,
        "YXdzOmNhbmFyeS",
        "Y2xpZW50OnNlY3JldA",
        "query-secret",
        "cookie-secret",
        "password-secret",
        "signature-secret",
        "an-example-of-a-secret-key",
    ] {
        let line = printed.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was printed");
    }
    let id = answer.header("x-request-id").expect("an id");
    let line = outcome
        .err
        .lines()
        .find(|line| line.contains(id) && line.contains("\"answered\""))
        .expect("a log line");
    let line: serde_json::Value = serde_json::from_str(line).expect("one JSON object per line");
    assert_eq!((&line["status"], &line["kind"]), (&200.into(), &"page".into()), "{line}");
    assert!(outcome.err.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credentials_it_starts_says_so_and_serves_what_it_has() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    let program = world.serve(&[]);
    program.proxy().get(&wheel.path()).send().await.expect(200);
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(0));
    world.control.on(MINT, refusal(403, "AccessDeniedException", "not authorized to perform"));
    world.upstream.on(PAGE, Reply::raw(""));
    let program = world.serve(&["--log", "info"]);
    let client = program.proxy();
    program.logged("token mint failed");
    assert_eq!(client.get("/readyz").send().await.status, 503);
    assert_eq!(client.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    client.get("/simple/other/").send().await.expect_unavailable("unavailable-token");
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_holds_up_nobody() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    let program = world.serve(&["--log", "trace"]).unread();
    let client = program.proxy();
    for _ in 0..600 {
        assert_eq!(client.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_needs_nothing_and_its_sample_can_be_installed() {
    let program = Program::start(&["demo", "--listen", "127.0.0.1:0"], &[]);
    let client = program.proxy();
    let text = program.printed("Ctrl-C ends it.");
    for line in
        ["pip install --index-url http://127.0.0.1:", "uv pip install --default-index", "wheelport-hello"]
    {
        assert!(text.contains(line), "{text}");
    }
    let listed = client.get("/simple/").json().send().await.expect(200).value();
    assert_eq!(listed["projects"].as_array().map(Vec::len), Some(2), "{listed}");
    let page = client.get("/simple/wheelport-hello/").json().send().await.expect(200);
    let files = page.value()["files"].clone();
    for file in files.as_array().expect("files") {
        let path = format!("/simple/wheelport-hello/{}", file["url"].as_str().expect("a link"));
        let answer = client.get(&path).send().await.expect(200);
        let digest = wheelport::pypi::Sha256::of(&answer.body).to_string();
        assert_eq!(file["hashes"]["sha256"], digest.as_str(), "{path}");
        if file["core-metadata"] != false && !file["core-metadata"].is_null() {
            let metadata = client.get(&format!("{path}.metadata")).send().await.expect(200).text();
            assert!(metadata.contains("Name: wheelport-hello"), "{metadata}");
        }
    }
    program.signal(Signal::INT);
    let outcome = program.ended();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_works_against_the_emulator_with_nothing_but_the_standard_environment() {
    let emulator = Program::start(
        &["emulate", "--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--no-public-index"],
        &[],
    );
    emulator.address("data plane    http://");
    let printed = emulator.printed("aws codeartifact login");
    let environment: Vec<(&str, &str)> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("export "))
        .flat_map(str::split_whitespace)
        .filter_map(|pair| pair.split_once('='))
        .collect();
    assert!(environment.iter().any(|(name, _)| *name == "AWS_ENDPOINT_URL_CODEARTIFACT"), "{printed}");
    let dir = tempfile::tempdir().expect("a directory");
    let cache = dir.path().display().to_string();
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--domain",
        "demo",
        "--repository",
        "python",
        "--cache-dir",
        &cache,
    ];
    let program = Program::start(&arguments, &environment);
    let client = program.proxy();
    ready(client).await;
    let names =
        client.get("/pypi/python/simple/wheelport-greeting/").json().send().await.expect(200).file_names();
    assert!(names.iter().any(|name| name == "wheelport_greeting-1.1.0-py3-none-any.whl"), "{names:?}");
    client.get("/simple/there-is-no-such-project/").send().await.expect(404);
    for program in [program, emulator] {
        program.signal(Signal::TERM);
        assert_eq!(program.ended().code, Some(0));
    }
}

//! The built program: what it prints, how it exits, and what it leaves behind when it is killed.

use futures_util::future::{join, join_all};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit, setrlimit};
use serde_json::json;
use tokio::net::TcpStream;
use wheelport_runtime::Clock;

use crate::support::client::{Client, soon, until};
use crate::support::forms::{Form, content_type};
use crate::support::process::{Program, World, ready};
use crate::support::proxy::{CANARY, MINT, files_below, refusal};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::wheels::{PAGE, Sample, list, page, publish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_logs_its_ports_serves_and_exits_with_0_on_a_signal() {
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
async fn a_download_in_progress_finishes_before_it_exits() {
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
    program.logged("stopping: responses in flight are finished first");
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(130));
    assert!(!opened.finish().await.complete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_during_a_download_it_leaves_nothing_that_the_next_process_would_serve() {
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
    let left: Vec<_> = files_below(&cache.join("tmp")).into_iter().filter(|path| !path.ends_with("lock")).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new(), "it was swept");
    let response = client.get(&sdist.path()).send().await.expect(200);
    assert_eq!(response.body, sdist.bytes);
    assert_eq!(client.get(&sdist.path()).send().await.expect(200).header("cache-status"), Some("wheelport; hit"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_repeatedly_it_never_serves_a_wrong_byte() {
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
    // The file, its page, what it was when it was first seen, what was saved, and who has it.
    assert_eq!((verified.code, verified.out.as_str()), (Some(0), "5 good, 0 damaged\n"), "{verified:?}");
}

/// The response with a new token.
fn minted(token: &str) -> Reply {
    let expires = Clock::system().unix_seconds() + 12 * 60 * 60;
    let json = json!({"authorizationToken": token, "expiration": expires}).to_string();
    Reply::ok(json).header("content-type", "application/json")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_line_of_a_refused_upload_says_what_is_known_of_it() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    let program = world.serve(&["--upload", "anonymous", "--log-format", "json"]);
    let client = program.proxy();
    ready(client).await;
    let send = |form: Form| client.ask("POST", "/").header("content-type", &content_type()).body(form.bytes()).send();
    // It says why in its last field, when everything has arrived.
    send(Form::of(&wheel).with("filetype", "sdist")).await.expect(400);
    let sha256 = format!("\"sha256\":\"{}\"", wheel.sha256());
    let text = program.logged("\"outcome\":\"upload-refused\"");
    for part in ["\"project\":\"a-b\"", "\"version\":\"1.0\"", "\"file\":\"a_b-1.0-py3-none-any.whl\"", &sha256] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // It breaks a rule in the middle.
    send(Form::of(&wheel).with("version", "2.0").with("Name", "other")).await.expect(400);
    let text = program.logged("\"version\":\"2.0\"");
    assert!(text.contains("\"project\":\"a-b\""), "{text}");
}

/// Everything secret that the next test sends, as it would appear in a log.
const SECRETS: [&str; 8] = [
    CANARY,
    "YXdzOmNhbmFyeS",
    "Y2xpZW50OnNlY3JldA",
    "query-secret",
    "cookie-secret",
    "password-secret",
    "signature-secret",
    "an-example-of-a-secret-key",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_finest_log_level_no_secret_is_logged_and_the_request_id_is_found() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    // As long and as mixed as real ones are.
    let token = format!("{CANARY}-{}", "aB3_".repeat(40));
    world.control.on(MINT, minted(&token));
    let program = world.serve(&["--log", "trace", "--log-format", "json"]);
    let client = program.proxy();
    ready(client).await;
    let response = client
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
    // An upstream that repeats what it was sent, in the message that is logged.
    world.upstream.on(
        "GET /pypi/r/simple/echo/",
        Reply::with(move |seen| {
            let sent = seen.header("authorization").unwrap_or_default().to_owned();
            let message = format!("not authorized: {sent}, token=\"{token}\" <{token}>");
            Reply::status(403).body(json!({"message": message}).to_string())
        }),
    );
    client.get("/simple/echo/").send().await;
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
    assert!(printed.contains("\"level\":\"DEBUG\"") && printed.contains("upstream call finished"), "{printed}");
    for secret in SECRETS {
        let line = printed.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was printed");
    }
    let id = response.header("x-request-id").expect("an id");
    let asked = |line: &&str| line.contains(id) && line.contains("upstream call finished");
    assert!(outcome.err.lines().any(|line| asked(&line)), "a task names the request that started it: {printed}");
    let line =
        outcome.err.lines().find(|line| line.contains(id) && line.contains("\"request served\"")).expect("a log line");
    let line: serde_json::Value = serde_json::from_str(line).expect("one JSON object per line");
    assert_eq!((&line["status"], &line["kind"]), (&200.into(), &"page".into()), "{line}");
    assert!(outcome.err.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_leaves_no_core_and_takes_all_descriptors_it_may_have() {
    let world = World::new().await;
    // Of what the program inherits, it may have twice as many as it has.
    let inherited = getrlimit(Resource::Nofile);
    let half = Rlimit { current: Some(inherited.maximum.unwrap_or(8192) / 2), maximum: inherited.maximum };
    setrlimit(Resource::Nofile, half).expect("a lower limit");
    let program = world.serve(&[]);
    program.proxy();
    setrlimit(Resource::Nofile, inherited).expect("the limit from before");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.id())).expect("a running process");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a limit");
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    let descriptors = limit("Max open files");
    assert_eq!(descriptors[0], descriptors[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_file_descriptors_it_finishes_its_responses_and_recovers() {
    let (world, wheel, sdist) = (World::new().await, Sample::wheel(), Sample::sdist("1.0", 300_000));
    publish(&world.upstream, &[&wheel]);
    list(&world.upstream, &[&wheel, &sdist]);
    let gate = Gate::closed();
    world.upstream.on(&sdist.upstream(), Reply::ok(sdist.bytes.clone()).gate_after(100_000, &gate));
    let program = world.serve(&[]);
    let client = program.proxy();
    assert_eq!(client.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    // Not idle: idle connections give way to the others.
    let connected = client.get(&sdist.path()).open().await;
    gate.reached().await;
    let used = std::fs::read_dir(format!("/proc/{}/fd", program.id())).expect("a running process").count();
    let few = Some(used as u64 + 10);
    let id = i32::try_from(program.id()).ok().and_then(Pid::from_raw);
    prlimit(id, Resource::Nofile, Rlimit { current: few, maximum: few }).expect("our own child");
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(TcpStream::connect(client.0).await.expect("the system accepts them"));
    }
    gate.open();
    assert_eq!(soon("the response", connected.finish()).await.expect(200).body, sdist.bytes);
    drop(crowd);
    until("a new client to be served", async || {
        let served = client.get(&wheel.path()).send().await;
        (served.status == 200 && served.body == wheel.bytes).then_some(())
    })
    .await;
    program.signal(Signal::TERM);
    let outcome = program.ended();
    assert!(outcome.code == Some(0) && !outcome.err.contains("panicked"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_goes_through_the_proxy_of_the_environment_and_the_repository_is_reached_without_it() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    // A proxy sees whole addresses, and here it gives the response itself.
    let (http_proxy, mint) = (Scripted::start().await, "POST http://control.invalid/v1/authorization-token");
    http_proxy.on(mint, minted(CANARY));
    let (address, nowhere) = (http_proxy.url(""), "http://control.invalid");
    let program = world.serve_with(&[], &[("HTTP_PROXY", &address), ("AWS_ENDPOINT_URL", nowhere)]);
    assert_eq!(program.proxy().get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    assert_eq!((http_proxy.requests().len(), http_proxy.requests_to(mint).len()), (1, 1), "only the SDK went there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_log_delays_no_request() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    let program = world.serve(&["--log", "trace"]).unread();
    let client = program.proxy();
    for _ in 0..600 {
        assert_eq!(client.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credentials_it_starts_logs_the_reason_and_serves_cached_files() {
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
    ready(client).await;
    assert_eq!(client.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    client.get("/simple/other/").send().await.expect_unavailable("unavailable-token");
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(0));
}

/// Whether a thread of this process waits for a lock of a file or a directory.
fn waits_for_a_lock(id: u32) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").expect("Linux tells");
    let of_process = |line: &str| line.split_whitespace().any(|word| word == id.to_string());
    locks.lines().any(|line| line.contains("-> FLOCK") && of_process(line))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_hangs_what_is_in_memory_is_served() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    // With one thread for everything that does not block, whatever blocks it blocks everybody.
    let program = world.serve_with(&[], &[("TOKIO_WORKER_THREADS", "1")]);
    let client = program.proxy();
    client.get("/simple/a-b/").send().await.expect(200);
    let first_seen = world.dir.path().join("cache/first-seen");
    let record = until("a record of first seen files", async || files_below(&first_seen).pop()).await;
    // Whoever records what is new on a page waits for this lock as for a disk that does not respond.
    let hanging = std::fs::File::open(record.parent().expect("its directory")).expect("it is there");
    flock(&hanging, FlockOperation::LockExclusive).expect("no page is taken in now");
    let cold: Vec<String> = (0..8).map(|number| format!("cold-{number}")).collect();
    for name in &cold {
        world.upstream.on(&format!("GET /pypi/r/simple/{name}/"), page(&[wheel.entry()]));
    }
    let asking = join_all(cold.iter().map(|name| client.get(&format!("/simple/{name}/")).send()));
    let meanwhile = async {
        until("a disk operation that hangs", async || waits_for_a_lock(program.id()).then_some(())).await;
        for _ in 0..100 {
            let hit = client.get("/simple/a-b/").send().await.expect(200);
            assert_eq!(hit.header("cache-status").map(|status| status.starts_with("wheelport; hit")), Some(true));
        }
        assert!(waits_for_a_lock(program.id()), "it hung all the time");
        drop(hanging);
    };
    let (cold, ()) = join(asking, meanwhile).await;
    assert!(cold.iter().all(|response| response.status == 200), "{cold:?}");
}

//! The commands of the built program: exit codes with their texts, the cache directory's own commands, demo, emulator.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::support::client::until;
use crate::support::process::{Program, World, ready};
use crate::support::proxy::{Proxy, files_below};
use crate::support::wheels::{Sample, list, publish};

#[test]
fn bad_arguments_and_configuration_are_exit_code_2_with_a_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a directory of ours");
        path.display().to_string()
    };
    let typo = file("typo.toml", "\n[cache]\nmax_siz = \"1GiB\"\n");
    let two = file(
        "two.toml",
        "[[route]]\nname = \"a\"\ndomain = \"acme\"\nrepository = \"r1\"\ndefault = true\n\
         [[route]]\nname = \"b\"\ndomain = \"acme\"\nrepository = \"r2\"\ndefault = true\n",
    );
    let endless = file("endless.toml", "[server]\nidle_timeout = \"584542046090y\"\n");
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
        (vec!["serve", "--config", &endless], "a century at most"),
        (vec!["serve", "--domain", "acme", "--repository", "r1", "--cache-max-size", "1MiB"], "64MiB"),
        (vec!["serve", "--log", "nonsense=="], "nonsense=="),
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
async fn a_start_that_fails_is_exit_code_1_with_a_remedy() {
    let world = World::new().await;
    let taken = world.upstream.address().to_string();
    let blocked = world.dir.path().join("a-file");
    fs::write(&blocked, "not a directory").expect("a directory of ours");
    let strange = world.dir.path().join("strange");
    fs::create_dir(&strange).expect("a directory of ours");
    fs::write(strange.join("format"), "wheelport cache 999\n").expect("a directory of ours");
    let foreign = world.dir.path().join("foreign");
    fs::create_dir_all(foreign.join("tmp/build")).expect("a directory of ours");
    fs::write(foreign.join("tmp/build/lock"), "precious").expect("a directory of ours");
    let of_another = foreign.display().to_string();
    let (blocked, strange) = (blocked.display().to_string(), strange.display().to_string());
    for (more, parts) in [
        (["--listen", taken.as_str()], ["cannot listen on", "--listen"]),
        (["--ops-listen", taken.as_str()], ["cannot listen on", taken.as_str()]),
        (["--cache-dir", blocked.as_str()], ["cannot be used", "--cache-dir"]),
        (["--cache-dir", strange.as_str()], ["a later version of Wheelport", "choose another one"]),
        (["--cache-dir", of_another.as_str()], ["not a cache directory of Wheelport", "choose another one"]),
    ] {
        let outcome = world.serve(&more).ended();
        assert_eq!(outcome.code, Some(1), "{more:?}: {outcome:?}");
        assert!(parts.iter().all(|part| outcome.err.contains(part)), "{more:?}: {outcome:?}");
    }
    assert_eq!(files_below(&foreign), [foreign.join("tmp/build/lock")], "nothing was removed or added");
    let cache = world.cache();
    let regionless =
        ["serve", "--domain", "acme", "--repository", "r1", "--listen", "127.0.0.1:0", "--cache-dir", &cache];
    let outcome = Program::run(&regionless, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.err.contains("AWS_REGION"), "{outcome:?}");
}

#[test]
fn no_answer_is_exit_code_2_for_every_command_that_asks() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a directory of ours");
        path.display().to_string()
    };
    let lock = file("requirements.txt", &format!("a==1.0 --hash=sha256:{}\n", "0".repeat(64)));
    let (rules, token) = (file("rules.toml", ""), file("token", "x"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).expect("a port");
    let (closed, nothing) = (closed.to_string(), dir.path().join("nothing").display().to_string());
    let server = format!("http://{closed}/");
    for arguments in [
        &["why", "main", "a"][..],
        &["usage", "a"],
        &["audit", "--route", "main", &lock],
        &["policy", "test", "--route", "main", &rules],
        &["exception", "list"],
        &["exception", "remove", "x"],
        &["exception", "add", "a", "--reason", "x", "--by", "y", "--expires", "2100-01-01"],
        &["cache", "accept", "a", "--route", "main", "--reason", "x"],
        &["cache", "warm", "--route", "main", &lock],
        &["cache", "verify", "--cache-dir", &nothing],
        &["token", &server, "--token-file", &token],
    ] {
        let outcome = Program::run(arguments, &[("WHEELPORT_OPS_LISTEN", &closed)]);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{arguments:?}: {outcome:?}");
        assert!(outcome.err.starts_with("wheelport: "), "{arguments:?}: {outcome:?}");
    }
    // A server that does not respond is not healthy, and container engines know no other answer than that.
    let unhealthy = Program::run(&["healthcheck", "--listen", &closed], &[]);
    assert_eq!(unhealthy.code, Some(1), "{unhealthy:?}");
}

/// Writes into the middle of a file without changing its length.
fn rot(path: &Path) {
    let mut bytes = fs::read(path).expect("a file that is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a directory of ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_can_be_inspected_repaired_and_cleared() {
    let (world, wheel, sdist) = (World::new().await, Sample::wheel(), Sample::sdist("1.0", 5000));
    publish(&world.upstream, &[&wheel, &sdist]);
    let (cache, root) = (world.cache(), world.dir.path().join("cache"));
    let missing = Program::run(&["cache", "stats", "--cache-dir", &cache], &[]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.err.contains("not a cache directory"), "{missing:?}");

    let program = world.serve(&[]);
    let client = program.proxy();
    client.get(&sdist.path()).send().await.expect(200);
    client.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
    let count = |part| files_below(&root.join(part)).len();
    let kept = async || ((count("blobs"), count("metadata")) == (2, 1)).then_some(());
    until("everything to be stored", kept).await;
    let run = |action: &str| Program::run(&["cache", action], &[("WHEELPORT_CACHE_DIR", &cache)]);
    let stats = run("stats");
    assert_eq!(stats.code, Some(0));
    let row = |kind: &str| {
        let line = stats.out.lines().find(|line| line.starts_with(kind)).expect(kind);
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok())
    };
    assert_eq!((row("blobs"), row("pages"), row("metadata"), row("all")), (Some(2), Some(1), Some(1), Some(5)));
    assert_eq!(row("first-seen"), Some(1));

    let rotten = files_below(&root.join("blobs"))
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|file| file.len() == 5000));
    rot(&rotten.expect("the source distribution"));
    let verified = run("verify");
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(verified.out.contains("damaged, removed: ") && verified.out.ends_with("4 good, 1 damaged\n"));
    assert_eq!(run("verify").code, Some(0), "what was damaged is gone");
    // The running proxy fetches it again.
    assert_eq!(client.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    assert_eq!(world.upstream.requests_to(&sdist.upstream()).len(), 2);

    until("everything to be stored again", kept).await;
    // Clearing it changes nothing for the running proxy, however often.
    for removed in ["4 files removed\n", "0 files removed\n"] {
        let cleared = run("clear");
        assert_eq!((cleared.code, cleared.out.as_str()), (Some(0), removed));
    }
    assert_eq!(client.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
    until("the file to be stored again", async || (count("blobs") == 1).then_some(())).await;
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(0));
    assert_eq!(run("clear").out, "1 file removed\n");
    assert_eq!(count("first-seen"), 1, "kept unless it is named");
    let all = Program::run(&["cache", "clear", "--first-seen", "--cache-dir", &cache], &[]);
    assert_eq!((all.out.as_str(), count("first-seen")), ("1 file removed\n", 0));
    assert_eq!(run("stats").code, Some(0));
    let program = world.serve(&[]);
    ready(program.proxy()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_accepted_from_the_command_line() {
    let (world, old) = (World::new().await, Sample::sdist("1.0", 5000));
    let new = Sample { bytes: Sample::sdist("1.0", 5001).bytes, ..old.clone() };
    let secret = world.dir.path().join("secret");
    fs::write(&secret, "hunter2\n").expect("a directory of ours");
    let secret = secret.display().to_string();
    let file = world.dir.path().join("wheelport.toml");
    fs::write(&file, format!("ops_secret_file = {secret:?}\n")).expect("a directory of ours");
    let program = world.serve(&["--changed-files", "refuse", "--config", &file.display().to_string()]);
    let (client, ops) = (program.proxy(), program.address("operations on http://"));
    ready(client).await;
    list(&world.upstream, &[&old]);
    client.get("/simple/a-b/").send().await.expect(200);
    // The held page is out of date: the file shows that.
    publish(&world.upstream, &[&new]);
    let refused = client.get(&new.path()).send().await.expect(403);
    assert!(refused.reason.ends_with("until an operator runs 'wheelport cache accept'."), "{refused:?}");
    program.logged("other bytes under the name of a file");

    let ops = ops.to_string();
    let accept = |more: &[&str], environment: &[(&str, &str)]| {
        let common = ["cache", "accept", "--route", "r1", "--reason", "rebuilt & checked, 100 %"];
        Program::run(&[&common, more].concat(), environment)
    };
    let (at, with_secret) = (("WHEELPORT_OPS_LISTEN", ops.as_str()), ("WHEELPORT_OPS_SECRET_FILE", secret.as_str()));
    let denied = accept(&["a-b"], &[at]);
    assert_eq!(denied.code, Some(2), "{denied:?}");
    assert!(denied.err.contains("the operators' secret"), "{denied:?}");
    let nothing = accept(&["a-b", "a_b-9.tar.gz"], &[at, with_secret]);
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    assert!(nothing.out.starts_with("not accepted: nothing has changed that could be accepted"), "{nothing:?}");
    client.get(&new.path()).send().await.expect(403);
    let accepted = accept(&["A.b", &new.name, "--by", "ops"], &[at, with_secret]);
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    assert!(accepted.out.starts_with(&format!("accepted: {}, sha256={}", new.name, new.sha256())), "{accepted:?}");
    assert_eq!(client.get(&new.path()).send().await.expect(200).body, new.bytes);
    program.signal(Signal::TERM);
    let ended = program.ended();
    assert!(ended.err.contains("changed file accepted") && ended.err.contains("rebuilt & checked, 100 %"), "{ended:?}");

    let gone = accept(&["a-b"], &[at, with_secret]);
    assert_eq!(gone.code, Some(2), "{gone:?}");
    assert!(gone.err.contains("is the server running"), "{gone:?}");
    for missing in [&["cache", "accept", "a-b"][..], &["cache", "accept", "--reason", "x", "--route", "r", "a-b"]] {
        assert_eq!(Program::run(missing, &[]).code, Some(2), "{missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_explained_tried_and_lifted_from_the_command_line() {
    let rules = "[[rule]]\nname = \"no\"\nreason = \"Not this one.\"";
    let (proxy, wheel) = (Proxy::builder().rules(rules, &[]).start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&wheel.path()).send().await.expect(403);
    proxy.kept_by("pages", 1).await;
    let ops = proxy.ops.0.to_string();
    let run = |arguments: &[&str]| Program::run(arguments, &[("WHEELPORT_OPS_LISTEN", &ops)]);
    for wanted in ["A.b==1.0", "a-b==1.0.0", "a-b"] {
        let why = run(&["why", "main", wanted]);
        assert_eq!(why.code, Some(1), "{why:?}");
        let line = format!("{}: refused (explain) by rule no, because \"Not this one.\" (", wheel.name);
        assert!(why.out.starts_with(&line), "{why:?}");
    }
    for (wanted, expected) in [
        (["why", "other", "a-b"], "no such route: other; there is main"),
        (["why", "main", "a c!"], "that is no name of a project"),
        (["why", "main", "a-b==2"], "the page of a-b lists no files of version 2"),
    ] {
        let nothing = run(&wanted);
        assert_eq!(nothing.code, Some(2), "{nothing:?}");
        assert!(nothing.err.contains(expected) && nothing.out.is_empty(), "{nothing:?}");
    }
    let clients = proxy.address.to_string();
    let lost = Program::run(&["why", "main", "a-b", "--ops-listen", &clients], &[]);
    assert!(lost.code == Some(2) && lost.err.contains("the server's address for operations?"), "{lost:?}");
    assert!(!lost.err.contains('{'), "no document is printed: {lost:?}");
    let file = proxy.dir.path().join("other.toml");
    fs::write(&file, "[[rule]]\nname = \"other\"\nkind = \"sdist\"").expect("a directory of ours");
    let tried = run(&["policy", "test", "--route", "main", &file.display().to_string()]);
    assert_eq!(tried.code, Some(0), "{tried:?}");
    assert!(tried.out.contains(": newly allowed, was refused (explain)\n"), "{tried:?}");
    let unknown = run(&["policy", "test", "--route", "other", &file.display().to_string()]);
    assert!(unknown.code == Some(2) && unknown.err.contains("there is main"), "{unknown:?}");
    assert!(tried.out.ends_with("1 projects looked at: 0 files newly refused, 1 newly allowed\n"), "{tried:?}");
    let add =
        ["exception", "add", "a-b", "--versions", "==1.0", "--reason", "a fix & more", "--by", "sec", "--expires"];
    let bare = run(&[
        "exception",
        "add",
        "a-b",
        "--versions",
        "2.0.0",
        "--reason",
        "x",
        "--by",
        "y",
        "--expires",
        "2100-01-01",
    ]);
    assert!(bare.code == Some(2) && bare.err.contains("write \"==2.0.0\""), "{bare:?}");
    let past = run(&[&add[..], &["2020-01-01"]].concat());
    assert!(past.code == Some(2) && past.err.contains("this is in the past"), "{past:?}");
    let granted = run(&[&add[..], &["2100-01-01"]].concat());
    assert!(granted.code == Some(0) && granted.out.starts_with("granted: "), "{granted:?}");
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    let listed = run(&["exception", "list"]).out;
    assert!(listed.ends_with(" a-b==1.0 until 2100-01-02T00:00:00Z: a fix & more (sec)\n"), "{listed}");
    let id = listed.split(' ').next().expect("an id");
    assert_eq!(run(&["exception", "remove", id]).code, Some(0));
    let again = run(&["exception", "remove", "no-such-id"]);
    assert!(again.code == Some(1) && again.out.starts_with("refused: "), "{again:?}");
    proxy.get(&wheel.path()).send().await.expect(403);
    assert_eq!(run(&["exception", "add", "a-b", "--reason", "x", "--by", "y"]).code, Some(2), "it needs an end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_needs_no_configuration_and_its_sample_can_be_installed() {
    // It talks to itself only, whatever proxies the environment names.
    let nowhere = "http://127.0.0.1:9";
    let proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"].map(|name| (name, nowhere));
    let program = Program::start(&["demo", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"], &proxies);
    let client = program.proxy();
    let text = program.printed("Ctrl-C ends it.");
    for line in ["pip install --index-url http://127.0.0.1:", "uv pip install --default-index", "wheelport-hello"] {
        assert!(text.contains(line), "{text}");
    }
    // What it says of operations works as it is printed.
    let line = text.lines().find_map(|line| line.trim().strip_prefix("why     wheelport ")).expect("a line to paste");
    let why = Program::run(&line.split(' ').collect::<Vec<_>>(), &[]);
    assert!(why.code == Some(1) && why.out.contains("refused (explain) by rule bad-release"), "{why:?}");
    let listed = client.get("/simple/").json().send().await.expect(200).value();
    assert_eq!(listed["projects"].as_array().map(Vec::len), Some(2), "{listed}");
    let page = client.get("/simple/wheelport-hello/").json().send().await.expect(200);
    let files = page.value()["files"].clone();
    for file in files.as_array().expect("files") {
        let path = format!("/simple/wheelport-hello/{}", file["url"].as_str().expect("a link"));
        if file["yanked"] != false {
            // The release that a rule of the demonstration blocks.
            let refused = client.get(&path).send().await.expect(403);
            assert!(
                path.contains("/2.0.0/") && refused.reason.starts_with("2.0.0 was released by mistake"),
                "{refused:?}"
            );
            continue;
        }
        let response = client.get(&path).send().await.expect(200);
        let digest = wheelport_index::Sha256::of(&response.body).to_string();
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
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--domain", "demo", "--repository", "python", "--cache-dir", &cache];
    let program = Program::start(&arguments, &environment);
    let client = program.proxy();
    ready(client).await;
    let names = client.get("/pypi/python/simple/wheelport-greeting/").json().send().await.expect(200).file_names();
    assert!(names.iter().any(|name| name == "wheelport_greeting-1.1.0-py3-none-any.whl"), "{names:?}");
    client.get("/simple/there-is-no-such-project/").send().await.expect(404);
    for program in [program, emulator] {
        program.signal(Signal::TERM);
        assert_eq!(program.ended().code, Some(0));
    }
}

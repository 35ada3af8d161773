//! What a lock file names is fetched before a client asks for it, once, and what cannot be is told by name.

use serde_json::{Value, json};

use super::support::process::{Program, World, ready};
use super::support::proxy::Proxy;
use super::support::wheels::{Sample, publish};

fn entry(sample: &Sample) -> Value {
    json!({ "project": "A.b", "file": sample.name, "hashes": [format!("sha256:{}", sample.sha256())] })
}

async fn warm(proxy: &Proxy, files: Value) -> Vec<Value> {
    let list = json!({ "files": files }).to_string();
    let response = proxy.ops.ask("POST", "/warm?route=main").body(list).send().await.expect(200);
    response.text().lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// The result of each file, by name, and the sums.
fn results(lines: &[Value]) -> (Vec<(&str, &str)>, &Value) {
    let (sums, files) = lines.split_last().expect("a last line");
    let mut files: Vec<_> = files
        .iter()
        .map(|line| (line["file"].as_str().expect("a name"), line["result"].as_str().expect("a word")))
        .collect();
    files.sort_unstable();
    (files, sums)
}

#[tokio::test]
async fn the_files_of_a_list_are_fetched_once_and_served_from_then_on() {
    let (proxy, wheel, sdist) = (Proxy::start().await, Sample::wheel(), Sample::sdist("2.0", 300_000));
    publish(&proxy.upstream, &[&wheel, &sdist]);
    let other = json!({ "project": "a-b", "file": wheel.name, "hashes": [format!("sha256:{}", "0".repeat(64))] });
    let missing = json!({ "project": "a-b", "file": "a_b-9.0.tar.gz" });
    let lines = warm(&proxy, json!([entry(&wheel), entry(&sdist), other, missing])).await;
    let (files, sums) = results(&lines);
    assert!(files.contains(&("a_b-9.0.tar.gz", "failed")) && files.contains(&(&wheel.name, "failed")), "{files:?}");
    assert!(files.contains(&(&wheel.name, "fetched")) && files.contains(&(&sdist.name, "fetched")), "{files:?}");
    assert_eq!(sums, &json!({ "done": true, "fetched": 2, "stored": 0, "failed": 2 }));
    for sample in [&wheel, &sdist] {
        assert_eq!(proxy.asked(&sample.upstream()), 1);
    }

    let by_digest = json!({ "project": "a-b", "hashes": [format!("sha256:{}", sdist.sha256()), "sha256:00"] });
    let lines = warm(&proxy, json!([entry(&wheel), by_digest])).await;
    assert_eq!(results(&lines).1, &json!({ "done": true, "fetched": 0, "stored": 2, "failed": 0 }));
    for sample in [&wheel, &sdist] {
        assert_eq!(proxy.get(&sample.path()).send().await.expect(200).body, sample.bytes);
        assert_eq!(proxy.asked(&sample.upstream()), 1);
    }
}

#[tokio::test]
async fn a_list_is_for_operators_and_has_a_form() {
    let proxy = Proxy::start().await;
    let list = json!({ "files": [] }).to_string();
    for (target, body, status) in [
        ("/warm?route=typo", list.as_str(), 404),
        ("/warm", list.as_str(), 400),
        ("/warm?route=main", "[]", 400),
        ("/warm?route=main", r#"{"files": [{"project": "-"}]}"#, 400),
        ("/warm?route=main", r#"{"files": [{"project": "a", "file": "../x"}]}"#, 400),
        ("/warm?route=main", list.as_str(), 200),
    ] {
        proxy.ops.ask("POST", target).body(body.to_owned()).send().await.expect(status);
        proxy.client().ask("POST", target).body(body.to_owned()).send().await.expect(404);
    }
    let request = proxy.ops.ask("POST", "/warm?route=main").header("sec-fetch-site", "cross-site");
    request.body(list).send().await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_reads_a_lock_and_says_what_it_could_not_fetch() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    let server = world.serve(&[]);
    ready(server.proxy()).await;
    let ops = server.address("operations on http://").to_string();
    let lock = world.dir.path().join("pdm.lock");
    let lock_of = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(name, hash)| format!("{{file = \"{name}\", hash = \"sha256:{hash}\"}},"));
        let files: String = files.collect();
        format!(
            "[metadata]\nlock_version = \"4.5.0\"\n[[package]]\nname = \"a-b\"\nversion = \"1.0\"\nfiles = [{files}]\n"
        )
    };
    let path = lock.display().to_string();
    let arguments = ["cache", "warm", path.as_str(), "--ops-listen", ops.as_str(), "--route", "r1"];
    std::fs::write(&lock, lock_of(&[(&wheel.name, &wheel.sha256())])).expect("a file");
    let done = Program::run(&arguments, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.out.contains(&format!("fetched: {}", wheel.name)) && done.out.contains("1 fetched, 0 already"),
        "{done:?}"
    );

    std::fs::write(&lock, lock_of(&[(&wheel.name, &wheel.sha256()), ("a_b-3.0.tar.gz", "00")])).expect("a file");
    let done = Program::run(&arguments, &[]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.out.contains("failed: a_b-3.0.tar.gz of a-b: the index does not list it"), "{done:?}");
    assert!(done.out.contains("0 fetched, 1 already there, 1 failed"), "{done:?}");

    std::fs::write(&lock, "nonsense").expect("a file");
    assert_eq!(Program::run(&arguments, &[]).code, Some(2));
}

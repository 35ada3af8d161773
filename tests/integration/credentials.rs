//! Where AWS credentials come from: the files and metadata services of a workload, which change and fail while it serves.
//!
//! The SDK reads the environment of its process. So these stories run in processes of their own: the built program, or
//! this test program again, with an environment made for it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpListener;
use wheelport_runtime::blocking;

use crate::support::client::until;
use crate::support::process::{Program, World, ready};
use crate::support::proxy::{CANARY, Proxy, control_plane};
use crate::support::scripted::{Reply, Seen};
use crate::support::wheels::{Sample, page, publish};

const STS: &str = "POST /";
const HOUR: Duration = Duration::from_hours(1);
/// Where the child finds the token of its service account.
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";

/// A session that is about to end, so that the next call to AWS needs another.
fn session(_: &Seen) -> Reply {
    Reply::ok(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>\
         <SecretAccessKey>role-secret</SecretAccessKey><SessionToken>session</SessionToken>\
         <Expiration>2020-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser>\
         <Arn>arn:aws:sts::111122223333:assumed-role/r/wheelport</Arn><AssumedRoleId>A:wheelport</AssumedRoleId>\
         </AssumedRoleUser></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
    )
    .header("content-type", "text/xml")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_service_account_is_read_for_every_session_and_trouble_with_it_costs_no_client_anything() {
    let (control, dir) = (control_plane().await, tempfile::tempdir().expect("a directory"));
    control.on(STS, Reply::with(session));
    let file = dir.path().join("token");
    std::fs::write(&file, "first").expect("the directory can be written");
    let mut child = Command::new(std::env::current_exe().expect("tests run from a file"));
    child
        .args(["--exact", "credentials::child_with_a_service_account", "--ignored", "--nocapture", "--test-threads=1"])
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ENDPOINT_URL", control.url(""))
        .env("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/r")
        .envs(std::env::var_os("WHEELPORT_SABOTAGE").map(|guard| ("WHEELPORT_SABOTAGE", guard)))
        .env(TOKEN_FILE, &file);
    let done = blocking(move || child.output()).await.expect("joined").expect("it starts");
    let printed = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && printed.contains("1 passed"),
        "{printed}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let shown = |seen: &Seen| {
        let form = url::form_urlencoded::parse(&seen.body).find(|(key, _)| key == "WebIdentityToken");
        form.map(|(_, token)| token.into_owned()).unwrap_or_default()
    };
    let mut shown: Vec<_> = control.requests_to(STS).iter().map(shown).collect();
    shown.dedup();
    assert_eq!(shown, ["first", "second", "third"], "what the file says when a session is needed");
}

#[tokio::test]
#[ignore = "run by the test above, with an environment of its own"]
async fn child_with_a_service_account() {
    #[expect(clippy::disallowed_methods, reason = "the environment that its parent has made")]
    let file = PathBuf::from(std::env::var(TOKEN_FILE).expect("its parent says so"));
    let proxy = Proxy::builder().set(|builder| builder.aws_chain = true).start().await;
    // A page that is not cached, so that upstream is asked with this token.
    let serves = async |name: &str, token: &str| {
        let request = format!("GET /pypi/r/simple/{name}/");
        proxy.upstream.on(&request, page(&[Sample::wheel().entry()]));
        proxy.get(&format!("/simple/{name}/")).send().await.expect(200);
        let seen = proxy.upstream.requests_to(&request);
        assert_eq!(seen.last().and_then(|seen| seen.header("authorization")), Some(&*basic(token)), "{name}");
    };
    let route = async || proxy.ops.get("/status").send().await.value()["routes"][0].clone();
    let renewed = async |count: usize| {
        let line = format!("wheelport_token_renewals_total{{route=\"main\"}} {count}\n");
        until(&line, async || proxy.metrics().await.contains(&line).then_some(())).await;
    };
    serves("before", "canary-1").await;

    std::fs::write(&file, "second").expect("the directory can be written");
    proxy.pass(3 * HOUR).await;
    renewed(2).await;
    serves("renewed", "canary-2").await;

    std::fs::remove_file(&file).expect("it is there");
    proxy.pass(3 * HOUR).await;
    until("a failure", async || (route().await["token_failures"].as_u64() > Some(0)).then_some(())).await;
    let error = route().await["token_error"].to_string();
    assert!(error.contains("web identity token") && error.contains("No such file"), "{error}");
    serves("without-the-file", "canary-2").await;

    // A directory cannot be read, whoever asks.
    std::fs::create_dir(&file).expect("nothing is there");
    let before = route().await["token_failures"].as_u64();
    proxy.pass(2 * Duration::from_mins(1)).await;
    until("another failure", async || (route().await["token_failures"].as_u64() > before).then_some(())).await;
    let error = route().await["token_error"].to_string();
    assert!(error.contains("web identity token"), "{error}");
    proxy.pass(HOUR).await;
    serves("unreadable", "canary-2").await;

    std::fs::remove_dir(&file).expect("it is empty");
    std::fs::write(&file, "third").expect("the directory can be written");
    proxy.pass(2 * Duration::from_mins(1)).await;
    renewed(3).await;
    serves("after", "canary-3").await;
    assert_eq!(route().await["token_failures"], 0);
}

/// How a request to upstream presents a token.
fn basic(token: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("aws:{token}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_metadata_service_it_starts_at_once_serves_what_is_cached_and_names_the_trouble() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    let program = world.serve(&[]);
    program.proxy().get(&wheel.path()).send().await.expect(200);
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(0));
    // It takes connections and says nothing, as it does to a container beyond its hop limit; or there is none.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("it is bound"));
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nowhere = address(&gone);
    drop(gone);
    for service in [address(&silent), nowhere] {
        // What has to ask it for the region says what to do, and does not wait for long.
        let environment = [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &service)];
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--domain", "acme", "--repository", "r1", "--cache-dir"];
        let outcome = Program::run(&[&arguments[..], &[&world.cache()]].concat(), &environment);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.err.contains("no AWS region is known; give --region"), "{outcome:?}");
        let environment = [
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_EC2_METADATA_DISABLED", "false"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.as_str()),
        ];
        let program = world.serve_with(&["--log", "info"], &environment);
        let client = program.proxy();
        ready(client).await;
        assert_eq!(client.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
        client.get("/simple/other/").send().await.expect_unavailable("unavailable-token");
        let line = program.logged("token mint failed");
        assert!(line.contains("hop limit"), "{line}");
        program.signal(Signal::TERM);
        let outcome = program.ended();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(!outcome.err.contains(CANARY), "{outcome:?}");
    }
}

//! An error is not an absence: whatever fails between here and the repository, no client gets "not found" or an empty
//! page.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use wheelport_runtime::HumanDuration;

use crate::support::client::{JSON, Response, until};
use crate::support::proxy::{Builder, ENDPOINT, MINT, PACKAGES, Proxy, control_plane, refusal};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::tls;
use crate::support::wheels::{PAGE, Sample, document, html, list, page, publish};

const HERE: &str = "/simple/a-b/";

/// Time limits short enough for tests that let them pass.
fn impatient() -> Builder {
    Proxy::builder().set(|builder| {
        builder.client.connect_timeout = HumanDuration::millis(500);
        builder.client.header_timeout = HumanDuration::millis(700);
        builder.client.response_timeout = HumanDuration::millis(2500);
        builder.client.stall_timeout = HumanDuration::millis(300);
        builder.client.import_patience = HumanDuration::millis(200);
    })
}

/// Everything an upstream can do instead of a proper response, whatever the request.
fn faults() -> Vec<(&'static str, Reply)> {
    let silent = Gate::closed();
    vec![
        ("500", Reply::status(500)),
        ("501", Reply::status(501)),
        ("502", Reply::status(502)),
        ("503", Reply::status(503)),
        ("503 with a long wish", Reply::status(503).header("retry-after", "3600")),
        ("503 with an absurd wish", Reply::status(503).header("retry-after", u64::MAX.to_string())),
        ("504", Reply::status(504)),
        ("429", Reply::status(429)),
        ("429 with a wish", Reply::status(429).header("retry-after", "60")),
        ("429 with an absurd wish", Reply::status(429).header("retry-after", u64::MAX.to_string())),
        ("401 to every token", Reply::status(401)),
        ("400", Reply::status(400)),
        ("418", Reply::status(418)),
        ("204", Reply::status(204)),
        ("304 for nothing", Reply::status(304)),
        ("206 for nothing", Reply::status(206).header("content-range", "bytes 0-0/1").body("x")),
        ("no response at all", Reply::raw("")),
        ("no HTTP", Reply::raw("SSH-2.0-nonsense\r\n\r\n")),
        ("half of the headers", Reply::raw("HTTP/1.1 200 OK\r\ncontent-le")),
        ("silence", Reply::ok("x").before_head(&silent)),
        ("a body that is cut at once", Reply::ok("x".repeat(5000)).header("content-type", JSON).cut_after(0)),
        ("a body that stalls", Reply::ok("x".repeat(5000)).header("content-type", JSON).stall_after(0)),
        ("an endless redirect", Reply::with(|seen| Reply::redirect(302, seen.target.clone()))),
        ("a redirect elsewhere", Reply::redirect(307, "https://index.invalid/a-b/")),
        ("a redirect to nowhere", Reply::status(302)),
        ("an unknown coding", Reply::ok("x").header("content-encoding", "br").header("content-type", JSON)),
    ]
}

/// What looks like success but is no page.
fn no_pages() -> Vec<(&'static str, Reply)> {
    let json = |text: &'static str| Reply::ok(text).header("content-type", JSON);
    vec![
        ("an empty body", json("")),
        ("half a page", json("{\"files\": [")),
        ("another document", json("{\"message\": \"hello\"}")),
        ("a list", json("[]")),
        ("a future version", document(&json!({"meta": {"api-version": "2.0"}, "name": "a-b", "files": []}))),
        ("a bomb", Reply::ok("[".repeat(100_000)).header("content-type", JSON)),
        ("a sign-in page", html("<html><head><title>Sign in</title></head><body><form>Password</form></body></html>")),
        ("another type", Reply::ok("{\"files\":[]}").header("content-type", "text/plain")),
        ("no type", Reply::ok("{\"files\":[]}")),
        ("damaged gzip", json("\u{1f}nonsense").header("content-encoding", "gzip")),
    ]
}

#[track_caller]
fn says_come_back(what: &str, response: &Response) {
    assert_eq!((response.status, response.complete), (503, true), "{what}: {response:?}");
    let wait: u64 = response.header("retry-after").and_then(|wait| wait.parse().ok()).expect(what);
    assert!((1..=60).contains(&wait), "{what}: {wait} s");
    assert!(!response.text().contains("canary") && !response.text().contains("127.0.0.1"), "{what}: {response:?}");
}

#[tokio::test]
async fn no_fault_of_a_page_is_an_absence_or_an_empty_page() {
    join_all(faults().into_iter().chain(no_pages()).map(async |(what, fault)| {
        let proxy = impatient().start().await;
        proxy.upstream.on(PAGE, fault);
        for target in [HERE, "/a-b/json"] {
            says_come_back(what, &proxy.get(target).json().send().await);
        }
        assert_eq!(proxy.kept("pages").len(), 0, "{what} was stored");
    }))
    .await;
}

#[tokio::test]
async fn no_fault_of_a_file_is_an_absence_or_a_clean_end() {
    join_all(faults().into_iter().map(async |(what, fault)| {
        let (proxy, wheel) = (impatient().start().await, Sample::wheel());
        list(&proxy.upstream, &[&wheel]);
        proxy.upstream.on(&wheel.upstream(), fault);
        let response = proxy.get(&wheel.path()).send().await;
        // Where upstream had begun its response, so had the proxy.
        if response.status == 200 {
            assert!(!response.complete, "{what}: {response:?}");
        } else {
            says_come_back(what, &response);
        }
        assert_eq!(proxy.kept("blobs").len(), 0, "{what} was stored");
    }))
    .await;
}

#[tokio::test]
async fn no_fault_of_a_wheel_is_an_absence_of_its_metadata() {
    join_all(faults().into_iter().map(async |(what, fault)| {
        let (proxy, wheel) = (impatient().start().await, Sample::wheel());
        list(&proxy.upstream, &[&wheel]);
        proxy.upstream.on(&wheel.upstream(), fault);
        let path = format!("{}.metadata", wheel.path());
        says_come_back(what, &proxy.get(&path).send().await);
        let listed = proxy.get(HERE).json().send().await.expect(200).value();
        assert_eq!(listed["files"][0]["core-metadata"], true, "{what}: nothing was learnt");
    }))
    .await;
}

#[tokio::test]
async fn a_cached_page_is_served_through_every_fault() {
    join_all(faults().into_iter().chain(no_pages()).map(async |(what, fault)| {
        let builder = impatient().windows(HumanDuration::secs(0), HumanDuration::secs(0), HumanDuration::secs(3600));
        let (proxy, wheel) = (builder.start().await, Sample::wheel());
        publish(&proxy.upstream, &[&wheel]);
        proxy.get(HERE).json().send().await.expect(200);
        proxy.upstream.on(PAGE, fault);
        for _ in 0..2 {
            let response = proxy.get(HERE).json().send().await.expect(200);
            assert_eq!(response.file_names(), [wheel.name.as_str()], "{what}");
            assert_eq!(response.header("cache-status"), Some("wheelport; fwd=stale"), "{what}");
        }
        // A file that was never fetched is found through the old page, too; a 429 slows down files as well.
        if what.starts_with("429") {
            return;
        }
        assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes, "{what}");
    }))
    .await;
}

#[tokio::test]
async fn while_the_page_is_unavailable_no_file_and_no_metadata_is_reported_missing() {
    let (proxy, wheel) = (impatient().start().await, Sample::wheel());
    let path = format!("{}.metadata", wheel.path());
    proxy.upstream.on(PAGE, Reply::raw("")).on(&wheel.upstream(), Reply::raw(""));
    for target in [&path, &wheel.path()] {
        proxy.get(target).send().await.expect_unavailable("unavailable-broken");
    }
    // Not even where upstream says that the file does not exist: it may be listed, and not imported yet.
    proxy.upstream.on(&wheel.upstream(), Reply::status(404));
    proxy.get(&wheel.path()).send().await.expect_unavailable("unavailable-broken");
    // A cached page of some age that does not list it yet proves nothing either.
    list(&proxy.upstream, &[]);
    proxy.get(HERE).send().await.expect(200);
    proxy.upstream.on(PAGE, Reply::raw(""));
    proxy.pass(Duration::from_secs(6)).await;
    proxy.get(&path).send().await.expect_unavailable("unavailable-broken");
    // A page fetched just now does.
    list(&proxy.upstream, &[]);
    proxy.get(&path).send().await.expect(404);
}

#[tokio::test]
async fn an_unreachable_upstream_is_503() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let closed_port = socket.local_addr().expect("an address");
    drop(socket);
    let proxy = impatient().endpoint(&format!("http://{closed_port}/pypi/r/")).start().await;
    let wheel = Sample::wheel();
    for target in [HERE, &wheel.path(), &format!("{}.metadata", wheel.path()), "/a-b/json"] {
        let response = proxy.get(target).send().await;
        response.expect_unavailable("unavailable-connect");
    }
    // After some failures the circuit breaker is open, and the response comes without a new attempt.
    let attempts = async || {
        let metrics = proxy.metrics().await;
        let line = metrics.lines().find(|line| line.starts_with("wheelport_upstream_attempts_total"));
        line.map(str::to_owned).expect("attempts are counted")
    };
    let left_alone = async || {
        let before = attempts().await;
        proxy.get(HERE).send().await.expect_unavailable("unavailable-connect");
        (attempts().await == before).then_some(())
    };
    until("it to be left alone", left_alone).await;
}

#[tokio::test]
async fn whatever_keeps_a_connection_from_working_it_is_503() {
    let (plain, behind_tls) = (Scripted::start().await, Scripted::start_tls(tls::GOOD).await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent_at = silent.local_addr().expect("an address");
    let cases = [
        ("a name that does not exist", "http://index.invalid/pypi/r/".to_owned()),
        // Reserved for documents: nothing is there.
        ("an address without a machine", "http://192.0.2.1/pypi/r/".to_owned()),
        ("a port that says nothing", format!("http://{silent_at}/pypi/r/")),
        ("TLS with a port that says nothing", format!("https://{silent_at}/pypi/r/")),
        ("TLS with a port that speaks plainly", format!("https://{}/pypi/r/", plain.address())),
        ("plain words to a port that speaks TLS", format!("http://{}/pypi/r/", behind_tls.address())),
        ("a certificate that nobody vouches for", behind_tls.url("/pypi/r/")),
    ];
    join_all(cases.map(async |(what, endpoint)| {
        let (proxy, wheel) = (impatient().endpoint(&endpoint).start().await, Sample::wheel());
        for target in [HERE, &wheel.path(), &format!("{}.metadata", wheel.path()), "/a-b/json"] {
            let response = proxy.get(target).send().await;
            says_come_back(what, &response);
            assert!(!response.text().contains("index.invalid"), "{what}: {response:?}");
        }
        assert_eq!(proxy.kept("pages").len(), 0, "{what}");
    }))
    .await;
    assert_eq!(plain.requests().len() + behind_tls.requests().len(), 0, "nothing was sent in the clear");
}

#[tokio::test]
async fn what_upstream_says_about_time_makes_no_page_older_or_younger() {
    for date in ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "soon"] {
        let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
        let dated = ["date", "expires", "last-modified"]
            .into_iter()
            .fold(page(&[wheel.entry()]), |reply, name| reply.header(name, date))
            .header("age", "86400")
            .header("cache-control", "no-store, max-age=0");
        proxy.upstream.on(PAGE, dated);
        proxy.get(HERE).send().await.expect(200);
        proxy.pass(Duration::from_secs(50)).await;
        let response = proxy.get(HERE).send().await.expect(200);
        assert_eq!((response.header("cache-status"), proxy.asked(PAGE)), (Some("wheelport; hit"), 1), "{date}");
        proxy.pass(Duration::from_secs(20)).await;
        proxy.get(HERE).send().await.expect(200);
        proxy.asked_by(PAGE, 2).await;
    }
}

#[tokio::test]
async fn interim_responses_are_not_the_response() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-length: 3\r\n\r\n";
    let listed = json!({"meta": {"api-version": "1.1"}, "name": "a-b", "files": [wheel.entry()]}).to_string();
    let head = |kind: &str, length: usize| {
        format!("{interim}HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n")
    };
    proxy.upstream.on(PAGE, Reply::raw(head(JSON, listed.len()) + &listed));
    let file = [head("application/zip", wheel.bytes.len()).as_bytes(), &wheel.bytes].concat();
    proxy.upstream.on(&wheel.upstream(), Reply::raw(file));
    assert_eq!(proxy.get(HERE).json().send().await.expect(200).file_names(), [wheel.name.as_str()]);
    let response = proxy.get(&wheel.path()).send().await.expect(200);
    assert_eq!((&response.body, response.header("link")), (&wheel.bytes, None));
}

#[tokio::test]
async fn without_a_token_cached_content_is_served_and_the_rest_is_503() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&wheel.path()).send().await.expect(200);
    proxy.control.on(MINT, refusal(403, "AccessDeniedException", "no such right"));
    let proxy = proxy.stop().await.start_blind().await;
    let before = proxy.upstream.requests().len();
    proxy.get(HERE).send().await.expect(200);
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
    let other = Sample::sdist("7.0", 10);
    for target in ["/simple/other/", &other.path()] {
        proxy.get(target).send().await.expect_unavailable("unavailable-token");
    }
    assert_eq!(proxy.upstream.requests().len(), before, "nothing is requested without a token");
}

#[tokio::test]
async fn without_an_address_of_the_repository_no_request_waits_for_one() {
    let control = control_plane().await;
    control.on(ENDPOINT, refusal(403, "AccessDeniedException", "no such right"));
    let builder = Proxy::builder().control(&control).set(|builder| builder.asks_for_endpoint = true);
    let proxy = builder.start().await;
    until("further attempts", async || (control.requests_to(ENDPOINT).len() > 2).then_some(())).await;
    let began = Instant::now();
    for target in [HERE, "/simple/other/", &Sample::wheel().path()] {
        proxy.get(target).send().await.expect_unavailable("unavailable-connect");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let address = json!({"repositoryEndpoint": proxy.upstream.url("/pypi/r/")}).to_string();
    control.on(ENDPOINT, Reply::ok(address).header("content-type", "application/json"));
    publish(&proxy.upstream, &[&Sample::wheel()]);
    until("the address", async || (proxy.get(HERE).send().await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_denied_file_is_403_and_counts_for_itself() {
    let (proxy, wheel, sdist) = (Proxy::start().await, Sample::wheel(), Sample::sdist("2.0", 100));
    publish(&proxy.upstream, &[&wheel, &sdist]);
    proxy.upstream.on(&wheel.upstream(), denial());
    for pause in [0, 40, 40] {
        proxy.pass(Duration::from_secs(pause)).await;
        let response = proxy.get(&wheel.path()).send().await.expect(403);
        assert_eq!(response.value()["code"], "denied");
        assert!(response.text().contains("codeartifact:ReadFromRepository") && !response.text().contains("canary"));
    }
    proxy.get(HERE).send().await.expect(200);
    assert_eq!(proxy.get(&sdist.path()).send().await.expect(200).body, sdist.bytes);
}

fn denial() -> Reply {
    refusal(403, "AccessDeniedException", "User: canary-arn is not authorized")
}

/// Pages that are due after a minute, and usable for a day.
fn due_soon() -> Builder {
    Proxy::builder().windows(HumanDuration::secs(60), HumanDuration::secs(0), HumanDuration::secs(86_400))
}

/// A proxy that has cached the page, the wheel and its metadata; the first two addresses are pages.
async fn warm(builder: Builder) -> (Proxy, Sample, [String; 4]) {
    let (proxy, wheel) = (builder.start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let addresses = [HERE.to_owned(), "/a-b/json".to_owned(), wheel.path(), format!("{}.metadata", wheel.path())];
    for address in &addresses {
        proxy.get(address).send().await.expect(200);
    }
    proxy.kept_by("blobs", 1).await;
    (proxy, wheel, addresses)
}

#[tokio::test]
async fn ten_seconds_of_403_are_an_outage() {
    let (proxy, _, addresses) = warm(due_soon()).await;
    proxy.pass(Duration::from_mins(2)).await;
    proxy.upstream.on(PAGE, denial()).on("GET /pypi/r/simple/other/", denial());
    for _ in 0..3 {
        for address in &addresses {
            proxy.get(address).send().await.expect(200);
        }
        proxy.get("/simple/other/").send().await.expect_unavailable("unavailable-denied");
        proxy.pass(Duration::from_secs(4)).await;
    }
    assert!(proxy.metrics().await.contains("wheelport_route_denied{route=\"main\"} 0"));
    // A success in between, and the next denial counts as a first one.
    list(&proxy.upstream, &[&Sample::wheel()]);
    proxy.pass(Duration::from_secs(20)).await;
    proxy.get(HERE).send().await.expect(200);
    let is_fresh = async || {
        let response = proxy.get(HERE).send().await.expect(200);
        (response.header("cache-status") == Some("wheelport; hit")).then_some(())
    };
    until("the success", is_fresh).await;
    proxy.upstream.on(PAGE, denial());
    proxy.pass(Duration::from_secs(70)).await;
    proxy.get(HERE).send().await.expect(200);
}

#[tokio::test]
async fn lasting_403_closes_the_whole_route_until_a_probe_succeeds() {
    let (proxy, wheel, addresses) = warm(due_soon()).await;
    proxy.control.on(PACKAGES, Reply::ok("{\"packages\":[]}").header("content-type", "application/json"));
    proxy.get("/simple/").send().await.expect(200);
    proxy.pass(Duration::from_mins(2)).await;
    proxy.upstream.on(PAGE, denial());
    proxy.get(HERE).send().await.expect(200);
    let renewed = async || (proxy.control.requests_to(MINT).len() == 2).then_some(());
    until("a new token", renewed).await;
    proxy.pass(Duration::from_secs(31)).await;
    // The denial that confirms the first one may be that of a refresh in the background.
    let closed = async || (proxy.get(HERE).send().await.status == 403).then_some(());
    until("the second denial", closed).await;
    let asked = proxy.asked(PAGE);
    for address in addresses.iter().map(String::as_str).chain(["/simple/", "/simple/other/"]) {
        let response = proxy.get(address).send().await.expect(403);
        assert_eq!(response.value()["code"], "denied", "{address}");
        assert!(response.text().contains("codeartifact:ReadFromRepository") && !response.text().contains("canary"));
    }
    assert_eq!(proxy.asked(PAGE), asked, "nothing was requested");
    assert!(proxy.metrics().await.contains("wheelport_route_denied{route=\"main\"} 1"));
    proxy.pass(Duration::from_secs(16)).await;
    for _ in 0..3 {
        proxy.get(HERE).send().await.expect(403);
    }
    assert_eq!(proxy.asked(PAGE), asked + 1, "one probe");
    list(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).send().await.expect(403);
    proxy.pass(Duration::from_secs(16)).await;
    for address in addresses.iter().map(String::as_str).chain(["/simple/"]) {
        proxy.get(address).send().await.expect(200);
    }
}

#[tokio::test]
async fn a_role_reads_the_cache_of_another_only_after_it_has_shown_that_it_may() {
    let builder = Proxy::builder().routes(&["one", "two"], None).set(|builder| builder.own_roles = true);
    let (proxy, wheel) = (builder.start().await, Sample::wheel());
    let two = |path: &str| proxy.get(&format!("/pypi/two{path}"));
    let names = |reply: Reply| reply.header("content-type", "application/json");
    proxy.control.on(PACKAGES, names(Reply::ok("{\"packages\":[{\"format\":\"pypi\",\"package\":\"a-b\"}]}")));
    proxy.get("/pypi/one/simple/").send().await.expect(200);
    proxy.control.on(PACKAGES, names(Reply::status(500).body("{}")));
    let metadata = format!("{}.metadata", wheel.path());
    publish(&proxy.upstream, &[&wheel]);
    for path in [HERE, &wheel.path(), &metadata] {
        proxy.get(&format!("/pypi/one{path}")).send().await.expect(200);
    }
    proxy.kept_by("blobs", 1).await;
    proxy.upstream.on(PAGE, denial()).on(&wheel.upstream(), denial());
    for path in [HERE, &wheel.path(), &metadata] {
        two(path).send().await.expect_unavailable("unavailable-denied");
        two("/simple/").send().await.expect_unavailable("unavailable-connect");
        proxy.get(&format!("/pypi/one{path}")).send().await.expect(200);
    }
    list(&proxy.upstream, &[&wheel]);
    let asked = proxy.asked(PAGE);
    two(HERE).send().await.expect(200);
    two(HERE).send().await.expect(200);
    two(&wheel.path()).send().await.expect(200);
    assert_eq!(proxy.asked(PAGE), asked + 1);
    // What it has shown survives a restart without AWS.
    proxy.upstream.on(PAGE, Reply::raw(""));
    let proxy = proxy.stop().await.start().await;
    for (route, path) in [("two", "/simple/"), ("one", &wheel.path()), ("two", &wheel.path())] {
        proxy.get(&format!("/pypi/{route}{path}")).send().await.expect(200);
    }
}

#[tokio::test]
async fn what_one_role_is_denied_keeps_no_page_of_another_role_stale() {
    let builder = due_soon().routes(&["one", "two"], None).set(|builder| builder.own_roles = true);
    let (proxy, wheel) = (builder.start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&format!("/pypi/one{HERE}")).send().await.expect(200);
    proxy.pass(Duration::from_mins(2)).await;
    proxy.upstream.on(PAGE, denial());
    proxy.get(&format!("/pypi/two{HERE}")).send().await.expect_unavailable("unavailable-denied");
    list(&proxy.upstream, &[&wheel, &Sample::sdist("2.0", 10)]);
    let page = proxy.get(&format!("/pypi/one{HERE}")).json().send().await.expect(200);
    assert_eq!(page.file_names().len(), 2);
}

#[tokio::test]
async fn a_single_role_serves_its_cache_after_a_restart_without_aws() {
    let (proxy, _, addresses) = warm(Proxy::builder()).await;
    proxy.control.on(MINT, Reply::raw(""));
    proxy.upstream.on(PAGE, Reply::raw(""));
    let proxy = proxy.stop().await.later(3600).start_blind().await;
    for address in &addresses {
        proxy.get(address).send().await.expect(200);
    }
}

const OTHER: &str = "GET /pypi/r/simple/other/";

/// 404 to the first token, and a proper response to every other.
fn dead_token(good: Reply) -> Reply {
    Reply::with(move |seen| match seen.header("authorization") {
        Some("Basic YXdzOmNhbmFyeS0x") => Reply::status(404),
        _ => good.clone(),
    })
}

#[tokio::test]
async fn a_token_that_dies_after_a_success_makes_nothing_absent() {
    let (proxy, wheel, addresses) = warm(due_soon()).await;
    proxy.pass(Duration::from_mins(2)).await;
    let other = json!({"meta": {"api-version": "1.1"}, "name": "other", "files": []});
    proxy.upstream.on(PAGE, dead_token(page(&[wheel.entry()]))).on(OTHER, dead_token(document(&other)));
    let asking = addresses.iter().map(String::as_str).chain(["/simple/other/"]).map(|path| proxy.get(path).send());
    for response in join_all(asking).await {
        response.expect(200);
    }
    assert_eq!(proxy.control.requests_to(MINT).len(), 2);
    assert_eq!(proxy.kept("pages").len(), 2);
}

#[tokio::test]
async fn a_dead_token_that_cannot_be_replaced_makes_nothing_absent() {
    let (proxy, _, addresses) = warm(due_soon()).await;
    proxy.pass(Duration::from_mins(2)).await;
    proxy.control.on(MINT, refusal(403, "AccessDeniedException", "gone"));
    proxy.upstream.on(PAGE, Reply::status(404)).on(OTHER, Reply::status(404));
    for pause in [0, 40, 700] {
        proxy.pass(Duration::from_secs(pause)).await;
        for address in &addresses {
            proxy.get(address).send().await.expect(200);
        }
        proxy.get("/simple/other/").send().await.expect_unavailable("unavailable-unproven");
    }
    assert_eq!(proxy.kept("pages").len(), 1);
}

#[tokio::test]
async fn two_minutes_of_404_to_everything_are_an_outage() {
    for age in [Duration::from_mins(2), Duration::from_mins(10)] {
        let (proxy, wheel, addresses) = warm(due_soon()).await;
        proxy.pass(age).await;
        let missing = || Reply::status(404);
        proxy.upstream.on(PAGE, missing()).on(OTHER, missing()).on(&wheel.upstream(), missing());
        for _ in 0..4 {
            for address in &addresses {
                proxy.get(address).send().await.expect(200);
            }
            proxy.get("/simple/other/").send().await.expect_unavailable("unavailable-unproven");
            proxy.pass(Duration::from_secs(40)).await;
        }
        assert_eq!((proxy.kept("pages").len(), proxy.control.requests_to(MINT).len()), (1, 2));
        assert!(proxy.metrics().await.contains("wheelport_route_missing_everything{route=\"main\"} 1"));
        publish(&proxy.upstream, &[&wheel]);
        proxy.get("/simple/other/").send().await.expect(404);
        assert!(proxy.metrics().await.contains("wheelport_route_missing_everything{route=\"main\"} 0"));
    }
}

#[tokio::test]
async fn a_repository_that_is_gone_for_ten_minutes_under_a_new_token_is_gone() {
    let (proxy, _, _) = warm(due_soon()).await;
    proxy.pass(Duration::from_mins(2)).await;
    proxy.upstream.on(PAGE, Reply::status(404)).on(OTHER, Reply::status(404));
    proxy.get("/simple/other/").send().await.expect_unavailable("unavailable-unproven");
    assert_eq!(proxy.control.requests_to(MINT).len(), 2);
    proxy.pass(Duration::from_secs(590)).await;
    proxy.get("/simple/other/").send().await.expect_unavailable("unavailable-unproven");
    proxy.pass(Duration::from_secs(15)).await;
    proxy.get("/simple/other/").send().await.expect(404);
}

#[tokio::test]
async fn one_canary_settles_many_404s() {
    let (proxy, _, _) = warm(due_soon()).await;
    let (asked, gate) = (proxy.asked(PAGE), Gate::closed());
    let names: Vec<_> = (0..20).map(|n| format!("none{n}")).collect();
    for name in &names {
        proxy.upstream.on(&format!("GET /pypi/r/simple/{name}/"), Reply::status(404).before_head(&gate));
    }
    let opening = async {
        gate.reached_by(20).await;
        gate.open();
    };
    let asking = names.iter().map(|name| proxy.get(&format!("/simple/{name}/")).send());
    let (responses, ()) = tokio::join!(join_all(asking), opening);
    for response in responses {
        response.expect(404);
    }
    let canaries = proxy.asked(PAGE) - asked;
    assert!((1..=3).contains(&canaries), "{canaries}");
}

#[tokio::test]
async fn routes_of_one_repository_ask_canaries_one_after_the_other() {
    for own_roles in [false, true] {
        let builder = Proxy::builder().routes(&["one", "two"], None).set(|builder| builder.own_roles = own_roles);
        let (proxy, wheel) = (builder.start().await, Sample::wheel());
        publish(&proxy.upstream, &[&wheel]);
        for route in ["one", "two"] {
            proxy.get(&format!("/pypi/{route}{HERE}")).send().await.expect(200);
        }
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (times, reply) = (Arc::clone(&asked), page(&[wheel.entry()]));
        let note = move |_: &_| {
            times.lock().push(Instant::now());
            reply.clone()
        };
        proxy.upstream.on(PAGE, Reply::with(note)).on(OTHER, Reply::status(404));
        proxy.get("/pypi/one/simple/other/").send().await.expect(404);
        proxy.pass(Duration::from_mins(2)).await;
        asked.lock().clear();
        for (route, name) in [("one", "x"), ("two", "y")] {
            proxy.upstream.on(&format!("GET /pypi/r/simple/{name}/"), Reply::status(404));
            proxy.get(&format!("/pypi/{route}/simple/{name}/")).send().await.expect(404);
        }
        let asked = asked.lock().clone();
        assert_eq!(asked.len(), 2);
        assert!(asked[1] - asked[0] >= Duration::from_millis(900), "{:?}", asked[1] - asked[0]);
    }
}

#[tokio::test]
async fn what_one_route_finds_out_of_a_repository_another_with_the_same_role_knows() {
    let (proxy, _, _) = warm(due_soon().routes(&["main", "two"], Some(0))).await;
    proxy.pass(Duration::from_mins(2)).await;
    proxy.upstream.on(PAGE, Reply::status(404)).on(OTHER, Reply::status(404));
    proxy.get("/simple/other/").send().await.expect_unavailable("unavailable-unproven");
    let metrics = proxy.metrics().await;
    for route in ["main", "two"] {
        assert!(metrics.contains(&format!("wheelport_route_missing_everything{{route=\"{route}\"}} 1")), "{metrics}");
    }
}

#[tokio::test]
async fn three_canaries_are_asked_before_everything_counts_as_missing() {
    let (proxy, _, _) = warm(due_soon()).await;
    let names = ["c0", "c1", "c2", "c3"].map(|name| format!("GET /pypi/r/simple/{name}/"));
    for name in &names {
        proxy.upstream.on(name, page(&[]));
        proxy.get(name.trim_start_matches("GET /pypi/r")).send().await.expect(200);
        proxy.upstream.on(name, Reply::status(404));
    }
    proxy.upstream.on(PAGE, Reply::status(404)).on(OTHER, Reply::status(404));
    let asked = || proxy.asked(PAGE) + names.iter().map(|name| proxy.asked(name)).sum::<usize>();
    let before = asked();
    // They are a second apart.
    let passing = async {
        for count in 1..4 {
            until("a canary", async || (asked() - before == count).then_some(())).await;
            proxy.pass(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let response = tokio::select! {
        response = proxy.get("/simple/other/").send() => response,
        () = passing => unreachable!("it never ends"),
    };
    response.expect_unavailable("unavailable-unproven");
    assert_eq!((asked() - before, proxy.asked(OTHER)), (4, 2), "three, and one more under a new token");
}

#[tokio::test]
async fn an_empty_cache_believes_a_new_token_and_replaces_an_old_one_first() {
    let proxy = Proxy::start().await;
    proxy.upstream.on(PAGE, Reply::status(404)).on(OTHER, Reply::status(404));
    proxy.get(HERE).send().await.expect(404);
    assert_eq!((proxy.asked(PAGE), proxy.control.requests_to(MINT).len()), (1, 1));
    proxy.pass(Duration::from_mins(6)).await;
    for target in [HERE, "/simple/other/"] {
        proxy.get(target).send().await.expect(404);
    }
    assert_eq!((proxy.asked(PAGE), proxy.asked(OTHER), proxy.control.requests_to(MINT).len()), (3, 1, 2));
}

#[tokio::test]
async fn a_missing_file_needs_proof_as_a_page_does() {
    let (proxy, wheel, _) = warm(due_soon()).await;
    let unlisted = Sample::sdist("9.0", 10);
    proxy.upstream.on(&unlisted.upstream(), Reply::status(404));
    proxy.pass(Duration::from_mins(10)).await;
    proxy.upstream.on_each(PAGE, [page(&[wheel.entry()]), Reply::status(404)]);
    proxy.get(&unlisted.path()).send().await.expect_unavailable("unavailable-unproven");
    list(&proxy.upstream, &[&wheel]);
    proxy.get(&unlisted.path()).send().await.expect(404);
}

#[tokio::test]
async fn a_stored_file_that_is_no_longer_listed_is_served_until_it_is_proven_gone() {
    let (proxy, wheel, _) = warm(due_soon()).await;
    list(&proxy.upstream, &[]);
    proxy.pass(Duration::from_mins(2)).await;
    let is_gone = async || proxy.get(HERE).json().send().await.file_names().is_empty().then_some(());
    until("the new page", is_gone).await;
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes, "upstream still has it");
    proxy.upstream.on(&wheel.upstream(), Reply::raw(""));
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes, "upstream is away");
    proxy.upstream.on(&wheel.upstream(), Reply::status(404)).on(PAGE, Reply::status(404));
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes, "everything is missing");
    let proxy = proxy.stop().await.start().await;
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes, "also after a restart");
    list(&proxy.upstream, &[]);
    proxy.get(&wheel.path()).send().await.expect(404);
    // What was proven gone does not come back, although it is still stored.
    proxy.upstream.on(&wheel.upstream(), Reply::raw("")).on(PAGE, Reply::raw(""));
    proxy.get(&wheel.path()).send().await.expect_unavailable("unavailable-broken");
    let proxy = proxy.stop().await.start().await;
    proxy.get(&wheel.path()).send().await.expect_unavailable("unavailable-broken");
    assert_eq!(proxy.kept("blobs").len(), 1);
}

#[tokio::test]
async fn after_a_restart_canaries_come_from_what_is_stored() {
    let (proxy, _, addresses) = warm(Proxy::builder()).await;
    proxy.upstream.on(PAGE, Reply::status(404)).on(OTHER, Reply::status(404));
    let proxy = proxy.stop().await.later(600).start().await;
    proxy.get("/simple/other/").send().await.expect_unavailable("unavailable-unproven");
    for address in &addresses {
        proxy.get(address).send().await.expect(200);
    }
}

#[tokio::test]
async fn a_known_outage_costs_no_page_a_wait() {
    let silence = Gate::closed();
    for (what, mint, reply) in [
        ("AWS is away and says nothing", Reply::raw("").before_head(&silence), Reply::raw("").before_head(&silence)),
        ("AWS is away and every connection breaks", Reply::raw(""), Reply::raw("")),
    ] {
        let proxy = Proxy::start().await;
        let names: Vec<_> = (0..20).map(|n| format!("p{n}")).collect();
        for name in &names {
            let listed = json!({"meta": {"api-version": "1.1"}, "name": name, "files": []});
            proxy.upstream.on(&format!("GET /pypi/r/simple/{name}/"), document(&listed));
            proxy.get(&format!("/simple/{name}/")).send().await.expect(200);
        }
        proxy.control.on(MINT, mint);
        for name in &names {
            proxy.upstream.on(&format!("GET /pypi/r/simple/{name}/"), reply.clone());
        }
        let proxy = proxy.stop().await.later(3600).start_blind().await;
        let mut waited = 0;
        for name in &names {
            let began = Instant::now();
            let response = proxy.get(&format!("/simple/{name}/")).send().await.expect(200);
            assert_eq!(response.header("cache-status"), Some("wheelport; fwd=stale"), "{what}");
            waited += usize::from(began.elapsed() >= Duration::from_millis(900));
        }
        assert!(waited <= 1, "{what}: {waited} of {} pages waited", names.len());
    }
}

#[tokio::test]
async fn a_page_that_was_not_asked_for_in_minutes_shows_a_new_release_at_once() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).send().await.expect(200);
    proxy.pass(Duration::from_secs(121)).await;
    let newer = Sample::wheel_of("2.0", 0);
    list(&proxy.upstream, &[&wheel, &newer]);
    let names = proxy.get(HERE).json().send().await.expect(200).file_names();
    assert_eq!(names, [wheel.name.as_str(), newer.name.as_str()]);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_requests_and_no_client_notices() {
    let control = control_plane().await;
    let (proxy, gate) = (Proxy::builder().control(&control).start().await, Gate::closed());
    let reply_to_token = |gate: Gate, good: Reply| {
        // `Basic base64("aws:canary-1")`
        Reply::with(move |seen| match seen.header("authorization") {
            Some("Basic YXdzOmNhbmFyeS0x") => Reply::status(401).before_head(&gate),
            _ => good.clone(),
        })
    };
    let names: Vec<_> = (0..20).map(|n| format!("p{n}")).collect();
    for name in &names {
        let request = format!("GET /pypi/r/simple/{name}/");
        proxy.upstream.on(&request, reply_to_token(gate.clone(), page(&[])));
    }
    let opening = async {
        gate.reached_by(20).await;
        gate.open();
    };
    let asking = names.iter().map(|name| proxy.get(&format!("/simple/{name}/")).send());
    let (responses, ()) = tokio::join!(join_all(asking), opening);
    for response in responses {
        response.expect(200);
    }
    assert_eq!(control.requests_to(MINT).len(), 2, "one at the start, one forced");
    for name in &names {
        assert_eq!(proxy.asked(&format!("GET /pypi/r/simple/{name}/")), 2);
    }
}

#[tokio::test]
async fn a_404_to_an_unproven_token_is_retried_with_a_new_one() {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy.pass(Duration::from_mins(6)).await;
    proxy.upstream.on(
        PAGE,
        Reply::with(|seen| match seen.header("authorization") {
            Some("Basic YXdzOmNhbmFyeS0x") => Reply::status(404),
            _ => page(&[Sample::wheel().entry()]),
        }),
    );
    assert_eq!(proxy.get(HERE).json().send().await.expect(200).file_names().len(), 1);
    assert_eq!(proxy.control.requests_to(MINT).len(), 2);
}

#[tokio::test]
async fn an_unproven_token_that_cannot_be_renewed_makes_404_a_503() {
    let proxy = impatient().start().await;
    proxy.upstream.on(PAGE, Reply::status(404));
    proxy.pass(Duration::from_mins(6)).await;
    proxy.control.on(MINT, refusal(403, "AccessDeniedException", "gone"));
    proxy.get(HERE).send().await.expect_unavailable("unavailable-token");
}

#[tokio::test]
async fn a_missing_project_is_remembered_for_a_moment_and_a_failure_not_at_all() {
    let proxy = Proxy::start().await;
    proxy.upstream.on(PAGE, Reply::status(404));
    for _ in 0..3 {
        proxy.get(HERE).send().await.expect(404);
    }
    assert_eq!(proxy.asked(PAGE), 1);
    list(&proxy.upstream, &[&Sample::wheel()]);
    proxy.pass(Duration::from_secs(11)).await;
    proxy.get(HERE).send().await.expect(200);

    let failing = "GET /pypi/r/simple/failing/";
    proxy.upstream.on(failing, Reply::raw(""));
    proxy.get("/simple/failing/").send().await.expect_unavailable("unavailable-broken");
    proxy.upstream.on(failing, page(&[]));
    proxy.get("/simple/failing/").send().await.expect(200);
}

#[tokio::test]
async fn a_known_project_survives_a_brief_404_but_not_a_lasting_one() {
    let builder = Proxy::builder().windows(HumanDuration::secs(1), HumanDuration::secs(0), HumanDuration::secs(3600));
    let (proxy, wheel) = (builder.start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let other = json!({"meta": {"api-version": "1.1"}, "name": "other", "files": []});
    proxy.upstream.on(OTHER, document(&other));
    for target in [HERE, "/simple/other/"] {
        proxy.get(target).send().await.expect(200);
    }
    proxy.upstream.on(PAGE, Reply::status(404));
    proxy.pass(Duration::from_secs(2)).await;
    for _ in 0..3 {
        assert_eq!(proxy.get(HERE).json().send().await.expect(200).file_names(), [wheel.name.as_str()]);
    }
    assert_eq!(proxy.asked(PAGE), 2, "nor is upstream asked every time");
    // The 404 was brief: the project is back, and the next 404 counts as a first one.
    list(&proxy.upstream, &[&wheel]);
    proxy.pass(Duration::from_secs(31)).await;
    proxy.get(HERE).send().await.expect(200);
    proxy.upstream.on(PAGE, Reply::status(404));
    proxy.pass(Duration::from_secs(2)).await;
    proxy.get(HERE).send().await.expect(200);
    // One that comes earlier is not: to the fetch on behalf of a file that the page does not list.
    proxy.pass(Duration::from_secs(4)).await;
    let asked = proxy.asked(PAGE);
    proxy.get(&Sample::sdist("9.0", 10).path()).send().await.expect_unavailable("unavailable-upstream");
    assert_eq!(proxy.asked(PAGE), asked + 1);
    proxy.get(HERE).send().await.expect(200);
    // A second 404 half a minute later is believed.
    proxy.pass(Duration::from_secs(31)).await;
    let response = proxy.get(HERE).send().await.expect(404);
    assert_eq!(response.value()["code"], "no-such-project");
    assert_eq!(proxy.kept("pages").len(), 1);
}

#[tokio::test]
async fn a_slow_upstream_does_not_hold_up_a_stale_page() {
    let builder = Proxy::builder().windows(HumanDuration::secs(0), HumanDuration::secs(0), HumanDuration::secs(3600));
    let (proxy, wheel, gate) = (builder.start().await, Sample::wheel(), Gate::closed());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(HERE).send().await.expect(200);
    proxy.upstream.on(PAGE, page(&[]).before_head(&gate));
    let began = Instant::now();
    let response = proxy.get(HERE).json().send().await.expect(200);
    let took = began.elapsed();
    assert_eq!(response.header("cache-status"), Some("wheelport; fwd=stale"));
    assert_eq!(response.file_names().len(), 1);
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
    // The upstream request goes on, and its response counts when it comes.
    gate.open();
    let renewed = async || proxy.get(HERE).json().send().await.file_names().is_empty().then_some(());
    until("the new page", renewed).await;
}

#[tokio::test]
async fn the_retry_after_of_upstream_is_passed_on_within_bounds() {
    for (asked, waits) in [("3", 2..=3), ("7", 5..=5), ("3600", 5..=5)] {
        let proxy = impatient().start().await;
        proxy.upstream.on(PAGE, Reply::status(429).header("retry-after", asked));
        let response = proxy.get(HERE).send().await;
        response.expect_unavailable("unavailable-throttled");
        let wait: u64 = response.header("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
        assert!(waits.contains(&wait), "{wait} s where upstream asks for {asked}");
    }
}

#[tokio::test]
async fn every_kind_of_retry_is_bounded() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    for status in [500, 502, 503, 504] {
        proxy.upstream.on(PAGE, Reply::status(status));
        let before = proxy.asked(PAGE);
        proxy.get(HERE).send().await.expect_unavailable("unavailable-upstream");
        assert_eq!(proxy.asked(PAGE) - before, 3, "{status}");
    }
    list(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), Reply::status(503));
    proxy.get(&wheel.path()).send().await.expect_unavailable("unavailable-upstream");
    assert_eq!(proxy.asked(&wheel.upstream()), 3);
}

#[tokio::test]
async fn what_clients_send_never_reaches_upstream() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    for target in [HERE.to_owned(), wheel.path()] {
        let asking = proxy
            .get(&format!("{target}?secret=query"))
            .header("authorization", "Basic Y2xpZW50OnNlY3JldA==")
            .header("cookie", "session=secret")
            .header("x-forwarded-for", "203.0.113.7")
            .header("user-agent", "a client's own");
        asking.send().await.expect(200);
    }
    for seen in proxy.upstream.requests() {
        assert_eq!(seen.header("authorization"), Some("Basic YXdzOmNhbmFyeS0x"));
        assert!(!seen.target.contains("secret"), "{seen:?}");
        assert!(seen.headers.iter().all(|(_, value)| !value.contains("secret") && !value.contains("client's")));
        assert_eq!((seen.header("cookie"), seen.header("x-forwarded-for")), (None, None));
    }
}

#[tokio::test]
async fn waits_do_not_add_up_beyond_the_patience_of_a_client() {
    let (path, wheel) = (Sample::wheel().path(), Sample::wheel());
    for target in [path.clone(), format!("{path}.metadata")] {
        let (index, file) = (Gate::closed(), Gate::closed());
        let proxy = Proxy::start().await;
        proxy.upstream.on(PAGE, page(&[wheel.entry()]).before_head(&index));
        proxy.upstream.on(&wheel.upstream(), Reply::ok(wheel.bytes.clone()).before_head(&file));
        let passing = async {
            index.reached().await;
            proxy.pass(Duration::from_secs(9)).await;
            index.open();
            file.reached().await;
            // The file could take another 10 s.
            proxy.pass(Duration::from_secs(3)).await;
        };
        let began = Instant::now();
        let (response, ()) = tokio::join!(proxy.get(&target).send(), passing);
        response.expect_unavailable("unavailable-timeout");
        assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
        // The work goes on, and the client's next try has it.
        file.open();
        proxy.get(&target).send().await.expect(200);
        assert_eq!((proxy.asked(PAGE), proxy.asked(&wheel.upstream())), (1, 1));
    }
}

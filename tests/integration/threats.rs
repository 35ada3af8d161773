//! What hostile clients and a hostile upstream send to leave a mark somewhere: in addresses, headers, logs, caches.

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::{Program, World, ready};
use crate::support::proxy::{Proxy, refusal};
use crate::support::scripted::{Reply, Scripted};
use crate::support::wheels::{PAGE, Sample, page, publish};

const HERE: &str = "/simple/a-b/";

async fn proxy() -> Proxy {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy
}

#[tokio::test]
async fn a_redirect_never_leaves_this_server() {
    let proxy = Proxy::start().await;
    for target in [
        "//attacker.example/simple/A.B/",
        "///attacker.example/simple/A.B",
        "//attacker.example/%2e%2e/simple/A.B/",
        "/\\attacker.example/simple/A.B/",
        "/%5cattacker.example/simple/A.B/",
        "/%2f%2fattacker.example/simple/A.B/",
        "/simple/A.B//attacker.example/",
        "/simple//attacker.example",
        "/simple/https:attacker.example",
        "/simple/A.B/?next=//attacker.example/",
        "/simple/A.B/#//attacker.example/",
        "//simple/A.B/",
        "/pypi//main//simple//A.B",
    ] {
        let response = proxy.get(target).send().await;
        if let Some(location) = response.header("location") {
            let is_local =
                location.trim_start_matches("../").bytes().all(|b| b.is_ascii_alphanumeric() || b"-/".contains(&b));
            assert!(is_local && !location.starts_with('/'), "{target} to {location}");
            assert!(!location.contains("attacker") || target == "/simple//attacker.example", "{target} to {location}");
        } else {
            assert!((400..500).contains(&response.status), "{target}: {response:?}");
        }
    }
    assert_eq!(proxy.upstream.requests().len(), 0);
}

#[tokio::test]
async fn no_line_break_gets_into_a_header() {
    let proxy = proxy().await;
    for target in [
        "/simple/A%0d%0aSet-Cookie:injected=1/",
        "/simple/A.B%0d%0a%0d%0a<script>/",
        "/simple/a-b/1.0%0aSet-Cookie:injected=1/x.whl",
        "/simple/a-b/1.0/x%0d%0aSet-Cookie:injected=1.whl",
        "/simple/a-b/1.0/x%c4%8d%c4%8aSet-Cookie:injected=1.tar.gz",
        "/pypi/main%0d%0aSet-Cookie:injected=1/simple/a-b/",
        "/simple/A.B?x=%0d%0aSet-Cookie:injected=1",
        "/%0d%0aSet-Cookie:injected=1/json",
    ] {
        let response = proxy.get(target).send().await;
        assert!(response.headers.iter().all(|(name, _)| name != "set-cookie"), "{target}: {response:?}");
        assert!(!response.reason.contains('\r') && response.status != 200, "{target}: {response:?}");
    }
    for raw in ["X: a\rSet-Cookie: injected=1\r\n", "X: a\nSet-Cookie: injected=1\r\n", "Host: a\rb\r\n"] {
        let request = format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{raw}\r\n");
        let response = proxy.client().raw(request.as_bytes()).await;
        assert!(!response.to_ascii_lowercase().contains("set-cookie"), "{raw:?}: {response}");
    }
}

#[tokio::test]
async fn what_a_client_says_about_hosts_and_schemes_changes_no_body() {
    let proxy = proxy().await;
    for target in [HERE, "/", "/a-b/json", "/simple/a-b/1.0/a_b-1.0-py3-none-any.whl.metadata"] {
        let plain = proxy.get(target).send().await.expect(200);
        for (name, value) in [
            ("x-forwarded-host", "attacker.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-scheme", "https"),
            ("x-forwarded-port", "444"),
            ("x-forwarded-prefix", "/attacker"),
            ("x-forwarded-for", "203.0.113.7"),
            ("forwarded", "for=203.0.113.7;host=attacker.example;proto=https"),
            ("x-original-url", "/simple/hidden/"),
            ("x-rewrite-url", "/simple/hidden/"),
            ("x-http-method-override", "DELETE"),
            ("x-host", "attacker.example"),
            ("origin", "https://attacker.example"),
            ("referer", "https://attacker.example/"),
            ("front-end-https", "on"),
        ] {
            let response = proxy.get(target).header(name, value).send().await.expect(200);
            assert_eq!(response.body, plain.body, "{target}, {name}: {value}");
        }
    }
    assert_eq!((proxy.asked(PAGE), proxy.asked("GET /pypi/r/simple/hidden/")), (1, 0));
}

#[tokio::test]
async fn a_thousand_ranges_are_one_response() {
    let proxy = proxy().await;
    let wheel = Sample::wheel();
    let separate: Vec<_> = (0..1000).map(|at| format!("{0}-{0}", at * 2)).collect();
    for ranges in [separate.join(","), vec!["0-"; 2000].join(","), vec!["-1"; 2000].join(", ")] {
        let response = proxy.get(&wheel.path()).header("range", &format!("bytes={ranges}")).send().await.expect(200);
        assert_eq!(response.body, wheel.bytes);
        assert_eq!(response.header("content-type"), Some("application/octet-stream"));
    }
}

#[tokio::test]
async fn no_client_can_make_upstream_be_asked_again() {
    let proxy = proxy().await;
    proxy.get(HERE).send().await.expect(200);
    let storm =
        ["no-cache", "no-store", "max-age=0", "must-revalidate", "no-cache, max-age=0"].into_iter().cycle().take(100);
    join_all(storm.map(|directive| async {
        let asking = proxy.get(HERE).header("cache-control", directive).header("pragma", "no-cache");
        let asking = asking.header("if-modified-since", "Thu, 01 Jan 2099 00:00:00 GMT").header("expires", "0");
        asking.send().await.expect(200);
    }))
    .await;
    assert_eq!(proxy.asked(PAGE), 1);
}

#[tokio::test]
async fn hop_by_hop_names_of_a_client_take_nothing_away() {
    let proxy = proxy().await;
    let named = "close, host, authorization, accept, content-length, x-content-type-options, user-agent";
    let response = proxy.get(HERE).header("connection", named).header("te", "trailers").send().await.expect(200);
    assert!(response.header("x-content-type-options").is_some(), "{response:?}");
    let seen = proxy.upstream.requests_to(PAGE).remove(0);
    assert!(seen.header("authorization").is_some() && seen.header("host").is_some(), "{seen:?}");
    assert_eq!((seen.header("te"), seen.header("connection")), (None, None), "{seen:?}");
}

#[tokio::test]
async fn no_header_of_upstream_reaches_a_client() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    let names = [
        "set-cookie",
        "www-authenticate",
        "proxy-authenticate",
        "server",
        "via",
        "location",
        "link",
        "refresh",
        "x-amzn-requestid",
        "x-amz-id-2",
        "access-control-allow-origin",
        "strict-transport-security",
        "age",
        "expires",
        "content-language",
        "content-disposition",
        "content-security-policy",
        "warning",
        "alt-svc",
        "clear-site-data",
    ];
    let leaky = |reply: Reply| names.iter().fold(reply, |reply, name| reply.header(name, "leaked"));
    proxy.upstream.on(PAGE, leaky(page(&[wheel.entry()])));
    proxy.upstream.on(&wheel.upstream(), leaky(Reply::ok(wheel.bytes.clone())));
    for status in [400, 403, 404, 409, 500] {
        proxy.upstream.on(&format!("GET /pypi/r/simple/s{status}/"), leaky(Reply::status(status)));
    }
    let metadata = format!("{}.metadata", wheel.path());
    let others = [400, 403, 404, 409, 500].map(|status| format!("/simple/s{status}/"));
    for target in [HERE, &wheel.path(), &metadata].into_iter().chain(others.iter().map(String::as_str)) {
        for _ in 0..2 {
            let response = proxy.get(target).send().await;
            assert!(response.headers.iter().all(|(_, value)| value != "leaked"), "{target}: {response:?}");
        }
    }
}

#[tokio::test]
async fn no_error_names_anything_of_the_inside() {
    let proxy = proxy().await;
    let message = "User: arn:aws:sts::111122223333:assumed-role/reader/x is not authorized at https://inner.example/";
    let cases = [
        ("denied", refusal(403, "AccessDeniedException", message)),
        ("broken", refusal(500, "InternalServerException", message)),
        ("strange", refusal(418, "ValidationException", message)),
        ("missing", refusal(404, "ResourceNotFoundException", message)),
        ("moved", Reply::redirect(302, "https://inner.example/111122223333/")),
        ("cut", Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n111122223333")),
    ];
    let mut responses = Vec::new();
    for (name, reply) in cases {
        proxy.upstream.on(&format!("GET /pypi/r/simple/{name}/"), reply);
        for path in
            [format!("/simple/{name}/"), format!("/simple/{name}/1.0/{name}-1.0.tar.gz"), format!("/{name}/json")]
        {
            responses.push(proxy.get(&path).send().await);
        }
    }
    let wheel = Sample::wheel().path();
    responses.push(proxy.get(HERE).header("accept", "image/png").send().await);
    responses.push(proxy.get(&wheel).header("range", "bytes=99999999-").send().await);
    responses.push(proxy.get(HERE).header("host", "attacker.example").send().await);
    responses.push(proxy.client().ask("DELETE", HERE).send().await);
    responses.push(proxy.client().ask("POST", "/").body("x").send().await);
    responses.push(proxy.get("/simple/%00/").send().await);
    let (cache, upstream) = (proxy.dir.path().display().to_string(), proxy.upstream.address().to_string());
    for response in responses {
        assert!(response.status >= 400, "{response:?}");
        let whole = format!("{} {:?} {}", response.reason, response.headers, response.text());
        for inner in
            ["111122223333", "arn:", "inner.example", "reader", "eu-central-1", "panicked", ".rs", &cache, &upstream]
        {
            assert!(!whole.contains(inner), "{inner}: {whole}");
        }
    }
}

#[tokio::test]
async fn a_challenge_of_upstream_is_not_followed() {
    let (proxy, attacker) = (Proxy::start().await, Scripted::start().await);
    let realm = format!("Bearer realm=\"{}\",service=\"x\"", attacker.url("/token"));
    proxy.upstream.on(PAGE, Reply::status(401).header("www-authenticate", realm));
    let response = proxy.get(HERE).send().await;
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(attacker.connections(), 0);
}

#[tokio::test]
async fn one_request_is_one_line_of_the_log_whatever_it_holds() {
    for format in ["human", "json"] {
        let world = World::new().await;
        let program = world.serve(&["--log-format", format]);
        let client = program.proxy();
        ready(client).await;
        let targets =
            ["/simple/a%0ab/", "/simple/a%1b%5b2Jb/", "/simple/a%e2%80%a8b/", "/simple/a%c2%85b/", "/x%0d%0a/y"];
        // An agent that is no ASCII is left out; one that is has its tab and quotes escaped.
        for agent in ["a\tb \u{9b}2J\u{2028}\u{85}", "a\tb \"},{\"level\":\"ERROR\""] {
            for target in targets {
                client.get(target).header("user-agent", agent).send().await;
            }
        }
        let hostile = format!(
            "GET {HERE}\u{2028}x/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "y".repeat(9000)
        );
        client.raw(hostile.as_bytes()).await;
        program.signal(Signal::TERM);
        let logged = program.ended().err;
        let is_hostile = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{2029}');
        let line = logged.lines().find(|line| line.contains(is_hostile));
        assert_eq!(line, None, "{format}");
        let served = logged.lines().filter(|line| line.contains("request served")).count();
        assert!(served >= 2 * targets.len(), "{served} lines: {logged}");
        assert!(logged.lines().all(|line| line.len() < 8192), "a line is bounded");
        if format == "json" {
            let is_event =
                |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|event| event["level"] != "ERROR");
            assert!(logged.lines().all(is_event), "{logged}");
        }
    }
}

#[test]
fn nothing_turns_the_check_of_certificates_off() {
    for command in ["serve", "check"] {
        let help = Program::run(&[command, "--help"], &[]).out.to_ascii_lowercase();
        for word in ["insecure", "skip-verify", "no-verify", "trust-all", "disable-tls"] {
            assert!(!help.contains(word), "{command}: {word}");
        }
    }
}

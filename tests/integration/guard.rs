//! Who may ask: host names, requests that would change something, and heads that are no requests.

use crate::support::proxy::Proxy;
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, Sample, publish};

const HERE: &str = "/simple/a-b/";

async fn proxy() -> Proxy {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy
}

/// The status line of a raw conversation.
fn status(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

#[tokio::test]
async fn without_configuration_only_names_that_no_public_name_can_be_are_answered() {
    let proxy = proxy().await;
    for (host, expected) in [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("wheelport", 200),
        ("index.acme.internal", 200),
        ("wheelport.tools.svc.cluster.local:80", 200),
        ("10.1.2.3", 200),
        ("[::1]:8080", 200),
        ("attacker.example.org", 421),
        ("127.0.0.1.attacker.example.org", 421),
        ("localhost.example.org", 421),
        ("user@localhost", 400),
        ("local host", 400),
        ("localhost:99999", 400),
        ("", 400),
    ] {
        for target in [HERE, "/"] {
            let answer = proxy.get(target).header("host", host).send().await;
            assert_eq!((answer.status, answer.complete), (expected, true), "{host}: {answer:?}");
        }
        // Probes come by any name.
        proxy.get("/healthz").header("host", host).send().await.expect(200);
        assert_ne!(proxy.get("/readyz").header("host", host).send().await.status, 421);
    }
    let answer = proxy.get(HERE).header("host", "attacker.example.org").send().await;
    assert_eq!(answer.value()["code"], "host-not-allowed");
}

#[tokio::test]
async fn configured_names_are_answered_and_then_only_they() {
    let proxy = Proxy::builder()
        .set(|builder| {
            let names = ["index.example.org", "*.example.net"];
            builder.server.allowed_hosts = names.iter().map(|name| name.parse().expect("a pattern")).collect();
        })
        .start()
        .await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    for (host, expected) in [
        ("index.example.org", 200),
        ("INDEX.example.org.:443", 200),
        ("a.example.net", 200),
        ("localhost", 200),
        ("example.net", 421),
        ("other.example.org", 421),
        ("wheelport", 421),
    ] {
        let answer = proxy.get(HERE).header("host", host).send().await;
        assert_eq!(answer.status, expected, "{host}");
    }
}

#[tokio::test]
async fn a_request_names_its_host_exactly_once() {
    let proxy = proxy().await;
    // Before the page is there, and when it is at hand.
    for asked in [0, 1] {
        for head in [
            format!("GET {HERE} HTTP/1.1\r\n\r\n"),
            format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
            format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n"),
            format!("GET http://other{HERE} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            format!("GET {HERE} HTTP/1.0\r\n\r\n"),
        ] {
            let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let answer = proxy.client().raw(head.as_bytes()).await;
            assert!(status(&answer).contains(" 400 "), "{head}: {answer}");
        }
        assert_eq!(proxy.upstream.requests().len(), asked);
        for target in [HERE.to_owned(), format!("http://localhost{HERE}")] {
            let good = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert!(status(&proxy.client().raw(good.as_bytes()).await).contains(" 200 "), "{target}");
        }
    }
}

#[tokio::test]
async fn the_oldest_version_works_and_closes_and_requests_may_follow_each_other() {
    let proxy = proxy().await;
    let old = format!("GET {HERE} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let answer = proxy.client().raw(old.as_bytes()).await;
    assert!(status(&answer).contains(" 200 ") && answer.ends_with("</html>\n"), "{answer}");
    let three = format!(
        "GET {HERE} HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\
         GET {HERE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let answers = proxy.client().raw(three.as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_nothing_hides_behind_it() {
    let proxy = proxy().await;
    let hidden = "GET /simple/hidden/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: +1\r\n\r\n",
        "Content-Length: 1x\r\n\r\n",
        "Content-Length: 99999999999999999999999\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n",
        "Transfer-Encoding: chunked, gzip\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X: a\r\n Y: folded\r\n\r\n",
        "X\u{0}: a\r\n\r\n",
        "No colon\r\n\r\n",
    ] {
        let request = format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\n{framing}{hidden}");
        let answer = proxy.client().raw(request.as_bytes()).await;
        assert!(status(&answer).contains(" 400 ") || answer.matches("HTTP/1.1 ").count() <= 1, "{framing:?}: {answer}");
        assert_eq!(proxy.asked("GET /pypi/r/simple/hidden/"), 0, "{framing:?}");
    }
    for line in [
        "GET\r\n\r\n",
        "GET /simple/ a-b/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = proxy.client().raw(line.as_bytes()).await;
        assert!(status(&answer).contains(" 400 ") || answer.is_empty(), "{line:?}: {answer}");
    }
    let endless = format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(400_000));
    let answer = proxy.client().raw(endless.as_bytes()).await;
    assert!(status(&answer).contains(" 431 "), "{answer}");
}

#[tokio::test]
async fn uploads_are_off_and_the_reason_phrase_says_so() {
    let proxy = proxy().await;
    for target in ["/", "/legacy/", "/legacy", "/pypi/main/", "/pypi/main"] {
        let answer = proxy.client().ask("POST", target).body("anything").send().await.expect(403);
        assert_eq!(answer.value()["code"], "upload-off", "{target}");
        assert!(answer.reason.starts_with("Uploads are off for route 'main'"), "{}", answer.reason);
        answer.expect_headers(&[
            ("content-type", "application/problem+json"),
            ("content-length", "*"),
            ("cache-control", "no-store"),
            ("vary", "Accept"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "*"),
        ]);
    }
    assert_eq!(proxy.upstream.requests().len(), 0, "nothing is ever written upstream");
}

#[tokio::test]
async fn pages_of_other_sites_may_not_change_anything() {
    let proxy = proxy().await;
    let own = format!("http://{}", proxy.address);
    for (header, value, code) in [
        ("origin", "https://attacker.example.org", "cross-site"),
        ("origin", "null", "cross-site"),
        ("origin", "http://localhost:1", "cross-site"),
        ("sec-fetch-site", "cross-site", "cross-site"),
        ("sec-fetch-site", "same-site", "cross-site"),
        ("origin", own.as_str(), "upload-off"),
        ("sec-fetch-site", "same-origin", "upload-off"),
        ("sec-fetch-site", "none", "upload-off"),
    ] {
        let answer = proxy.client().ask("POST", "/").header(header, value).send().await.expect(403);
        assert_eq!(answer.value()["code"], code, "{header}: {value}");
    }
    // Reading changes nothing.
    proxy.get(HERE).header("origin", "https://attacker.example.org").send().await.expect(200);
    let answer = proxy.get(HERE).header("sec-fetch-site", "cross-site").send().await.expect(200);
    assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control")), "{answer:?}");
}

#[tokio::test]
async fn other_methods_are_told_which_ones_work() {
    let proxy = proxy().await;
    let wheel = Sample::wheel();
    for (method, target, allowed) in [
        ("POST", HERE, "GET, HEAD"),
        ("PUT", HERE, "GET, HEAD"),
        ("DELETE", &wheel.path(), "GET, HEAD"),
        ("OPTIONS", "/simple/", "GET, HEAD"),
        ("TRACE", "/a-b/json", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD, POST"),
        ("DELETE", "/pypi/main/", "GET, HEAD, POST"),
    ] {
        let answer = proxy.client().ask(method, target).send().await.expect(405);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {target}");
        assert!(answer.reason.len() > 3);
    }
    assert_eq!(proxy.upstream.requests().len(), 0);
}

#[tokio::test]
async fn every_kind_of_answer_is_harmless_in_a_browser() {
    let proxy = proxy().await;
    proxy.upstream.on(PAGE, Reply::status(404));
    // Every kind of answer carries what keeps a browser from making something else of it.
    for (target, status) in [(HERE, 404), ("/simple/%00/", 400), ("/nothing", 404), ("/", 200), ("/simple/x y/", 400)] {
        let answer = proxy.get(&target.replace(' ', "%20")).send().await.expect(status);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{target}");
        assert!(
            answer.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'"))
        );
    }
}

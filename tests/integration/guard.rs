//! Which requests are let in: host names, requests that would change something, and malformed headers.

use crate::support::proxy::Proxy;
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, Sample, publish};

const HERE: &str = "/simple/a-b/";

async fn proxy() -> Proxy {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy
}

/// The status line of a raw response.
fn status(response: &str) -> &str {
    response.lines().next().unwrap_or_default()
}

#[tokio::test]
async fn without_configuration_only_hosts_that_cannot_be_public_are_served() {
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
            let response = proxy.get(target).header("host", host).send().await;
            assert_eq!((response.status, response.complete), (expected, true), "{host}: {response:?}");
        }
        // Probes may use any host name.
        proxy.get("/healthz").header("host", host).send().await.expect(200);
        assert_ne!(proxy.get("/readyz").header("host", host).send().await.status, 421);
    }
    let response = proxy.get(HERE).header("host", "attacker.example.org").send().await;
    assert_eq!(response.value()["code"], "host-not-allowed");
}

#[tokio::test]
async fn with_configured_hosts_only_those_are_served() {
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
        let response = proxy.get(HERE).header("host", host).send().await;
        assert_eq!(response.status, expected, "{host}");
    }
}

#[tokio::test]
async fn a_request_names_its_host_exactly_once() {
    let proxy = proxy().await;
    // Before the page is cached, and when it is.
    for asked in [0, 1] {
        for head in [
            format!("GET {HERE} HTTP/1.1\r\n\r\n"),
            format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
            format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n"),
            format!("GET http://other{HERE} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            format!("GET {HERE} HTTP/1.0\r\n\r\n"),
        ] {
            let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let response = proxy.client().raw(head.as_bytes()).await;
            assert!(status(&response).contains(" 400 "), "{head}: {response}");
        }
        assert_eq!(proxy.upstream.requests().len(), asked);
        for target in [HERE.to_owned(), format!("http://localhost{HERE}")] {
            let good = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert!(status(&proxy.client().raw(good.as_bytes()).await).contains(" 200 "), "{target}");
        }
    }
}

#[tokio::test]
async fn http_1_0_closes_the_connection_and_http_1_1_may_pipeline() {
    let proxy = proxy().await;
    let old = format!("GET {HERE} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let response = proxy.client().raw(old.as_bytes()).await;
    assert!(status(&response).contains(" 200 ") && response.ends_with("</html>\n"), "{response}");
    let three = format!(
        "GET {HERE} HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\
         GET {HERE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let responses = proxy.client().raw(three.as_bytes()).await;
    assert_eq!(responses.matches("HTTP/1.1 200 OK").count(), 3, "{responses}");
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
        let response = proxy.client().raw(request.as_bytes()).await;
        assert!(
            status(&response).contains(" 400 ") || response.matches("HTTP/1.1 ").count() <= 1,
            "{framing:?}: {response}"
        );
        assert_eq!(proxy.asked("GET /pypi/r/simple/hidden/"), 0, "{framing:?}");
    }
    for line in [
        "GET\r\n\r\n",
        "GET /simple/ a-b/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        let response = proxy.client().raw(line.as_bytes()).await;
        assert!(status(&response).contains(" 400 ") || response.is_empty(), "{line:?}: {response}");
    }
    let endless = format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(400_000));
    let response = proxy.client().raw(endless.as_bytes()).await;
    assert!(status(&response).contains(" 431 "), "{response}");
}

#[tokio::test]
async fn uploads_are_off_and_the_reason_phrase_says_so() {
    let proxy = proxy().await;
    for target in ["/", "/legacy/", "/legacy", "/pypi/main/", "/pypi/main"] {
        let response = proxy.client().ask("POST", target).body("anything").send().await.expect(403);
        assert_eq!(response.value()["code"], "upload-off", "{target}");
        assert!(response.reason.starts_with("Uploads are off for route 'main'"), "{}", response.reason);
        response.expect_headers(&[
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
        let response = proxy.client().ask("POST", "/").header(header, value).send().await.expect(403);
        assert_eq!(response.value()["code"], code, "{header}: {value}");
    }
    // Reading changes nothing.
    proxy.get(HERE).header("origin", "https://attacker.example.org").send().await.expect(200);
    let response = proxy.get(HERE).header("sec-fetch-site", "cross-site").send().await.expect(200);
    assert!(response.headers.iter().all(|(name, _)| !name.starts_with("access-control")), "{response:?}");
}

#[tokio::test]
async fn other_methods_get_405_with_the_allowed_ones() {
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
        let response = proxy.client().ask(method, target).send().await.expect(405);
        assert_eq!(response.header("allow"), Some(allowed), "{method} {target}");
        assert!(response.reason.len() > 3);
    }
    assert_eq!(proxy.upstream.requests().len(), 0);
}

#[tokio::test]
async fn every_kind_of_response_has_security_headers() {
    let proxy = proxy().await;
    proxy.upstream.on(PAGE, Reply::status(404));
    // The headers keep a browser from interpreting a response as anything else.
    for (target, status) in [(HERE, 404), ("/simple/%00/", 400), ("/nothing", 404), ("/", 200), ("/simple/x y/", 400)] {
        let response = proxy.get(&target.replace(' ', "%20")).send().await.expect(status);
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{target}");
        assert!(
            response.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'"))
        );
    }
}

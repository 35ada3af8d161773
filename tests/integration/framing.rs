//! Where one request ends and the next begins, whatever the bytes: no second parser in front of this server may be made
//! to see other requests than it does.

use crate::support::proxy::Proxy;
use crate::support::wheels::{Sample, publish};

const HERE: &str = "/simple/a-b/";
/// What an attacker hides where one parser sees a body and another one a request.
const HIDDEN: &str = "GET /simple/hidden/ HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn proxy() -> Proxy {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy
}

/// The statuses of the responses in what came over one connection.
fn statuses(conversation: &str) -> Vec<u16> {
    let lines = conversation.split("HTTP/1.").skip(1);
    lines.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
}

/// Sends the bytes before a request that would be seen if they were misread, for a page that is not cached, and again.
async fn conversations(bytes: &str) -> Vec<(Vec<u16>, String)> {
    let proxy = proxy().await;
    let mut found = Vec::new();
    for _ in 0..2 {
        let conversation = proxy.client().raw(bytes.as_bytes()).await;
        found.push((statuses(&conversation), conversation));
    }
    assert_eq!(proxy.asked("GET /pypi/r/simple/hidden/"), 0, "{bytes:?}");
    found
}

#[tokio::test]
async fn what_can_be_framed_in_two_ways_is_the_last_request_of_its_connection() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    for framing in [
        // Both lengths: the chunked one counts (RFC 9112, 6.3), and nothing behind it is looked at.
        format!("Content-Length: 4\r\n{chunked}\r\n0\r\n\r\n"),
        format!("{chunked}Content-Length: 0\r\n\r\n0\r\n\r\n"),
        format!("{chunked}Content-Length: 6\r\n\r\n0\r\n\r\n"),
        format!("Content-Length: 5\r\nContent-Length: 5\r\n{chunked}\r\n0\r\n\r\n"),
        // Lengths that are none, or several.
        "Content-Length: 0\r\nContent-Length: 50\r\n\r\n".to_owned(),
        "Content-Length: 0, 50\r\n\r\n".to_owned(),
        "Content-Length: 0x0\r\n\r\n".to_owned(),
        "Content-Length: 1e1\r\n\r\n".to_owned(),
        "Content-Length: 0;5\r\n\r\n".to_owned(),
        "Content-Length: \r\n\r\n".to_owned(),
        "Content-Length: 18446744073709551616\r\n\r\n".to_owned(),
        "Content-Length : 0\r\n\r\n".to_owned(),
        "Content-Length\u{a0}: 0\r\n\r\n".to_owned(),
        " Content-Length: 0\r\n\r\n".to_owned(),
        // Codings that another parser may or may not know.
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\u{b}\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding:\u{c}chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: cow\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Chunks.
        format!("{chunked}\r\n-1\r\n\r\n"),
        format!("{chunked}\r\n0x1\r\na\r\n0\r\n\r\n"),
        format!("{chunked}\r\n1 \u{b}\r\na\r\n0\r\n\r\n"),
        format!("{chunked}\r\nfffffffffffffffff\r\n"),
        format!("{chunked}\r\n1\r\nab\r\n0\r\n\r\n"),
        format!("{chunked}\r\n1\na\r\n0\r\n\r\n"),
        format!("{chunked}\r\n;\r\n\r\n"),
        format!("{chunked}\r\n\r\n0\r\n\r\n"),
    ] {
        let request = format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\n{framing}{HIDDEN}");
        for (statuses, conversation) in conversations(&request).await {
            // A body that was not asked for may turn out to be broken after its response has gone out.
            assert!(matches!(statuses[..], [] | [400 | 200]), "{framing:?}: {conversation}");
        }
    }
}

#[tokio::test]
async fn http_1_0_has_no_chunks_and_no_second_request() {
    for framing in ["Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "\r\n", "Content-Length: 0\r\n\r\n"] {
        let request = format!("GET {HERE} HTTP/1.0\r\nHost: localhost\r\n{framing}{HIDDEN}");
        for (statuses, conversation) in conversations(&request).await {
            assert!(matches!(statuses[..], [] | [400 | 200]), "{framing:?}: {conversation}");
        }
    }
}

#[tokio::test]
async fn a_body_that_was_not_asked_for_is_never_taken_for_a_request() {
    let proxy = proxy().await;
    let wheel = Sample::wheel();
    proxy.get(HERE).send().await.expect(200);
    proxy.get(&wheel.path()).send().await.expect(200);
    proxy.upstream.on("GET /pypi/r/simple/missing/", crate::support::scripted::Reply::status(404));
    let last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let (path, tag) = (wheel.path(), wheel.tag());
    for (line, headers, status) in [
        (format!("GET {HERE}"), String::new(), 200),
        (format!("HEAD {HERE}"), String::new(), 200),
        (format!("GET {path}"), String::new(), 200),
        (format!("GET {path}"), format!("If-None-Match: {tag}\r\n"), 304),
        (format!("GET {path}"), "Range: bytes=0-3\r\n".to_owned(), 206),
        (format!("GET {path}"), "Range: bytes=99999999-\r\n".to_owned(), 416),
        ("GET /simple/missing/".to_owned(), String::new(), 404),
        ("GET /simple/A.B/".to_owned(), String::new(), 301),
        ("GET /simple/%00/".to_owned(), String::new(), 400),
        (format!("PUT {HERE}"), String::new(), 405),
        ("POST /".to_owned(), String::new(), 403),
        (format!("GET {HERE}"), "Host: attacker.example.org\r\n".to_owned(), 421),
    ] {
        let host = if headers.starts_with("Host") { "" } else { "Host: localhost\r\n" };
        for framing in [
            format!("Content-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()),
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()),
        ] {
            let request = format!("{line} HTTP/1.1\r\n{host}{headers}{framing}{last}");
            let conversation = proxy.client().raw(request.as_bytes()).await;
            let statuses = statuses(&conversation);
            assert!(statuses == [status] || statuses == [status, 200], "{line} {headers}: {conversation}");
        }
    }
    assert_eq!(proxy.asked("GET /pypi/r/simple/hidden/"), 0);
}

#[tokio::test]
async fn a_connection_never_becomes_a_tunnel_or_another_protocol() {
    let proxy = proxy().await;
    for (head, expected) in [
        (format!("GET {HERE} HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), 200),
        (
            format!(
                "GET {HERE} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            ),
            200,
        ),
        ("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n".to_owned(), 405),
        (format!("TRACE {HERE} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 405),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 404),
    ] {
        let request = format!("{head}GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let conversation = proxy.client().raw(request.as_bytes()).await;
        let found = statuses(&conversation);
        assert!(!found.contains(&101) && found.first() == Some(&expected), "{head}: {conversation}");
    }
    let preface = proxy.client().raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(matches!(statuses(&preface)[..], [] | [400]), "{preface}");
    assert_eq!(proxy.upstream.requests().iter().filter(|seen| seen.header("upgrade").is_some()).count(), 0);
}

//! Time limits of a connection: which of them a slow client runs into, and which not.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wheelport_runtime::HumanDuration;

use crate::support::client::{soon, until};
use crate::support::proxy::{Builder, Proxy};
use crate::support::scripted::Gate;
use crate::support::wheels::{PAGE, Sample, page};

const LIMIT: Duration = Duration::from_secs(4);
const IDLE: Duration = Duration::from_mins(1);
const PROBE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn limited() -> Builder {
    Proxy::builder().set(|builder| {
        builder.server.header_timeout = HumanDuration::secs(LIMIT.as_secs());
        builder.server.idle_timeout = HumanDuration::secs(IDLE.as_secs());
    })
}

/// Reads until this text has arrived.
async fn hear(socket: &mut TcpStream, wanted: &str) {
    let hearing = async {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(wanted) {
            assert_ne!(socket.read_buf(&mut heard).await.expect("the connection is open"), 0, "{wanted}");
        }
    };
    soon(wanted, hearing).await;
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_the_idle_timeout_and_closed_after_it() {
    let proxy = limited().start_blind().await;
    let mut socket = TcpStream::connect(proxy.address).await.expect("the proxy listens");
    for _ in 0..3 {
        socket.write_all(PROBE).await.expect("the connection is open");
        hear(&mut socket, "alive").await;
        proxy.pass(IDLE * 3 / 4).await;
    }
    proxy.pass(IDLE / 4 + Duration::from_secs(1)).await;
    let end = soon("the end of an idle connection", socket.read_u8()).await;
    assert!(end.is_err(), "it is closed without a word");
}

#[tokio::test]
async fn headers_that_trickle_in_do_not_hold_a_connection() {
    let proxy = limited().start_blind().await;
    let mut socket = TcpStream::connect(proxy.address).await.expect("the proxy listens");
    let mut bytes = 0;
    for byte in b"GET /".iter().chain(std::iter::repeat(&b'x')).take(100) {
        if socket.write_all(&[*byte]).await.is_err() {
            break;
        }
        bytes += 1;
        proxy.pass(Duration::from_secs(1)).await;
    }
    assert!((3..20).contains(&bytes), "{bytes} seconds");
}

#[tokio::test]
async fn the_time_limit_for_headers_does_not_cover_the_response() {
    let proxy = limited().start().await;
    let gate = Gate::closed();
    let sample = Sample::wheel();
    proxy.upstream.on(PAGE, page(&[sample.entry()]).before_head(&gate));
    let mut socket = TcpStream::connect(proxy.address).await.expect("the proxy listens");
    socket.write_all(b"GET /simple/a-b/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("open");
    until("the request to upstream", async || (!proxy.upstream.requests().is_empty()).then_some(())).await;
    proxy.pass(LIMIT + Duration::from_secs(1)).await;
    gate.open();
    hear(&mut socket, "200 OK").await;
}

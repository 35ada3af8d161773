//! Connections: which time limits a slow client runs into, and how many connections and how much memory a greedy one
//! gets.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use wheelport_runtime::{HumanDuration, Size};

use crate::support::client::{soon, until};
use crate::support::proxy::{Builder, Proxy};
use crate::support::scripted::Gate;
use crate::support::wheels::{PAGE, Sample, page, publish};

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

/// A connection from 127.0.0.`last`.
async fn connect(proxy: &Proxy, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, last], 0).into()).expect("an address of this machine");
    soon("a connection", socket.connect(proxy.address)).await.expect("the proxy accepts")
}

/// A connection that has begun to send a request, once the proxy has seen it.
async fn begin(proxy: &Proxy, last: u8) -> TcpStream {
    let mut socket = connect(proxy, last).await;
    socket.write_all(PROBE).await.expect("open");
    hear(&mut socket, "alive").await;
    socket.write_all(b"GET / HTTP/1.1\r\n").await.expect("open");
    socket
}

/// Everything until the server closes the connection.
async fn conversation(mut socket: TcpStream, request: &[u8]) -> String {
    let _ = socket.write_all(request).await;
    let mut response = Vec::new();
    let _ = soon("the end of a connection", socket.read_to_end(&mut response)).await;
    String::from_utf8_lossy(&response).into_owned()
}

fn crowded(total: usize, share: Option<usize>) -> Builder {
    Proxy::builder().set(|builder| {
        builder.server.max_connections = total;
        builder.server.max_connections_per_address = share;
    })
}

const HOME: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// Whether this is the refusal with this code, complete, with the time to wait.
fn is_refusal(response: &str, code: &str) -> bool {
    response.starts_with("HTTP/1.1 503 ")
        && response.contains("\r\nretry-after: 2\r\n")
        && response.contains("\r\nconnection: close\r\n")
        && response.ends_with('}')
        && response.contains(&format!("\"code\":\"{code}\""))
}

#[tokio::test]
async fn an_address_has_a_quarter_of_the_connections_and_leaves_the_rest_to_others() {
    let proxy = crowded(8, None).start_blind().await;
    let held = [begin(&proxy, 2).await, begin(&proxy, 2).await];
    let refused = conversation(connect(&proxy, 2).await, HOME).await;
    assert!(is_refusal(&refused, "too-many-connections-of-client"), "{refused}");
    // Whoever starts and stops this process must not take a crowd for a crash.
    let probed = conversation(connect(&proxy, 2).await, PROBE).await;
    assert!(probed.starts_with("HTTP/1.1 200 ") && probed.ends_with("alive\n"), "{probed}");
    let other = conversation(connect(&proxy, 3).await, HOME).await;
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    let text = proxy.metrics().await;
    assert!(text.contains("connections_refused_total{reason=\"too-many-connections-of-client\"} 2"), "{text}");
    drop(held);
    let free = async || conversation(connect(&proxy, 2).await, HOME).await.starts_with("HTTP/1.1 200 ").then_some(());
    until("a place to be free again", free).await;
}

#[tokio::test]
async fn a_trusted_proxy_has_no_share() {
    let builder = crowded(8, None);
    let builder = builder.set(|builder| builder.server.trusted_proxies = vec!["127.0.0.2".parse().expect("a block")]);
    let proxy = builder.start_blind().await;
    for _ in 0..8 {
        std::mem::forget(begin(&proxy, 2).await);
    }
    let refused = conversation(connect(&proxy, 3).await, HOME).await;
    assert!(is_refusal(&refused, "too-many-connections"), "all of them are in use: {refused}");
}

#[tokio::test]
async fn idle_connections_of_the_greediest_address_give_way() {
    let proxy = crowded(8, Some(8)).start_blind().await;
    let mut idle = Vec::new();
    for _ in 0..7 {
        let mut socket = connect(&proxy, 2).await;
        socket.write_all(PROBE).await.expect("open");
        hear(&mut socket, "alive").await;
        idle.push(socket);
    }
    let mut other = connect(&proxy, 3).await;
    for last in 4..10 {
        let response = conversation(connect(&proxy, last).await, HOME).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
    other.write_all(PROBE).await.expect("open");
    hear(&mut other, "alive").await;
    // The oldest ended without a word, as any idle connection does.
    assert_eq!(soon("the end of the oldest", idle[0].read(&mut [0; 1])).await.expect("no error"), 0);
}

#[tokio::test]
async fn when_all_places_are_in_use_a_new_client_is_told_at_once() {
    let proxy = crowded(8, Some(2)).start_blind().await;
    let mut held = Vec::new();
    for last in 2..6 {
        held.extend([begin(&proxy, last).await, begin(&proxy, last).await]);
    }
    let refused = conversation(connect(&proxy, 9).await, HOME).await;
    assert!(is_refusal(&refused, "too-many-connections"), "{refused}");
    // Operators are not kept out.
    proxy.ops.get("/status").send().await.expect(200);
    let (_, mut last) = (held.swap_remove(0), held.swap_remove(0));
    last.write_all(b"host: localhost\r\n\r\n").await.expect("the connection is open");
    hear(&mut last, "200 OK").await;
}

#[tokio::test]
async fn headers_have_a_limit_each_and_one_together_and_the_oldest_give_way() {
    let builder = Proxy::builder().set(|builder| {
        builder.server.memory = Some(Size::mib(64));
        builder.server.max_connections_per_address = Some(1000);
        builder.server.header_timeout = HumanDuration::secs(600);
    });
    let proxy = builder.start_blind().await;
    let long = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(80 << 10));
    let response = proxy.client().raw(long.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    // An eighth of what is left beside the program is 4 MiB.
    let unfinished = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}", "a".repeat(31 << 10));
    let mut sockets = Vec::new();
    for _ in 0..200 {
        let mut socket = connect(&proxy, 2).await;
        socket.write_all(unfinished.as_bytes()).await.expect("open");
        sockets.push(socket);
    }
    let closed = async || proxy.metrics().await.contains("closed_early_total{reason=\"headers\"}").then_some(());
    until("one to be closed", closed).await;
    let end = soon("the end of the oldest", sockets[0].read(&mut [0; 1])).await;
    assert!(!matches!(end, Ok(1..)), "it is closed: {end:?}");
    let mut last = sockets.pop().expect("many");
    last.write_all(b"\r\n\r\n").await.expect("the newest is open");
    hear(&mut last, "200 OK").await;
}

/// The value of a metric without labels.
fn value(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

#[tokio::test]
async fn clients_that_read_nothing_hold_one_buffer_each_and_a_small_one_beyond_a_bound() {
    const CROWD: usize = 250;
    // Of 64 MiB, a sixth of what is left beside the program.
    const LARGE: u64 = (32 << 20) / 6;
    let builder = Proxy::builder().set(|builder| {
        builder.server.memory = Some(Size::mib(64));
        builder.server.max_connections_per_address = Some(1000);
    });
    let (proxy, sdist) = (builder.start().await, Sample::sdist("1.0", 16 << 20));
    publish(&proxy.upstream, &[&sdist]);
    proxy.get(&sdist.path()).send().await.expect(200);
    proxy.kept_by("blobs", 1).await;
    let stalled = join_all((0..CROWD).map(|_| proxy.get(&sdist.path()).open())).await;
    assert!(stalled.iter().all(|opened| opened.status == 200));
    let held = async || Some(value(&proxy.metrics().await, "wheelport_buffered_bytes")).filter(|held| *held > LARGE);
    let held = until("the crowd to hold buffers", held).await;
    assert!(held <= LARGE + CROWD as u64 * 4096, "{held} bytes");
    let other = proxy.get(&sdist.path()).send().await.expect(200);
    assert!(other.body == sdist.bytes, "another client gets all of it");
    drop(stalled);
    let released = async || (value(&proxy.metrics().await, "wheelport_buffered_bytes") == 0).then_some(());
    until("every buffer to be free", released).await;
}

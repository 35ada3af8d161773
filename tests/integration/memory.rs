//! Memory: what the built program takes at most. Every bound is far above what is measured and far below what it takes
//! without the guard; docs/RELIABILITY.md has the figures of a release build.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use wheelport_index::Sha256;

use crate::support::client::{Client, HTML_V1, JSON, soon, until};
use crate::support::process::{Program, World, ready};
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, Sample, publish};

const MIB: usize = 1 << 20;
/// Files of a large page. A debug build takes a second or two for each form of it.
const FILES: usize = 15_000;

/// The most memory that the process has had resident, in bytes.
fn peak(program: &Program) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    peak.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// A program with these settings that is ready.
async fn serve(world: &World, settings: &str) -> (Program, Client) {
    let file = world.dir.path().join("wheelport.toml");
    fs::write(&file, settings).expect("the directory can be written");
    let program = world.serve(&["--config", &file.display().to_string()]);
    let client = program.proxy();
    ready(client).await;
    (program, client)
}

/// A page with everything that CodeArtifact says of a file. Legacy JSON lists its one version twice.
fn large_page(files: usize) -> String {
    let mut page = r#"{"meta": {"api-version": "1.1"}, "name": "a-b", "versions": ["1.0"], "files": ["#.to_owned();
    for number in 0..files {
        let (comma, digest) = (if number == 0 { "" } else { "," }, Sha256::of(&number.to_le_bytes()));
        let name = format!("a_b-1.0-{number}-cp312-cp312-manylinux_2_17_x86_64.whl");
        let more = r#""requires-python": ">=3.8", "size": 1000, "upload-time": "2026-01-02T03:04:05.678901Z""#;
        write!(
            page,
            r#"{comma}{{"filename": "{name}", "url": "1.0/{name}", "hashes": {{"sha256": "{digest}"}}, {more}}}"#
        )
        .expect("memory can be written");
    }
    page + "]}"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_page_takes_a_small_multiple_of_its_length() {
    let (world, page) = (World::new().await, large_page(FILES));
    let length = page.len();
    world.upstream.on(PAGE, Reply::ok(page).header("content-type", JSON));
    world.upstream.on("GET /pypi/r/simple/small/", Reply::ok(large_page(1)).header("content-type", JSON));
    // So little that nothing of this page can be kept: every request makes what it needs.
    let (program, client) = serve(&world, "[cache]\nmemory = \"4MiB\"\n").await;
    // The program itself is in memory after this.
    every_form(client, "small").await;
    let before = peak(&program);
    let legacy = every_form(client, "a-b").await;
    assert!(legacy > length * 2, "each file twice");
    let taken = peak(&program) - before;
    assert!(taken < length * 8, "{taken} bytes for a page of {length}");
}

/// Reads a page in all of its forms. Returns the length of its legacy JSON.
async fn every_form(client: Client, project: &str) -> usize {
    for accept in [JSON, HTML_V1] {
        for coding in ["identity", "gzip"] {
            let ask = client.get(&format!("/simple/{project}/")).header("accept", accept);
            let response = ask.header("accept-encoding", coding).send().await.expect(200);
            assert_eq!(response.header("content-length"), Some(response.body.len().to_string().as_str()));
        }
    }
    client.get(&format!("/pypi/{project}/json")).send().await.expect(200).body.len()
}

/// Connections with this request, of which the client has read the first byte of the response, or nothing.
async fn connected(to: SocketAddr, count: usize, request: &str, responds: bool) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a size");
        let mut stream = soon("a connection", socket.connect(to)).await.expect("the proxy listens");
        stream.write_all(request.as_bytes()).await.expect("the connection is open");
        streams.push(stream);
    }
    for stream in streams.iter_mut().filter(|_| responds) {
        assert_eq!(soon("a response", stream.read_u8()).await.expect("a byte"), b'H');
    }
    streams
}

/// Many connections of one address to a program whose memory has room for no more than 819.
async fn crowded(world: &World) -> (Program, Client) {
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).expect("a process may use what it has");
    serve(world, "[server]\nmemory = \"128MiB\"\nmax_connections_per_address = 819\n").await
}

const MANY: usize = 700;
/// What a connection may take that has had its response, in bytes.
const IDLE: usize = 16 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_nothing_take_little_each() {
    let (world, sdist) = (World::new().await, Sample::sdist("1.0", 8 * MIB));
    publish(&world.upstream, &[&sdist]);
    let (program, client) = crowded(&world).await;
    client.get(&sdist.path()).send().await.expect(200);
    let before = peak(&program);
    let request = format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", sdist.path());
    let streams = connected(client.0, MANY, &request, true).await;
    let taken = peak(&program) - before;
    // What the plan has for connections and buffers with this ceiling, and as much again as a debug build takes more.
    assert!(taken < 40 * MIB, "{} bytes for each of {MANY} connections", taken / MANY);
    drop(streams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_kept_and_do_nothing_take_little_each() {
    let (world, wheel) = (World::new().await, Sample::wheel());
    publish(&world.upstream, &[&wheel]);
    let (program, client) = crowded(&world).await;
    let operations = Client(program.address("operations on http://"));
    client.get("/simple/a-b/").send().await.expect(200);
    let before = peak(&program);
    let request = "GET /simple/a-b/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let streams = connected(client.0, MANY, request, true).await;
    let metrics = operations.get("/metrics").send().await.expect(200).text();
    let open = metrics.lines().find_map(|line| line.strip_prefix("wheelport_connections ")).expect("a gauge");
    assert!(open.parse::<usize>().expect("a number") >= MANY, "{open} are open");
    let taken = peak(&program) - before;
    assert!(taken < MANY * IDLE, "{} bytes for each of {MANY} connections", taken / MANY);
    drop(streams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_do_not_end_take_what_the_plan_has_for_them() {
    let world = World::new().await;
    let (program, client) = crowded(&world).await;
    let operations = Client(program.address("operations on http://"));
    let before = peak(&program);
    let request = format!("GET /simple/ HTTP/1.1\r\nhost: localhost\r\nx: {}", "x".repeat(30_000));
    let streams = connected(client.0, MANY, &request, false).await;
    until("connections that give way", async || {
        let metrics = operations.get("/metrics").send().await.expect(200).text();
        let closed = metrics.lines().filter(|line| line.starts_with("wheelport_connections_closed_early_total"));
        let closed: f64 = closed.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        (closed > 100.0).then_some(())
    })
    .await;
    let taken = peak(&program) - before;
    assert!(taken < 36 * MIB, "{} bytes for each of {MANY} connections", taken / MANY);
    drop(streams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wheel_with_a_long_directory_takes_one_buffer() {
    const ENTRIES: u32 = 400_000;
    let (world, plain) = (World::new().await, Sample::wheel());
    let mut bytes = plain.bytes.to_vec();
    let end = bytes.split_off(bytes.len() - 22);
    let at = |offset: usize| u32::from_le_bytes(end[offset..offset + 4].try_into().expect("four bytes")) as usize;
    let (size, start) = (at(12), at(16));
    // The first entry again and again, under a name of its own each time.
    let own = bytes.split_off(start);
    for number in 0..ENTRIES {
        let name = format!("a_b/{number:08}");
        bytes.extend_from_slice(&own[..28]);
        bytes.extend_from_slice(&u16::try_from(name.len()).expect("short").to_le_bytes());
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(name.as_bytes());
    }
    let long = bytes.len() - start + size;
    bytes.extend_from_slice(&own);
    bytes.extend_from_slice(&end[..12]);
    bytes.extend_from_slice(&u32::try_from(long).expect("it fits").to_le_bytes());
    bytes.extend_from_slice(&end[16..]);
    let wheel = Sample::file("1.0", &plain.name, bytes);
    publish(&world.upstream, &[&wheel]);
    let (program, client) = serve(&world, "").await;
    let before = peak(&program);
    let metadata = client.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
    assert!(metadata.text().starts_with("Metadata-Version: "));
    let taken = peak(&program) - before;
    assert!(taken < long / 2, "{taken} bytes for a directory of {long}");
}

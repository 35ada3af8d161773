//! The listener speaks TLS: which certificate a client is shown, how certificates change while it runs, what a client
//! may show of itself, and that slow or broken handshakes hold nothing.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use wheelport::web::{CertificateFiles, ServerCertificates, TlsSettings};
use wheelport_runtime::{Clock, HumanDuration, Size};

use crate::support::client::{soon, until};
use crate::support::process::Program;
use crate::support::proxy::{Builder, Proxy};
use crate::support::tls::{Authority, TlsClient};
use crate::support::wheels::{Sample, publish};

/// Longer than two looks at the files.
const LOOKS: [Duration; 2] = [Duration::from_secs(3); 2];
const LIMIT: Duration = Duration::from_secs(4);
const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

struct Certificates {
    authority: Authority,
    dir: TempDir,
    settings: TlsSettings,
}

impl Certificates {
    /// A default certificate for `localhost`.
    fn new() -> Self {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().expect("a directory"));
        let default = authority.issue(&["localhost"]).write(dir.path(), "default");
        Self { authority, dir, settings: TlsSettings { default, further: Vec::new(), client_ca: None } }
    }

    /// One more, for this name.
    fn with(mut self, name: &str) -> Self {
        let files = self.authority.issue(&[name]).write(self.dir.path(), &name.replace('*', "any"));
        self.settings.further.push(files);
        self
    }

    fn builder(&self) -> Builder {
        Proxy::builder().set(|builder| {
            builder.tls = Some(self.settings.clone());
            builder.server.header_timeout = HumanDuration::secs(LIMIT.as_secs());
        })
    }

    fn client(&self) -> TlsClient {
        TlsClient::trusting(&self.authority)
    }
}

/// The names of the certificate that a connection to this server name is shown.
async fn shown(proxy: &Proxy, authority: &Authority, name: &str) -> Vec<u8> {
    let stream = TlsClient::trusting(authority).connect(proxy.address, name).await.expect("a handshake");
    certificate(&stream)
}

fn certificate(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().expect("shown")[0].to_vec()
}

/// Lets the proxy look at its files until they have been read again.
async fn let_it_look(proxy: &Proxy) {
    for time in LOOKS {
        proxy.pass(time).await;
        // The look is on a helper thread.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn hear(stream: &mut TlsStream<TcpStream>, wanted: &str) {
    let hearing = async {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(wanted) {
            assert_ne!(stream.read_buf(&mut heard).await.expect("the connection is open"), 0, "{wanted}");
        }
    };
    soon(wanted, hearing).await;
}

#[tokio::test]
async fn pages_and_files_are_served_over_both_versions_with_links_to_https() {
    let certificates = Certificates::new();
    let (proxy, sdist) = (certificates.builder().start().await, Sample::sdist("1.0", 3 << 20));
    publish(&proxy.upstream, &[&sdist]);
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = TlsClient::new(&certificates.authority, &[version], None);
        let stream = client.connect(proxy.address, "localhost").await.expect("a handshake");
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(expected));
        assert_eq!(session.alpn_protocol(), Some(b"http/1.1".as_slice()));
        let home = client.get(proxy.address, "localhost", "/").await.expect("a response");
        assert!(home.starts_with("HTTP/1.1 200 ") && home.contains("https://localhost/simple/"), "{home}");
        let mut stream = client.connect(proxy.address, "localhost").await.expect("a handshake");
        let request = format!("GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", sdist.path());
        stream.write_all(request.as_bytes()).await.expect("open");
        let mut response = Vec::new();
        soon("a file", stream.read_to_end(&mut response)).await.expect("a clean end");
        assert!(response.ends_with(&sdist.bytes), "every byte arrives");
    }
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate_and_the_default_is_for_all_others() {
    let certificates = Certificates::new().with("a.acme.test").with("*.b.acme.test");
    let proxy = certificates.builder().start_blind().await;
    let default = shown(&proxy, &certificates.authority, "localhost").await;
    let [a, b] = [
        shown(&proxy, &certificates.authority, "A.acme.test").await,
        shown(&proxy, &certificates.authority, "x.b.acme.test").await,
    ];
    assert!(default != a && a != b && b != default);
    let unknown = certificates.client().connect(proxy.address, "other.acme.test").await;
    assert!(unknown.is_err_and(|error| error.to_string().contains("not valid for name")), "the default is shown");
    let status = proxy.ops.get("/status").send().await.value();
    assert_eq!(status["tls"]["certificates"][2]["names"][0], "*.b.acme.test", "{status}");
    assert!(status["tls"]["certificates"][0]["ends_in_seconds"].as_i64() > Some(0), "{status}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let certificates = Certificates::new();
    // As Kubernetes mounts a Secret: two symbolic links, of which it swaps the inner one.
    let volume = certificates.dir.path().join("volume");
    for (name, directory) in [("tls", "..first"), ("tls", "..second")] {
        fs::create_dir_all(volume.join(directory)).expect("created");
        certificates.authority.issue(&["localhost"]).write(&volume.join(directory), name);
    }
    std::os::unix::fs::symlink("..first", volume.join("..data")).expect("linked");
    let files = CertificateFiles { certificate: volume.join("tls.crt"), key: volume.join("tls.key") };
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), volume.join(name)).expect("linked");
    }
    let proxy = certificates.builder().set(|builder| {
        builder.tls = Some(TlsSettings { default: files, ..certificates.settings.clone() });
    });
    let proxy = proxy.start_blind().await;
    let client = certificates.client();
    let mut old = client.connect(proxy.address, "localhost").await.expect("a handshake");
    let first = certificate(&old);
    std::os::unix::fs::symlink("..second", volume.join("..next")).expect("linked");
    fs::rename(volume.join("..next"), volume.join("..data")).expect("swapped");
    let_it_look(&proxy).await;
    let new = client.connect(proxy.address, "localhost").await.expect("a handshake");
    assert_ne!(certificate(&new), first);
    old.write_all(GET).await.expect("the old connection is open");
    hear(&mut old, "alive").await;
}

/// The status of a page for this host.
async fn status_for(proxy: &Proxy, client: &TlsClient, server: &str, host: &str) -> u16 {
    let mut stream = client.connect(proxy.address, server).await.expect("a handshake");
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut response = Vec::new();
    let _ = soon("a response", stream.read_to_end(&mut response)).await;
    let text = String::from_utf8_lossy(&response);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no response: {text}"))
}

#[tokio::test]
async fn names_of_certificates_are_answered_to_and_those_below_a_wildcard_are_not() {
    let certificates = Certificates::new().with("pypi.acme.test").with("*.wild.acme.test");
    let (proxy, client) = (certificates.builder().start_blind().await, certificates.client());
    for (server, host, status) in [
        ("pypi.acme.test", "pypi.acme.test", 200),
        ("pypi.acme.test", "PyPI.Acme.test:8443", 200),
        ("a.wild.acme.test", "a.wild.acme.test", 421),
        ("pypi.acme.test", "other.acme.test", 421),
    ] {
        assert_eq!(status_for(&proxy, &client, server, host).await, status, "{host}");
    }
    // What a certificate no longer has is refused, also where it was answered a moment ago.
    certificates.authority.issue(&["other.acme.test"]).write(certificates.dir.path(), "pypi.acme.test");
    let_it_look(&proxy).await;
    assert_eq!(status_for(&proxy, &client, "localhost", "pypi.acme.test").await, 421);
    assert_eq!(status_for(&proxy, &client, "other.acme.test", "other.acme.test").await, 200);
}

#[tokio::test]
async fn what_cannot_be_used_leaves_the_old_in_place_and_is_reported_until_it_is_repaired() {
    let certificates = Certificates::new().with("a.acme.test");
    let proxy = certificates.builder().start_blind().await;
    let authority = &certificates.authority;
    let [default, a] = [shown(&proxy, authority, "localhost").await, shown(&proxy, authority, "a.acme.test").await];
    let other = authority.issue(&["localhost"]);
    fs::write(&certificates.settings.default.key, &other.key).expect("written");
    authority.issue(&["a.acme.test"]).write(certificates.dir.path(), "a.acme.test");
    let_it_look(&proxy).await;
    assert_eq!(shown(&proxy, authority, "localhost").await, default);
    assert_ne!(shown(&proxy, authority, "a.acme.test").await, a, "one that is good is not kept back by another");
    let status = proxy.ops.get("/status").send().await.value();
    let error = status["tls"]["certificates"][0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("does not belong to the certificate"), "{status}");
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("\nwheelport_tls_unusable_files 1\n"), "{metrics}");
    assert!(metrics.contains("wheelport_tls_certificate_remaining_seconds{certificate="), "{metrics}");
    fs::write(&certificates.settings.default.certificate, &other.certificate).expect("written");
    let_it_look(&proxy).await;
    assert_ne!(shown(&proxy, authority, "localhost").await, default);
    assert!(proxy.metrics().await.contains("\nwheelport_tls_unusable_files 0\n"));
}

/// Why these files make no server.
fn refusal(change: impl FnOnce(&mut Certificates)) -> String {
    let mut certificates = Certificates::new();
    change(&mut certificates);
    let refused = ServerCertificates::read(certificates.settings.clone(), Clock::system());
    refused.expect_err("it is not usable").to_string()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do() {
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for text in [encrypted, older] {
        let refused = refusal(|of| write(&of.settings.default.key, text));
        assert!(refused.contains("default.key is encrypted") && refused.contains("openssl pkey -in"), "{refused}");
    }
    let refused = refusal(|of| fs::remove_file(&of.settings.default.key).expect("removed"));
    assert!(refused.contains("default.key cannot be read") && refused.contains("readable for this user"), "{refused}");
    let refused = refusal(|of| write(&of.settings.default.key, &of.authority.issue(&["localhost"]).key));
    assert!(refused.contains("does not belong to the certificate") && refused.contains("-pubout"), "{refused}");
    let refused = refusal(|of| write(&of.settings.default.key, "hello"));
    assert!(refused.contains("default.key holds no private key"), "{refused}");
    let refused = refusal(|of| write(&of.settings.default.certificate, "hello"));
    assert!(refused.contains("default.crt holds no certificate"), "{refused}");
    let refused = refusal(|of| {
        of.authority.issue_until(&["localhost"], 2020).write(of.dir.path(), "default");
    });
    assert!(refused.contains("ended at 2020-01-01T00:00:00Z; renew it"), "{refused}");
    let refused = refusal(|of| {
        let path = of.dir.path().join("ca.crt");
        write(&path, "hello");
        of.settings.client_ca = Some(path);
    });
    assert!(refused.contains("ca.crt holds no certificate authority"), "{refused}");
}

#[test]
fn serve_does_not_start_without_a_usable_certificate_and_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("tls.crt").display().to_string();
    let repository = ["--domain", "acme", "--repository", "r1", "--region", "eu-central-1"];
    let cache = dir.path().join("cache").display().to_string();
    let common = [&["serve", "--listen", "127.0.0.1:0", "--cache-dir", &cache], &repository[..]].concat();
    let both = [&common[..], &["--tls-certificate", &missing, "--tls-key", &missing]].concat();
    let outcome = Program::run(&both, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.err.contains("tls.crt cannot be read"), "{outcome:?}");
    let outcome = Program::run(&common, &[("WHEELPORT_TLS_CERTIFICATE", &missing)]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.err.contains("[server.tls] needs both certificate and key"), "{outcome:?}");
}

#[tokio::test]
async fn a_client_certificate_is_verified_when_it_is_shown_and_its_authorities_may_change() {
    let mut certificates = Certificates::new();
    let (known, stranger) = (Authority::new(), Authority::new());
    let ca = certificates.dir.path().join("clients.crt");
    write(&ca, &known.pem());
    certificates.settings.client_ca = Some(ca.clone());
    let proxy = certificates.builder().start_blind().await;
    let ask =
        async |client: &TlsClient| -> io::Result<String> { client.get(proxy.address, "localhost", "/healthz").await };
    let alive = |response: io::Result<String>| response.is_ok_and(|text| text.contains("alive"));
    let with = |authority: &Authority| {
        let shown = authority.issue(&["build"]);
        TlsClient::new(&certificates.authority, rustls::ALL_VERSIONS, Some(&shown))
    };
    let [of_known, of_stranger] = [with(&known), with(&stranger)];
    assert!(alive(ask(&certificates.client()).await), "none is demanded");
    assert!(alive(ask(&of_known).await));
    assert!(!alive(ask(&of_stranger).await), "one that is shown has to be good");
    write(&ca, &stranger.pem());
    let_it_look(&proxy).await;
    assert!(alive(ask(&of_stranger).await));
    assert!(!alive(ask(&of_known).await), "its session is not resumed either");
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("wheelport_tls_handshakes_total{outcome=\"failed\"} 2"), "{metrics}");
}

#[tokio::test]
async fn a_session_is_resumed_until_the_certificate_changes() {
    let certificates = Certificates::new();
    let proxy = certificates.builder().start_blind().await;
    for version in [&TLS12, &TLS13] {
        let client = TlsClient::new(&certificates.authority, &[version], None);
        let kind = async || {
            let mut stream = client.connect(proxy.address, "localhost").await.expect("a handshake");
            stream.write_all(GET).await.expect("open");
            // With TLS 1.3, the ticket comes before the first response.
            hear(&mut stream, "alive").await;
            stream.get_ref().1.handshake_kind()
        };
        assert_eq!(kind().await, Some(HandshakeKind::Full));
        assert_eq!(kind().await, Some(HandshakeKind::Resumed));
        certificates.authority.issue(&["localhost"]).write(certificates.dir.path(), "default");
        let_it_look(&proxy).await;
        assert_eq!(kind().await, Some(HandshakeKind::Full));
    }
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("wheelport_tls_handshakes_total{outcome=\"resumed\"} 2"), "{metrics}");
}

/// A connection on which a handshake begins and does not go on.
async fn hesitate(address: SocketAddr) -> TcpStream {
    let mut socket = soon("a connection", TcpStream::connect(address)).await.expect("the proxy accepts");
    // The header of a record that announces 512 bytes.
    socket.write_all(&[0x16, 3, 1, 2, 0, 1]).await.expect("open");
    socket
}

/// Whether the server has closed this connection.
async fn is_closed(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    soon("the end of a connection", socket.read_to_end(&mut rest)).await.is_ok_and(|_| rest.is_empty())
}

#[tokio::test]
async fn a_handshake_has_the_time_limit_of_headers() {
    let certificates = Certificates::new();
    let proxy = certificates.builder().start_blind().await;
    let mut silent = TcpStream::connect(proxy.address).await.expect("the proxy listens");
    let mut slow = hesitate(proxy.address).await;
    let open = async || {
        let connections = proxy.metrics().await;
        // One more is the connection that asks.
        connections.contains("\nwheelport_connections 3\n").then_some(())
    };
    until("both connections", open).await;
    proxy.pass(LIMIT + Duration::from_secs(1)).await;
    assert!(is_closed(&mut silent).await);
    let _ = is_closed(&mut slow).await;
    let counted =
        async || proxy.metrics().await.contains("tls_handshakes_total{outcome=\"timed-out\"} 2").then_some(());
    until("both to be counted", counted).await;
}

#[tokio::test]
async fn handshakes_take_places_of_their_address_and_one_beyond_them_is_told_over_tls() {
    let certificates = Certificates::new();
    let builder = certificates.builder().set(|builder| builder.server.max_connections_per_address = Some(2));
    let proxy = builder.start_blind().await;
    let held = [hesitate(proxy.address).await, hesitate(proxy.address).await];
    let response = certificates.client().get(proxy.address, "localhost", "/simple/").await.expect("a response");
    assert!(response.starts_with("HTTP/1.1 503 ") && response.contains("too-many-connections-of-client"), "{response}");
    drop(held);
    let free = async || {
        let response = certificates.client().get(proxy.address, "localhost", "/healthz").await;
        response.is_ok_and(|text| text.starts_with("HTTP/1.1 200 ")).then_some(())
    };
    until("a place to be free again", free).await;
}

#[tokio::test]
async fn when_handshakes_take_too_much_together_the_oldest_give_way() {
    let certificates = Certificates::new();
    let builder = certificates.builder().set(|builder| {
        builder.server.memory = Some(Size::mib(64));
        builder.server.max_connections_per_address = Some(1000);
        builder.server.header_timeout = HumanDuration::secs(600);
    });
    let proxy = builder.start_blind().await;
    let mut hesitating = Vec::new();
    // An eighth of what is left beside the program is 4 MiB, enough for 64.
    for _ in 0..80 {
        hesitating.push(hesitate(proxy.address).await);
    }
    assert!(is_closed(&mut hesitating[0]).await, "the oldest");
    let response = certificates.client().get(proxy.address, "localhost", "/healthz").await.expect("a response");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[tokio::test]
async fn plain_http_gets_a_400_that_says_what_to_do() {
    let certificates = Certificates::new();
    let proxy = certificates.builder().start_blind().await;
    for path in ["/simple/a-b/", "/healthz"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let response = proxy.client().raw(request.as_bytes()).await;
        let first = "HTTP/1.1 400 This port speaks HTTPS; write https:// in the address.\r\n";
        assert!(response.starts_with(first), "{response}");
        assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
    }
    let other = proxy.client().raw(b"\x00\x01\x02").await;
    assert!(!other.contains("HTTP"), "{other}");
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("tls_handshakes_total{outcome=\"plain-http\"} 2"), "{metrics}");
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_has_the_write_timeout_also_over_tls() {
    let certificates = Certificates::new();
    let builder = certificates.builder().set(|builder| builder.server.write_timeout = HumanDuration::secs(20));
    let (proxy, sdist) = (builder.start().await, Sample::sdist("1.0", 16 << 20));
    publish(&proxy.upstream, &[&sdist]);
    let client = certificates.client();
    client.get(proxy.address, "localhost", &sdist.path()).await.expect("a response");
    proxy.kept_by("blobs", 1).await;
    let mut stream = client.connect(proxy.address, "localhost").await.expect("a handshake");
    let request = format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", sdist.path());
    stream.write_all(request.as_bytes()).await.expect("open");
    let sent = async || {
        let metrics = proxy.metrics().await;
        let sent = metrics.lines().find_map(|line| line.strip_prefix("wheelport_sent_bytes_total{kind=\"file\"} "));
        sent.and_then(|sent| sent.parse::<u64>().ok()).unwrap_or_default()
    };
    let stalled = async || {
        let before = sent().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        (before > 16 << 20 && sent().await == before).then_some(())
    };
    until("the response to stall", stalled).await;
    proxy.pass(Duration::from_secs(21)).await;
    let ended = async || proxy.metrics().await.contains("\nwheelport_requests_in_flight 0\n").then_some(());
    until("the response to end", ended).await;
}

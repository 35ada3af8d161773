//! From a new connection to one that is encrypted, in a bounded time. The first byte tells TLS from plain HTTP.
//!
//! The memory of handshakes is bounded by the listener: to its table of connections, a handshake is the beginning of
//! headers.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::ClientCertificate;
use super::keeper::ServerCertificates;
use crate::telemetry::Metrics;
use wheelport_runtime::sabotaged;

/// What a handshake may take of memory, in bytes: the longest message that the TLS library takes.
pub(in crate::web) const HANDSHAKE_MEMORY: usize = 64 << 10;
/// The first byte of every TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;
/// What waits encrypted for a client to take it, in bytes: a chunk of a file, with the headers before it.
const BUFFER: usize = 72 << 10;
/// The same where there are many connections: one record.
const SMALL_BUFFER: usize = 16 << 10;

/// What a new connection turned out to be.
pub(in crate::web) enum Opened {
    /// An encrypted one, and who is at its other end, if that was shown.
    Encrypted(Box<TlsStream<TcpStream>>, Option<ClientCertificate>),
    /// One on which plain HTTP is spoken.
    Plain(TcpStream),
}

/// How a handshake ended; the text is the label in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandshakeOutcome {
    Full,
    Resumed,
    PlainHttp,
    Failed,
    TimedOut,
    /// The client left without a word, as load balancers do that only look whether the port is open.
    Left,
}

impl HandshakeOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::PlainHttp => "plain-http",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Left => "left",
        }
    }
}

/// How handshakes are made.
pub(in crate::web) struct Handshake<'a> {
    pub(in crate::web) certificates: &'a ServerCertificates,
    /// How long everything may take, from the connection on.
    pub(in crate::web) limit: Duration,
    /// Whether there are so many connections that each may have only little memory.
    pub(in crate::web) is_crowded: bool,
    pub(in crate::web) metrics: &'a Metrics,
}

impl Handshake<'_> {
    /// Makes one; `None` if it came to nothing, which was counted.
    pub(in crate::web) async fn with(&self, stream: TcpStream) -> Option<Opened> {
        let client = stream.peer_addr().ok();
        let limit = if sabotaged("handshake-timeout") { Duration::from_hours(1) } else { self.limit };
        let (outcome, opened) = match tokio::time::timeout(limit, self.open(stream)).await {
            Ok(Ok((outcome, opened))) => (outcome, Some(opened)),
            Ok(Err(error)) => {
                let outcome = if error.kind() == io::ErrorKind::UnexpectedEof {
                    HandshakeOutcome::Left
                } else {
                    HandshakeOutcome::Failed
                };
                tracing::debug!(client = ?client.map(|client| client.ip()), %error, "a TLS handshake failed");
                (outcome, None)
            }
            Err(_) => (HandshakeOutcome::TimedOut, None),
        };
        self.metrics.tls_handshake(outcome.as_str());
        opened
    }

    async fn open(&self, stream: TcpStream) -> io::Result<(HandshakeOutcome, Opened)> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != TLS_HANDSHAKE && first[0].is_ascii_alphabetic() && !sabotaged("plain-to-tls") {
            return Ok((HandshakeOutcome::PlainHttp, Opened::Plain(stream)));
        }
        let buffer = if self.is_crowded { SMALL_BUFFER } else { BUFFER };
        let acceptor = TlsAcceptor::from(self.certificates.config());
        let stream = acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(buffer))).await?;
        let (_, session) = stream.get_ref();
        let outcome = match session.handshake_kind() {
            Some(rustls::HandshakeKind::Resumed) => HandshakeOutcome::Resumed,
            _ => HandshakeOutcome::Full,
        };
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let client = shown.and_then(|shown| ClientCertificate::verified(shown, self.certificates.now()));
        Ok((outcome, Opened::Encrypted(Box::new(stream), client)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;
    use wheelport_runtime::Clock;

    use super::super::settings::{CertificateFiles, TlsSettings};
    use super::*;

    type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

    fn issue(authority: &CertifiedIssuer<'static, KeyPair>, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
    }

    #[tokio::test]
    async fn a_certificate_that_a_client_shows_says_who_it_is() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let server = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let dir = tempfile::tempdir().expect("a directory");
        let files = CertificateFiles { certificate: dir.path().join("crt"), key: dir.path().join("key") };
        let ca = dir.path().join("ca");
        for (path, text) in [
            (&files.certificate, server.cert.pem()),
            (&files.key, server.signing_key.serialize_pem()),
            (&ca, authority.pem()),
        ] {
            std::fs::write(path, text).expect("written");
        }
        let settings = TlsSettings { default: files, further: Vec::new(), client_ca: Some(ca) };
        let certificates = ServerCertificates::read(settings, Clock::system()).expect("usable");

        let mut params = CertificateParams::new(["build-1.acme.test".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::URI("spiffe://acme/build/1".try_into().expect("a URI")));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "build-1");
        let (certificate, key) = issue(&authority, &params);
        let mut roots = RootCertStore::empty();
        roots.add(server.cert.der().clone()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .expect("a pair");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let metrics = Metrics::default();
        let serve = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            let limit = Duration::from_secs(20);
            let handshake = Handshake { certificates: &certificates, limit, is_crowded: true, metrics: &metrics };
            handshake.with(stream).await
        };
        let connect = async {
            let stream = TcpStream::connect(address).await.expect("it listens");
            let name = ServerName::try_from("localhost").expect("a name");
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
        };
        let (opened, _stream) = tokio::join!(serve, connect);
        let Some(Opened::Encrypted(_, Some(client))) = opened else { panic!("no client certificate") };
        assert_eq!(client.subject(), "CN=build-1");
        assert_eq!(client.dns_names(), ["build-1.acme.test"]);
        assert_eq!(client.uris(), ["spiffe://acme/build/1"]);
        assert!(metrics.text().contains("wheelport_tls_handshakes_total{outcome=\"full\"} 1"));
    }
}

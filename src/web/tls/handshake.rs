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

/// What a handshake may take of memory, in bytes.
pub(in crate::web) const HANDSHAKE_MEMORY: usize = 32 << 10;
/// The first byte of every TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;
/// What waits encrypted for a client to take it, in bytes.
const BUFFER: usize = 64 << 10;
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
            Self::PlainHttp => "plain_http",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
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
        if first[0] != TLS_HANDSHAKE && first[0].is_ascii_alphabetic() {
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

//! One HTTP request over a connection of its own, to a running server; it needs no configuration and no AWS.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::{Host, Url};

/// The longest response that is read, in bytes.
const MAX_RESPONSE: u64 = 16 << 20;

/// An `http` URL in its parts.
pub(super) struct PlainUrl<'a> {
    host: String,
    port: u16,
    url: &'a Url,
}

impl<'a> PlainUrl<'a> {
    /// `None` if it cannot be requested: another scheme than these, or a user name.
    pub(super) fn of(url: &'a Url, schemes: &[&str]) -> Option<Self> {
        if !schemes.contains(&url.scheme()) || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = match url.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        Some(Self { host, port: url.port_or_known_default()?, url })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect((self.host.as_str(), self.port)).await
    }

    /// The head of a request. `agent` is the user agent; `secret` is sent as a bearer token; `length` is the body's.
    pub(super) fn head(
        &self,
        method: &str,
        version: &str,
        agent: &str,
        secret: Option<&str>,
        length: Option<usize>,
    ) -> String {
        let authority = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let path = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let authorization = secret.map(|secret| format!("Authorization: Bearer {secret}\r\n")).unwrap_or_default();
        let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
        format!(
            "{method} {path} HTTP/{version}\r\nHost: {authority}\r\nUser-Agent: {agent}\r\n{authorization}{length}\
             Connection: close\r\n\r\n"
        )
    }

    /// The complete response over plain HTTP, as text. `agent` is the user agent; `secret` is sent as a bearer token.
    pub(super) async fn request(
        &self,
        method: &str,
        agent: &str,
        secret: Option<&str>,
        body: &str,
    ) -> io::Result<String> {
        self.request_over(self.connect().await?, method, agent, secret, body).await
    }

    /// As [`PlainUrl::request`], over a connection that is there.
    pub(super) async fn request_over(
        &self,
        mut connection: impl AsyncRead + AsyncWrite + Unpin,
        method: &str,
        agent: &str,
        secret: Option<&str>,
        body: &str,
    ) -> io::Result<String> {
        let request = self.head(method, "1.1", agent, secret, Some(body.len())) + body;
        connection.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        connection.take(MAX_RESPONSE).read_to_end(&mut response).await?;
        Ok(String::from_utf8_lossy(&response).into_owned())
    }
}

/// Where a server that listens here is reached: over loopback if it is a wildcard.
pub(super) fn reachable(mut at: SocketAddr) -> SocketAddr {
    if at.ip().is_unspecified() {
        at.set_ip(if at.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    at
}

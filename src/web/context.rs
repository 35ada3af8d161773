//! One request, described once: everything later steps want to know about it, before anything is looked up.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, PROXY_AUTHORIZATION};
use http::{HeaderName, Method, Request, Uri};
use tokio::time::Instant;

use super::Site;
use super::attribution::Attribution;
use super::guard;
use super::tls::ClientCertificate;
use crate::telemetry::ResponseKind;
use wheelport_runtime::sabotaged;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    pub address: SocketAddr,
    /// Whether the connection itself is encrypted; a proxy before us may have ended TLS.
    pub is_encrypted: bool,
    /// Whom its certificate stands for, if it has shown one that was verified.
    pub certificate: Option<ClientCertificate>,
}

impl PeerInfo {
    /// The other end of a connection without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, is_encrypted: false, certificate: None }
    }
}

/// The id of a request, made here; an id that a client sends is not taken over.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestId([u8; 16]);

/// By what a request shows whose it is. Only the gate looks at it.
pub(super) struct Credentials {
    /// `Authorization` alone.
    pub headers: HeaderMap,
    /// That of the connection.
    pub certificate: Option<ClientCertificate>,
}

/// What is known of a request from its headers and its connection.
#[derive(Clone)]
pub(super) struct RequestContext {
    pub id: RequestId,
    pub started: Instant,
    /// The address of the other end of the connection.
    pub peer: IpAddr,
    /// Whether the connection itself is encrypted.
    pub is_encrypted: bool,
    /// The address of the client, which trusted proxies name.
    pub client: IpAddr,
    pub method: Method,
    pub uri: Uri,
    /// The headers, without credentials.
    pub headers: HeaderMap,
    /// What is requested, as far as the address is known.
    pub kind: ResponseKind,
    /// Whom the access log names.
    pub identity: Attribution,
}

impl RequestId {
    fn new() -> Self {
        let number = fastrand::u64(..);
        let digit = |at: usize| usize::try_from(number >> (4 * at) & 15).unwrap_or_default();
        Self(std::array::from_fn(|at| b"0123456789abcdef"[digit(at)]))
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl RequestContext {
    /// Describes a request. Its body and the credentials that it presents come back apart.
    pub(super) fn new<B>(site: &Site, peer: &PeerInfo, request: Request<B>) -> (Self, Credentials, B) {
        let (mut parts, body) = request.into_parts();
        let headers = take_credentials(&mut parts.headers);
        let credentials = Credentials { headers, certificate: peer.certificate.clone() };
        let is_encrypted = peer.is_encrypted;
        let peer = peer.address.ip();
        let context = Self {
            id: RequestId::new(),
            started: Instant::now(),
            peer,
            is_encrypted,
            client: guard::client_address(peer, &parts.headers, &site.trusted_proxies),
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            kind: ResponseKind::Other,
            identity: Attribution::Nobody,
        };
        (context, credentials, body)
    }

    /// A request of a test, with these headers.
    #[cfg(test)]
    pub(super) fn of_test(method: Method, headers: HeaderMap) -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let (id, started, uri) = (RequestId::new(), Instant::now(), Uri::from_static("/"));
        let (kind, identity) = (ResponseKind::Other, Attribution::Nobody);
        let (peer, client, is_encrypted) = (loopback, loopback, false);
        Self { id, started, peer, is_encrypted, client, method, uri, headers, kind, identity }
    }

    /// What the client says of itself.
    pub(super) fn user_agent(&self) -> Option<&str> {
        self.headers.get(http::header::USER_AGENT)?.to_str().ok()
    }

    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }

    /// Whether the request only reads.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

/// Takes the credentials out of the headers. Only the gate looks at them, and at `Authorization` alone.
fn take_credentials(headers: &mut HeaderMap) -> HeaderMap {
    static SECRET: [HeaderName; 3] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];
    let mut credentials = HeaderMap::new();
    if headers.keys().any(|name| SECRET.contains(name)) {
        credentials.extend(headers.get_all(AUTHORIZATION).iter().map(|value| (AUTHORIZATION, value.clone())));
        for name in SECRET.iter().filter(|_| !sabotaged("credential-stripping")) {
            headers.remove(name);
        }
    }
    credentials
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn credentials_leave_the_headers_and_authorization_alone_is_kept_apart() {
        let mut headers = HeaderMap::new();
        for name in [AUTHORIZATION, AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, http::header::ACCEPT] {
            headers.append(name, HeaderValue::from_static("secret"));
        }
        let credentials = take_credentials(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [http::header::ACCEPT]);
        assert_eq!(credentials.get_all(AUTHORIZATION).iter().count(), 2);
        assert_eq!(credentials.keys_len(), 1);
    }
}

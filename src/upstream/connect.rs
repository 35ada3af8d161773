//! Connections: TCP, an optional HTTP proxy, TLS, and one time limit around all of it.
//!
//! Certificates are verified against the system's authorities and, if configured, those of one more file. There is no
//! way to leave the verification out. Proxy variables of the environment are not read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower::Service;

use super::forbidden::{CheckedResolver, EndpointHosts};
use super::settings::ClientSettings;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the settings make no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of additional certificate authorities cannot be used.
    #[error("cannot read certificate authorities from {}: {reason}", path.display())]
    CaFile { path: PathBuf, reason: String },
    /// The TLS library refuses its configuration.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
struct ConnectTimedOut(Duration);

/// Makes connections for the pool.
#[derive(Clone)]
pub(super) struct Connector {
    tls: HttpsConnector<TcpConnector>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(settings: &ClientSettings, endpoints: &EndpointHosts) -> Result<Self, ClientError> {
        let limit = settings.connect_timeout.get();
        let mut tcp = HttpConnector::new_with_resolver(CheckedResolver::new(endpoints.clone()));
        let mut direct = HttpConnector::new();
        configure(&mut tcp, limit);
        configure(&mut direct, limit);
        let proxy = settings
            .proxy
            .as_ref()
            .map(|proxy| Arc::new(Matcher::builder().https(proxy.expose()).no(settings.no_proxy.as_str()).build()));
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(settings.ca_file.as_deref())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(TcpConnector { tcp, direct, proxy, endpoints: endpoints.clone() });
        Ok(Self { tls, limit })
    }
}

fn configure<R>(tcp: &mut HttpConnector<R>, limit: Duration) {
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_mins(1)));
    // Divided among the addresses of a name, so that one dead address does not use up the time of the others.
    tcp.set_connect_timeout(Some(limit));
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tls.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (connecting, limit) = (self.tls.call(target), self.limit);
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(outcome) => outcome,
                Err(_) => Err(ConnectTimedOut(limit).into()),
            }
        })
    }
}

/// The TCP connection below TLS: straight to the target, or through a tunnel that the proxy opens.
///
/// Only https targets go through the proxy; a plain http target is a local emulator.
#[derive(Clone)]
struct TcpConnector {
    tcp: HttpConnector<CheckedResolver>,
    /// To the proxy, which is configured and may be anywhere.
    direct: HttpConnector,
    proxy: Option<Arc<Matcher>>,
    endpoints: EndpointHosts,
}

impl Service<Uri> for TcpConnector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        if let Err(forbidden) = self.endpoints.check_literal(target.host().unwrap_or_default()) {
            return Box::pin(async move { Err(forbidden.into()) });
        }
        let Some(proxy) = self.proxy.as_ref().and_then(|proxy| proxy.intercept(&target)) else {
            let connecting = self.tcp.call(target);
            return Box::pin(async move { Ok(connecting.await?) });
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.direct.clone());
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        let connecting = tunnel.call(target);
        Box::pin(async move { Ok(connecting.await?) })
    }
}

fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (usable, _) = roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        add_authorities(&mut roots, path)?;
    } else if usable == 0 {
        tracing::warn!("the system has no certificate authorities; no https upstream can be reached");
    }
    // Named here because a process with two providers cannot choose by itself.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), ClientError> {
    let refuse = |reason: String| ClientError::CaFile { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error: io::Error| refuse(error.to_string()))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
        count += 1;
    }
    if count == 0 { Err(refuse("it holds no certificate".to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ca_file(path: PathBuf) -> Result<Connector, ClientError> {
        let settings = ClientSettings { ca_file: Some(path), ..ClientSettings::default() };
        Connector::new(&settings, &EndpointHosts::default())
    }

    #[test]
    fn a_ca_file_that_cannot_be_used_stops_the_start() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("ca.pem");
        let error = |path: &Path| match with_ca_file(path.to_owned()) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(error) => error.to_string(),
        };
        assert!(error(&path).contains("ca.pem"), "a missing file is named");
        std::fs::write(&path, "nothing").expect("a file");
        assert!(error(&path).contains("no certificate"));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("a file");
        assert!(error(&path).contains("ca.pem"));
    }

    #[tokio::test]
    async fn a_host_that_upstream_names_is_never_this_machine() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let endpoints = EndpointHosts::default();
        let connector = Connector::new(&ClientSettings::default(), &endpoints).expect("a connector");
        let connect = async |host: &str| {
            let target = format!("http://{host}:{port}/").parse().expect("an address");
            connector.clone().call(target).await.map(drop).map_err(|error| crate::upstream::error::chain(&*error))
        };
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"] {
            let refused = connect(host).await.expect_err("this machine");
            assert!(refused.contains("no host that upstream names"), "{host}: {refused}");
        }
        endpoints.add("127.0.0.1");
        for host in ["127.0.0.1", "localhost"] {
            assert_eq!(connect(host).await, Ok(()), "{host}");
        }
    }
}

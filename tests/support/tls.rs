//! Certificates for servers on loopback; `tls/make.sh` makes them again.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wheelport::web::CertificateFiles;

use super::client::soon;

/// For `localhost` and 127.0.0.1.
pub(crate) const GOOD: &str = "good.pem";
/// For a name that is not the server's.
pub(crate) const OTHER_NAME: &str = "other-name.pem";
/// For the right name, but over since 2020.
pub(crate) const EXPIRED: &str = "expired.pem";

/// The authority that issued all of them.
pub(crate) fn authority() -> PathBuf {
    file("ca.pem")
}

/// Accepts connections with one of the certificates.
pub(crate) fn acceptor(certificate: &str) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(file(certificate))
        .and_then(Iterator::collect)
        .expect("a certificate of this directory");
    let key = std::fs::read(file("server.key.der")).expect("the key of this directory");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key fits the certificate");
    TlsAcceptor::from(Arc::new(config))
}

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "support", "tls", name].iter().collect()
}

/// An authority of a test, and what it issues.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
pub(crate) struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "An authority of a test");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    /// Its own certificate, PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, of this century.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 2099)
    }

    /// A certificate for these names that ends with this year's first day.
    pub(crate) fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        self.issue_with(names, |params| params.not_after = rcgen::date_time_ymd(year, 1, 1))
    }

    /// A certificate for these DNS names and whatever else.
    pub(crate) fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = rcgen::date_time_ymd(2099, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    /// Writes both into files of this name, replacing what is there as a careful program does.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> CertificateFiles {
        let files =
            CertificateFiles { certificate: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
        for (path, text) in [(&files.certificate, &self.certificate), (&files.key, &self.key)] {
            let new = path.with_extension("new");
            std::fs::write(&new, text).expect("written");
            std::fs::rename(&new, path).expect("replaced");
        }
        files
    }
}

/// A client that trusts one authority.
pub(crate) struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// It speaks these versions and shows this certificate.
    pub(crate) fn new(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Issued>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("the provider has them")
            .with_root_certificates(roots);
        let mut config = match shown {
            Some(shown) => {
                let chain = CertificateDer::pem_slice_iter(shown.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain.collect::<Result<_, _>>().expect("a chain"), key).expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    /// One with every default.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        Self::new(authority, rustls::ALL_VERSIONS, None)
    }

    /// An encrypted connection to this server name.
    pub(crate) async fn connect(&self, address: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
        self.encrypt(TcpStream::connect(address).await?, name).await
    }

    /// The same over a connection that is there.
    pub(crate) async fn encrypt(&self, socket: TcpStream, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        soon("a TLS handshake", TlsConnector::from(Arc::clone(&self.0)).connect(name, socket)).await
    }

    /// Everything that the server says to one GET, which closes the connection.
    pub(crate) async fn get(&self, address: SocketAddr, name: &str, path: &str) -> io::Result<String> {
        self.ask(address, name, &format!("GET {path} HTTP/1.1"), "", &[]).await
    }

    /// Everything that the server says to one request, which closes the connection. Each header ends with its line.
    pub(crate) async fn ask(
        &self,
        address: SocketAddr,
        name: &str,
        request: &str,
        headers: &str,
        body: &[u8],
    ) -> io::Result<String> {
        let mut stream = self.connect(address, name).await?;
        let length = body.len();
        let head =
            format!("{request}\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).await?;
        let mut response = Vec::new();
        soon("a response over TLS", stream.read_to_end(&mut response)).await?;
        Ok(String::from_utf8_lossy(&response).into_owned())
    }
}

//! Certificates for servers on loopback; `tls/make.sh` makes them again.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

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

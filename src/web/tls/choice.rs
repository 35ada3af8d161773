//! Which certificate a client is shown: the one for the server name it asks for, else the default one. Pure.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::files::ServedCertificate;

/// Certificates, the default one first.
#[derive(Debug)]
pub(super) struct CertificateChoice(pub(super) Vec<Arc<ServedCertificate>>);

impl CertificateChoice {
    /// The first certificate with this name whose key `suits` the client, so that an ECDSA and an RSA certificate may
    /// have one name; the default one if there is none.
    fn choose(
        &self,
        server: Option<&str>,
        suits: impl Fn(&ServedCertificate) -> bool,
    ) -> Option<&Arc<ServedCertificate>> {
        let named = server.and_then(|server| {
            let mut named = self.0.iter().filter(|certificate| certificate.facts.covers(server));
            named.find(|certificate| suits(certificate))
        });
        named.or(self.0.first())
    }
}

impl ResolvesServerCert for CertificateChoice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits =
            |certificate: &ServedCertificate| certificate.key.key.choose_scheme(hello.signature_schemes()).is_some();
        Some(Arc::clone(&self.choose(hello.server_name(), suits)?.key))
    }
}

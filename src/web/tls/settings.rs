//! The `[server.tls]` table: which files hold certificates and keys. Their contents are read by `files`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Certificates besides the default one.
const MAX_FURTHER: usize = 100;

/// `[server.tls]` as it stands in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsTable {
    /// The chain of the default certificate, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Authorities whose client certificates are believed, PEM.
    pub client_ca: Option<PathBuf>,
    /// Further certificates, chosen by server name.
    pub certificate_for: Vec<CertificateFiles>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

/// What a listener that speaks TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Shown to clients that name no server, or one that no certificate has.
    pub default: CertificateFiles,
    /// Shown to those that name a server it has.
    pub further: Vec<CertificateFiles>,
    /// Authorities whose client certificates are believed.
    pub client_ca: Option<PathBuf>,
}

impl TlsTable {
    /// The settings; `None` where nothing is set. The error says what is missing.
    pub fn complete(self) -> Result<Option<TlsSettings>, String> {
        let Self { certificate, key, client_ca, certificate_for: further } = self;
        match (certificate, key) {
            (Some(certificate), Some(key)) if further.len() <= MAX_FURTHER => {
                Ok(Some(TlsSettings { default: CertificateFiles { certificate, key }, further, client_ca }))
            }
            (Some(_), Some(_)) => Err(format!("[server.tls] may have {MAX_FURTHER} certificate_for tables at most")),
            (None, None) if client_ca.is_none() && further.is_empty() => Ok(None),
            _ => Err("[server.tls] needs both certificate and key (--tls-certificate, WHEELPORT_TLS_CERTIFICATE; \
                      --tls-key, WHEELPORT_TLS_KEY)"
                .to_owned()),
        }
    }
}

impl TlsSettings {
    /// Every pair, the default one first.
    pub fn pairs(&self) -> impl Iterator<Item = &CertificateFiles> {
        std::iter::once(&self.default).chain(&self.further)
    }

    /// Every file.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.pairs().flat_map(|pair| [pair.certificate.as_path(), pair.key.as_path()]);
        pairs.chain(self.client_ca.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> Result<Option<TlsSettings>, String> {
        toml::from_str::<TlsTable>(text).map_err(|error| error.to_string())?.complete()
    }

    #[test]
    fn a_certificate_needs_its_key_and_nothing_is_plain_http() {
        assert_eq!(complete(""), Ok(None));
        for half in ["certificate = \"a\"", "key = \"a\"", "client_ca = \"a\""] {
            assert!(complete(half).is_err_and(|error| error.contains("both certificate and key")), "{half}");
        }
        assert!(complete("certificate = \"a\"\nkey = \"b\"\nca = \"c\"").is_err_and(|error| error.contains("`ca`")));
        let text = "certificate = \"a\"\nkey = \"b\"\nclient_ca = \"c\"\n\
                    [[certificate_for]]\ncertificate = \"d\"\nkey = \"e\"\n";
        let settings = complete(text).expect("complete").expect("something");
        let files: Vec<_> = settings.files().map(|file| file.display().to_string()).collect();
        assert_eq!(files, ["a", "b", "d", "e", "c"]);
    }
}

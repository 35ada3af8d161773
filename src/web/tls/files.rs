//! Reads certificates, keys and authorities from files, and says in words what is wrong with them. Blocking.
//!
//! A key leaves this file only inside the TLS library's own type.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use secrecy::{ExposeSecret as _, SecretSlice};

use super::certificate::CertificateFacts;
use super::settings::CertificateFiles;
use wheelport_runtime::sabotaged;

/// The longest file, in bytes; a bundle with every public authority has a quarter of it.
const LONGEST_FILE: u64 = 1 << 20;

/// Why a file cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}; it must be there and readable for this user", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// The file has no certificate, or one that is damaged.
    #[error(
        "{} holds no certificate that can be used ({reason}); it must be PEM, the server's own certificate first and \
         those of intermediate authorities after it", path.display()
    )]
    BadCertificate { path: PathBuf, reason: String },
    /// The file has no key.
    #[error(
        "{} holds no private key; it must be PEM and begin with -----BEGIN PRIVATE KEY----- or alike", path.display()
    )]
    NoKey { path: PathBuf },
    /// The key needs a passphrase.
    #[error(
        "the key {} is encrypted, and no passphrase can be given; write it without one: openssl pkey -in {} -out KEY",
        path.display(), path.display()
    )]
    EncryptedKey { path: PathBuf },
    /// The key is of a kind that is not known.
    #[error("the key {} cannot be used ({reason}); use an ECDSA (P-256, P-384), Ed25519 or RSA key", path.display())]
    BadKey { path: PathBuf, reason: String },
    /// The key is not that of the certificate.
    #[error(
        "the key {} does not belong to the certificate {}; the outputs of openssl pkey -in KEY -pubout and openssl \
         x509 -in CERTIFICATE -noout -pubkey have to be the same", key.display(), certificate.display()
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
    /// The certificate is no longer good.
    #[error("the certificate {} ended at {ended}; renew it, or check the clock of this machine", path.display())]
    Ended { path: PathBuf, ended: String },
    /// The authorities cannot be used.
    #[error("{} holds no certificate authority that can be used ({reason}); it must be PEM", path.display())]
    BadAuthority { path: PathBuf, reason: String },
    /// The TLS library refuses what was read.
    #[error("cannot set up TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// A certificate with its key, ready to be shown.
#[derive(Debug)]
pub(super) struct ServedCertificate {
    pub(super) files: CertificateFiles,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) facts: CertificateFacts,
}

/// What tells a changed file from the same one; `None` for a file that is not there.
pub(super) type Fingerprint = Option<[i128; 7]>;

/// The fingerprint of what is at this path now, through all symbolic links.
pub(super) fn fingerprint(path: &Path) -> Fingerprint {
    let of = std::fs::metadata(path).ok()?;
    let times = [of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()];
    let [mtime, mtime_ns, ctime, ctime_ns] = times.map(i128::from);
    Some([of.dev().into(), of.ino().into(), of.len().into(), mtime, mtime_ns, ctime, ctime_ns])
}

/// Reads a certificate and its key, which have to fit together.
pub(super) fn read_pair(
    files: &CertificateFiles,
    now: SystemTime,
    provider: &CryptoProvider,
) -> Result<ServedCertificate, TlsError> {
    let chain = read_chain(&files.certificate)?;
    let key = read_key(&files.key)?;
    let bad = |reason: String| TlsError::BadCertificate { path: files.certificate.clone(), reason };
    let Some(first) = chain.first() else { return Err(bad("it is empty".to_owned())) };
    let facts = CertificateFacts::read(first).map_err(|error| bad(error.to_string()))?;
    let unusable = |error: rustls::Error| TlsError::BadKey { path: files.key.clone(), reason: error.to_string() };
    let key = CertifiedKey::new(chain, provider.key_provider.load_private_key(key).map_err(unusable)?);
    match key.keys_match() {
        // A key whose public half is not known may fit.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) if !sabotaged("key-mismatch") => {
            return Err(TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() });
        }
        Err(rustls::Error::InconsistentKeys(_)) => {}
        Err(error) => return Err(bad(error.to_string())),
    }
    if facts.ends < now && !sabotaged("ended-certificate") {
        let ended = humantime::format_rfc3339_seconds(facts.ends).to_string();
        return Err(TlsError::Ended { path: files.certificate.clone(), ended });
    }
    Ok(ServedCertificate { files: files.clone(), key: Arc::new(key), facts })
}

/// Reads the authorities of clients.
pub(super) fn read_authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let bad = |reason: String| TlsError::BadAuthority { path: path.to_owned(), reason };
    let text = read(path)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        store.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if store.is_empty() { Err(bad("it is empty".to_owned())) } else { Ok(store) }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    chain.map_err(|error| TlsError::BadCertificate { path: path.to_owned(), reason: error.to_string() })
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text: SecretSlice<u8> = read(path)?.into();
    let text = text.expose_secret();
    if is_encrypted(text) {
        return Err(TlsError::EncryptedKey { path: path.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::NoKey { path: path.to_owned() },
        error => TlsError::BadKey { path: path.to_owned(), reason: error.to_string() },
    })
}

/// Whether the key needs a passphrase, in either of the two ways in which PEM says so.
fn is_encrypted(text: &[u8]) -> bool {
    let marks = [b"-----BEGIN ENCRYPTED PRIVATE KEY".as_slice(), b"Proc-Type: 4,ENCRYPTED"];
    marks.iter().any(|mark| text.windows(mark.len()).any(|window| window == *mark))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok(bytes)
}

//! The certificate of `wheelport demo --tls`, made at its start by an authority that exists for that moment only: its
//! key is never written.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::config::TlsOverrides;
use wheelport_runtime::Clock;

/// How long the certificate is good. Some clients refuse those that are good for years.
const LIFETIME: Duration = Duration::from_hours(24 * 30);
/// How far the clocks of clients may be behind.
const SKEW: Duration = Duration::from_hours(24);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoCertificateError {
    #[error("no certificate could be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{} cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Where the certificate, its key and its authority are.
#[derive(Debug)]
pub(super) struct DemoCertificate {
    /// The file that clients have to trust.
    pub(super) authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl DemoCertificate {
    /// Makes a certificate for loopback and this address, in a directory that only this user can read.
    pub(super) fn make(dir: &Path, listen: IpAddr, clock: &Clock) -> Result<Self, DemoCertificateError> {
        let dir = dir.join("tls");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|source| DemoCertificateError::Write { path: dir.clone(), source })?;
        let made =
            Self { authority: dir.join("ca.pem"), certificate: dir.join("certificate.pem"), key: dir.join("key.pem") };
        let authority = CertifiedIssuer::self_signed(authority(clock), KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = server(listen, clock)?.signed_by(&key, &authority)?;
        write(&made.key, &key.serialize_pem())?;
        write(&made.certificate, &certificate.pem())?;
        write(&made.authority, &authority.pem())?;
        Ok(made)
    }

    /// With this certificate the proxy speaks TLS.
    pub(super) fn overrides(&self) -> TlsOverrides {
        TlsOverrides { certificate: Some(self.certificate.clone()), key: Some(self.key.clone()), client_ca: None }
    }
}

fn authority(clock: &Clock) -> CertificateParams {
    let mut params = of_this_time(clock);
    params.distinguished_name.push(DnType::CommonName, "Wheelport demo, good for this demo only");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server(listen: IpAddr, clock: &Clock) -> Result<CertificateParams, rcgen::Error> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), Ipv6Addr::LOCALHOST.to_string()];
    if !listen.is_unspecified() && !listen.is_loopback() {
        names.push(listen.to_string());
    }
    let mut params = of_this_time(clock);
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn of_this_time(clock: &Clock) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = (clock.now() - SKEW).into();
    params.not_after = (clock.now() + LIFETIME).into();
    params
}

/// Writes a file that only this user can read, in place of one that may be there.
fn write(path: &Path, text: &str) -> Result<(), DemoCertificateError> {
    let written = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    written().map_err(|source| DemoCertificateError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::web::{ServerCertificates, TlsTable};

    #[test]
    fn it_can_be_served_and_only_its_user_can_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::system();
        for _ in 0..2 {
            let made = DemoCertificate::make(dir.path(), IpAddr::from([192, 0, 2, 1]), &clock).expect("made");
            let overrides = made.overrides();
            let table = TlsTable { certificate: overrides.certificate, key: overrides.key, ..TlsTable::default() };
            let settings = table.complete().expect("complete").expect("TLS");
            let served = ServerCertificates::read(settings, clock.clone()).expect("it can be used");
            assert!(served.covers("localhost"));
            for entry in fs::read_dir(dir.path().join("tls")).expect("made") {
                let mode = entry.expect("an entry").metadata().expect("a file").permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
            assert_eq!(fs::read_dir(dir.path().join("tls")).expect("made").count(), 3, "no key of the authority");
        }
    }
}

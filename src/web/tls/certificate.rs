//! What a certificate says: its names, whom it stands for, and from when to when it is good. Pure.
//!
//! Whether it is to be believed is not decided here: of clients, only certificates that the TLS library has verified
//! come this far.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

/// Names of one kind that are read of a certificate; more are left out, so that they match nothing.
const MAX_NAMES: usize = 200;
/// The longest name that is read, in bytes; longer ones are left out.
const LONGEST_NAME: usize = 2048;

/// The short names of RFC 4514 and the object identifiers they stand for.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// What is read of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateFacts {
    /// As RFC 4514 writes it: `CN=build-1,OU=build,O=acme`.
    pub(super) subject: String,
    /// In lower case.
    pub(super) dns_names: Vec<String>,
    pub(super) uris: Vec<String>,
    pub(super) begins: SystemTime,
    pub(super) ends: SystemTime,
}

/// Bytes that are no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no X.509 certificate")]
pub(super) struct NoCertificate;

impl CertificateFacts {
    /// Reads a certificate in DER.
    pub(super) fn read(der: &[u8]) -> Result<Self, NoCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| NoCertificate)?;
        let alternatives = certificate.subject_alternative_name().map_err(|_| NoCertificate)?;
        let (mut dns_names, mut uris) = (Vec::new(), Vec::new());
        for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => keep(&mut dns_names, name.to_ascii_lowercase()),
                GeneralName::URI(uri) => keep(&mut uris, (*uri).to_owned()),
                _ => {}
            }
        }
        let validity = certificate.validity();
        Ok(Self {
            subject: Some(distinguished_name(certificate.subject()))
                .filter(|subject| subject.len() <= LONGEST_NAME)
                .unwrap_or_default(),
            dns_names,
            uris,
            begins: moment(validity.not_before.timestamp()),
            ends: moment(validity.not_after.timestamp()),
        })
    }

    /// Whether the certificate is for this server name; `*.` stands for one label.
    pub(super) fn covers(&self, server: &str) -> bool {
        let server = server.trim_end_matches('.').to_ascii_lowercase();
        let parent = server.split_once('.').map(|(_, parent)| parent);
        self.dns_names.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => *name == server,
        })
    }
}

/// Whom a client certificate stands for. It was verified when the connection began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    facts: Arc<CertificateFacts>,
}

impl ClientCertificate {
    /// Reads the certificate that the other end of a connection has shown, if it is good at this time: a session that
    /// is resumed was verified when it began, and its certificate may have ended since.
    pub(super) fn verified(der: &[u8], now: SystemTime) -> Option<Self> {
        let facts = CertificateFacts::read(der).ok()?;
        let is_good = now <= facts.ends || wheelport_runtime::sabotaged("ended-client-certificate");
        is_good.then(|| Self { facts: Arc::new(facts) })
    }

    /// The subject as RFC 4514 writes it, such as `CN=build-1,OU=build,O=acme`; empty where there is none.
    pub fn subject(&self) -> &str {
        &self.facts.subject
    }

    /// The DNS names, in lower case.
    pub fn dns_names(&self) -> &[String] {
        &self.facts.dns_names
    }

    /// The URIs, such as `spiffe://acme/build/1`.
    pub fn uris(&self) -> &[String] {
        &self.facts.uris
    }

    /// When the certificate ends.
    pub fn ends(&self) -> SystemTime {
        self.facts.ends
    }
}

fn keep(names: &mut Vec<String>, name: String) {
    let is_plain = name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
    if is_plain && names.len() < MAX_NAMES {
        names.push(name);
    }
}

fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }.unwrap_or(UNIX_EPOCH)
}

/// The name as RFC 4514 writes it, last part first. What has a meaning there is escaped, so that no value can pass for
/// two.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let mut parts: Vec<_> = name.iter().collect();
    parts.reverse();
    for part in parts {
        for (position, attribute) in part.iter().enumerate() {
            let separator = if position > 0 { "+" } else { "," };
            let oid = attribute.attr_type().to_id_string();
            let kind = ATTRIBUTES.iter().find(|(known, _)| *known == oid).map_or(oid.as_str(), |(_, short)| short);
            let Ok(value) = attribute.as_str() else { continue };
            let _ = write!(text, "{}{kind}=", if text.is_empty() { "" } else { separator });
            escape(&mut text, value);
        }
    }
    text
}

fn escape(text: &mut String, value: &str) {
    for (position, c) in value.chars().enumerate() {
        let is_edge = position == 0 || position + 1 == value.chars().count();
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => {
                let _ = write!(text, "\\{c}");
            }
            ' ' | '#' if is_edge => {
                let _ = write!(text, "\\{c}");
            }
            c if c.is_control() => {
                let _ = write!(text, "\\{:02X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn facts(change: impl FnOnce(&mut CertificateParams)) -> CertificateFacts {
        let mut params =
            CertificateParams::new(["Packages.Acme.Internal".to_owned(), "*.pypi.acme.internal".to_owned()])
                .expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        CertificateFacts::read(certificate.der()).expect("it can be read")
    }

    #[test]
    fn a_certificate_covers_its_names_and_one_label_below_a_wildcard() {
        let facts = facts(|_| {});
        for (name, covered) in [
            ("packages.acme.internal", true),
            ("PACKAGES.acme.internal.", true),
            ("a.pypi.acme.internal", true),
            ("a.b.pypi.acme.internal", false),
            ("pypi.acme.internal", false),
            ("acme.internal", false),
            ("", false),
        ] {
            assert_eq!(facts.covers(name), covered, "{name}");
        }
    }

    #[test]
    fn a_subject_is_written_so_that_no_value_passes_for_two() {
        let facts = facts(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "acme, CN=admin");
            params.distinguished_name.push(DnType::CommonName, " build-1");
            params.subject_alt_names.push(SanType::URI("spiffe://acme/build/1".try_into().expect("a URI")));
        });
        assert_eq!(facts.subject, "CN=\\ build-1,O=acme\\, CN\\=admin");
        assert_eq!(facts.uris, ["spiffe://acme/build/1"]);
    }

    #[test]
    fn a_client_certificate_that_has_ended_names_no_one() {
        let mut params = CertificateParams::new(["build".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let ends = CertificateFacts::read(certificate.der()).expect("readable").ends;
        let before = ClientCertificate::verified(certificate.der(), ends);
        assert_eq!(before.map(|of| of.dns_names().to_vec()), Some(vec!["build".to_owned()]));
        assert_eq!(ClientCertificate::verified(certificate.der(), ends + Duration::from_secs(1)), None);
        assert_eq!(ClientCertificate::verified(b"\x30\x03abc", ends), None);
    }

    #[test]
    fn names_are_bounded() {
        let facts = facts(|params| {
            let name = |number| SanType::DnsName(format!("n{number}.test").try_into().expect("a name"));
            params.subject_alt_names = (0..300).map(name).collect();
        });
        assert_eq!(facts.dns_names.len(), MAX_NAMES);
        assert!(!facts.covers("n299.test"));
    }
}

//! The certificates of the listener: whether they can be used, for which names, and for how long.

use url::{Host, Url};

use super::report::Finding;
use crate::web::{CertificateReport, ServerCertificates, TlsSettings};
use wheelport_runtime::Clock;

const STEP: &str = "certificate";
/// A certificate that has fewer days left should have been renewed.
const EARLY_DAYS: i64 = 14;
const DAY: i64 = 24 * 60 * 60;

/// What is to be found out about TLS.
pub(super) struct TlsTarget {
    pub(super) settings: TlsSettings,
    /// Where clients reach the proxy, if that is configured.
    pub(super) public_url: Option<Url>,
}

pub(super) fn steps(target: &TlsTarget, clock: &Clock) -> Vec<Finding> {
    let certificates = match ServerCertificates::read(target.settings.clone(), clock.clone()) {
        Ok(certificates) => certificates,
        Err(error) => {
            let remedy = "correct the files that [server.tls] names; `serve` does not start with these";
            return vec![Finding::fail(STEP, error.to_string(), remedy)];
        }
    };
    let mut findings: Vec<Finding> = certificates.report().certificates.iter().map(of_certificate).collect();
    findings.extend(target.public_url.as_ref().and_then(|url| of_public_url(url, &certificates)));
    findings
}

fn of_certificate(certificate: &CertificateReport) -> Finding {
    let file = certificate.certificate.display();
    let names = if certificate.names.is_empty() { "no name".to_owned() } else { certificate.names.join(", ") };
    let days = certificate.ends_in_seconds / DAY;
    if days < EARLY_DAYS {
        let remedy = "renew it, and see why what renews it (cert-manager, an ACME client) has not; it is read again \
                      without a restart";
        return Finding::warn(STEP, format!("{file}, for {names}, ends in {days} days"), remedy);
    }
    Finding::ok(STEP, format!("{file}: for {names}, {days} days left"))
}

/// Clients verify the name of the address that they were given.
fn of_public_url(url: &Url, certificates: &ServerCertificates) -> Option<Finding> {
    if url.scheme() != "https" {
        let remedy = "write https:// in public_url, or leave out [server.tls] if a proxy in front ends TLS";
        return Some(Finding::warn(STEP, format!("the listener speaks TLS, but public_url is {url}"), remedy));
    }
    match url.host() {
        Some(Host::Domain(name)) if !certificates.covers(name) => Some(Finding::warn(
            STEP,
            format!("no certificate is for {name}, which public_url names"),
            "have a certificate issued that has this name among its subject alternative names",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::check::report::StepStatus;

    fn target(dir: &Path, public_url: Option<&str>) -> TlsTarget {
        let made = rcgen::generate_simple_self_signed(["packages.acme.test".to_owned()]).expect("a certificate");
        let files = crate::web::CertificateFiles { certificate: dir.join("a.pem"), key: dir.join("a.key") };
        std::fs::write(&files.certificate, made.cert.pem()).expect("written");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
        TlsTarget {
            settings: TlsSettings { default: files, further: Vec::new(), client_ca: None },
            public_url: public_url.map(|url| url.parse().expect("a URL")),
        }
    }

    fn report(seconds: i64) -> CertificateReport {
        CertificateReport {
            certificate: "a.pem".into(),
            names: vec!["a.test".to_owned()],
            ends_in_seconds: seconds,
            error: None,
        }
    }

    #[test]
    fn the_life_of_a_certificate_is_judged() {
        assert_eq!(of_certificate(&report(EARLY_DAYS * DAY)).status, StepStatus::Ok);
        let early = of_certificate(&report(EARLY_DAYS * DAY - 1));
        assert_eq!((early.status, early.summary.as_str()), (StepStatus::Warn, "a.pem, for a.test, ends in 13 days"));
    }

    #[test]
    fn files_that_serve_refuses_are_a_failure_and_names_are_compared_with_the_public_address() {
        let dir = tempfile::tempdir().expect("a directory");
        for (url, expected) in [
            (None, &[StepStatus::Ok][..]),
            (Some("https://packages.acme.test/x"), &[StepStatus::Ok]),
            (Some("https://192.0.2.1/"), &[StepStatus::Ok]),
            (Some("https://other.acme.test/"), &[StepStatus::Ok, StepStatus::Warn]),
            (Some("http://packages.acme.test/"), &[StepStatus::Ok, StepStatus::Warn]),
        ] {
            let found = steps(&target(dir.path(), url), &Clock::system());
            assert_eq!(found.iter().map(|finding| finding.status).collect::<Vec<_>>(), expected, "{url:?}");
        }
        let target = target(dir.path(), None);
        std::fs::write(&target.settings.default.key, "").expect("written");
        let found = steps(&target, &Clock::system());
        assert_eq!(found[0].status, StepStatus::Fail);
        assert!(found[0].summary.contains("holds no private key"), "{found:?}");
    }
}

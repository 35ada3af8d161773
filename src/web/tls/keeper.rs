//! Holds what handshakes need, and reads it again when its files change. What cannot be used leaves the old in place.
//!
//! Files are looked at by polling, which sees every way of replacing them: writing, renaming, and the symbolic links
//! that Kubernetes swaps. They are read when they have stood still for one interval, so that a certificate whose key is
//! still being written is no failure. A running connection keeps the configuration it began with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use rustls::crypto::{self, CryptoProvider};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde::Serialize;

use super::choice::CertificateChoice;
use super::files::{Fingerprint, ServedCertificate, TlsError, fingerprint, read_authorities, read_pair};
use super::settings::TlsSettings;
use wheelport_runtime::{Clock, blocking, sabotaged};

/// How often files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// A certificate that ends within this time is reported when it is read.
const SOON: Duration = Duration::from_hours(24 * 7);
/// The one protocol that is spoken inside.
const PROTOCOL: &[u8] = b"http/1.1";
/// Names of a certificate in a report.
const MAX_REPORTED: usize = 20;

/// The certificates of the server, as they are now. Cheap to clone.
#[derive(Clone)]
pub struct ServerCertificates(Arc<CertificateKeeper>);

struct CertificateKeeper {
    settings: TlsSettings,
    clock: Clock,
    provider: Arc<CryptoProvider>,
    config: RwLock<Arc<ServerConfig>>,
    names: RwLock<CertifiedNames>,
    read: Mutex<Read>,
}

/// The names of all certificates, without those that begin with a wildcard.
#[derive(Default)]
struct CertifiedNames {
    names: BTreeSet<String>,
    /// Counts changes.
    revision: u64,
}

/// What was read last, and what was noticed of the files since.
struct Read {
    certificates: Vec<Kept<Arc<ServedCertificate>>>,
    authorities: Option<Kept<Arc<RootCertStore>>>,
    /// The files that were read last, whether they could be used or not.
    tried: Vec<Fingerprint>,
    /// The files at the last look.
    seen: Vec<Fingerprint>,
}

/// The last of its kind that could be used, and why what is in its file now cannot.
struct Kept<T> {
    value: T,
    error: Option<String>,
}

/// What to do after a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReloadStep {
    /// They are what was read.
    Nothing,
    /// They have changed since the last look, and may not be complete.
    Wait,
    /// They have changed, and stand still.
    Read,
}

/// The state of TLS, for operators.
#[derive(Debug, Clone, Serialize)]
pub struct TlsReport {
    pub certificates: Vec<CertificateReport>,
    /// Why the file of client authorities cannot be used; the authorities read before stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_error: Option<String>,
}

impl TlsReport {
    /// How much of it cannot be read again.
    pub fn failing(&self) -> usize {
        let certificates = self.certificates.iter().filter(|certificate| certificate.error.is_some());
        certificates.count() + usize::from(self.client_ca_error.is_some())
    }
}

/// The state of one certificate.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateReport {
    /// The file it comes from.
    pub certificate: PathBuf,
    pub names: Vec<String>,
    /// Negative once it has ended.
    pub ends_in_seconds: i64,
    /// Why what is in the files now cannot be used; the certificate read before stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ServerCertificates {
    /// Reads every file; all of them have to be usable. Blocking.
    pub fn read(settings: TlsSettings, clock: Clock) -> Result<Self, TlsError> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        // Taken before the files are read, so that a change in between is noticed.
        let seen: Vec<Fingerprint> = settings.files().map(fingerprint).collect();
        let now = clock.now();
        let mut certificates = Vec::new();
        for pair in settings.pairs() {
            let certificate = Arc::new(read_pair(pair, now, &provider)?);
            warn_of_its_time(&certificate, now);
            certificates.push(Kept { value: certificate, error: None });
        }
        let authorities = match &settings.client_ca {
            Some(path) => Some(Kept { value: Arc::new(read_authorities(path)?), error: None }),
            None => None,
        };
        let read = Read { certificates, authorities, tried: seen.clone(), seen };
        let config = RwLock::new(read.config(&provider, None)?);
        let names = RwLock::new(CertifiedNames { names: read.names(), revision: 0 });
        let keeper = CertificateKeeper { settings, clock, provider, config, names, read: Mutex::new(read) };
        Ok(Self(Arc::new(keeper)))
    }

    /// Looks at the files for as long as the process runs.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let keeper = Arc::clone(&self.0);
            // A panic is logged where it happens; the next look is a new one.
            let _ = blocking(move || keeper.look()).await;
        }
    }

    /// What a new connection is served with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.config.read())
    }

    pub(super) fn now(&self) -> SystemTime {
        self.0.clock.now()
    }

    /// Whether a certificate is for this server name.
    pub fn covers(&self, server: &str) -> bool {
        self.0.read.lock().certificates.iter().any(|kept| kept.value.facts.covers(server))
    }

    /// Whether a certificate has exactly this name, in lower case. Whoever holds its key was trusted with the name by
    /// an authority, so no other site has it. A wildcard says less: anyone may have a name below it.
    pub(in crate::web) fn names(&self, server: &str) -> bool {
        self.0.names.read().names.contains(server) || (sabotaged("certificate-wildcard") && self.covers(server))
    }

    /// Changes when what [`ServerCertificates::names`] says does.
    pub(in crate::web) fn revision(&self) -> u64 {
        self.0.names.read().revision
    }

    /// The state of everything.
    pub fn report(&self) -> TlsReport {
        let (now, read) = (self.0.clock.now(), self.0.read.lock());
        TlsReport {
            certificates: read.certificates.iter().map(|kept| kept.report(now)).collect(),
            client_ca_error: read.authorities.as_ref().and_then(|kept| kept.error.clone()),
        }
    }
}

impl std::fmt::Debug for ServerCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificates").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl CertificateKeeper {
    /// The tickets of sessions that began before a change, which end with it.
    fn old_tickets(&self) -> Option<Arc<dyn ProducesTickets>> {
        sabotaged("old-sessions").then(|| Arc::clone(&self.config.read().ticketer))
    }

    /// Reads the files again if they have changed. Blocking.
    fn look(&self) {
        let seen: Vec<Fingerprint> = self.settings.files().map(fingerprint).collect();
        let mut read = self.read.lock();
        let step = step(&seen, &read.seen, &read.tried);
        read.seen.clone_from(&seen);
        if step != ReloadStep::Read || sabotaged("certificate-reload") {
            return;
        }
        read.tried = seen;
        let now = self.clock.now();
        for (kept, files) in read.certificates.iter_mut().zip(self.settings.pairs()) {
            let again = read_pair(files, now, &self.provider).map(Arc::new);
            if let Ok(certificate) = &again {
                warn_of_its_time(certificate, now);
            }
            kept.take(again, &files.certificate);
        }
        if let (Some(kept), Some(path)) = (&mut read.authorities, &self.settings.client_ca) {
            kept.take(read_authorities(path).map(Arc::new), path);
        }
        let names = read.names();
        if names != self.names.read().names {
            let mut known = self.names.write();
            *known = CertifiedNames { names, revision: known.revision + 1 };
        }
        match read.config(&self.provider, self.old_tickets()) {
            Ok(config) => *self.config.write() = config,
            Err(error) => tracing::warn!(%error, "the certificates cannot be used; the old ones stay"),
        }
    }
}

impl<T> Kept<T> {
    /// Replaces the value if there is a new one. Warns once of what cannot be used.
    fn take(&mut self, again: Result<T, TlsError>, path: &Path) {
        match again {
            Ok(value) => {
                tracing::info!(file = %path.display(), "read again");
                *self = Self { value, error: None };
            }
            Err(error) => {
                let error = error.to_string();
                if self.error.as_ref() != Some(&error) {
                    tracing::warn!(%error, "what was read before stays in use");
                }
                self.error = Some(error);
            }
        }
    }
}

impl Kept<Arc<ServedCertificate>> {
    fn report(&self, now: SystemTime) -> CertificateReport {
        let facts = &self.value.facts;
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        CertificateReport {
            certificate: self.value.files.certificate.clone(),
            names: facts.dns_names.iter().take(MAX_REPORTED).cloned().collect(),
            ends_in_seconds: match facts.ends.duration_since(now) {
                Ok(left) => seconds(left),
                Err(over) => -seconds(over.duration()),
            },
            error: self.error.clone(),
        }
    }
}

impl Read {
    fn names(&self) -> BTreeSet<String> {
        let names = self.certificates.iter().flat_map(|kept| &kept.value.facts.dns_names);
        names.filter(|name| !name.contains('*')).cloned().collect()
    }

    /// A configuration for new connections. It has tickets of its own where none are given: no session outlives a
    /// change of what was verified when it began.
    fn config(
        &self,
        provider: &Arc<CryptoProvider>,
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let choice = CertificateChoice(self.certificates.iter().map(|kept| Arc::clone(&kept.value)).collect());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
        let builder = match &self.authorities {
            Some(authorities) => {
                let roots = Arc::clone(&authorities.value);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
                    .allow_unauthenticated()
                    .build();
                builder.with_client_cert_verifier(verifier.map_err(|error| rustls::Error::General(error.to_string()))?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(choice));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.ticketer = tickets.map_or_else(crypto::aws_lc_rs::Ticketer::new, Ok)?;
        // Tickets keep sessions at the clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

fn step(seen: &[Fingerprint], before: &[Fingerprint], tried: &[Fingerprint]) -> ReloadStep {
    if seen == tried {
        ReloadStep::Nothing
    } else if seen != before {
        ReloadStep::Wait
    } else {
        ReloadStep::Read
    }
}

fn warn_of_its_time(certificate: &ServedCertificate, now: SystemTime) {
    let (facts, file) = (&certificate.facts, certificate.files.certificate.display());
    let time = |moment| humantime::format_rfc3339_seconds(moment);
    if facts.begins > now {
        tracing::warn!(certificate = %file, begins = %time(facts.begins), "the certificate is not good yet");
    } else if facts.ends < now + SOON {
        tracing::warn!(certificate = %file, ends = %time(facts.ends), "the certificate ends soon");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_files_are_read_once_when_they_stand_still() {
        let [old, half, new] = [1, 2, 3].map(|version| vec![Some([version; 7])]);
        assert_eq!(step(&old, &old, &old), ReloadStep::Nothing);
        assert_eq!(step(&half, &old, &old), ReloadStep::Wait);
        assert_eq!(step(&new, &half, &old), ReloadStep::Wait);
        assert_eq!(step(&new, &new, &old), ReloadStep::Read);
        assert_eq!(step(&new, &new, &new), ReloadStep::Nothing);
        assert_eq!(step(&[None], &[None], &old), ReloadStep::Read, "files that are gone are reported");
    }
}

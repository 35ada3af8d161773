//! TLS for the listener of clients: certificates that are read again when their files change, handshakes that hold
//! nothing, and client certificates as a name for the other end.
//!
//! Nothing here decides what a client may do: a client certificate that was verified is put into
//! [`super::context::PeerInfo`], and that is all. `handshake` is the way in from the listener; `keeper` holds what a
//! handshake needs.

mod certificate;
mod choice;
mod files;
mod handshake;
mod keeper;
mod settings;

pub use certificate::ClientCertificate;
pub use files::TlsError;
pub use keeper::{CertificateReport, ServerCertificates, TlsReport};
pub use settings::{CertificateFiles, TlsSettings, TlsTable};

pub(super) use handshake::{HANDSHAKE_MEMORY, Handshake, Opened};

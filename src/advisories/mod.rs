//! What is known to be wrong with versions of projects: advisories in OSV's format, read from an export.
//!
//! An export is read document by document. What is needed to find the advisories of a version stays in memory in a
//! compact form; the documents themselves are in one file, the copy, and are read from there when someone asks for one.
//! Nothing here knows where an export comes from, what follows from an advisory, or a request.

mod affected;
mod copy;
mod document;
mod export;
mod question;
mod settings;
mod table;

pub use affected::AffectedVersions;
pub use copy::{CopyHeader, CopyWriter, Documents, load};
pub use document::{AdvisoryKind, InvalidAdvisory, OsvDocument};
pub use export::{ExportError, read_export};
pub use question::{InvalidQuestion, LARGEST_BATCH, OsvQuestion, read_batch, read_question};
pub use settings::{AdvisorySettings, AdvisorySource};
pub use table::{AdvisoryRef, AdvisoryTable, Malware, TableBuilder};

/// The longest document of an advisory, in bytes.
pub const LARGEST_DOCUMENT: u64 = 4 << 20;
/// Documents of an export at most; as many as an archive without ZIP64 can hold.
pub const MOST_DOCUMENTS: usize = 65_534;
/// The largest export as it is fetched, in bytes.
pub const LARGEST_EXPORT: u64 = 512 << 20;
/// All documents of an export together, in bytes.
pub const LARGEST_UNPACKED: u64 = 2 << 30;

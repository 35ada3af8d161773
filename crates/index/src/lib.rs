//! The vocabulary of the Python package index (PyPI's simple API and its upload API): names, file names, digests, pages
//! and their two formats, upload forms, and the metadata inside wheels and source distributions.
//!
//! Pure: no clock and no async, and no I/O but reading the file that the caller hands in. Strings from outside become
//! these types at the edge, and nothing behind the edge looks at a raw string again. Both the proxy and the emulator
//! build on this crate.

mod address;
mod agent;
mod archive;
mod digest;
mod excerpt;
mod extra;
mod filename;
mod form;
mod form_writer;
mod keys;
pub mod media;
mod multipart;
mod name;
#[cfg(test)]
mod odd_archives;
mod page;
pub mod parse;
mod releases;
pub mod render;
mod requirement;
mod sabotage;
mod sdist;
mod tags;
mod version;
pub mod wheel;

pub use agent::ClientAgent;
pub use archive::{ArchiveError, ReadAt};
pub use digest::{Algorithm, Hashed, Hasher, Hashes, InvalidDigest, Sha256, hex};
pub use excerpt::{excerpt, shortened};
pub use extra::Extra;
pub use filename::{Distribution, FileKind, FileName, InvalidComponent, VersionSegment};
pub use form::{ContentDigests, FormError, FormFields, UploadForm};
pub use form_writer::FormWriter;
pub use multipart::{FormEvent, FormFault, FormParser, FormPart};
pub use name::{InvalidName, ProjectName};
pub use page::{CoreMetadata, File, FileAddress, Page, ProjectList, ProjectStatus, Yanked};
pub use releases::{Release, Releases};
pub use requirement::Requirement;
pub use sabotage::sabotaged;
pub use sdist::SdistError;
pub use tags::described;
pub use version::{read_version, retain_files};

//! The vocabulary of the Python package index: names, file names, digests, pages and their two written forms.
//!
//! Pure: no I/O, no clock, no async. Strings from outside become these types at the edge, and nothing behind
//! the edge looks at a raw string again. Both the proxy and the emulator build on this module.

pub mod address;
pub mod digest;
mod excerpt;
pub mod filename;
pub mod form;
mod keys;
pub mod media;
pub mod multipart;
pub mod name;
pub mod page;
pub mod parse;
pub mod render;
pub mod sdist;
pub mod version;
pub mod wheel;

pub use digest::{Algorithm, Hashes, Sha256};
pub use excerpt::{excerpt, shortened};
pub use filename::{Distribution, FileKind, FileName, VersionSegment};
pub use name::ProjectName;
pub use page::{CoreMetadata, File, FileAddress, Page, ProjectList, ProjectStatus, Yanked};

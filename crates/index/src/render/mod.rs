//! From the model to what clients read: JSON and HTML pages, project lists, and the older JSON interface.
//!
//! All writers read one model, so the formats cannot disagree. The output satisfies the strictest client: an unknown
//! value is left out, never null, unless null has a meaning of its own. Links are relative, so a page is the same bytes
//! for every host name. What is written needs no memory as a whole: a large page has tens of megabytes.

mod html;
mod json;
mod legacy;

pub use html::{Escaped, html, write_html, write_list_html};
pub use json::{json, write_json, write_list_json};
pub use legacy::{legacy_json, write_legacy_json};

use std::io;

use crate::digest::Hashes;
use crate::page::Page;

/// The digests that every installer knows. Some installers fail on a file whose only digest is a different one, but
/// accept a file without digests.
const COMMON_ALGORITHMS: [&str; 6] = ["sha256", "sha512", "sha384", "md5", "sha224", "sha1"];

/// The digests that installers understand in the fragment of a link, best first.
const FRAGMENT_ALGORITHMS: [&str; 4] = ["sha256", "sha512", "sha384", "md5"];

/// A document as a whole, from what writes it.
fn in_memory(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).expect("memory can be written, and every key is a string");
    out
}

/// The digests to write: all of them, if at least one is common.
fn presentable(hashes: &Hashes) -> impl Iterator<Item = (&str, &str)> {
    let usable = COMMON_ALGORITHMS.iter().any(|algorithm| hashes.get(algorithm).is_some());
    hashes.iter().filter(move |_| usable)
}

/// The one digest to write in a fragment, as `sha256=…`.
fn fragment(hashes: &Hashes) -> Option<String> {
    FRAGMENT_ALGORITHMS.iter().find_map(|algorithm| hashes.get(algorithm).map(|digest| format!("{algorithm}={digest}")))
}

/// Whether the page uses what version 1.3 of the simple API added (PEP 740).
fn has_provenance(page: &Page) -> bool {
    page.files.iter().any(|file| file.provenance.is_some())
}

#[cfg(test)]
mod tests;

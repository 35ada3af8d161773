//! The keys and attributes that the model owns. Values under other names pass through unchanged; values under these
//! names come only from the model, so that a client never sees an ill-typed one.

/// Keys of the JSON page.
pub(crate) const PAGE: [&str; 5] = ["meta", "name", "project-status", "versions", "files"];

pub(crate) const META: [&str; 1] = ["api-version"];

/// Keys of a file in JSON. The last two are `core-metadata` as PEP 658 spelled it and as one index does. In JSON they
/// are read but never written, because some versions of pip fail on the first (PEP 714).
pub(crate) const FILE: [&str; 12] = [
    "filename",
    "url",
    "hashes",
    "requires-python",
    "size",
    "upload-time",
    "yanked",
    "core-metadata",
    "gpg-sig",
    "provenance",
    "dist-info-metadata",
    "data-dist-info-metadata",
];

/// Attributes of an HTML anchor.
const ATTRIBUTES: [&str; 7] = [
    "data-requires-python",
    "data-yanked",
    "data-gpg-sig",
    "data-core-metadata",
    "data-dist-info-metadata",
    "data-provenance",
    "data-upload-time",
];

/// Whether this is a well-formed `data-` attribute that the model does not own.
pub(crate) fn is_foreign_attribute(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    name.len() > "data-".len() && name.starts_with("data-") && name.bytes().all(plain) && !ATTRIBUTES.contains(&name)
}

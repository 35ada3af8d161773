//! The keys and attributes that the model owns. What upstream says under other names passes through untouched; under
//! these names only the model speaks, so that a client never meets an ill-typed one.

/// Keys of the JSON page.
pub(super) const PAGE: [&str; 5] = ["meta", "name", "project-status", "versions", "files"];

/// Keys of `meta`.
pub(super) const META: [&str; 1] = ["api-version"];

/// Keys of a file in JSON. The last two spell `core-metadata` as PEP 658 had it and as one index does; in JSON they are
/// read, never written, because an installer exists that fails on the first (PEP 714).
pub(super) const FILE: [&str; 12] = [
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
pub(super) fn is_foreign_attribute(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    name.len() > "data-".len() && name.starts_with("data-") && name.bytes().all(plain) && !ATTRIBUTES.contains(&name)
}

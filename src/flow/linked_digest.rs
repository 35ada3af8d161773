//! The SHA-256 of files for which the index names another digest only: it is recorded when such a file was fetched.

use super::Route;
use wheelport_index::{FileAddress, Hashes, Sha256};

/// The key of the record. The digest that the index names is part of it, so other bytes under the same name never meet
/// an old record; none where it names none that can be verified.
pub(super) fn link_key(route: &Route, address: &FileAddress, hashes: &Hashes) -> Option<Sha256> {
    let (algorithm, value) = hashes.strongest()?;
    let parts = [
        route.repository.as_str(),
        address.project.as_str(),
        address.version.as_str(),
        address.file.as_str(),
        &format!("{algorithm:?}"),
        value,
    ];
    Some(Sha256::of(parts.join("\0").as_bytes()))
}

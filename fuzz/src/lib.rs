//! What each fuzz target does with its bytes, and what must hold afterwards whatever they are. A panic is a finding.

mod archives;
mod form;
mod names;
mod pages;
mod web;

pub use archives::{sdist, wheel};
pub use form::{fields, form};
pub use names::names;
pub use pages::{page_html, page_json};
pub use web::{address, headers};

/// The part before the first separator and the rest, which may be empty.
fn split(bytes: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == separator) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

/// What the files of `web` name of other rooms.
#[allow(dead_code, reason = "named there, not used here")]
mod flow {
    #[derive(Clone, Copy)]
    pub(crate) enum Served {
        Hit,
        Revalidating,
        Stale,
        Miss,
        Collapsed,
        Bypass,
    }
}

mod telemetry {
    #[derive(Clone, Copy)]
    pub(crate) enum ResponseKind {
        Page,
        File,
        Metadata,
        List,
        Legacy,
        Home,
        Upload,
    }
}

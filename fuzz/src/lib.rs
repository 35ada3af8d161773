//! What each fuzz target does with its bytes, and what must hold afterwards whatever they are. A panic is a finding.

mod advisories;
mod archives;
mod configuration;
mod control;
mod fleet;
mod form;
mod identity;
mod names;
mod notify;
mod pages;
mod policy;
mod records;
mod token;
mod upstream;
mod usage;
mod web;

pub use advisories::advisories;
pub use archives::{sdist, wheel};
pub use configuration::configuration;
pub use fleet::{events, hints};
pub use form::{fields, form};
pub use identity::tokens;
pub use names::names;
pub use pages::{page_html, page_json};
pub use records::records;
pub use upstream::replies;
pub use usage::usage;
pub use web::{address, headers};

use records as cache;

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
    use wheelport_runtime::{HumanDuration, Size};

    #[derive(Clone, Copy)]
    pub(crate) enum Served {
        Hit,
        Revalidating,
        Stale,
        Miss,
        Collapsed,
        Bypass,
    }

    /// As the policy of a route.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
    #[serde(rename_all = "lowercase")]
    pub(crate) enum ChangedFilePolicy {
        #[default]
        Alarm,
        Refuse,
    }

    /// The `[upload]` table.
    #[derive(Debug, Clone, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(crate) struct UploadSettings {
        max_file_size: Size,
        max_fields: usize,
        stall_timeout: HumanDuration,
    }

    impl UploadSettings {
        pub(crate) fn zero(&self) -> Option<&'static str> {
            None
        }
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
        Browse,
        Upload,
        Exchange,
        Osv,
    }
}

//! The settings of pages for people.

use serde::Deserialize;

/// The `[site]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteSettings {
    /// Whether there are pages for people besides the start page.
    pub enabled: bool,
}

impl Default for SiteSettings {
    fn default() -> Self {
        Self { enabled: true }
    }
}

//! Settings of the cache, as the configuration file's `[cache]` table gives them.

use std::path::PathBuf;

use serde::Deserialize;

use super::freshness::Policy;
use wheelport_runtime::{HumanDuration, Size};

/// The `[cache]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// The directory for pages, files and core metadata.
    pub dir: Option<PathBuf>,
    /// The size that directory is kept below.
    pub max_size: Size,
    /// How many bytes per second of the directory are read in the background, to find damage; 0 for none.
    pub scrub_rate: Size,
    /// The memory for pages and project lists, rendered and as records; by default part of what the process may take.
    pub memory: Option<Size>,
    /// Page freshness.
    pub fresh_for: HumanDuration,
    /// The same for the domain's own projects while CodeArtifact's events tell of every change.
    pub fresh_for_internal: Option<HumanDuration>,
    /// How long a stale page is served while it is refreshed in the background.
    pub stale_while_revalidate: HumanDuration,
    /// How long a stale page may be served when upstream fails.
    pub stale_if_error: HumanDuration,
    /// How long a project that does not exist upstream is remembered as missing.
    pub missing_for: HumanDuration,
    /// Freshness of the project list.
    pub list_fresh_for: HumanDuration,
    /// What is fetched before a client requests it; by default core metadata as well where upstream honours ranges.
    pub prefetch: Option<Prefetch>,
}

/// What is fetched before a client requests it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Prefetch {
    Off,
    /// The pages of what a wheel needs, while a client reads the wheel's metadata.
    Pages,
    /// The metadata of the wheel that an installer will choose as well, while it reads the page.
    Metadata,
}

/// A value that is none. It does not repeat it: whatever stands in the wrong place may be a secret.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("expected `off`, `pages` or `metadata`")]
pub struct InvalidPrefetch;

impl TryFrom<String> for Prefetch {
    type Error = InvalidPrefetch;

    fn try_from(text: String) -> Result<Self, InvalidPrefetch> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            "pages" => Ok(Self::Pages),
            "metadata" => Ok(Self::Metadata),
            _ => Err(InvalidPrefetch),
        }
    }
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            dir: None,
            max_size: Size::gib(10),
            scrub_rate: Size::mib(4),
            memory: None,
            fresh_for: HumanDuration::secs(60),
            fresh_for_internal: None,
            stale_while_revalidate: HumanDuration::secs(60),
            stale_if_error: HumanDuration::secs(24 * 60 * 60),
            missing_for: HumanDuration::secs(10),
            list_fresh_for: HumanDuration::secs(5 * 60),
            prefetch: None,
        }
    }
}

impl CacheSettings {
    /// The freshness policy for pages.
    pub fn policy(&self) -> Policy {
        Policy {
            fresh_for: self.fresh_for.get(),
            stale_while_revalidate: self.stale_while_revalidate.get(),
            stale_if_error: self.stale_if_error.get(),
        }
    }

    /// The freshness policy for project lists.
    pub fn list_policy(&self) -> Policy {
        Policy { fresh_for: self.list_fresh_for.get(), ..self.policy() }
    }
}

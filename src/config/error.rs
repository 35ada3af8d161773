//! Why there are no usable settings.

use std::io;
use std::path::PathBuf;

use crate::policy::RuleFileError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the configuration file {}, {place}", path.display())]
    Malformed { path: PathBuf, place: String },
    #[error("the rules: {0}")]
    Rules(RuleFileError),
    /// Settings that do not fit together.
    #[error("{0}")]
    Inconsistent(String),
}

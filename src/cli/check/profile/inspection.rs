//! What an inspection of the AWS profiles looks at.

use std::time::Duration;

use super::ini::TextFile;

#[derive(Debug, Clone, Default)]
pub(crate) struct Inspection {
    /// `~/.aws/config` or `AWS_CONFIG_FILE`.
    pub(crate) config: Option<TextFile>,
    /// `~/.aws/credentials` or `AWS_SHARED_CREDENTIALS_FILE`.
    pub(crate) credentials: Option<TextFile>,
    /// The selected profile; `None` for `default`.
    pub(crate) selected: Option<String>,
    /// The files of `~/.aws/sso/cache`.
    pub(crate) sso_cache: Vec<TextFile>,
    /// Since the Unix epoch.
    pub(crate) now: Duration,
}

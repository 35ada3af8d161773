//! Where settings came from, for what can change without a restart.

use std::path::PathBuf;

use super::error::ConfigError;
use super::overrides::Overrides;
use super::settings::Settings;

/// The configuration file with the flags and the environment that were applied to it.
#[derive(Debug, Clone)]
pub struct ConfigSource(Overrides);

impl ConfigSource {
    pub(super) fn new(overrides: Overrides) -> Self {
        Self(overrides)
    }

    /// The settings as they are now; the error is a sentence for the log.
    pub fn load(&self) -> Result<Settings, String> {
        Settings::load(self.0.clone()).map_err(|error: ConfigError| error.to_string())
    }
}

impl Settings {
    /// The files that say who is known. Whatever stands in them can change without a restart.
    pub fn identity_files(&self) -> Vec<PathBuf> {
        let file = self.source.iter().filter_map(|ConfigSource(overrides)| overrides.config.clone());
        let issuers = self.identities.issuers().iter().filter_map(|issuer| issuer.keys_file().cloned());
        file.chain(self.key_files.iter().cloned()).chain(issuers).collect()
    }
}

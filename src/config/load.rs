//! From file and overrides to settings: read, override, complete, check.

use std::path::PathBuf;
use std::sync::Arc;

use super::check::check;
use super::error::ConfigError;
use super::file::{self, ConfigurationFile};
use super::overrides::Overrides;
use super::routes;
use super::settings::{ConfigSource, DEFAULT_LISTEN, Settings};
use crate::notify::NotifySettings;
use crate::policy::PolicySettings;
use crate::web::OperatorSecrets;

const DEFAULT_CACHE_DIR: &str = "wheelport-cache";

impl Settings {
    /// Reads the file, if there is one, and applies environment and flags to it.
    pub(crate) fn load(overrides: Overrides) -> Result<Self, ConfigError> {
        let settings = Self::load_without_rules(overrides)?;
        settings.policy.read().map_err(ConfigError::Rules)?;
        settings.notify.as_ref().map(NotifySettings::secrets).transpose().map_err(ConfigError::Inconsistent)?;
        Ok(settings)
    }

    /// The same without a look at rules and at the secret for notices: those that cannot be used must not keep
    /// identities as they were.
    fn load_without_rules(overrides: Overrides) -> Result<Self, ConfigError> {
        let path = overrides.config.clone();
        let file = match &path {
            Some(path) => file::read(path)?,
            None => ConfigurationFile::default(),
        };
        let again = overrides.clone();
        let load = move || Self::load_without_rules(again.clone()).map_err(|error| error.to_string());
        let source = path.clone().map(|path| ConfigSource::new(path, load));
        let mut settings = Self { source, ..compose(file, overrides)? };
        settings.policy.file = path;
        Ok(settings)
    }
}

pub(super) fn compose(mut file: ConfigurationFile, overrides: Overrides) -> Result<Settings, ConfigError> {
    let allow_anonymous_uploads = overrides.allow_anonymous_uploads;
    overrides.apply(&mut file)?;
    let (routes, default_route) = routes::complete(file.route, &file.aws)?;
    let policy = PolicySettings {
        table: file.policy,
        file: None,
        routes: routes.iter().map(|route| Arc::clone(&route.name)).collect(),
    };
    let settings = Settings {
        policy,
        advisories: file.advisories,
        listen: if file.listen.is_empty() { vec![DEFAULT_LISTEN] } else { file.listen },
        ops_listen: file.ops_listen,
        operators: OperatorSecrets {
            operations: file::secret(file.ops_secret_file.as_deref())?,
            metrics: file::secret(file.metrics_secret_file.as_deref())?,
        },
        allow_anonymous_uploads,
        routes,
        default_route,
        cache_dir: file.cache.dir.take().unwrap_or_else(|| PathBuf::from(DEFAULT_CACHE_DIR)),
        cache: file.cache,
        tls: std::mem::take(&mut file.server.tls).complete().map_err(ConfigError::Inconsistent)?,
        server: file.server,
        site: file.site,
        upstream: file.upstream,
        upload: file.upload,
        fleet: file.fleet,
        prices: file.prices,
        notify: NotifySettings::new(file.notify).map_err(ConfigError::Inconsistent)?,
        usage: file.usage,
        signing_keys: file::signing_keys(&file.tokens)?,
        key_files: file.tokens.key_file,
        identities: file::identities(file.issuer, file.identity, file.publisher)?,
        source: None,
    };
    check(&settings)?;
    Ok(settings)
}

//! What the doctor looks at: routes, the cache directory and the environment.

use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::config::RouteSettings;
use crate::control::{AccountId, AwsSettings, DomainName, RepositoryName};
use crate::policy::RuleSet;
use crate::web::UploadPolicy;

/// Asked about where no listed name will do; it does not have to exist.
pub(super) const SOME_PROJECT: &str = "pip";

/// One route as the doctor needs it.
#[derive(Debug, Clone)]
pub(super) struct CheckTarget {
    pub(super) route: String,
    pub(super) domain: DomainName,
    /// The account that owns the domain.
    pub(super) owner: Option<AccountId>,
    pub(super) repository: RepositoryName,
    /// How to reach AWS, the region included.
    pub(super) aws: AwsSettings,
    /// Uploads are switched on.
    pub(super) upload: bool,
    /// The repository's endpoint, if it is not the one that CodeArtifact gives.
    pub(super) endpoint: Option<Url>,
    /// Freshness depends on where projects come from.
    pub(super) asks_for_origins: bool,
    /// Events are read, and those of repositories upstream count.
    pub(super) follows_upstreams: bool,
    /// What may be served, where that can be read.
    pub(super) rules: Option<Arc<RuleSet>>,
}

/// The cache directory as the doctor needs it.
#[derive(Debug, Clone)]
pub(super) struct CacheTarget {
    pub(super) dir: PathBuf,
    /// What it may hold, in bytes.
    pub(super) max_size: u64,
}

/// Looks up an environment variable; tests give another one than the process has.
pub(super) type Environment<'a> = &'a (dyn Fn(&str) -> Option<String> + Send + Sync);

impl From<RouteSettings> for CheckTarget {
    fn from(route: RouteSettings) -> Self {
        Self {
            route: route.name.to_string(),
            domain: route.domain,
            owner: route.domain_owner,
            repository: route.repository,
            aws: route.aws,
            upload: route.upload != UploadPolicy::Off,
            endpoint: route.endpoint,
            asks_for_origins: false,
            follows_upstreams: false,
            rules: None,
        }
    }
}
